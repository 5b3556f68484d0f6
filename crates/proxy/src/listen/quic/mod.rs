//! QUIC connections of a listener: each worker has an endpoint of its own, and serves every connection in tasks of its own.

use std::{
    io,
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use portcullis_core::{Connection, Protocol, exchange::TlsFacts};
use quinn::{Connecting, EndpointConfig, Incoming, Runtime, TokioRuntime, ZeroRttAccepted};
use tokio::time::{sleep, timeout};

use super::{Admitted, Cancelled, Drain, Gate, proxied};
use crate::{h3, runtime::Listener, tls, worker::Worker};

mod group;
mod socket;

pub use group::Group;

/// Handshakes under way from which on clients must prove their address first (a Retry, RFC 9000 §8.1.2): it costs good ones
/// a round trip, and those that are not where they say all they can do.
const MANY_HANDSHAKES: usize = 128;
/// How often it is looked whether the process before this one has left the address.
const LOOK: Duration = Duration::from_millis(25);

/// One listener's place on one worker.
pub struct AcceptingQuic {
    /// Its socket; `None` when the process before this one still has the address.
    pub socket: Option<UdpSocket>,
    /// All endpoints on its address.
    pub group: Arc<Group>,
    /// The listener's name.
    pub name: Arc<str>,
    /// The wish that it ends.
    pub drain: Drain,
    /// Connections open on this listener, all workers together.
    pub open: Arc<AtomicUsize>,
    /// Shared bounds.
    pub gate: Arc<Gate>,
}

/// An endpoint, and who is let in.
struct Door {
    endpoint: quinn::Endpoint,
    membership: Arc<group::Membership>,
    accepting: AcceptingQuic,
    worker: Arc<Worker>,
}

/// A handshake under way.
struct Handshake(Arc<Group>);

impl Handshake {
    fn begin(group: &Arc<Group>) -> Handshake {
        group.handshakes.fetch_add(1, Relaxed);
        Handshake(group.clone())
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.handshakes.fetch_sub(1, Relaxed);
    }
}

/// Accepts until a drain begins. The connections that there are then end by themselves; who comes meanwhile is sent to
/// others, or away.
pub async fn accept(mut accepting: AcceptingQuic, worker: Arc<Worker>) {
    let mut told = accepting.drain.told();
    let socket = match accepting.socket.take() {
        Some(socket) => socket,
        None => match inherit(&accepting.group, &mut told).await {
            Some(socket) => socket,
            None => return,
        },
    };
    let door = match Door::open(socket, accepting, worker) {
        Ok(door) => door,
        Err((name, error)) => {
            tracing::error!(listener = &*name, %error, "a worker cannot accept QUIC connections");
            return;
        }
    };
    loop {
        tokio::select! {
            biased;
            () = &mut told => break,
            incoming = door.endpoint.accept() => match incoming {
                Some(incoming) => door.answer(incoming),
                None => break,
            },
        }
    }
    door.membership.retire();
    tokio::spawn(door.close());
}

/// The address, as soon as the process before this one has left it: its connections need it until they have ended.
async fn inherit(group: &Group, told: &mut Cancelled) -> Option<UdpSocket> {
    loop {
        match group.open() {
            Ok(socket) => return Some(socket),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => {
                tracing::error!(address = %group.address, %error, "cannot open the UDP socket of HTTP/3");
                return None;
            }
        }
        tokio::select! {
            () = &mut *told => return None,
            () = sleep(LOOK) => {}
        }
    }
}

impl Door {
    fn open(
        socket: UdpSocket,
        accepting: AcceptingQuic,
        worker: Arc<Worker>,
    ) -> Result<Door, (Arc<str>, io::Error)> {
        let failed = |error| (accepting.name.clone(), error);
        let many = || failed(io::Error::other("too many workers on one address"));
        let (membership, parcels) = accepting.group.join().ok_or_else(many)?;
        let inner = TokioRuntime.wrap_udp_socket(socket).map_err(failed)?;
        let mut config = EndpointConfig::new(accepting.group.reset_key());
        let (group, number) = (accepting.group.clone(), membership.number);
        config.cid_generator(move || Box::new(group::Ids { group: group.clone(), number }));
        let membership = Arc::new(membership);
        let shared =
            Arc::new(socket::Shared { inner, membership: membership.clone(), parcels: parcels.into() });
        let quic = listener(&worker, &accepting.name).and_then(|listener| listener.quic.clone());
        let quic = quic.map(|quic| (*quic).clone());
        let endpoint =
            quinn::Endpoint::new_with_abstract_socket(config, quic, shared, Arc::new(TokioRuntime));
        Ok(Door { endpoint: endpoint.map_err(failed)?, membership, accepting, worker })
    }

    /// Answers a client that wants to connect.
    fn answer(&self, incoming: Incoming) {
        let AcceptingQuic { name, group, open, gate, drain, .. } = &self.accepting;
        let listener = listener(&self.worker, name);
        let Some((listener, quic)) = listener.and_then(|l| Some((l.clone(), l.quic.clone()?))) else {
            return incoming.refuse();
        };
        // An address that is not proven may be a victim's: it shall use up neither our time nor the victim's share.
        let is_busy = group.handshakes.load(Relaxed) >= MANY_HANDSHAKES;
        let is_counted = listener.settings.limits.connections_per_client > 0;
        if (is_busy || is_counted) && !incoming.remote_address_validated() && incoming.may_retry() {
            // It cannot fail where it may be done.
            let _ = incoming.retry();
            return;
        }
        let Some(mut admitted) = Admitted::admit(gate, open, &self.worker, &listener) else {
            return incoming.refuse();
        };
        if !admitted.is_one_of_few(incoming.remote_address().ip().to_canonical(), &listener) {
            return incoming.refuse();
        }
        let Ok(connecting) = incoming.accept_with(quic) else {
            listener.metrics.handshake_failed("error");
            return;
        };
        let handshake = Handshake::begin(group);
        let port = self.endpoint.local_addr().map_or(0, |address| address.port());
        let (worker, drain) = (self.worker.clone(), drain.clone());
        tokio::spawn(Box::pin(connection(connecting, port, handshake, worker, listener, admitted, drain)));
    }

    /// Waits until all connections have ended.
    async fn close(self) {
        loop {
            tokio::select! {
                biased;
                () = self.endpoint.wait_idle() => return,
                incoming = self.endpoint.accept() => match incoming {
                    Some(incoming) => incoming.refuse(),
                    None => return,
                },
            }
        }
    }
}

fn listener(worker: &Worker, name: &str) -> Option<Arc<Listener>> {
    worker.runtime().and_then(|runtime| runtime.listeners.get(name).cloned())
}

/// Serves one connection.
async fn connection(
    connecting: Connecting,
    port: u16,
    handshake: Handshake,
    worker: Arc<Worker>,
    listener: Arc<Listener>,
    admitted: Admitted,
    drain: Drain,
) {
    let patience = listener.settings.timeouts.handshake;
    let is_early = listener.settings.http3.is_some_and(|http3| http3.early_data);
    let (conn, early) = match timeout(patience, shake(connecting, is_early)).await {
        Ok(Ok(shaken)) => shaken,
        Ok(Err(error)) => {
            tracing::debug!(%error, "QUIC handshake failed");
            listener.metrics.handshake_failed("error");
            return;
        }
        Err(_) => {
            listener.metrics.handshake_failed("timeout");
            return;
        }
    };
    let peer = proxied::canonical(conn.remote_address());
    // A socket on all addresses knows by each datagram which one it came to.
    let local = conn.local_ip().unwrap_or(listener.settings.address.ip()).to_canonical();
    let facts = Arc::new(Connection {
        peer,
        peer_text: peer.ip().to_string().into(),
        local: (local, port).into(),
        listener: listener.settings.name.clone(),
        trusted: listener.settings.trusted_proxies.iter().any(|net| net.contains(&peer.ip())),
        tls: Some(tls_facts(&conn)),
        protocol: Protocol::Http3,
        id: worker.next_id(),
        prepared: Default::default(),
    });
    drop(listener);
    let early = early.map(|early| async move {
        let _handshake = handshake;
        early.await
    });
    h3::server::serve_connection(conn, early, worker, facts, drain).await;
    drop(admitted);
}

/// Until the handshake is complete; or, where clients may be early, until it is known what they want.
async fn shake(
    mut connecting: Connecting,
    is_early: bool,
) -> Result<(quinn::Connection, Option<ZeroRttAccepted>), quinn::ConnectionError> {
    if !is_early {
        return Ok((connecting.await?, None));
    }
    connecting.handshake_data().await?;
    match connecting.into_0rtt() {
        Ok((conn, accepted)) => Ok((conn, Some(accepted))),
        Err(connecting) => Ok((connecting.await?, None)),
    }
}

fn tls_facts(conn: &quinn::Connection) -> TlsFacts {
    let data =
        conn.handshake_data().and_then(|data| data.downcast::<quinn::crypto::rustls::HandshakeData>().ok());
    let chain =
        conn.peer_identity().and_then(|chain| chain.downcast::<Vec<tls::CertificateDer<'static>>>().ok());
    TlsFacts {
        version: "TLSv1.3",
        // quinn does not tell.
        cipher: "",
        sni: data.and_then(|data| data.server_name).map(Into::into),
        client_certificate: chain.and_then(|chain| Some(Arc::from(chain.first()?.as_ref()))),
    }
}
