//! One certificate as files, and what is in them: chain, key, the names it is for, the day it ends.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use portcullis_config::model::CertificateFiles;
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use x509_parser::{extensions::GeneralName, prelude::FromDer};

use super::{TlsError, provider};

/// A certificate chain with its key, read and found to belong together.
#[derive(Debug)]
pub(super) struct Certificate {
    /// What rustls signs with.
    pub(super) key: Arc<CertifiedKey>,
    /// The file that the chain was read from.
    pub(super) file: PathBuf,
    /// DNS names it is for, in lower case; `*.example.com` among them.
    pub(super) names: Vec<Box<str>>,
    /// End of validity, seconds since 1970.
    pub(super) not_after: i64,
    /// The PEM of chain and key as read, to tell a change from a mere touch.
    content: (Vec<u8>, Vec<u8>),
}

impl Certificate {
    /// Reads and judges both files.
    pub(super) fn load(files: &CertificateFiles) -> Result<Certificate, TlsError> {
        let chain_pem = read(&files.cert)?;
        let key_pem = read(&files.key)?;
        let chain = parse_chain(&files.cert, &chain_pem)?;
        let key = PrivateKeyDer::from_pem_slice(&key_pem)
            .map_err(|error| TlsError::at(&files.key, format!("no private key in it: {error:?}")))?;
        let (names, not_after) = match chain.first() {
            Some(leaf) => facts(leaf).map_err(|problem| TlsError::at(&files.cert, problem))?,
            None => return Err(TlsError::at(&files.cert, "no certificate in it")),
        };
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::at(
                &files.cert,
                format!("the certificate does not belong to the key in {}", files.key.display()),
            ),
            other => TlsError::at(&files.key, other),
        })?;
        let (key, file) = (Arc::new(key), files.cert.clone());
        Ok(Certificate { key, file, names, not_after, content: (chain_pem, key_pem) })
    }

    /// Do both come from the same bytes?
    pub(super) fn is_same(&self, other: &Certificate) -> bool {
        self.content == other.content
    }
}

/// Reads a file whole.
pub(super) fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(file).map_err(|error| TlsError::at(file, error))
}

/// All certificates of a PEM text.
pub(super) fn parse_chain(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| TlsError::at(file, format!("not PEM: {error:?}")))?;
    if chain.is_empty() { Err(TlsError::at(file, "no certificate in it")) } else { Ok(chain) }
}

/// Names and end of validity. The common name counts only without any DNS name among the alternative names
/// (RFC 6125 §6.4.4).
fn facts(leaf: &CertificateDer<'_>) -> Result<(Vec<Box<str>>, i64), String> {
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(leaf)
        .map_err(|error| format!("not an X.509 certificate: {error}"))?;
    let mut names: Vec<Box<str>> = Vec::new();
    if let Ok(Some(alternative)) = parsed.subject_alternative_name() {
        for name in &alternative.value.general_names {
            if let GeneralName::DNSName(name) = name {
                names.push(name.to_ascii_lowercase().into());
            }
        }
    }
    if names.is_empty() {
        let common = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        names.extend(common.map(|name| Box::from(name.to_ascii_lowercase())));
    }
    Ok((names, parsed.validity().not_after.timestamp()))
}
