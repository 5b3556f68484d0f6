//! HTTP/3 towards the client: one task per connection accepts its streams and starts a task for each.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use portcullis_config::model::{ListenerLimits, ListenerTimeouts};
use portcullis_core::Connection;
use quinn::{RecvStream, SendStream, VarInt};
use tokio::time::timeout;

use super::{
    code,
    control::{self, Critical},
    peer::Peer,
    scan::kind,
    stream, varint,
};
use crate::{
    clock::Watch,
    listen::{Cancelled, Drain},
    streams::shared::{Share, Shared},
    worker::Worker,
};

/// Type of the control stream (RFC 9114 §6.2.1).
const CONTROL: u64 = 0x0;
/// Settings (§7.2.4.1, RFC 9220 §3).
const MAX_FIELD_SECTION_SIZE: u64 = 0x6;
const ENABLE_CONNECT_PROTOCOL: u64 = 0x8;
/// No stream is that far (§5.2).
const BEYOND_ALL: u64 = (1 << 62) - 4;

/// How long a client has to learn that no stream begins any more before that is held against it, in times that it takes to
/// reach it and back; within bounds.
const ROUND_TRIPS: u32 = 2;
const SHORTEST_NOTICE: Duration = Duration::from_millis(50);
const LONGEST_NOTICE: Duration = Duration::from_secs(1);

/// Serves a connection until it ends. `early`: its handshake may still be under way.
pub async fn serve_connection(
    conn: quinn::Connection,
    early: Option<impl Future<Output = bool> + Send + 'static>,
    worker: Arc<Worker>,
    connection: Arc<Connection>,
    drain: Drain,
) {
    let listener = worker.runtime().and_then(|runtime| runtime.listeners.get(&connection.listener).cloned());
    let Some(listener) = listener else { return };
    let (limits, timeouts) = (listener.settings.limits, listener.settings.timeouts);
    drop(listener);
    let Some(control) = greet(&conn, &limits, timeouts.request_header).await else { return };
    let (watch, born_ms) = (worker.clock.watch(), worker.clock.now_ms());
    let handshake = early.map(|early| {
        let patience = timeouts.handshake;
        Box::pin(async move { timeout(patience, early).await.is_ok() })
            as Pin<Box<dyn Future<Output = bool> + Send>>
    });
    let told = drain.told();
    let peer = Peer::new(conn.clone(), Shared::new(worker, connection, drain), limits.h2_streams);
    let critical = Arc::new(Critical::default());
    let mut server = Server {
        peer,
        control,
        handshake,
        watch,
        limits,
        timeouts,
        born_ms,
        next_stream: 0,
        state: State::Fresh,
        leaving: Leaving::No,
        told,
        cut: None,
    };
    loop {
        tokio::select! {
            biased;
            news = poll_fn(|cx| server.poll(cx)) => match news {
                News::Leave => server.leave(),
                News::Refuse => server.refuse_more(),
                News::End => break,
            },
            streams = conn.accept_bi() => match streams {
                Ok((send, receive)) => server.begin(send, receive),
                Err(error) => {
                    tracing::debug!(peer = %server.peer.shared.connection.peer, %error, "HTTP/3 connection");
                    return;
                }
            },
            stream = conn.accept_uni() => match stream {
                Ok(stream) => {
                    tokio::spawn(control::run(server.peer.clone(), critical.clone(), stream));
                }
                Err(_) => return,
            },
        }
    }
    server.peer.close(code::NO_ERROR, "");
    // quinn's own task says so to the client; it has been woken, and comes before us.
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
}

/// Opens our control stream and says what we take.
async fn greet(conn: &quinn::Connection, limits: &ListenerLimits, patience: Duration) -> Option<SendStream> {
    let mut settings = Vec::new();
    for (name, value) in [(MAX_FIELD_SECTION_SIZE, limits.header_bytes as u64), (ENABLE_CONNECT_PROTOCOL, 1)]
    {
        varint::write(name, &mut settings);
        varint::write(value, &mut settings);
    }
    let mut bytes = Vec::new();
    varint::write(CONTROL, &mut bytes);
    write_frame(kind::SETTINGS, &settings, &mut bytes);
    let greeting = async {
        let mut stream = conn.open_uni().await.ok()?;
        stream.write_all(&bytes).await.ok()?;
        Some(stream)
    };
    timeout(patience, greeting).await.ok().flatten()
}

fn write_frame(kind: u64, payload: &[u8], out: &mut Vec<u8>) {
    varint::write(kind, out);
    varint::write(payload.len() as u64, out);
    out.extend_from_slice(payload);
}

/// One connection.
struct Server {
    peer: Arc<Peer>,
    /// Our control stream. It stays open as long as the connection does.
    control: SendStream,
    /// A handshake under way: it comes to something, or the connection ends.
    handshake: Option<Pin<Box<dyn Future<Output = bool> + Send>>>,
    watch: Watch,
    limits: ListenerLimits,
    timeouts: ListenerTimeouts,
    born_ms: u64,
    /// The id of the first stream that has not been seen.
    next_stream: u64,
    state: State,
    leaving: Leaving,
    /// Wakes this task when a drain begins. Polled until it has: from then on a flag tells.
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
    /// Nothing is under way.
    Idle,
    /// The client was told to leave, and learns of it.
    Notified,
    /// Nothing is under way, and nothing begins any more.
    Leaving,
}

/// How far the client was told to leave (§5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    No,
    /// It is to begin nothing. What it begins until it knows is served.
    Notified,
    /// It has been told which streams are served; others are refused.
    Settled,
}

/// What is to be done.
enum News {
    Leave,
    Refuse,
    End,
}

impl Server {
    /// Starts a stream.
    fn begin(&mut self, mut send: SendStream, mut receive: RecvStream) {
        if self.leaving == Leaving::Settled {
            // It was told that this stream is not processed, and may ask again elsewhere. If these fail, it knows.
            let _ = send.reset(code::REQUEST_REJECTED);
            let _ = receive.stop(code::REQUEST_REJECTED);
            return;
        }
        // §5.2: the id of the first stream that is not processed. Those of clients are multiples of four.
        self.next_stream = VarInt::from(receive.id()).into_inner() + 4;
        self.peer.began();
        let share = Share::new(&self.peer.shared);
        // Boxed, since tokio moves a task's future about, and this one is large.
        tokio::spawn(Box::pin(stream::run(self.peer.clone(), share, send, receive)));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<News> {
        self.peer.shared.drive(cx);
        if let Some(handshake) = &mut self.handshake
            && let Poll::Ready(is_complete) = handshake.as_mut().poll(cx)
        {
            self.handshake = None;
            if !is_complete {
                return Poll::Ready(News::End);
            }
        }
        if !self.peer.shared.drain.is_draining() {
            // Its news is also in a flag; all that is wanted is the wake-up.
            let _ = self.told.as_mut().poll(cx);
        } else if self.cut.is_none() {
            self.cut = Some(self.peer.shared.drain.cut());
        }
        if self.cut.as_mut().is_some_and(|cut| cut.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(News::End);
        }
        if self.leaving == Leaving::No && self.is_to_leave() {
            return Poll::Ready(News::Leave);
        }
        self.arm();
        self.watch.poll_expired(cx).map(|()| match self.state {
            State::Idle => News::Leave,
            State::Notified => News::Refuse,
            _ => News::End,
        })
    }

    fn is_to_leave(&self) -> bool {
        let most = self.limits.requests_per_connection;
        let age = self.peer.shared.worker.clock.now_ms().saturating_sub(self.born_ms);
        let is_old = !self.timeouts.max_age.is_zero() && u128::from(age) >= self.timeouts.max_age.as_millis();
        self.peer.shared.drain.is_draining() || (most > 0 && self.peer.requests() >= most) || is_old
    }

    /// Sets the deadline that the present state has.
    fn arm(&mut self) {
        let state = match (self.leaving, self.peer.shared.open()) {
            (Leaving::Notified, _) => State::Notified,
            (_, 1..) => State::Busy,
            (Leaving::Settled, 0) => State::Leaving,
            (Leaving::No, 0) => State::Idle,
        };
        if state == self.state {
            return;
        }
        self.state = state;
        self.watch.set(match state {
            State::Fresh | State::Busy => Duration::ZERO,
            State::Idle => self.timeouts.keep_alive,
            State::Notified | State::Leaving => self.notice(),
        });
    }

    /// How long a word takes to reach the client, generously.
    fn notice(&self) -> Duration {
        (self.peer.conn.rtt() * ROUND_TRIPS).clamp(SHORTEST_NOTICE, LONGEST_NOTICE)
    }

    /// Tells the client to begin nothing any more. A client that has nothing under way will hardly have just begun
    /// something, but it may.
    fn leave(&mut self) {
        self.leaving = Leaving::Notified;
        self.say_goaway(BEYOND_ALL);
    }

    /// From now on what begins is refused.
    fn refuse_more(&mut self) {
        self.leaving = Leaving::Settled;
        self.say_goaway(self.next_stream);
    }

    fn say_goaway(&mut self, first_refused: u64) {
        let (mut payload, mut bytes) = (Vec::new(), Vec::new());
        varint::write(first_refused, &mut payload);
        write_frame(kind::GOAWAY, &payload, &mut bytes);
        let mut context = Context::from_waker(std::task::Waker::noop());
        // A client that leaves no room for ten bytes on this stream is told nothing.
        let _ = Pin::new(&mut self.control).poll_write(&mut context, &bytes);
    }
}
