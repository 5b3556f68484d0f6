//! TLS, towards clients and towards endpoints. Paths of files start at the directory of the configuration.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Lit, OneOrMany};
use crate::model::TlsVersion;

/// A certificate chain and its key, both PEM files.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The chain, the host's own certificate first.
    pub cert: PathBuf,
    /// The private key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// Certificates and protocol choices of a listener.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerTls {
    /// One for each name; the first is shown to clients that name no known host.
    #[serde(default)]
    pub certificates: Vec<Certificate>,
    /// The short form for a single certificate, with `key`.
    pub cert: Option<PathBuf>,
    /// The key of `cert`.
    pub key: Option<PathBuf>,
    /// Oldest protocol accepted: `1.2` or `1.3`. Default `1.2`.
    pub min_version: Option<Lit<TlsVersion>>,
    /// Refuse a handshake whose name matches no certificate. Default false.
    pub strict_sni: Option<bool>,
    /// Authorities (PEM files) of client certificates. Default: none are asked for.
    pub client_ca: Option<OneOrMany<PathBuf>>,
    /// With `client_ca`: refuse a client without a certificate. Default true.
    pub client_cert_required: Option<bool>,
}

/// How `https` endpoints are verified.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTls {
    /// Own authorities (PEM files). Default: the system's.
    pub ca: Option<OneOrMany<PathBuf>>,
    /// Name sent (SNI) and verified instead of the endpoint's host.
    pub server_name: Option<String>,
    /// Client certificate (PEM file), with `key`.
    pub cert: Option<PathBuf>,
    /// Key of the client certificate.
    pub key: Option<PathBuf>,
    /// Accept any certificate. Never in production. Default false.
    pub insecure_skip_verify: Option<bool>,
}
