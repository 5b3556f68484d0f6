//! TLS as the gateway speaks it to endpoints.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use portcullis_config::model::{CertificateFiles, UpstreamTls};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        ResolvesClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::CertifiedKey,
};

use super::{
    TlsError,
    certificate::{Certificate, parse_chain, read},
    provider,
    watched::{Kept, Watched, register},
};

/// The TLS towards a service's endpoints, offering these protocols by ALPN.
///
/// # Errors
/// A file that cannot be read or used.
pub fn client_config(settings: &UpstreamTls, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::new)?;
    let builder = if settings.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider())))
    } else {
        builder.with_root_certificates(roots(settings)?)
    };
    let mut config = match &settings.client_certificate {
        Some(files) => {
            let identity = Arc::new(Identity::load(files)?);
            register(&identity);
            builder.with_client_cert_resolver(identity)
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

/// The name sent to an endpoint and verified in its certificate: the service's own, or the endpoint's host (a name,
/// or an IP address without brackets).
///
/// # Errors
/// Neither a DNS name nor an address.
pub fn server_name(settings: &UpstreamTls, host: &str) -> Result<ServerName<'static>, TlsError> {
    let name = settings.server_name.as_deref().unwrap_or(host);
    ServerName::try_from(name.to_owned())
        .map_err(|_| TlsError::new(format!("`{name}` is not a name a certificate can be for")))
}

fn roots(settings: &UpstreamTls) -> Result<Arc<RootCertStore>, TlsError> {
    if settings.ca.is_empty() {
        return Ok(system_roots());
    }
    let mut roots = RootCertStore::empty();
    for file in &settings.ca {
        for certificate in parse_chain(file, &read(file)?)? {
            roots.add(certificate).map_err(|error| TlsError::at(file, error))?;
        }
    }
    Ok(Arc::new(roots))
}

/// The system's authorities, read once: there may be hundreds of files. None at all is no error here, since a
/// service that never speaks TLS must not fail for it; a handshake then says what is wrong.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let read = || {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            tracing::warn!(
                errors = ?found.errors,
                "the system has no certificate authorities: https endpoints need `tls.ca`"
            );
        }
        Arc::new(roots)
    };
    ROOTS.get_or_init(read).clone()
}

/// The gateway's own certificate towards endpoints, kept up to date.
#[derive(Debug)]
pub(super) struct Identity {
    kept: Mutex<Kept>,
    pub(super) key: ArcSwap<CertifiedKey>,
}

impl Identity {
    pub(super) fn load(files: &CertificateFiles) -> Result<Identity, TlsError> {
        let kept = Kept::load(files)?;
        let key = ArcSwap::new(kept.certificate.key.clone());
        Ok(Identity { kept: Mutex::new(kept), key })
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let key = self.key.load_full();
        key.key.choose_scheme(schemes).is_some().then_some(key)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl Watched for Identity {
    fn refresh(&self) -> Result<(), TlsError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.refresh()? {
            self.key.store(kept.certificate.key.clone());
        }
        Ok(())
    }

    fn certificates(&self) -> Vec<Arc<Certificate>> {
        vec![self.kept.lock().unwrap_or_else(PoisonError::into_inner).certificate.clone()]
    }
}

/// Accepts any certificate (`insecure_skip_verify`), but still demands that the endpoint holds its key.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
