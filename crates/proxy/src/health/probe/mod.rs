//! Asking an endpoint whether it is well: over TCP, TLS or a unix socket, by a connection alone, HTTP/1.1 or HTTP/2.
//!
//! Each probe opens a connection of its own and closes it: what is tested is what a new connection would meet.

mod ask;
mod http1;
mod http2;

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use portcullis_config::model::{self, EndpointAddress, HealthCheck, ProxyProtocol, Scheme, UpstreamHttp};
use portcullis_core::{BoxFuture, answer::Duplex};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;

use crate::{dns::Named, forward::eyeballs, proxy_protocol};
use ask::Ask;

/// One way to ask an endpoint. How long that may take is the caller's business.
pub trait Probe: Send + Sync + 'static {
    /// Asks once.
    fn probe(&self) -> BoxFuture<'_, Result<(), Failure>>;
}

/// Why a probe failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No address.
    #[error("its name does not resolve: {0}")]
    Name(String),
    /// No connection.
    #[error("connecting failed: {0}")]
    Connect(io::Error),
    /// No TLS session, or a certificate that is not accepted.
    #[error("TLS failed: {0}")]
    Tls(io::Error),
    /// Too slow.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// Answered, but not with a status that means healthy.
    #[error("answered {0}")]
    Status(u16),
    /// The connection broke before the answer.
    #[error("connection broke: {0}")]
    Broken(io::Error),
    /// The answer is not HTTP, or its head is too large.
    #[error("not an HTTP answer: {0}")]
    Protocol(String),
}

/// What is spoken with an endpoint: as the service's own connections do.
pub struct Spoken {
    /// The version.
    pub http: UpstreamHttp,
    /// For `https`.
    pub tls: Option<Tls>,
    /// What is known of the endpoint's name, if it has one.
    pub named: Option<Arc<Named>>,
    /// That it is nobody's connection but ours.
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// How TLS is spoken with an endpoint: as the service's own connections do.
#[derive(Clone)]
pub struct Tls {
    /// Certificates trusted, own certificate, ALPN.
    pub config: Arc<ClientConfig>,
    /// Name sent and verified.
    pub name: ServerName<'static>,
}

/// The probe of an endpoint as its service's check says. `tls` is needed for `https` endpoints with an HTTP check.
///
/// # Errors
/// What in the settings cannot be sent: a method, path or header that HTTP does not allow; `https` without `tls`.
pub fn build(
    endpoint: &model::Endpoint,
    check: &HealthCheck,
    spoken: Spoken,
) -> Result<Arc<dyn Probe>, String> {
    let Spoken { http, tls, named, proxy_protocol } = spoken;
    let address = match (&endpoint.address, check.port) {
        (EndpointAddress::Tcp { host, port }, own) => {
            let port = own.unwrap_or(*port);
            named.map_or_else(|| Address::Tcp(host.clone(), port), |named| Address::Name(named, port))
        }
        (EndpointAddress::Unix(path), _) => Address::Unix(path.clone()),
    };
    let place = Place { address, proxy_protocol };
    let model::Probe::Http { .. } = &check.kind else {
        return Ok(Arc::new(TcpProbe { place }));
    };
    let version = match (endpoint.scheme, http) {
        (Scheme::H2c, _) | (Scheme::Http, UpstreamHttp::Http2) => Version::Http2,
        (Scheme::Http, UpstreamHttp::Auto | UpstreamHttp::Http1) => Version::Http1,
        (Scheme::Https, UpstreamHttp::Http2) => Version::Negotiated { otherwise_http2: true },
        (Scheme::Https, _) => Version::Negotiated { otherwise_http2: false },
    };
    let tls = match (endpoint.scheme, tls) {
        (Scheme::Https, None) => return Err("an https endpoint needs TLS settings to be probed".to_owned()),
        (Scheme::Https, tls) => tls,
        (Scheme::Http | Scheme::H2c, _) => None,
    };
    Ok(Arc::new(HttpProbe { place, tls, version, ask: Ask::new(endpoint, check)? }))
}

/// Where it is asked, and what it is told first.
struct Place {
    address: Address,
    proxy_protocol: Option<ProxyProtocol>,
}

enum Address {
    Tcp(Arc<str>, u16),
    Name(Arc<Named>, u16),
    Unix(PathBuf),
}

enum Version {
    Http1,
    Http2,
    /// By ALPN; when the endpoint names none, as said.
    Negotiated {
        otherwise_http2: bool,
    },
}

/// Healthy is what accepts a connection.
struct TcpProbe {
    place: Place,
}

impl Probe for TcpProbe {
    fn probe(&self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async { self.place.connect().await.map(drop) })
    }
}

/// Healthy is what answers with an expected status.
struct HttpProbe {
    place: Place,
    tls: Option<Tls>,
    version: Version,
    ask: Ask,
}

impl Probe for HttpProbe {
    fn probe(&self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async {
            let status = self.status().await?;
            if self.ask.expects(status) { Ok(()) } else { Err(Failure::Status(status)) }
        })
    }
}

impl HttpProbe {
    async fn status(&self) -> Result<u16, Failure> {
        let stream = self.place.connect().await?;
        let Some(tls) = &self.tls else {
            return match self.version {
                Version::Http2 => http2::status(stream, &self.ask).await,
                Version::Http1 | Version::Negotiated { .. } => http1::status(stream, &self.ask).await,
            };
        };
        let connector = TlsConnector::from(tls.config.clone());
        let stream = connector.connect(tls.name.clone(), stream).await.map_err(Failure::Tls)?;
        let http2 = match (stream.get_ref().1.alpn_protocol(), &self.version) {
            (Some(protocol), _) => protocol == b"h2",
            (None, version) => matches!(version, Version::Negotiated { otherwise_http2: true }),
        };
        if http2 { http2::status(stream, &self.ask).await } else { http1::status(stream, &self.ask).await }
    }
}

impl Place {
    async fn connect(&self) -> Result<Box<dyn Duplex>, Failure> {
        let mut stream = connect(&self.address).await?;
        if let Some(version) = self.proxy_protocol {
            let header = proxy_protocol::header(version, None);
            stream.write_all(&header).await.map_err(Failure::Connect)?;
        }
        Ok(stream)
    }
}

async fn connect(address: &Address) -> Result<Box<dyn Duplex>, Failure> {
    match address {
        Address::Tcp(host, port) => {
            let stream = TcpStream::connect((&**host, *port)).await.map_err(Failure::Connect)?;
            // Small and once: a delay for coalescing would only make the endpoint look slow. Not vital.
            let _ = stream.set_nodelay(true);
            Ok(Box::new(stream))
        }
        Address::Name(named, port) => {
            let addresses = named.addresses().await.map_err(|why| Failure::Name(why.to_string()))?;
            let order = eyeballs::order(&addresses, *port, named.turn());
            let stream = eyeballs::connect(order).await.map_err(Failure::Connect)?;
            let _ = stream.set_nodelay(true);
            Ok(Box::new(stream))
        }
        Address::Unix(path) => Ok(Box::new(UnixStream::connect(path).await.map_err(Failure::Connect)?)),
    }
}

#[cfg(test)]
mod tests;
