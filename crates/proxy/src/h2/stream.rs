//! One stream: from its head to a request, through [`crate::serve::serve`], and the answer back.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};
use portcullis_config::model::ListenerTimeouts;
use portcullis_core::{
    Answer, Body, Connection, Error, Exchange, Frame, Kind, Known, Request, Stream, answer::Tunnel,
};

use super::{
    head,
    inbound::Inbound,
    link::Link,
    outbound::{Begun, Cut, Outbound, Waits},
    side::Side,
};
use crate::{
    arrive,
    clock::Watch,
    date,
    forward::tunnel,
    listen::Drain,
    refused,
    runtime::{Listener, Runtime},
    serve::serve,
    ticket::{TAKES_NOTHING, Ticket},
    trailers,
    worker::Worker,
};

/// What the streams of one connection share.
pub(super) struct Shared {
    pub(super) worker: Arc<Worker>,
    pub(super) connection: Arc<Connection>,
    pub(super) drain: Drain,
    /// Streams whose tasks have not ended.
    open: AtomicUsize,
    /// The connection's task, to be told when the last stream ended.
    driver: Mutex<Option<Waker>>,
    /// Deadlines not in use.
    watches: Mutex<Vec<Watch>>,
}

impl Shared {
    pub(super) fn new(worker: Arc<Worker>, connection: Arc<Connection>, drain: Drain) -> Arc<Shared> {
        Arc::new(Shared {
            worker,
            connection,
            drain,
            open: AtomicUsize::new(0),
            driver: Mutex::default(),
            watches: Mutex::default(),
        })
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Remembers the task that drives the connection.
    pub(super) fn drive(&self, cx: &Context<'_>) {
        let mut driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        if !driver.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *driver = Some(cx.waker().clone());
        }
    }
}

/// A stream's share of its connection: counts it, and lends it a deadline.
pub(super) struct Share {
    shared: Arc<Shared>,
    watch: Option<Watch>,
}

impl Share {
    pub(super) fn new(shared: &Arc<Shared>) -> Share {
        shared.open.fetch_add(1, Relaxed);
        let watch = shared.watches.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Share { shared: shared.clone(), watch: Some(watch.unwrap_or_else(|| shared.worker.clock.watch())) }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Some(watch) = self.watch.take() {
            watch.clear();
            self.shared.watches.lock().unwrap_or_else(PoisonError::into_inner).push(watch);
        }
        if self.shared.open.fetch_sub(1, Relaxed) == 1 {
            let driver = self.shared.driver.lock().unwrap_or_else(PoisonError::into_inner);
            driver.as_ref().inspect(|driver| driver.wake_by_ref());
        }
    }
}

/// Serves a stream to its end.
pub(super) async fn run(share: Share, request: http::Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let (shared, Some(watch)) = (&share.shared, &share.watch) else { return };
    let found = shared.worker.runtime().and_then(|runtime| {
        let listener = runtime.listeners.get(&shared.connection.listener)?.clone();
        Some((runtime, listener))
    });
    let Some((runtime, listener)) = found else {
        // The listener vanished; a new connection elsewhere will do better.
        respond.send_reset(Reason::REFUSED_STREAM);
        return;
    };
    let turn =
        Turn { shared, watch, link: Arc::new(Link::new(respond)), timeouts: listener.settings.timeouts };
    let (head, body) = request.into_parts();
    match turn.arrive(&head, body, &listener) {
        Ok(arrived) => {
            drop(listener);
            turn.answer(runtime, arrived).await;
        }
        Err(error) => turn.refuse(&runtime, &listener, refused::of_parts(&head), &error).await,
    }
}

/// One request's turn on its connection.
struct Turn<'a> {
    shared: &'a Shared,
    watch: &'a Watch,
    link: Arc<Link>,
    timeouts: ListenerTimeouts,
}

/// A request; for an extended CONNECT, the half that will carry the tunnel stands aside.
struct Arrived {
    request: Request,
    tunnel: Option<Inbound>,
}

impl Turn<'_> {
    fn arrive(&self, head: &Parts, stream: RecvStream, listener: &Listener) -> Result<Arrived, Error> {
        let fields = head::request_fields(&head.headers, listener.settings.limits.header_count)?;
        let expects = match fields.known(Known::Expect) {
            Some(value) if value.eq_ignore_ascii_case(b"100-continue") => true,
            Some(_) => return Err(Error::new(Kind::ExpectationFailed)),
            None => false,
        };
        let upgrade = match head.extensions.get::<h2::ext::Protocol>() {
            // RFC 8441 §5: as if it had been `GET` with `Upgrade: websocket`.
            Some(protocol) if protocol.as_str() == "websocket" => Some("websocket"),
            Some(_) => return Err(Error::because(Kind::NotImplemented, ":protocol")),
            None => None,
        };
        let method = if upgrade.is_some() { Method::GET } else { head.method.clone() };
        if method != Method::CONNECT {
            // As the URL of an HTTP/1.1 request line is judged. (`h2` keeps no scheme without authority.)
            let has_authority = head.uri.authority().is_some();
            if has_authority && !matches!(head.uri.scheme_str(), Some("http" | "https")) {
                return Err(Error::because(Kind::BadRequest, ":scheme other than http and https"));
            }
            // RFC 9113 §8.3.1: one of them says whom the request is for.
            if !has_authority && !fields.has(Known::Host) {
                return Err(Error::because(Kind::BadRequest, "neither :authority nor Host"));
            }
        }
        let target = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        if !target.starts_with('/') && target != "*" {
            return Err(Error::because(Kind::BadRequest, ":path is no path"));
        }
        let authority = head.uri.authority().map(|authority| authority.as_str().as_bytes());
        let mut request = arrive::request(method, target.as_bytes(), authority, fields, listener)?;
        if let Some(scheme) = head.uri.scheme_str() {
            arrive::check_scheme(scheme.as_bytes(), &self.shared.connection)?;
        }
        request.upgrade = upgrade.map(Into::into);
        let inbound = Inbound::new(stream, &head.headers);
        if upgrade.is_some() {
            return Ok(Arrived { request, tunnel: Some(inbound) });
        }
        if inbound.remaining() != Some(0) {
            request.expects_continue = expects;
            // A gRPC stream says little for hours, and is bounded by its own time.
            let is_grpc = request.fields.known(Known::ContentType).is_some_and(|value| {
                value.get(..16).is_some_and(|v| v.eq_ignore_ascii_case(b"application/grpc"))
            });
            request.body = Body::stream(Incoming {
                inbound,
                link: self.link.clone(),
                expects,
                since: None,
                grace: self.timeouts.body_grace,
                rate: if is_grpc { 0 } else { self.timeouts.body_min_rate },
            });
        }
        Ok(Arrived { request, tunnel: None })
    }

    fn exchange(&self, request: Request) -> Exchange {
        let now = std::time::Instant::now();
        Exchange::new(request, self.shared.connection.clone(), self.link.clone(), now)
    }

    /// Serves the request and writes its answer.
    async fn answer(&self, runtime: Arc<Runtime>, arrived: Arrived) {
        let to_head = arrived.request.method == Method::HEAD;
        let x = self.exchange(arrived.request);
        let mut ticket = Ticket::begin(self.shared.worker.index, runtime.clone(), x);
        let mut answer = serve(&self.shared.worker, &runtime, &mut ticket, self.watch).await;
        match (arrived.tunnel, answer.tunnel.take()) {
            (Some(inbound), Some(tunnel)) => {
                drop(runtime);
                return self.tunnel(answer, *tunnel, inbound, ticket).await;
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
        self.write(answer, ticket, to_head).await;
    }

    /// Answers what could not become a request.
    async fn refuse(&self, runtime: &Arc<Runtime>, listener: &Listener, request: Request, error: &Error) {
        listener.metrics.refused(error.mapping().slug);
        let to_head = request.method == Method::HEAD;
        let x = self.exchange(request);
        let mut ticket = Ticket::begin(self.shared.worker.index, runtime.clone(), x);
        ticket.blame(error);
        let answer = runtime.pages.answer(&mut ticket.x, error);
        self.write(answer, ticket, to_head).await;
    }

    fn received(&self) -> u64 {
        self.link.received.load(Relaxed)
    }

    async fn write(&self, mut answer: Answer, mut ticket: Box<Ticket>, to_head: bool) {
        ticket.status = answer.status.as_u16();
        let (head, is_whole) = self.head(&answer, to_head);
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
        let stream = match self.link.answer(head, is_whole) {
            Ok(stream) => stream,
            Err(_) => {
                ticket.end(self.received(), 0, Err(Error::new(Kind::ClientGone)));
                return;
            }
        };
        if is_whole {
            drop((answer, stream));
            ticket.end(self.received(), 0, Ok(()));
            return;
        }
        let mut outbound = Outbound::begun(stream, answer.body, begun);
        let result = self.pump(&mut outbound, ticket.body_idle, ticket.total).await;
        if let Err(error) = &result {
            // A reset throws away what is queued for the stream, be it the head alone: the connection's task, which has
            // been told of it, goes first.
            tokio::task::yield_now().await;
            // The client must not take what it has for the whole (RFC 9113 §8.1).
            let reason = if error.kind == Kind::ClientGone { Reason::CANCEL } else { Reason::INTERNAL_ERROR };
            outbound.stream().send_reset(reason);
        }
        let sent = outbound.sent;
        // The body may hold what is left of the request; only without it is that nobody's.
        drop(outbound);
        ticket.end(self.received(), sent, result);
    }

    /// The head of an answer, and whether nothing follows it.
    fn head(&self, answer: &Answer, to_head: bool) -> (Response<()>, bool) {
        let status = answer.status;
        let is_bodyless = to_head || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
        let length = answer.body.remaining();
        let told = answer.fields.known(Known::ContentLength).and_then(crate::h1::framing::decimal);
        let is_told = match (is_bodyless, length) {
            // RFC 9110 §8.6: information in answers to HEAD and in 304, never in a 204.
            (true, _) => status != StatusCode::NO_CONTENT,
            (false, Some(length)) => told == Some(length),
            (false, None) => false,
        };
        let left_out = if is_told { 0 } else { Known::ContentLength.bit() };
        let mut fields = head::to_header_map(&answer.fields, left_out);
        if let Some(length) = length.filter(|length| *length > 0 && !is_told && !is_bodyless) {
            fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        if !fields.contains_key(header::DATE) {
            let now = date::with(&self.shared.worker.clock, HeaderValue::from_str);
            now.ok().and_then(|now| fields.insert(header::DATE, now));
        }
        let mut head = Response::new(());
        *head.status_mut() = status;
        *head.headers_mut() = fields;
        (head, is_bodyless || length == Some(0))
    }

    /// Moves the body to the client, each wait within its deadline.
    async fn pump(&self, outbound: &mut Outbound, source_idle: Duration, total: u64) -> Result<(), Error> {
        let mut armed = None;
        poll_fn(|cx| {
            match outbound.poll(cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(Cut::Source(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(Err(Cut::Peer)) => return Poll::Ready(Err(Error::new(Kind::ClientGone))),
                Poll::Pending => {}
            }
            if outbound.stream().poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Error::new(Kind::ClientGone)));
            }
            let (waits, sent) = (outbound.waits, outbound.sent);
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
    async fn tunnel(&self, answer: Answer, tunnel: Tunnel, inbound: Inbound, mut ticket: Box<Ticket>) {
        let mut head = Response::new(());
        let left_out = Known::ContentLength.bit() | Known::SecWebsocketAccept.bit();
        *head.headers_mut() = head::to_header_map(&answer.fields, left_out);
        drop(answer);
        ticket.status = StatusCode::OK.as_u16();
        ticket.detach();
        let Ok(stream) = self.link.answer(head, false) else {
            ticket.end(0, 0, Err(Error::new(Kind::ClientGone)));
            return;
        };
        let (mut client, mut io) = (Side::new(inbound, stream), tunnel.io);
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

/// The body of a request, at the pace that the listener demands.
struct Incoming {
    inbound: Inbound,
    link: Arc<Link>,
    /// The client waits for a 100 before it sends.
    expects: bool,
    since: Option<tokio::time::Instant>,
    grace: Duration,
    rate: u64,
}

impl Incoming {
    fn check_pace(&self, received: u64) -> Result<(), Error> {
        let Some(since) = self.since.filter(|_| self.rate > 0) else { return Ok(()) };
        let took = since.elapsed();
        if took > self.grace && (received as f64) < took.as_secs_f64() * self.rate as f64 {
            return Err(Error::because(Kind::RequestTimeout, "body slower than the minimum rate"));
        }
        Ok(())
    }
}

impl Stream for Incoming {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        if std::mem::take(&mut self.expects) {
            // Somebody wants it, whether or not anybody asked for it by name.
            self.link.go_on();
        }
        let frame = match self.inbound.poll(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                self.since.get_or_insert_with(tokio::time::Instant::now);
                return Poll::Pending;
            }
        };
        Poll::Ready(frame.map(|frame| match frame {
            Ok(Frame::Data(data)) => {
                let before = self.link.received.fetch_add(data.len() as u64, Relaxed);
                self.check_pace(before + data.len() as u64).map(|()| Frame::Data(data))
            }
            Ok(Frame::Trailers(trailers)) => trailers::of_request(trailers).map(Frame::Trailers),
            // `h2` found it to be longer or shorter than its Content-Length.
            Err(error) if error.is_library() => Err(Error::because(Kind::BadRequest, error.to_string())),
            Err(_) => Err(Error::because(Kind::ClientGone, "in the middle of the body")),
        }))
    }

    fn remaining(&self) -> Option<u64> {
        self.inbound.remaining()
    }
}
