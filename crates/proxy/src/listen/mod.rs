//! Listeners: each worker accepts on its own sockets and serves every connection in a task of its own. Each protocol
//! ends in [`crate::serve::serve`].

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use portcullis_core::{Connection, Protocol, exchange::TlsFacts};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use crate::{
    h1, h2,
    io::Io,
    observe::ListenerMetrics,
    proxy_protocol::Ends,
    runtime::Listener,
    tls::{self, ServerTls},
    worker::Worker,
};

mod drain;
mod plain_on_tls;
mod prefixed;
mod proxied;
pub mod quic;
pub mod socket;

pub use drain::{Cancelled, Drain};
use prefixed::Prefixed;

/// What all workers share about open connections.
#[derive(Debug, Default)]
pub struct Gate {
    /// Open in the whole process.
    pub open: AtomicUsize,
    /// Most in the whole process.
    pub most: AtomicUsize,
    by_client: Mutex<HashMap<IpAddr, usize>>,
}

/// One listener's place on one worker.
pub struct Accepting {
    /// The socket. Others may accept on it as well. It closes when nobody holds it any longer, and who waits for its
    /// address to be free looks at that.
    pub socket: Arc<std::net::TcpListener>,
    /// The wish that this worker leaves the socket to others.
    pub leave: CancellationToken,
    /// The listener's name.
    pub name: Arc<str>,
    /// The wish that it ends.
    pub drain: Drain,
    /// Connections open on this listener, all workers together.
    pub open: Arc<AtomicUsize>,
    /// Shared bounds.
    pub gate: Arc<Gate>,
}

/// A connection that was let in; lets the next one in when it ends.
struct Admitted {
    gate: Arc<Gate>,
    open: Arc<AtomicUsize>,
    worker: Arc<Worker>,
    client: Option<IpAddr>,
    /// The counters alone: a connection that stays open for days must not hold the configuration that it began with.
    metrics: Arc<ListenerMetrics>,
}

/// Accepts until the drain begins; who had already connected by then is still let in, instead of being reset when the
/// socket closes. Or until the socket is left to others, who go on with whoever waits at it.
pub async fn accept(accepting: Accepting, worker: Arc<Worker>) {
    let Accepting { socket: shared, leave, name, drain, open, gate } = accepting;
    let socket = match shared.try_clone().and_then(TcpListener::from_std) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(listener = &*name, %error, "a worker cannot accept connections");
            return;
        }
    };
    socket::prepare(&socket);
    // A socket that has one address gives it to all its connections: they need not be asked.
    let at = socket.local_addr().ok().filter(|address| !address.ip().is_unspecified());
    let mut late = 0;
    while !leave.is_cancelled() {
        let accepted = tokio::select! {
            biased;
            () = leave.cancelled() => break,
            accepted = socket.accept() => accepted,
            () = drain.wait() => break,
        };
        if drain.is_draining() {
            late += 1;
            if late > socket::BACKLOG {
                break;
            }
        }
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                pause_after(&error, &name).await;
                continue;
            }
        };
        let listener = worker.runtime().and_then(|runtime| runtime.listeners.get(&name).cloned());
        let Some(listener) = listener else { continue };
        let Some(mut admitted) = Admitted::admit(&gate, &open, &worker, &listener) else { continue };
        // Whose connection a proxy passes on is only known when it has said so.
        if listener.settings.proxy_protocol.is_none() && !admitted.is_one_of_few(peer.ip(), &listener) {
            continue;
        }
        let Some(local) = at.or_else(|| stream.local_addr().ok()) else { continue };
        let ends = Ends { source: proxied::canonical(peer), destination: local };
        tokio::spawn(connection(stream, ends, worker.clone(), listener, admitted, drain.clone()));
    }
    // Ours first: when the last of them goes, the address is free.
    drop(socket);
    drop(shared);
}

/// `accept` fails for want of descriptors, mostly: waiting beats spinning.
async fn pause_after(error: &io::Error, name: &str) {
    let passing = matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset);
    if !passing {
        tracing::warn!(listener = name, %error, "cannot accept connections");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Admitted {
    /// Counts a connection in, unless a bound on all of them is reached.
    fn admit(
        gate: &Arc<Gate>,
        open: &Arc<AtomicUsize>,
        worker: &Arc<Worker>,
        listener: &Listener,
    ) -> Option<Admitted> {
        let limits = listener.settings.limits;
        let in_all = gate.open.fetch_add(1, Relaxed);
        let here = open.fetch_add(1, Relaxed);
        worker.connections.fetch_add(1, Relaxed);
        listener.metrics.opened(worker.index);
        let (gate_held, open, worker) = (gate.clone(), open.clone(), worker.clone());
        let metrics = listener.metrics.clone();
        let admitted = Admitted { gate: gate_held, open, worker, client: None, metrics };
        let most = gate.most.load(Relaxed);
        if (most > 0 && in_all >= most) || (limits.connections > 0 && here >= limits.connections) {
            admitted.metrics.refused("connections");
            return None;
        }
        Some(admitted)
    }

    /// Counts it for its client; false when that one has as many as it may.
    fn is_one_of_few(&mut self, client: IpAddr, listener: &Listener) -> bool {
        let most = listener.settings.limits.connections_per_client;
        if most == 0 {
            return true;
        }
        let mut clients = self.gate.by_client.lock().unwrap_or_else(PoisonError::into_inner);
        let count = clients.entry(client).or_default();
        if *count >= most {
            self.metrics.refused("connections_per_client");
            return false;
        }
        *count += 1;
        drop(clients);
        self.client = Some(client);
        true
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.gate.open.fetch_sub(1, Relaxed);
        self.open.fetch_sub(1, Relaxed);
        self.worker.connections.fetch_sub(1, Relaxed);
        self.metrics.closed(self.worker.index);
        if let Some(client) = self.client {
            let mut clients = self.gate.by_client.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = clients.get_mut(&client) {
                *count -= 1;
                if *count == 0 {
                    clients.remove(&client);
                }
            }
        }
    }
}

/// Serves one connection, whatever it turns out to speak. The state of its rarer ways (a handshake, HTTP/2, a new
/// connection to an endpoint, a tunnel) lives in boxes: thousands of connections share the processor's caches, and what
/// most of them never use must not stand between what they use all the time.
async fn connection(
    stream: TcpStream,
    mut ends: Ends,
    worker: Arc<Worker>,
    listener: Arc<Listener>,
    mut admitted: Admitted,
    drain: Drain,
) {
    if listener.settings.proxy_protocol.is_some() {
        match Box::pin(proxied::ends(&stream, ends, &listener)).await {
            Ok(told) => ends = told,
            Err(refused) => {
                tracing::debug!(peer = %ends.source, %refused, "connection refused");
                if let Some(reason) = refused.reason() {
                    listener.metrics.refused(reason);
                }
                return;
            }
        }
        if !admitted.is_one_of_few(ends.source.ip(), &listener) {
            return;
        }
    }
    let Ends { source: peer, destination: local } = ends;
    let name = listener.settings.name.clone();
    let trusted = listener.settings.trusted_proxies.iter().any(|net| net.contains(&peer.ip()));
    let facts = |tls, protocol| {
        Arc::new(Connection {
            peer,
            peer_text: peer.ip().to_string().into(),
            local,
            listener: name.clone(),
            trusted,
            tls,
            protocol,
            id: worker.next_id(),
            prepared: Default::default(),
        })
    };
    let Some(ServerTls { config, .. }) = &listener.tls else {
        drop(listener);
        plaintext(stream, facts, &worker, drain.clone()).await;
        return;
    };
    let handshake = Box::pin(handshake(stream, config.clone()));
    let stream = match tokio::time::timeout(listener.settings.timeouts.handshake, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(NoHandshake::Tls(error))) => {
            tracing::debug!(%peer, %error, "TLS handshake failed");
            listener.metrics.handshake_failed("error");
            return;
        }
        Ok(Err(NoHandshake::Plain(stream))) => {
            listener.metrics.handshake_failed("plaintext");
            drop(listener);
            Box::pin(plain_on_tls::answer(stream)).await;
            return;
        }
        Err(_) => {
            listener.metrics.handshake_failed("timeout");
            return;
        }
    };
    drop(listener);
    let session = stream.get_ref().1;
    let h2 = session.alpn_protocol() == Some(b"h2");
    let tls: Option<TlsFacts> = Some(tls::facts(session));
    if h2 {
        Box::pin(h2::server::serve_connection(stream, worker.clone(), facts(tls, Protocol::Http2), drain))
            .await;
    } else {
        let io = Io::TlsServer(Box::new(stream));
        h1::server::serve_connection(io, worker.clone(), facts(tls, Protocol::Http1), drain).await;
    }
    drop(admitted);
}

/// Why there is no TLS.
enum NoHandshake {
    /// It failed.
    Tls(io::Error),
    /// The client speaks HTTP without it.
    Plain(TcpStream),
}

async fn handshake(
    stream: TcpStream,
    config: Arc<rustls::ServerConfig>,
) -> Result<TlsStream<TcpStream>, NoHandshake> {
    if plain_on_tls::is(&stream).await.map_err(NoHandshake::Tls)? {
        return Err(NoHandshake::Plain(stream));
    }
    TlsAcceptor::from(config).accept(stream).await.map_err(NoHandshake::Tls)
}

/// Plaintext: HTTP/1.1, or HTTP/2 by prior knowledge (RFC 9113 §3.3), which shows in the first bytes.
async fn plaintext(
    stream: TcpStream,
    facts: impl Fn(Option<TlsFacts>, Protocol) -> Arc<Connection>,
    worker: &Arc<Worker>,
    drain: Drain,
) {
    let io = Io::Tcp(stream);
    let other =
        h1::server::serve_connection(io, worker.clone(), facts(None, Protocol::Http1), drain.clone()).await;
    if let Some((io, read)) = other {
        let stream = Prefixed::new(read, io);
        Box::pin(h2::server::serve_connection(stream, worker.clone(), facts(None, Protocol::Http2), drain))
            .await;
    }
}
