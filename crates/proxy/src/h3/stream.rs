//! One stream: its head, then its turn.

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use http::Method;
use portcullis_core::{Error, Fields, Kind};
use quinn::{RecvStream, SendStream};
use tokio::time::timeout;

use super::{
    code,
    frames::Frames,
    head::{self, RequestHead},
    inbound::Inbound,
    link::Link,
    outbound::Outbound,
    peer::Peer,
    scan::{Fault, Found, kind},
};
use crate::{
    runtime::{Listener, Runtime},
    streams::{
        arrive::{self, Arrived, Pseudo},
        incoming::give_body,
        shared::Share,
        turn::Turn,
    },
};

/// How long it may remain open whether a request that usually has no body has none.
const DOUBT: Duration = Duration::from_secs(1);

/// Serves a stream to its end.
pub(super) async fn run(peer: Arc<Peer>, share: Share, send: SendStream, receive: RecvStream) {
    let (shared, Some(watch)) = (&share.shared, &share.watch) else { return };
    let link = Arc::new(Link::new(send));
    let found = shared.worker.runtime().and_then(|runtime| {
        let listener = runtime.listeners.get(&shared.connection.listener)?.clone();
        Some((runtime, listener))
    });
    let Some((runtime, listener)) = found else {
        // The listener vanished; a new connection elsewhere will do better.
        link.break_off(code::REQUEST_REJECTED);
        return;
    };
    let turn = Turn { shared, watch, link: link.clone(), timeouts: listener.settings.timeouts };
    let frames = Frames::new(receive, listener.settings.limits.header_bytes);
    let sink = serve(&peer, &turn, runtime, listener, frames).await;
    if link.gave_up() {
        peer.gave_up();
    }
    if let Some(sink) = sink.filter(|_| shared.drain.is_draining()) {
        settle(sink, turn.timeouts.write_idle).await;
    }
}

/// Waits until the client has all of it: the connection may be about to end.
async fn settle(mut sink: Outbound, patience: Duration) {
    // Whether it has or not, nothing more can be done for it.
    let _ = timeout(patience, poll_fn(|cx| sink.poll_settled(cx))).await;
}

async fn serve(
    peer: &Arc<Peer>,
    turn: &Turn<'_, Link>,
    runtime: Arc<Runtime>,
    listener: Arc<Listener>,
    mut frames: Frames,
) -> Option<Outbound> {
    let mut head = RequestHead::default();
    let fields = match read_head(peer, turn, &listener, &mut frames, &mut head).await {
        Ok(fields) => fields,
        Err(Some(error)) => {
            let request = head.shown();
            let sink = turn.refuse(&runtime, &listener, request, &error).await;
            frames.stop(code::MESSAGE_ERROR);
            return sink;
        }
        Err(None) => return None,
    };
    peer.took_request();
    let is_early = frames.is_early();
    let limits = listener.settings.limits;
    let bounds = (limits.header_bytes, limits.header_count);
    let mut inbound = Inbound::new(frames, peer.clone(), &fields, bounds, turn.link.giving_up());
    let arrived = match arrive(&head, fields, &listener, turn) {
        // RFC 8470 §5.2: it may be a replay.
        Ok(arrived) if is_early && !is_safe(&arrived) => Err(Error::new(Kind::TooEarly)),
        arrived => arrived,
    };
    let mut arrived = match arrived {
        Ok(arrived) => arrived,
        Err(error) => {
            let request = head.shown();
            return turn.refuse(&runtime, &listener, request, &error).await;
        }
    };
    drop(listener);
    if is_early {
        // RFC 8470 §5.1: whoever is behind us may want to be careful, too.
        arrived.request.fields.set("early-data", "1");
    }
    if arrived.is_tunnel() {
        return turn.answer(runtime, arrived.request, Some(inbound)).await;
    }
    look_ahead(&mut inbound, usually_has_no_body(&arrived)).await;
    let expects = arrived.expects;
    give_body(&mut arrived.request, inbound, &turn.link, expects, &turn.timeouts);
    turn.answer(runtime, arrived.request, None).await
}

fn is_safe(arrived: &Arrived) -> bool {
    // RFC 9110 §9.2.1. A tunnel is opened by GET, and is not safe at all.
    arrived.request.method.is_safe() && !arrived.is_tunnel()
}

/// The first frame, which is the head. `Err(None)`: there is nobody to be answered.
async fn read_head(
    peer: &Peer,
    turn: &Turn<'_, Link>,
    listener: &Listener,
    frames: &mut Frames,
    head: &mut RequestHead,
) -> Result<Fields, Option<Error>> {
    turn.watch.set(turn.timeouts.request_header);
    let found = poll_fn(|cx| match frames.poll(cx) {
        Poll::Ready(Ok(Found::Unknown)) => {
            peer.sent_control();
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        Poll::Ready(found) => Poll::Ready(Some(found)),
        Poll::Pending => turn.watch.poll_expired(cx).map(|()| None),
    })
    .await;
    turn.watch.clear();
    let limits = &listener.settings.limits;
    let fault = match found {
        None => return Err(Some(Error::because(Kind::RequestTimeout, "the head came too slowly"))),
        Some(Ok(Found::Frame(kind::HEADERS, section))) => {
            return match head.read(&section, limits.header_bytes, limits.header_count) {
                Ok(fields) => Ok(fields),
                Err(head::Fault::Refused(error)) => Err(Some(error)),
                Err(head::Fault::Broken) => {
                    peer.judge(Fault::Connection(code::DECOMPRESSION_FAILED, "a head that is none"));
                    Err(None)
                }
            };
        }
        Some(Ok(Found::End)) => {
            turn.link.break_off(code::REQUEST_INCOMPLETE);
            return Err(None);
        }
        Some(Ok(_)) => Fault::Connection(code::FRAME_UNEXPECTED, "a frame before the head"),
        Some(Err(Fault::TooLarge)) => return Err(Some(Error::new(Kind::HeadersTooLarge))),
        Some(Err(Fault::Reset)) => {
            peer.gave_up();
            Fault::Reset
        }
        Some(Err(fault)) => fault,
    };
    peer.judge(fault);
    turn.link.break_off(code::REQUEST_CANCELLED);
    Err(None)
}

fn arrive(
    head: &RequestHead,
    fields: Fields,
    listener: &Listener,
    turn: &Turn<'_, Link>,
) -> Result<Arrived, Error> {
    let method = head.method.as_ref().ok_or_else(|| Error::because(Kind::BadRequest, "no :method"))?;
    let pseudo = Pseudo {
        method,
        scheme: head.scheme.as_deref(),
        authority: head.authority.as_deref(),
        path: head.path.as_deref().unwrap_or("/"),
        protocol: head.protocol.as_deref(),
    };
    arrive::request(&pseudo, fields, listener, &turn.shared.connection)
}

fn usually_has_no_body(arrived: &Arrived) -> bool {
    let methods = [Method::GET, Method::HEAD, Method::OPTIONS, Method::DELETE, Method::TRACE];
    methods.contains(&arrived.request.method) && !arrived.expects
}

/// Learns whether there is a body at all: the end of a stream may come a little after the head, and a request that usually
/// has no body shall not get an empty one for that.
async fn look_ahead(inbound: &mut Inbound, usually_none: bool) {
    if usually_none {
        // If it stays open, whatever comes is the body.
        let _ = timeout(DOUBT, poll_fn(|cx| inbound.poll_ahead(cx))).await;
    } else {
        poll_fn(|cx| {
            let _ = inbound.poll_ahead(cx);
            Poll::Ready(())
        })
        .await;
    }
}
