//! An endpoint as the data plane reaches it: address, TLS, and the connections kept to it.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use portcullis_config::model::{Pool, Scheme, ServiceTimeouts, UpstreamHttp};
use portcullis_core::endpoint::EndpointState;
use rustls::pki_types::ServerName;

use crate::{by_worker::ByWorker, h1::client::Conn, h2::client::H2Client, observe::EndpointMetrics};

/// How one endpoint is reached.
pub struct Upstream {
    /// As configured, normalised.
    pub url: Arc<str>,
    /// Where connections go.
    pub target: Where,
    /// Protocol.
    pub scheme: Scheme,
    /// Version spoken.
    pub http: UpstreamHttp,
    /// `Host` when the client's is not passed on.
    pub host: Arc<str>,
    /// Put before every path.
    pub base_path: Arc<str>,
    /// For `https`.
    pub tls: Option<(Arc<rustls::ClientConfig>, ServerName<'static>)>,
    /// Bounds of the pool.
    pub pool: Pool,
    /// The service's timeouts.
    pub timeouts: ServiceTimeouts,
    /// Health and load.
    pub state: Arc<EndpointState>,
    /// Connections kept; outlives a configuration.
    pub pools: Arc<Pools>,
    /// Counters.
    pub metrics: Arc<EndpointMetrics>,
}

/// Where connections go.
#[derive(Debug, Clone)]
pub enum Where {
    /// An IP address.
    Address(SocketAddr),
    /// A name to be resolved at each new connection.
    Name(Arc<str>, u16),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Where {
    /// From the model's address.
    pub fn of(address: &portcullis_config::model::EndpointAddress) -> Where {
        use portcullis_config::model::EndpointAddress::{Tcp, Unix};
        match address {
            Tcp { host, port } => match host.parse::<IpAddr>() {
                Ok(ip) => Where::Address(SocketAddr::new(ip, *port)),
                Err(_) => Where::Name(host.clone(), *port),
            },
            Unix(path) => Where::Unix(path.clone()),
        }
    }
}

/// Connections to one endpoint, by worker.
#[derive(Default)]
pub struct Pools {
    shards: ByWorker<Mutex<Shard>>,
    /// `https` endpoints: chose HTTP/2 by ALPN the last time.
    pub speaks_h2: AtomicBool,
}

#[derive(Default)]
struct Shard {
    idle: Vec<(Box<Conn>, Instant)>,
    h2: Vec<Arc<H2Client>>,
}

impl Pools {
    /// Empty pools for so many workers.
    pub fn new(workers: usize) -> Pools {
        Pools { shards: ByWorker::new(workers), speaks_h2: AtomicBool::new(false) }
    }

    fn shard(&self, worker: usize) -> std::sync::MutexGuard<'_, Shard> {
        self.shards.get(worker).lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection used last that is still good.
    pub fn take(&self, worker: usize, pool: &Pool, now: Instant) -> Option<Box<Conn>> {
        loop {
            let (mut conn, since) = self.shard(worker).idle.pop()?;
            if now.saturating_duration_since(since) < pool.idle_timeout
                && conn.is_young(pool, now)
                && conn.io.is_quiet()
            {
                conn.lease(now);
                return Some(conn);
            }
        }
    }

    /// Keeps a connection for later, unless there are enough. It counts as idle since `now`.
    pub fn give(&self, worker: usize, conn: Box<Conn>, max_idle: usize, now: Instant) {
        let mut shard = self.shard(worker);
        if shard.idle.len() < max_idle {
            shard.idle.push((conn, now));
        }
    }

    /// An HTTP/2 connection with room for one more stream.
    pub fn take_h2(&self, worker: usize) -> Option<Arc<H2Client>> {
        let mut shard = self.shard(worker);
        shard.h2.retain(|client| client.is_usable());
        shard.h2.iter().find(|client| client.has_room()).cloned()
    }

    /// Keeps an HTTP/2 connection.
    pub fn give_h2(&self, worker: usize, client: Arc<H2Client>) {
        self.shard(worker).h2.push(client);
    }

    /// Idle connections over all workers.
    pub fn idle(&self) -> usize {
        let idle = |shard: &Mutex<Shard>| shard.lock().unwrap_or_else(PoisonError::into_inner).idle.len();
        self.shards.iter().map(idle).sum()
    }

    /// Closes the connections of a worker that ends: they live with its thread.
    pub fn clear(&self, worker: usize) {
        let shard = std::mem::take(&mut *self.shard(worker));
        drop(shard);
    }

    /// Closes what has been idle for too long.
    pub fn sweep(&self, worker: usize, idle_timeout: Duration) {
        let now = Instant::now();
        let mut shard = self.shard(worker);
        // The oldest stand first: reuse is last in, first out.
        let old = shard
            .idle
            .iter()
            .take_while(|(_, since)| now.saturating_duration_since(*since) >= idle_timeout)
            .count();
        let closed: Vec<_> = shard.idle.drain(..old).collect();
        shard.h2.retain(|client| client.is_usable());
        drop(shard);
        drop(closed);
    }
}

/// Counts a connection to an endpoint for as long as it is open.
pub struct Open {
    state: Arc<EndpointState>,
}

impl Open {
    /// Counts one more, if the bound allows it (0 = unbounded).
    pub fn new(state: &Arc<EndpointState>, most: usize) -> Option<Open> {
        let before = state.connections.fetch_add(1, Relaxed) as usize;
        let open = Open { state: state.clone() };
        (most == 0 || before < most).then_some(open)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.state.connections.fetch_sub(1, Relaxed);
    }
}

/// Counts a request to an endpoint for as long as it is under way.
pub struct InFlight {
    state: Arc<EndpointState>,
}

impl InFlight {
    /// One more.
    pub fn new(state: &Arc<EndpointState>) -> InFlight {
        state.in_flight.fetch_add(1, Relaxed);
        state.requests.fetch_add(1, Relaxed);
        InFlight { state: state.clone() }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.state.in_flight.fetch_sub(1, Relaxed);
    }
}
