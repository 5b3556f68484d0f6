//! HTTP/2 towards an endpoint: a connection shared by many requests, driven by a task of its own on the worker's
//! runtime.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::{
    Reason,
    client::{ResponseFuture, SendRequest},
};
use http::{Response, StatusCode};
use portcullis_core::{
    Answer, Body, Error, Exchange, Fields, Frame, Kind, Known, Source, Stream, exchange::ClientLink,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::AbortHandle,
};

use super::{
    ENDPOINT_STREAMS, ENDPOINT_WINDOW, SEND_BUFFER, STREAM_WINDOW, gathered::Gathered, head,
    inbound::Inbound, outbound::Outbound,
};
use crate::{
    forward::upstream::{InFlight, Open},
    h1::client::{Ask, Failed},
    streams::outgoing::{Cut, Waits as Moving},
};

/// Largest answer head.
const HEAD: u32 = 64 * 1024;
/// How long an endpoint may take to say `100 Continue` before the client is told so anyway (RFC 9110 §10.1.1).
const CONTINUE: Duration = Duration::from_secs(1);
/// An endpoint that sends more interim answers than this is broken.
const INTERIMS: u32 = 100;

/// A connection to an endpoint.
pub struct H2Client {
    sender: SendRequest<Bytes>,
    shared: Arc<Shared>,
    born: Instant,
    max_age: Duration,
}

/// What the driver, the streams and the pool know of a connection.
#[derive(Debug)]
struct Shared {
    /// The driver has ended.
    closed: AtomicBool,
    /// An answer did not come in time: the connection may be dead without a word.
    suspect: AtomicBool,
    /// Streams under way.
    active: AtomicUsize,
    /// When the last of them ended.
    idle_since: std::sync::Mutex<Instant>,
}

impl H2Client {
    /// Begins HTTP/2 on a fresh connection. `max_age` zero = unbounded; `open` counts the connection while it lives.
    ///
    /// # Errors
    /// `ConnectionTerminated`, always `unsent`.
    pub async fn handshake<IO>(io: IO, max_age: Duration, open: Open) -> Result<H2Client, Error>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = Gathered::new(io);
        let handshake = h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(ENDPOINT_WINDOW)
            .max_header_list_size(HEAD)
            .max_send_buffer_size(SEND_BUFFER)
            .handshake(io.clone());
        let (sender, connection) = handshake.await.map_err(|error| failed(&error).unsent())?;
        let shared = Arc::new(Shared {
            closed: AtomicBool::new(false),
            suspect: AtomicBool::new(false),
            active: AtomicUsize::new(0),
            idle_since: std::sync::Mutex::new(Instant::now()),
        });
        let driven = shared.clone();
        tokio::spawn(async move {
            if let Err(error) = drive(connection, io).await {
                tracing::debug!(%error, "HTTP/2 connection to an endpoint");
            }
            driven.closed.store(true, Relaxed);
            drop(open);
        });
        Ok(H2Client { sender, shared, born: Instant::now(), max_age })
    }

    /// May it carry another request: neither closed nor told to go away, young enough, and not suspected dead?
    pub fn is_usable(&self) -> bool {
        let is_young = self.max_age.is_zero() || self.born.elapsed() < self.max_age;
        // A clone is never behind a queue: this only tells whether the connection still takes streams.
        let mut sender = self.sender.clone();
        let takes = sender.poll_ready(&mut Context::from_waker(Waker::noop()));
        is_young
            && !self.shared.closed.load(Relaxed)
            && !self.shared.suspect.load(Relaxed)
            && !matches!(takes, Poll::Ready(Err(_)))
    }

    /// Are there fewer streams under way than the endpoint and we allow?
    pub fn has_room(&self) -> bool {
        let streams = self.streams();
        // What the endpoint allows stands behind a lock.
        streams < ENDPOINT_STREAMS && streams < self.sender.current_max_send_streams()
    }

    /// Streams under way.
    pub fn streams(&self) -> usize {
        self.shared.active.load(Relaxed)
    }

    /// For how long it has had nothing to do; `None` while streams are under way.
    pub fn idle_for(&self) -> Option<Duration> {
        (self.streams() == 0).then(|| {
            self.shared.idle_since.lock().unwrap_or_else(std::sync::PoisonError::into_inner).elapsed()
        })
    }

    /// Sends a request and awaits the head of its answer. The body is taken from the exchange and sent while the
    /// answer is awaited, and on while it streams; of a request that failed before any of it was spent it is put back.
    ///
    /// # Errors
    /// `unsent` where the endpoint certainly did not process it (the connection took no more streams, the stream was
    /// refused, or it is beyond the last one of a GOAWAY, RFC 9113 §8.7) and the body is back, so that it can be sent
    /// again. `stale` where it is back and the connection was at fault.
    pub async fn send(
        &self,
        head: http::Request<()>,
        x: &mut Exchange,
        ask: &Ask<'_>,
        in_flight: InFlight,
    ) -> Result<Answer, Failed> {
        let mut call = self.begin(head, x, ask).map_err(|error| Failed { stale: true, error })?;
        loop {
            let link = &x.client_link;
            let step = poll_fn(|cx| call.poll(cx, ask, link.as_ref())).await;
            let result = match step {
                Ok(Step::Answer(response)) => return Ok(call.finish(response, ask, in_flight)),
                Ok(Step::GoOn) => call.go_on(x).await,
                Ok(Step::Interim(response)) => call.interim(response, x).await,
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                if error.kind == Kind::ResponseTimeout {
                    self.shared.suspect.store(true, Relaxed);
                }
                return Err(call.failed(x, error));
            }
            call.armed = None;
        }
    }

    fn begin(&self, head: http::Request<()>, x: &mut Exchange, ask: &Ask<'_>) -> Result<Call, Error> {
        let is_whole = x.request.body.is_empty();
        let is_grpc = x.request.fields.known(Known::ContentType).is_some_and(|value| {
            value.get(..16).is_some_and(|start| start.eq_ignore_ascii_case(b"application/grpc"))
        });
        let mut sender = self.sender.clone();
        let (response, stream) =
            sender.send_request(head, is_whole).map_err(|error| failed(&error).unsent())?;
        let whole = match &x.request.body {
            Body::Empty => Some(Bytes::new()),
            Body::Full(data) => Some(data.clone()),
            Body::Stream(_) => None,
        };
        let upload = (!is_whole).then(|| Outbound::new(stream, std::mem::take(&mut x.request.body)));
        let idle_client = if is_grpc { ask.timeouts.stream_idle } else { ask.client_body_idle };
        Ok(Call {
            response,
            hold: x.request.expects_continue && upload.is_some(),
            upload,
            whole,
            is_lost: false,
            idle_client,
            active: Active::new(&self.shared),
            armed: None,
            interims: 0,
        })
    }
}

/// Drives a connection to its end; what `h2` wrote leaves when it has no more to say.
async fn drive<IO>(
    mut connection: h2::client::Connection<Gathered<IO>, Bytes>,
    io: Gathered<IO>,
) -> Result<(), String>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    poll_fn(|cx| {
        let ended = Pin::new(&mut connection).poll(cx).map_err(|error| error.to_string());
        if ended.is_pending()
            && let Poll::Ready(Err(error)) = io.poll_drain(cx)
        {
            return Poll::Ready(Err(error.to_string()));
        }
        ended
    })
    .await
}

/// Counts a stream while it is under way.
struct Active(Arc<Shared>);

impl Active {
    fn new(shared: &Arc<Shared>) -> Active {
        shared.active.fetch_add(1, Relaxed);
        Active(shared.clone())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        if self.0.active.fetch_sub(1, Relaxed) == 1 {
            *self.0.idle_since.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Instant::now();
        }
    }
}

/// One request until the head of its answer is there. Dropping it resets the stream.
struct Call {
    response: ResponseFuture,
    upload: Option<Outbound>,
    /// The request's body, when it was in memory: then nothing of it is ever lost.
    whole: Option<Bytes>,
    /// The connection broke.
    is_lost: bool,
    /// The body waits for the endpoint to want it.
    hold: bool,
    /// Between two reads of the request's body. A gRPC client may be silent while its stream is open: there it is the
    /// time for streams.
    idle_client: Duration,
    active: Active,
    /// What the deadline was set for, and the progress at that time.
    armed: Option<(Waits, u64)>,
    interims: u32,
}

/// What the deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    Continue,
    ClientBody,
    Write,
    Answer,
}

/// What happened on a stream.
enum Step {
    Answer(Response<h2::RecvStream>),
    Interim(Response<()>),
    /// The endpoint kept silent about the expectation: the client shall go on.
    GoOn,
}

impl Call {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        ask: &Ask<'_>,
        link: &dyn ClientLink,
    ) -> Poll<Result<Step, Error>> {
        self.poll_upload(cx)?;
        match self.response.poll_informational(cx) {
            Poll::Ready(Some(Ok(interim))) => return Poll::Ready(Ok(Step::Interim(interim))),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(self.broke(&error))),
            Poll::Ready(None) => {
                let response = ready!(Pin::new(&mut self.response).poll(cx));
                return Poll::Ready(response.map(Step::Answer).map_err(|error| self.broke(&error)));
            }
            Poll::Pending => {}
        }
        if link.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Error::new(Kind::ClientGone)));
        }
        let waits = self.aim(ask);
        ready!(ask.watch.poll_expired(cx));
        Poll::Ready(match waits {
            _ if ask.watch.is_past(ask.total) => Err(Error::new(Kind::TotalTimeout)),
            Waits::Continue => Ok(Step::GoOn),
            Waits::ClientBody => Err(Error::because(Kind::RequestTimeout, "body idle")),
            Waits::Write => Err(Error::new(Kind::WriteTimeout)),
            Waits::Answer => Err(Error::new(Kind::ResponseTimeout)),
        })
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        let Some(upload) = self.upload.as_mut().filter(|_| !self.hold) else { return Ok(()) };
        match upload.poll(cx) {
            // An endpoint that wants no more of it may still answer, and says so by answering.
            Poll::Ready(Ok(()) | Err(Cut::Peer)) => self.upload = None,
            Poll::Ready(Err(Cut::Source(error))) => {
                upload.sink().send_reset(Reason::CANCEL);
                return Err(error);
            }
            Poll::Pending => {}
        }
        Ok(())
    }

    /// Sets the deadline for what is being waited for now.
    fn aim(&mut self, ask: &Ask<'_>) -> Waits {
        let (waits, sent) = match &self.upload {
            Some(_) if self.hold => (Waits::Continue, 0),
            Some(upload) if upload.waits == Moving::Peer => (Waits::Write, upload.sent),
            Some(upload) => (Waits::ClientBody, upload.sent),
            None => (Waits::Answer, 0),
        };
        if self.armed != Some((waits, sent)) {
            self.armed = Some((waits, sent));
            let after = match waits {
                Waits::Continue => CONTINUE,
                Waits::ClientBody => self.idle_client,
                Waits::Write => ask.timeouts.write_idle,
                Waits::Answer => ask.response_header,
            };
            ask.watch.set_within(after, ask.total);
        }
        waits
    }

    /// The client may send its body now.
    async fn go_on(&mut self, x: &mut Exchange) -> Result<(), Error> {
        self.hold = false;
        if std::mem::take(&mut x.request.expects_continue) {
            x.client_link.interim(StatusCode::CONTINUE, &Fields::new()).await?;
        }
        Ok(())
    }

    async fn interim(&mut self, response: Response<()>, x: &mut Exchange) -> Result<(), Error> {
        self.interims += 1;
        if self.interims > INTERIMS {
            return Err(Error::because(Kind::BadResponse, "interim answers without end"));
        }
        match response.status() {
            StatusCode::CONTINUE => self.go_on(x).await,
            // RFC 9113 §8.6: there is no such thing here.
            StatusCode::SWITCHING_PROTOCOLS => Err(Error::because(Kind::BadResponse, "101 in HTTP/2")),
            status => {
                let mut fields = head::fields(response.headers());
                fields.remove_known(Known::ContentLength);
                x.client_link.interim(status, &fields).await
            }
        }
    }

    /// Puts the request's body back if all of it is there, and says what that means for another try.
    fn failed(self, x: &mut Exchange, mut error: Error) -> Failed {
        let body = match (self.whole, self.upload) {
            (Some(data), _) => Some(Body::from(data)),
            (None, Some(upload)) if !upload.is_spent => Some(upload.into_body()),
            _ => None,
        };
        let is_back = body.is_some();
        if let Some(body) = body {
            x.request.body = body;
        }
        error.unsent &= is_back;
        Failed { stale: is_back && (self.is_lost || error.unsent), error }
    }

    /// What a failed stream means.
    fn broke(&mut self, error: &h2::Error) -> Error {
        self.is_lost = error.is_io();
        failed(error)
    }

    fn finish(self, response: Response<h2::RecvStream>, ask: &Ask<'_>, in_flight: InFlight) -> Answer {
        let (head, stream) = response.into_parts();
        let inbound = Inbound::new(stream, &head.headers);
        let body = if inbound.remaining() == Some(0) {
            // An endpoint that has said all has no use for the rest of the request.
            Body::Empty
        } else {
            let pump =
                self.upload.map(|upload| tokio::spawn(pump(upload, ask.timeouts.write_idle)).abort_handle());
            Body::stream(Arriving { inbound, pump, held: Some((in_flight, self.active)) })
        };
        let fields = head::fields(&head.headers);
        Answer { status: head.status, fields, body, tunnel: None, source: Source::Endpoint }
    }
}

/// Sends what is left of a request's body while its answer is already streaming: in a task of its own, since the
/// two directions must not wait for each other. Ends by resetting the stream when the body breaks off, or when the
/// endpoint takes nothing of it for too long.
async fn pump(mut upload: Outbound, write_idle: Duration) {
    let mut late: Option<Pin<Box<tokio::time::Sleep>>> = None;
    let mut armed = 0;
    let result = poll_fn(|cx| {
        if let Poll::Ready(done) = upload.poll(cx) {
            return Poll::Ready(done.is_ok());
        }
        if upload.waits != Moving::Peer || write_idle.is_zero() {
            late = None;
            return Poll::Pending;
        }
        if late.is_none() || armed != upload.sent {
            armed = upload.sent;
            late = Some(Box::pin(tokio::time::sleep(write_idle)));
        }
        late.as_mut().map_or(Poll::Pending, |late| late.as_mut().poll(cx).map(|()| false))
    })
    .await;
    if !result {
        upload.sink().send_reset(Reason::CANCEL);
    }
}

/// The body of an answer. Dropped before its end, it resets the stream.
struct Arriving {
    inbound: Inbound,
    /// Sends the rest of the request; it holds the stream as well, and must let go of it with us.
    pump: Option<AbortHandle>,
    held: Option<(InFlight, Active)>,
}

impl Arriving {
    fn let_go(&mut self) {
        if let Some(pump) = self.pump.take() {
            pump.abort();
        }
        self.held = None;
    }
}

impl Stream for Arriving {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        let frame = ready!(self.inbound.poll(cx));
        if !matches!(frame, Some(Ok(Frame::Data(_)))) {
            self.let_go();
        }
        Poll::Ready(frame.map(|frame| frame.map_err(|error| failed(&error))))
    }

    fn remaining(&self) -> Option<u64> {
        self.inbound.remaining()
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// The data path's error for one of `h2`'s.
fn failed(error: &h2::Error) -> Error {
    let refused = error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM);
    // `h2` gives a GOAWAY as an error only to streams beyond the last one that the endpoint processed.
    let turned_away = error.is_remote() && error.is_go_away();
    let kind = if error.is_library() { Kind::BadResponse } else { Kind::ConnectionTerminated };
    let ours = Error::because(kind, error.to_string());
    if refused || turned_away { ours.unsent() } else { ours }
}
