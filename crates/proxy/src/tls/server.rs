//! TLS as a listener speaks it.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use portcullis_config::model::{ListenerTls, TlsVersion};
use quinn::crypto::rustls::QuicServerConfig;
use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    server::{ProducesTickets, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};

use super::{
    TlsError,
    certificate::{parse_chain, read},
    provider, quic,
    resolver::{Names, Resolver},
    watched::{Watched, register},
};

/// A configuration made earlier, so that equal settings after a reload give the same one: its session tickets stay
/// good and its certificates are not read again.
struct Made {
    settings: ListenerTls,
    protocols: Protocols,
    client_ca: Vec<Vec<u8>>,
    config: Weak<ServerConfig>,
    quic: Option<Weak<QuicServerConfig>>,
    resolver: Weak<Resolver>,
}

impl Made {
    /// What of it is still in use, when all is.
    fn again(&self) -> Option<(ServerTls, Arc<Resolver>)> {
        let quic = match &self.quic {
            Some(quic) => Some(quic.upgrade()?),
            None => None,
        };
        let (config, resolver) = (self.config.upgrade()?, self.resolver.upgrade()?);
        Some((ServerTls { config, quic, names: Names::new(resolver.clone()) }, resolver))
    }
}

static MADE: Mutex<Vec<Made>> = Mutex::new(Vec::new());

/// What a listener speaks behind TLS, beside HTTP/1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocols {
    /// HTTP/2.
    pub http2: bool,
    /// HTTP/3, and whether safe requests are served before the handshake is complete.
    pub http3: Option<bool>,
}

/// TLS as a listener speaks it.
#[derive(Clone)]
pub struct ServerTls {
    /// What rustls speaks it by.
    pub config: Arc<ServerConfig>,
    /// What quinn speaks it by.
    pub quic: Option<Arc<QuicServerConfig>>,
    /// Whom its certificates are for.
    pub names: Names,
}

/// The TLS of a listener. Equal settings give the same object for as long as it is in use, its certificates brought
/// up to date.
///
/// # Errors
/// A file that cannot be read or used, a key that does not belong to its certificate, no certificate at all.
pub fn server_tls(settings: &ListenerTls, protocols: Protocols) -> Result<ServerTls, TlsError> {
    let client_ca = settings.client_ca.iter().map(|file| read(file)).collect::<Result<Vec<_>, _>>()?;
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.retain(|one| one.config.strong_count() > 0);
    let known = made
        .iter()
        .find(|one| one.settings == *settings && one.protocols == protocols && one.client_ca == client_ca)
        .and_then(Made::again);
    if let Some((tls, resolver)) = known {
        resolver.refresh()?;
        return Ok(tls);
    }
    let resolver = Arc::new(Resolver::load(&settings.certificates, settings.strict_sni)?);
    let config = Arc::new(over_tcp(settings, protocols.http2, &client_ca, resolver.clone())?);
    let quic =
        protocols.http3.map(|early_data| quic::crypto(settings, early_data, &client_ca, resolver.clone()));
    let quic = quic.transpose()?.map(Arc::new);
    register(&resolver);
    made.push(Made {
        settings: settings.clone(),
        protocols,
        client_ca,
        config: Arc::downgrade(&config),
        quic: quic.as_ref().map(Arc::downgrade),
        resolver: Arc::downgrade(&resolver),
    });
    Ok(ServerTls { config, quic, names: Names::new(resolver) })
}

fn over_tcp(
    settings: &ListenerTls,
    http2: bool,
    client_ca: &[Vec<u8>],
    resolver: Arc<Resolver>,
) -> Result<ServerConfig, TlsError> {
    let versions: &[&'static SupportedProtocolVersion] = match settings.min_version {
        TlsVersion::V12 => &[&TLS13, &TLS12],
        TlsVersion::V13 => &[&TLS13],
    };
    let mut config = make(settings, versions, client_ca, resolver)?;
    let protocols: &[&[u8]] = if http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    config.ticketer = ticketer()?;
    Ok(config)
}

/// Stateless tickets under keys that change by themselves. Each configuration has its own keys: a session of a listener
/// that asks for no client certificate can never be resumed on one that does.
pub(super) fn ticketer() -> Result<Arc<dyn ProducesTickets>, TlsError> {
    rustls::crypto::ring::Ticketer::new().map_err(TlsError::new)
}

/// What is the same over TCP and over QUIC.
pub(super) fn make(
    settings: &ListenerTls,
    versions: &[&'static SupportedProtocolVersion],
    client_ca: &[Vec<u8>],
    resolver: Arc<Resolver>,
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(TlsError::new)?;
    let builder = match client_verifier(settings, client_ca)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    Ok(builder.with_cert_resolver(resolver))
}

/// Who judges client certificates; `None` when none are asked for.
fn client_verifier(
    settings: &ListenerTls,
    client_ca: &[Vec<u8>],
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    if settings.client_ca.is_empty() {
        return Ok(None);
    }
    let mut roots = RootCertStore::empty();
    for (file, pem) in settings.client_ca.iter().zip(client_ca) {
        for certificate in parse_chain(file, pem)? {
            roots.add(certificate).map_err(|error| TlsError::at(file, error))?;
        }
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    if !settings.client_cert_required {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map(Some).map_err(TlsError::new)
}
