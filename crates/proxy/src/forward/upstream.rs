//! An endpoint as the data plane reaches it: address, TLS, and the connections kept to it.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use portcullis_config::model::{Pool, ProxyProtocol, Scheme, ServiceTimeouts, UpstreamHttp};
use portcullis_core::{Connection, endpoint::EndpointState};
use rustls::pki_types::ServerName;

use crate::{
    by_worker::ByWorker, dns::Named, h1::client::Conn, h2::client::H2Client, observe::EndpointMetrics,
};

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
    /// Told at the beginning of every connection whose it is; connections are then kept for one client only.
    pub proxy_protocol: Option<ProxyProtocol>,
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
    /// A name and a port.
    Name(Arc<Named>, u16),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Where {
    /// From the model's address, and what is known of a name.
    pub fn of(
        address: &portcullis_config::model::EndpointAddress,
        named: impl FnOnce(&Arc<str>) -> Arc<Named>,
    ) -> Where {
        use portcullis_config::model::EndpointAddress::{Tcp, Unix};
        match address {
            Tcp { host, port } => match host.parse::<IpAddr>() {
                Ok(ip) => Where::Address(SocketAddr::new(ip, *port)),
                Err(_) => Where::Name(named(host), *port),
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
    h2: Vec<(Arc<H2Client>, Whose, Option<IpAddr>)>,
}

/// The client's connection that a connection to an endpoint was opened for, where the endpoint has been told.
pub type Whose = Option<Weak<Connection>>;

/// Is it for this client's connection? While a `Weak` lives, its address is nobody else's.
pub fn is_for(whose: &Whose, client: Option<&Arc<Connection>>) -> bool {
    match (whose, client) {
        (None, None) => true,
        (Some(whose), Some(client)) => std::ptr::eq(whose.as_ptr(), Arc::as_ptr(client)),
        _ => false,
    }
}

/// Of no use to anybody any longer: the client has gone.
fn is_orphan(whose: &Whose) -> bool {
    whose.as_ref().is_some_and(|client| client.strong_count() == 0)
}

impl Pools {
    /// Empty pools for so many workers.
    pub fn new(workers: usize) -> Pools {
        Pools { shards: ByWorker::new(workers), speaks_h2: AtomicBool::new(false) }
    }

    fn shard(&self, worker: usize) -> std::sync::MutexGuard<'_, Shard> {
        self.shards.get(worker).lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection used last that is still good, and was opened for this client where the endpoint was told.
    pub fn take(
        &self,
        worker: usize,
        pool: &Pool,
        client: Option<&Arc<Connection>>,
        now: Instant,
    ) -> Option<Box<Conn>> {
        loop {
            let (mut conn, since) = match client {
                None => self.shard(worker).idle.pop()?,
                Some(_) => {
                    let mut shard = self.shard(worker);
                    let at = shard.idle.iter().rposition(|(conn, _)| is_for(&conn.whose, client))?;
                    shard.idle.remove(at)
                }
            };
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
        // Those of clients who have gone are no reason to close one that may still be used.
        let oldest = (shard.idle.len() >= max_idle && max_idle > 0 && conn.whose.is_some())
            .then(|| shard.idle.remove(0));
        if shard.idle.len() < max_idle {
            shard.idle.push((conn, now));
        }
        drop(shard);
        drop(oldest);
    }

    /// An HTTP/2 connection with room for one more stream.
    pub fn take_h2(&self, worker: usize, client: Option<&Arc<Connection>>) -> Option<Arc<H2Client>> {
        let mut shard = self.shard(worker);
        let mut at = 0;
        // Whether one is usable is asked of the one alone that would be used: it costs a lock and a look at the clock. Those
        // that are not and stand behind it go with the next sweep.
        loop {
            let (conn, whose, _) = shard.h2.get(at)?;
            if !is_for(whose, client) || !conn.has_room() {
                at += 1;
            } else if conn.is_usable() {
                return Some(conn.clone());
            } else {
                shard.h2.remove(at);
            }
        }
    }

    /// Keeps an HTTP/2 connection.
    pub fn give_h2(
        &self,
        worker: usize,
        conn: Arc<H2Client>,
        client: Option<&Arc<Connection>>,
        remote: Option<IpAddr>,
    ) {
        self.shard(worker).h2.push((conn, client.map(Arc::downgrade), remote));
    }

    /// Closes idle connections to addresses that a name no longer has, and begins nothing more on the others.
    pub fn keep_only(&self, worker: usize, addresses: &[IpAddr]) {
        let is_gone = |remote: Option<IpAddr>| remote.is_some_and(|remote| !addresses.contains(&remote));
        let mut shard = self.shard(worker);
        let closed: Vec<_> = shard.idle.extract_if(.., |(conn, _)| is_gone(conn.remote)).collect();
        shard.h2.retain(|(.., remote)| !is_gone(*remote));
        drop(shard);
        drop(closed);
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

    /// Closes what has been idle for too long, and what was opened for clients who have gone.
    pub fn sweep(&self, worker: usize, idle_timeout: Duration) {
        let now = Instant::now();
        let mut shard = self.shard(worker);
        // The oldest stand first: reuse is last in, first out.
        let old = shard
            .idle
            .iter()
            .take_while(|(_, since)| now.saturating_duration_since(*since) >= idle_timeout)
            .count();
        let mut closed: Vec<_> = shard.idle.drain(..old).collect();
        closed.extend(shard.idle.extract_if(.., |(conn, _)| is_orphan(&conn.whose)));
        // Whoever has just taken one still holds it; it only is nobody else's any more.
        let is_over = |client: &H2Client| {
            !client.is_usable() || client.idle_for().is_some_and(|idle| idle >= idle_timeout)
        };
        let ended: Vec<_> =
            shard.h2.extract_if(.., |(client, whose, _)| is_over(client) || is_orphan(whose)).collect();
        drop(shard);
        drop((closed, ended));
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
