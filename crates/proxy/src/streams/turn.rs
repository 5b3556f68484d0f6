//! One request's turn on its connection: through [`crate::serve::serve`], and the answer back.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use http::{Method, StatusCode};
use portcullis_config::model::ListenerTimeouts;
use portcullis_core::{
    Answer, Error, Exchange, Fields, Kind, Known, Request, answer::Tunnel, exchange::ClientLink,
};

use super::{
    incoming::Inbound,
    outgoing::{Begun, Cut, Outgoing, Sink, Waits},
    shared::Shared,
    side::Side,
};
use crate::{
    clock::{Clock, Watch},
    date,
    forward::tunnel,
    h1::framing,
    runtime::{Listener, Runtime},
    serve::serve,
    ticket::{TAKES_NOTHING, Ticket},
};

/// The client's side of a stream that has not been answered yet, or is being.
pub(crate) trait Link: ClientLink + Sized + 'static {
    /// The receiving half.
    type Inbound: Inbound + Unpin;
    /// The sending half, after its head.
    type Sink: Sink + Unpin;

    /// Sends the head of the final answer; `is_whole`: nothing follows it.
    fn answer(&self, head: &Head<'_>, is_whole: bool) -> Result<Self::Sink, ()>;

    /// Tells the client to go on with its body, once.
    fn go_on(&self);

    /// Bytes of the request's body so far.
    fn received(&self) -> &AtomicU64;
}

/// The head of an answer.
pub(crate) struct Head<'a> {
    pub(crate) status: StatusCode,
    pub(crate) fields: &'a Fields,
    /// Names that are not sent, a set of [`Known::bit`]s.
    pub(crate) left_out: u64,
    /// To be sent, and not among the fields.
    pub(crate) length: Option<u64>,
    clock: &'a Clock,
}

impl<'a> Head<'a> {
    /// Of an answer whose body has so much to come, and whether nothing follows it.
    fn of(
        (status, fields): (StatusCode, &'a Fields),
        length: Option<u64>,
        to_head: bool,
        clock: &'a Clock,
    ) -> (Head<'a>, bool) {
        let is_bodyless = to_head || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
        let told = fields.known(Known::ContentLength).and_then(framing::decimal);
        let is_told = match (is_bodyless, length) {
            // RFC 9110 §8.6: information in answers to HEAD and in 304, never in a 204.
            (true, _) => status != StatusCode::NO_CONTENT,
            (false, Some(length)) => told == Some(length),
            (false, None) => false,
        };
        let left_out = if is_told { 0 } else { Known::ContentLength.bit() };
        let missing = length.filter(|length| *length > 0 && !is_told && !is_bodyless);
        (Head { status, fields, left_out, length: missing, clock }, is_bodyless || length == Some(0))
    }

    /// Of the answer that opens a tunnel.
    fn of_tunnel(answer: &'a Answer, clock: &'a Clock) -> Head<'a> {
        let left_out = Known::ContentLength.bit() | Known::SecWebsocketAccept.bit();
        Head { status: StatusCode::OK, fields: &answer.fields, left_out, length: None, clock }
    }

    /// The date, when it has to be sent and is not among the fields. `f` sees it.
    pub(crate) fn with_date<T>(&self, f: impl FnOnce(&str) -> T) -> Option<T> {
        (!self.fields.has(Known::Date)).then(|| date::with(self.clock, f))
    }
}

/// One request's turn on its connection.
pub(crate) struct Turn<'a, L> {
    pub(crate) shared: &'a Shared,
    pub(crate) watch: &'a Watch,
    pub(crate) link: Arc<L>,
    pub(crate) timeouts: ListenerTimeouts,
}

impl<L: Link> Turn<'_, L> {
    fn exchange(&self, request: Request) -> Exchange {
        let now = std::time::Instant::now();
        Exchange::new(request, self.shared.connection.clone(), self.link.clone(), now)
    }

    /// Serves the request and writes its answer. For an extended CONNECT, the half that will carry the tunnel stands
    /// aside. What is left of the stream comes back when all was handed over.
    pub(crate) async fn answer(
        &self,
        runtime: Arc<Runtime>,
        request: Request,
        tunnel: Option<L::Inbound>,
    ) -> Option<L::Sink> {
        let to_head = request.method == Method::HEAD;
        let x = self.exchange(request);
        let mut ticket = Ticket::begin(self.shared.worker.index, runtime.clone(), x);
        let mut answer = serve(&self.shared.worker, &runtime, &mut ticket, self.watch).await;
        match (tunnel, answer.tunnel.take()) {
            (Some(inbound), Some(tunnel)) => {
                drop(runtime);
                self.tunnel(answer, *tunnel, inbound, ticket).await;
                return None;
            }
            (Some(_), None) if answer.status.is_success() => {
                // To this client a success would mean that the tunnel is open.
                let error = Error::because(Kind::UpgradeFailed, "answered without switching");
                ticket.blame(&error);
                answer = runtime.pages.answer(&mut ticket.x, &error);
            }
            _ => {}
        }
        drop(runtime);
        self.write(answer, ticket, to_head).await
    }

    /// Answers what could not become a request.
    pub(crate) async fn refuse(
        &self,
        runtime: &Arc<Runtime>,
        listener: &Listener,
        request: Request,
        error: &Error,
    ) -> Option<L::Sink> {
        listener.metrics.refused(error.mapping().slug);
        let to_head = request.method == Method::HEAD;
        let x = self.exchange(request);
        let mut ticket = Ticket::begin(self.shared.worker.index, runtime.clone(), x);
        ticket.blame(error);
        let answer = runtime.pages.answer(&mut ticket.x, error);
        self.write(answer, ticket, to_head).await
    }

    fn received(&self) -> u64 {
        self.link.received().load(Relaxed)
    }

    async fn write(&self, mut answer: Answer, mut ticket: Box<Ticket>, to_head: bool) -> Option<L::Sink> {
        ticket.status = answer.status.as_u16();
        // How long the body is must be asked before something of it is taken.
        let length = answer.body.remaining();
        let clock = &self.shared.worker.clock;
        let (head, is_whole) = Head::of((answer.status, &answer.fields), length, to_head, clock);
        let mut begun = Begun::default();
        if !is_whole {
            // What has come of the body with the head may tell that there is no body: then no byte has left, and the
            // client is told what happened instead.
            let broken = poll_fn(|cx| Poll::Ready(begun.pull(cx, &mut answer.body))).await;
            if let Err(error) = broken
                && error.kind != Kind::ClientGone
                && let Some(instead) = ticket.instead(&error)
            {
                drop(answer);
                return Box::pin(self.write(instead, ticket, to_head)).await;
            }
        }
        let sink = match self.link.answer(&head, is_whole) {
            Ok(sink) => sink,
            Err(()) => {
                ticket.end(self.received(), 0, Err(Error::new(Kind::ClientGone)));
                return None;
            }
        };
        let mut outgoing = match is_whole {
            true => Outgoing::whole(sink),
            false => Outgoing::begun(sink, answer.body, begun),
        };
        let result = self.pump(&mut outgoing, ticket.body_idle, ticket.total).await;
        if let Err(error) = &result {
            // A reset throws away what is queued for the stream, be it the head alone: the connection's task, which has
            // been told of it, goes first.
            tokio::task::yield_now().await;
            outgoing.sink().reset(error.kind == Kind::ClientGone);
        }
        let sent = outgoing.sent;
        // The body may hold what is left of the request; only without it is that nobody's.
        let sink = outgoing.into_sink();
        let is_done = result.is_ok();
        ticket.end(self.received(), sent, result);
        is_done.then_some(sink)
    }

    /// Moves the body to the client, each wait within its deadline.
    async fn pump(
        &self,
        outgoing: &mut Outgoing<L::Sink>,
        source_idle: Duration,
        total: u64,
    ) -> Result<(), Error> {
        let mut armed = None;
        poll_fn(|cx| {
            match outgoing.poll(cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(Cut::Source(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(Err(Cut::Peer)) => return Poll::Ready(Err(Error::new(Kind::ClientGone))),
                Poll::Pending => {}
            }
            if outgoing.sink().poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Error::new(Kind::ClientGone)));
            }
            let (waits, sent) = (outgoing.waits, outgoing.sent);
            if armed != Some((waits, sent)) {
                armed = Some((waits, sent));
                let idle = match waits {
                    Waits::Source => source_idle,
                    Waits::Peer => self.timeouts.write_idle,
                };
                self.watch.set_within(idle, total);
            }
            self.watch.poll_expired(cx).map(|()| {
                Err(match waits {
                    _ if self.watch.is_past(total) => Error::new(Kind::TotalTimeout),
                    Waits::Source => Error::new(Kind::ReadTimeout),
                    Waits::Peer => Error::because(Kind::ClientGone, TAKES_NOTHING),
                })
            })
        })
        .await
    }

    /// Leaves HTTP: 200, then bytes both ways (RFC 8441 §5). The configuration is let go.
    async fn tunnel(&self, answer: Answer, tunnel: Tunnel, inbound: L::Inbound, mut ticket: Box<Ticket>) {
        let begun = self.link.answer(&Head::of_tunnel(&answer, &self.shared.worker.clock), false);
        drop(answer);
        ticket.status = StatusCode::OK.as_u16();
        ticket.detach();
        let Ok(sink) = begun else {
            ticket.end(0, 0, Err(Error::new(Kind::ClientGone)));
            return;
        };
        let (mut client, mut io) = (Side::new(inbound, sink), tunnel.io);
        let mut cut = self.shared.drain.cut();
        let mut moving = pin!(tunnel::run(&mut client, &mut *io, tunnel.idle, self.watch));
        let (moved, result) = poll_fn(|cx| match moving.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => cut.as_mut().poll(cx).map(|()| (tunnel::Moved::default(), Ok(()))),
        })
        .await;
        let result = result.map_err(|error| Error::because(Kind::ConnectionTerminated, error.to_string()));
        ticket.end(moved.up, moved.down, result);
    }
}
