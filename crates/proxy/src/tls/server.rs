//! TLS as a listener speaks it.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use portcullis_config::model::{ListenerTls, TlsVersion};
use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};

use super::{
    TlsError,
    certificate::{parse_chain, read},
    provider,
    resolver::{Names, Resolver},
    watched::{Watched, register},
};

/// A configuration made earlier, so that equal settings after a reload give the same one: its session tickets stay
/// good and its certificates are not read again.
struct Made {
    settings: ListenerTls,
    http2: bool,
    client_ca: Vec<Vec<u8>>,
    config: Weak<ServerConfig>,
    resolver: Weak<Resolver>,
}

static MADE: Mutex<Vec<Made>> = Mutex::new(Vec::new());

/// TLS as a listener speaks it.
#[derive(Debug, Clone)]
pub struct ServerTls {
    /// What rustls speaks it by.
    pub config: Arc<ServerConfig>,
    /// Whom its certificates are for.
    pub names: Names,
}

/// The TLS of a listener. Equal settings give the same object for as long as it is in use, its certificates brought
/// up to date.
///
/// # Errors
/// A file that cannot be read or used, a key that does not belong to its certificate, no certificate at all.
pub fn server_tls(settings: &ListenerTls, http2: bool) -> Result<ServerTls, TlsError> {
    let client_ca = settings.client_ca.iter().map(|file| read(file)).collect::<Result<Vec<_>, _>>()?;
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.retain(|one| one.config.strong_count() > 0);
    let known = made
        .iter()
        .find(|one| one.settings == *settings && one.http2 == http2 && one.client_ca == client_ca)
        .and_then(|one| Some((one.config.upgrade()?, one.resolver.upgrade()?)));
    if let Some((config, resolver)) = known {
        resolver.refresh()?;
        return Ok(ServerTls { config, names: Names::new(resolver) });
    }
    let resolver = Arc::new(Resolver::load(&settings.certificates, settings.strict_sni)?);
    let config = Arc::new(make(settings, http2, &client_ca, resolver.clone())?);
    register(&resolver);
    made.push(Made {
        settings: settings.clone(),
        http2,
        client_ca,
        config: Arc::downgrade(&config),
        resolver: Arc::downgrade(&resolver),
    });
    Ok(ServerTls { config, names: Names::new(resolver) })
}

fn make(
    settings: &ListenerTls,
    http2: bool,
    client_ca: &[Vec<u8>],
    resolver: Arc<Resolver>,
) -> Result<ServerConfig, TlsError> {
    let versions: &[&SupportedProtocolVersion] = match settings.min_version {
        TlsVersion::V12 => &[&TLS13, &TLS12],
        TlsVersion::V13 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(TlsError::new)?;
    let builder = match client_verifier(settings, client_ca)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(resolver);
    let protocols: &[&[u8]] = if http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    // Stateless tickets under keys that change by themselves. Each configuration has its own keys: a session of a
    // listener that asks for no client certificate can never be resumed on one that does.
    config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(TlsError::new)?;
    Ok(config)
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
