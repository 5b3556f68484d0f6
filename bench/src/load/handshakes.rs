//! TLS handshakes, as many as the core gives: connect, shake hands, wait for the server's first session ticket (which
//! proves that it is done too), close. Full ones, or resumed by the ticket of the one before. A server that holds its
//! tickets back until it has something to say (BoringSSL, and so Envoy) is asked for `/small`.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::Poll,
    time::{Duration, Instant},
};

use anyhow::Result;
use rustls::{
    ClientConfig, HandshakeKind, NamedGroup,
    client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue},
    pki_types::ServerName,
};
use tokio::{
    io::{AsyncRead, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Run, say, tally::Tally};
use crate::tls;

/// One handshake may take this long.
const PATIENCE: Duration = Duration::from_secs(5);

/// A server that sends no ticket for this long waits to be asked.
const SILENCE: Duration = Duration::from_secs(1);

const REQUEST: &[u8] = b"GET /small HTTP/1.1\r\nHost: bench.example\r\n\r\n";

/// What all handshakes of a run have in common.
#[derive(Clone, Copy)]
struct Kind {
    to: SocketAddr,
    /// By the ticket of the one before.
    resumed: bool,
    /// With a request behind it.
    ask: bool,
}

/// How a handshake ended.
enum End {
    /// Both sides are done, after so long.
    Done(Duration),
    /// Both are, but it was resumed when it was to be full, or the other way round.
    Other,
    NotConnected,
    Failed,
    TooLate,
}

/// Shakes hands on so many connections at a time for some seconds, and says what it counted.
pub fn main(run: &Run, resumed: bool) -> Result<()> {
    let &Run { to, seconds, connections } = run;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let load = runtime.block_on(async {
        let kind = Kind { to, resumed, ask: silent(to).await? };
        let begun = Instant::now();
        let until = begun + Duration::from_secs(seconds);
        let tasks: Vec<_> = (0..connections).map(|_| tokio::spawn(client(kind, until))).collect();
        let mut all = Tally::default();
        for task in tasks {
            all += task.await??;
        }
        all.load(begun)
    })?;
    say(&load);
    Ok(())
}

/// Whether the server says nothing by itself after a handshake.
async fn silent(to: SocketAddr) -> Result<bool> {
    let mut client = Client::new(false)?;
    let first = timeout(SILENCE, client.one(Kind { to, resumed: false, ask: false })).await;
    Ok(first.is_err())
}

/// One connection after the other, with a memory of its own for tickets.
async fn client(kind: Kind, until: Instant) -> Result<Tally> {
    let mut client = Client::new(kind.resumed)?;
    if kind.resumed {
        // The first has nothing to resume.
        let _ = timeout(PATIENCE, client.one(kind)).await;
    }
    let mut seen = Tally::default();
    while Instant::now() < until {
        match timeout(PATIENCE, client.one(kind)).await.unwrap_or(End::TooLate) {
            End::Done(took) => seen.done(took),
            End::Other => seen.errors.status += 1,
            End::NotConnected => seen.errors.connect += 1,
            End::Failed => seen.errors.read += 1,
            End::TooLate => seen.errors.timeout += 1,
        }
    }
    Ok(seen)
}

/// A client with its memory.
struct Client {
    tickets: Arc<Tickets>,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Client {
    fn new(keep: bool) -> Result<Client> {
        let tickets = Arc::new(Tickets { keep, ..Tickets::default() });
        let mut config = tls::client(&["http/1.1"])?;
        config.resumption = Resumption::store(tickets.clone());
        Ok(Client { tickets, config: Arc::new(config), name: tls::name()? })
    }

    async fn one(&mut self, kind: Kind) -> End {
        let begun = Instant::now();
        let seen = self.tickets.arrived.load(Relaxed);
        let Ok(stream) = TcpStream::connect(kind.to).await else { return End::NotConnected };
        let _ = stream.set_nodelay(true);
        let connector = TlsConnector::from(self.config.clone());
        let Ok(mut stream) = connector.connect(self.name.clone(), stream).await else { return End::Failed };
        if kind.ask && (stream.write_all(REQUEST).await.is_err() || stream.flush().await.is_err()) {
            return End::Failed;
        }
        if !ticket(&mut stream, &self.tickets, seen).await {
            return End::Failed;
        }
        let took = begun.elapsed();
        let done = stream.get_ref().1.handshake_kind();
        let _ = stream.shutdown().await;
        match done {
            Some(HandshakeKind::Resumed) if kind.resumed => End::Done(took),
            Some(HandshakeKind::Full) if !kind.resumed => End::Done(took),
            _ => End::Other,
        }
    }
}

/// Reads until a ticket has come; false when the connection ends without.
async fn ticket(stream: &mut TlsStream<TcpStream>, tickets: &Tickets, seen: u64) -> bool {
    poll_fn(|cx| {
        let mut byte = [0; 1];
        let read = Pin::new(&mut *stream).poll_read(cx, &mut ReadBuf::new(&mut byte));
        if tickets.arrived.load(Relaxed) > seen {
            return Poll::Ready(true);
        }
        read.map(|_| false)
    })
    .await
}

/// The memory for tickets: of the newest only, or of none.
#[derive(Debug, Default)]
struct Tickets {
    keep: bool,
    arrived: AtomicU64,
    newest: Mutex<Option<Tls13ClientSessionValue>>,
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.arrived.fetch_add(1, Relaxed);
        if self.keep {
            *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        }
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
