//! TLS on both sides, by rustls: certificates chosen by the name the client asks for and re-read when their files
//! change; endpoints verified against the system's authorities or the service's own.
//!
//! Everything that depends on the configuration is made here once, when a runtime is compiled. What survives a reload
//! (session tickets, certificates already read) survives because equal settings give the same object again.

use std::{
    io,
    path::Path,
    sync::{Arc, OnceLock},
};

use portcullis_core::{Error, Kind, exchange::TlsFacts};
pub use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, CipherSuite, ProtocolVersion, crypto::CryptoProvider};

mod certificate;
mod client;
mod quic;
mod resolver;
mod server;
mod watched;

#[cfg(test)]
mod tests;

pub use client::{client_config, server_name};
pub use quic::{quic_config, secret};
pub use resolver::Names;
pub use server::{Protocols, ServerTls, server_tls};
pub use watched::{Expiry, expiry, watch};

/// Why TLS settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}{problem}", place(.file))]
pub struct TlsError {
    /// The file in question; empty when it is about the settings as a whole.
    pub file: String,
    /// What is wrong with it.
    pub problem: String,
}

fn place(file: &str) -> String {
    if file.is_empty() { String::new() } else { format!("{file}: ") }
}

impl TlsError {
    fn new(problem: impl ToString) -> TlsError {
        TlsError { file: String::new(), problem: problem.to_string() }
    }

    fn at(file: &Path, problem: impl ToString) -> TlsError {
        TlsError { file: file.display().to_string(), problem: problem.to_string() }
    }
}

/// The cryptography in use, made once.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())).clone()
}

/// What is known of a connection after its handshake.
pub fn facts(conn: &rustls::ServerConnection) -> TlsFacts {
    TlsFacts {
        version: match conn.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "",
        },
        cipher: conn.negotiated_cipher_suite().map_or("", |suite| cipher_name(suite.suite())),
        sni: conn.server_name().map(Into::into),
        // rustls hands out what was presented; a handshake that got here has verified it.
        client_certificate: conn
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|certificate| Arc::from(certificate.as_ref())),
    }
}

/// The name in IANA's registry, which for TLS 1.3 is not quite the one rustls prints.
fn cipher_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str().unwrap_or(""),
    }
}

/// The data path's error for a failed handshake with an endpoint.
pub fn handshake_error(error: &io::Error) -> Error {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let kind = match tls {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            Kind::TlsCertificate
        }
        // What is no error of TLS itself: the endpoint hung up in the middle of the handshake.
        _ => Kind::TlsProtocol,
    };
    let detail = match tls {
        Some(rustls::Error::InvalidCertificate(cause)) => plain_words(cause).map_or_else(
            || error.to_string(),
            |words| format!("the endpoint's certificate {words} ({cause})"),
        ),
        _ => error.to_string(),
    };
    Error::because(kind, detail).unsent()
}

/// What a refused certificate means, for people who have not read RFC 5280.
fn plain_words(cause: &CertificateError) -> Option<&'static str> {
    Some(match cause {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "is signed by no authority that this service trusts: see `tls.ca`"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "is not valid yet",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "is for another name: see `tls.server_name`"
        }
        // webpki's own errors are not among rustls's: only their text tells them apart.
        CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "is an authority's (CA:TRUE), which may sign certificates but not stand for a server: give the endpoint \
             one that this authority signed"
        }
        _ => return None,
    })
}
