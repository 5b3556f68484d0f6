//! A new connection to an endpoint: resolve, connect, TLS; all within the connect timeout.

use std::{io, net::IpAddr, sync::Arc, sync::atomic::Ordering::Relaxed, time::Instant};

use portcullis_config::model::{Scheme, UpstreamHttp};
use portcullis_core::{Connection, Error, Kind};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;

use super::{
    eyeballs,
    upstream::{Open, Upstream, Where},
};
use crate::{
    dns::Named,
    h1::client::Conn,
    h2::client::H2Client,
    io::Io,
    proxy_protocol::{self, Ends},
    tls,
};

/// A connection of either version.
pub enum Connected {
    /// HTTP/1.1.
    H1(Box<Conn>),
    /// HTTP/2, and where it leads when that may change.
    H2(Arc<H2Client>, Option<IpAddr>),
}

/// Connects to an endpoint for this client and agrees on a version. With `http1_only` (upgrades) never HTTP/2.
///
/// # Errors
/// Always `unsent`: nothing of a request has left.
pub async fn connect(
    upstream: &Arc<Upstream>,
    worker: usize,
    http1_only: bool,
    client: &Arc<Connection>,
) -> Result<Connected, Error> {
    let Some(open) = Open::new(&upstream.state, upstream.pool.max_connections) else {
        return Err(Error::new(Kind::ConnectionLimit).unsent());
    };
    let connecting = establish(upstream, worker, http1_only, client, open);
    match tokio::time::timeout(upstream.timeouts.connect, connecting).await {
        Ok(connected) => connected.map_err(Error::unsent),
        Err(_) => Err(Error::new(Kind::ConnectTimeout).unsent()),
    }
}

async fn establish(
    upstream: &Arc<Upstream>,
    worker: usize,
    http1_only: bool,
    client: &Arc<Connection>,
    open: Open,
) -> Result<Connected, Error> {
    let h2_asked = !http1_only && (upstream.scheme == Scheme::H2c || upstream.http == UpstreamHttp::Http2);
    let mut io = match &upstream.target {
        Where::Unix(path) => Io::Unix(UnixStream::connect(path).await.map_err(refused)?),
        Where::Address(address) => Io::Tcp(tcp(TcpStream::connect(address).await)?),
        Where::Name(named, port) => Io::Tcp(by_name(named, *port).await?),
    };
    let remote = match (&io, &upstream.target) {
        (Io::Tcp(stream), Where::Name(..)) => stream.peer_addr().ok().map(|remote| remote.ip()),
        _ => None,
    };
    if let Some(version) = upstream.proxy_protocol {
        let ends = Ends { source: client.peer, destination: client.local };
        io.write_all(&proxy_protocol::header(version, Some(ends))).await.map_err(refused)?;
    }
    let (io, h2) = match (&upstream.tls, io) {
        (Some((config, name)), Io::Tcp(stream)) => {
            let connector = TlsConnector::from(config.clone());
            let offer_h2 = !http1_only && upstream.http != UpstreamHttp::Http1;
            let alpn: Vec<Vec<u8>> = if offer_h2 {
                vec![b"h2".to_vec(), b"http/1.1".to_vec()]
            } else {
                vec![b"http/1.1".to_vec()]
            };
            let stream = connector
                .with_alpn(alpn)
                .connect(name.clone(), stream)
                .await
                .map_err(|error| tls::handshake_error(&error))?;
            let chose_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            upstream.pools.speaks_h2.store(chose_h2, Relaxed);
            if h2_asked && !chose_h2 {
                return Err(Error::because(Kind::TlsProtocol, "endpoint does not offer HTTP/2 by ALPN"));
            }
            (Io::TlsClient(Box::new(stream)), chose_h2)
        }
        (_, io) => (io, h2_asked),
    };
    upstream.metrics.opened(worker);
    if h2 {
        let client = Arc::new(H2Client::handshake(io, upstream.pool.max_age, open).await?);
        return Ok(Connected::H2(client, remote));
    }
    let (pools, max_idle) = (&upstream.pools, upstream.pool.max_idle);
    let mut conn = Conn::new(io, pools, worker, max_idle, open, Instant::now());
    conn.remote = remote;
    conn.whose = upstream.kept_for(client).map(Arc::downgrade);
    Ok(Connected::H1(Box::new(conn)))
}

/// Connects to one of a name's addresses.
async fn by_name(named: &Named, port: u16) -> Result<TcpStream, Error> {
    let addresses = named.addresses().await;
    let addresses =
        addresses.map_err(|why| Error::because(Kind::DnsError, format!("{}: {why}", named.name())))?;
    tcp(eyeballs::connect(eyeballs::order(&addresses, port, named.turn())).await)
}

fn tcp(result: io::Result<TcpStream>) -> Result<TcpStream, Error> {
    let stream = result.map_err(refused)?;
    // Small answers must not wait for acknowledgements; failing to say so is no reason to fail.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

fn refused(error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Kind::ConnectionRefused,
        io::ErrorKind::TimedOut => Kind::ConnectTimeout,
        _ => Kind::ConnectFailed,
    };
    Error::because(kind, error.to_string())
}
