//! HTTP/2 towards the client: one task per connection drives the protocol and starts a task per stream.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream,
    server::{Builder, SendResponse},
};
use portcullis_config::model::{ListenerLimits, ListenerTimeouts};
use portcullis_core::Connection;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    SEND_BUFFER,
    gathered::Gathered,
    meter::{Meter, Metered},
    stream,
};
use crate::{
    clock::Watch,
    listen::{Cancelled, Drain},
    runtime::Listener,
    streams::{
        CONNECTION_WINDOW, STREAM_WINDOW,
        shared::{Share, Shared, attacked},
    },
    worker::Worker,
};

/// Streams that a client may reset before we have looked at them.
const UNSEEN_RESETS: usize = 50;
/// Streams that we may have to reset because of the client's mistakes (CVE-2025-8671), in a connection's life.
const CLIENT_MISTAKES: usize = 100;

/// Tasks of streams that their clients have reset end soon, but not at once. When so many times the allowed streams are
/// still there, new ones are refused.
const LEFT_BEHIND: usize = 4;

/// Serves a connection until it ends. `io` gives the client's preface first.
pub async fn serve_connection<IO>(io: IO, worker: Arc<Worker>, connection: Arc<Connection>, drain: Drain)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Some(listener) = listener(&worker, &connection) else { return };
    let (limits, timeouts) = (listener.settings.limits, listener.settings.timeouts);
    drop(listener);
    let meter = Arc::new(Meter::default());
    let io = Gathered::new(Metered::new(io, worker.clock.clone(), meter.clone(), limits.h2_streams));
    let mut handshake = pin!(builder(&limits).handshake(io.clone()));
    let handshake = poll_fn(|cx| {
        let shaken = handshake.as_mut().poll(cx);
        // Our SETTINGS do not wait for the client's. An error is found by whoever reads.
        let _ = io.poll_drain(cx);
        shaken
    });
    let conn = match tokio::time::timeout(timeouts.request_header, handshake).await {
        Ok(Ok(conn)) => conn,
        Ok(Err(_)) => return,
        Err(_) => {
            attacked(&worker, &connection, "slow-header");
            return;
        }
    };
    let watch = worker.clock.watch();
    let born_ms = worker.clock.now_ms();
    let told = drain.told();
    let shared = Shared::new(worker, connection, drain);
    let mut server = Server {
        conn,
        io,
        shared,
        meter,
        watch,
        limits,
        timeouts,
        born_ms,
        requests: 0,
        refused: 0,
        state: State::Fresh,
        written: 0,
        is_leaving: false,
        is_condemned: false,
        told,
        cut: None,
    };
    poll_fn(|cx| server.poll(cx)).await;
}

fn listener(worker: &Worker, connection: &Connection) -> Option<Arc<Listener>> {
    worker.runtime()?.listeners.get(&connection.listener).cloned()
}

fn builder(limits: &ListenerLimits) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.h2_streams)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(UNSEEN_RESETS)
        .max_local_error_reset_streams(Some(CLIENT_MISTAKES))
        .enable_connect_protocol();
    builder
}

/// One connection.
struct Server<IO> {
    conn: h2::server::Connection<Gathered<Metered<IO>>, Bytes>,
    /// The same connection: what `h2` wrote leaves when it has no more to say.
    io: Gathered<Metered<IO>>,
    shared: Arc<Shared>,
    meter: Arc<Meter>,
    watch: Watch,
    limits: ListenerLimits,
    timeouts: ListenerTimeouts,
    born_ms: u64,
    requests: u64,
    /// Heads that `h2` refused, as far as they are counted.
    refused: u64,
    state: State,
    /// Bytes written when the deadline was armed.
    written: u64,
    /// GOAWAY was sent: streams end, none begin.
    is_leaving: bool,
    /// It overspent a budget and is closed as soon as that is said.
    is_condemned: bool,
    /// Wakes this task when a drain begins. Polled once, to be registered: from then on a flag tells.
    told: Cancelled,
    /// Ready when a drain's time is over.
    cut: Option<Cancelled>,
}

/// What a connection's deadline is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing yet.
    Fresh,
    /// Streams are being served; each has its own deadline.
    Busy,
    /// All are served; the client still has to take the rest of some.
    Flushing,
    /// Nothing is under way.
    Idle,
    /// Nothing is under way, and the client was told to leave.
    Leaving,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Server<IO> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.state == State::Fresh {
            self.shared.drive(cx);
            // Its news is also in a flag; all that is wanted is the wake-up.
            let _ = self.told.as_mut().poll(cx);
        }
        loop {
            match self.conn.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => self.begin(request, respond),
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(peer = %self.shared.connection.peer, %error, "HTTP/2 connection");
                    // What `h2` itself has had enough of: endless header blocks, resets that we had to make.
                    if error.is_library() && error.reason() == Some(Reason::ENHANCE_YOUR_CALM) {
                        self.shared.attacked("http2-flood");
                    }
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending if self.must_leave() => {}
                Poll::Pending => {
                    if self.cut.as_mut().is_some_and(|cut| cut.as_mut().poll(cx).is_ready()) {
                        return Poll::Ready(());
                    }
                    let is_flushed = match self.io.poll_drain(cx) {
                        Poll::Ready(Err(_)) => return Poll::Ready(()),
                        drained => drained.is_ready(),
                    };
                    if is_flushed {
                        self.count_refused();
                    }
                    match ready!(self.poll_deadline(cx, is_flushed)) {
                        State::Idle => self.leave(),
                        _ => return Poll::Ready(()),
                    }
                }
            }
        }
    }

    /// Counts what `h2` refused by itself: heads that are too large or malformed, streams beyond those allowed. It tells
    /// nobody but the client; yet when it waits and all is written, every head that came was taken or refused.
    fn count_refused(&mut self) {
        let refused = self.meter.refused();
        if refused <= self.refused {
            return;
        }
        let news = refused - std::mem::replace(&mut self.refused, refused);
        if let Some(listener) = listener(&self.shared.worker, &self.shared.connection) {
            (0..news).for_each(|_| listener.metrics.refused("http2"));
        }
        tracing::debug!(peer = %self.shared.connection.peer, heads = news, "HTTP/2: refused before they were requests");
    }

    /// Starts a stream.
    fn begin(&mut self, request: http::Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        self.requests += 1;
        self.meter.took_request();
        if self.shared.open() >= LEFT_BEHIND * self.limits.h2_streams as usize {
            respond.send_reset(Reason::REFUSED_STREAM);
            return;
        }
        // Boxed, since tokio moves a task's future about, and this one is large.
        tokio::spawn(Box::pin(stream::run(Share::new(&self.shared), request, respond)));
    }

    /// Tells the client to leave when it is time; true when there is something new to tell it.
    fn must_leave(&mut self) -> bool {
        if self.meter.is_over() {
            let news = !std::mem::replace(&mut self.is_condemned, true);
            if news {
                self.condemn();
            }
            return news;
        }
        let limits = &self.limits;
        let is_draining = self.shared.drain.is_draining();
        if is_draining && self.cut.is_none() {
            self.cut = Some(self.shared.drain.cut());
        }
        let is_worn = limits.requests_per_connection > 0 && self.requests >= limits.requests_per_connection;
        let news = !self.is_leaving && (is_draining || is_worn || self.is_old());
        if news {
            self.leave();
        }
        news
    }

    fn is_old(&self) -> bool {
        let age = self.shared.worker.clock.now_ms().saturating_sub(self.born_ms);
        !self.timeouts.max_age.is_zero() && u128::from(age) >= self.timeouts.max_age.as_millis()
    }

    /// GOAWAY, after which streams end and none begin (RFC 9113 §6.8).
    fn leave(&mut self) {
        self.is_leaving = true;
        self.conn.graceful_shutdown();
    }

    /// GOAWAY, and the end.
    fn condemn(&mut self) {
        self.shared.attacked("http2-flood");
        self.is_leaving = true;
        self.conn.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
    }

    /// Ready, with what it was about, when the deadline of the present state is over.
    fn poll_deadline(&mut self, cx: &mut Context<'_>, is_flushed: bool) -> Poll<State> {
        let state = if self.is_condemned {
            State::Leaving
        } else if self.shared.open() > 0 {
            State::Busy
        } else if !is_flushed || self.conn.has_streams() {
            State::Flushing
        } else if self.is_leaving {
            State::Leaving
        } else {
            State::Idle
        };
        let written = self.meter.written();
        let moved = state == State::Flushing && written != self.written;
        if state != self.state || moved {
            self.state = state;
            self.written = written;
            self.watch.set(match state {
                State::Fresh | State::Busy => Duration::ZERO,
                State::Flushing | State::Leaving => self.timeouts.write_idle,
                State::Idle => self.timeouts.keep_alive,
            });
        }
        ready!(self.watch.poll_expired(cx));
        Poll::Ready(state)
    }
}
