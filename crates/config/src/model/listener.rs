//! Listeners: addresses, TLS, bounds, timeouts.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use serde::Serialize;

use super::Name;
use crate::human;

/// An address that accepts connections.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Listener {
    /// Its name, which is its key.
    pub name: Name,
    /// Where it listens.
    pub address: SocketAddr,
    /// TLS termination; `None` means plaintext.
    pub tls: Option<ListenerTls>,
    /// HTTP/2 accepted: by ALPN with TLS, by prior knowledge without. Default true.
    pub http2: bool,
    /// HTTP/3 accepted, on the UDP port of the same number. Default none.
    pub http3: Option<Http3>,
    /// Proxies before it that say by the PROXY protocol whose connection they pass on.
    pub proxy_protocol: Option<ProxiedPeers>,
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Middlewares asked before those of the route, in this order.
    pub middlewares: Vec<Name>,
    /// Bounds on its clients.
    pub limits: ListenerLimits,
    /// How long it waits for its clients.
    pub timeouts: ListenerTimeouts,
    /// What it does with doubtful paths.
    pub path: PathPolicy,
    /// Fields whose names hold `_` or `.`: dropped unless this is true. Default false.
    pub allow_odd_header_names: bool,
}

/// HTTP/3, and how clients learn of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Http3 {
    /// How long clients may remember that there is HTTP/3; zero = they are not told. Default 1 d.
    #[serde(serialize_with = "human::time")]
    pub max_age: Duration,
    /// The port that they are told; `None` = that of their connection.
    pub advertised_port: Option<u16>,
    /// Safe requests are served before the handshake is complete. Default false, never with `client_ca`.
    pub early_data: bool,
}

/// Who may say, before everything else on a connection, whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProxiedPeers {
    /// Who is believed. Whoever else sends a header is refused; whoever else sends none is a client like any other.
    pub from: Vec<IpNet>,
    /// Those believed must send one. Default true.
    pub required: bool,
}

/// Certificates and protocol choices of one TLS listener.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ListenerTls {
    /// The first is the default, shown to clients that name no known host.
    pub certificates: Vec<CertificateFiles>,
    /// Oldest protocol accepted. Default 1.2.
    pub min_version: TlsVersion,
    /// Refuse a handshake whose name matches no certificate. Default false.
    pub strict_sni: bool,
    /// Certificate authorities for client certificates; empty means none are asked for.
    pub client_ca: Vec<PathBuf>,
    /// With `client_ca`: a client without a certificate is refused (true) or let in unnamed (false).
    pub client_cert_required: bool,
}

/// A certificate chain and its key, both PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CertificateFiles {
    /// The chain, the host's own certificate first.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V13,
}

/// Bounds on what one client may send or hold. Sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ListenerLimits {
    /// All of the request head, request line included. Default 32 KiB.
    pub header_bytes: usize,
    /// Fields in a request head. Default 100; at most 256.
    pub header_count: usize,
    /// Request target. Default 8 KiB.
    pub uri_bytes: usize,
    /// Request body; `None` = unlimited. Default None.
    pub body_bytes: Option<u64>,
    /// Connections open at once on this listener; 0 = no bound of its own.
    pub connections: usize,
    /// Connections open at once from one client address; 0 = unbounded. Default 0.
    pub connections_per_client: usize,
    /// Requests on one connection before it is closed in an orderly way; 0 = unbounded. Default 10,000.
    pub requests_per_connection: u64,
    /// Concurrent streams of one HTTP/2 connection. Default 100.
    pub h2_streams: u32,
}

/// How long a listener waits for its client.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ListenerTimeouts {
    /// TLS handshake. Default 10 s.
    #[serde(serialize_with = "human::time")]
    pub handshake: Duration,
    /// From the first byte of a request head to its last. Default 10 s.
    #[serde(serialize_with = "human::time")]
    pub request_header: Duration,
    /// Between two reads of a request body. Default 30 s.
    #[serde(serialize_with = "human::time")]
    pub body_idle: Duration,
    /// Bytes per second a request body must reach on average after `body_grace`; 0 = off. Default 240.
    pub body_min_rate: u64,
    /// Time before `body_min_rate` is judged. Default 20 s.
    #[serde(serialize_with = "human::time")]
    pub body_grace: Duration,
    /// A write that makes no progress. Default 30 s.
    #[serde(serialize_with = "human::time")]
    pub write_idle: Duration,
    /// An idle connection between requests. Default 75 s.
    #[serde(serialize_with = "human::time")]
    pub keep_alive: Duration,
    /// Oldest age of a connection before it is closed in an orderly way; zero = unbounded. Default 1 h.
    #[serde(serialize_with = "human::time")]
    pub max_age: Duration,
}

/// What the path canonicaliser does with the doubtful.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PathPolicy {
    /// `//` becomes `/`. Default true.
    pub merge_slashes: bool,
    /// `%2F`, `%5C`, `%3B`, `%25`, `%3F`, `%23` in a path: let through as they are, or answered 400. Default reject.
    pub encoded_delimiters: Doubtful,
}

/// What happens to something about which servers disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubtful {
    /// Answered 400.
    Reject,
    /// Let through as it is.
    Keep,
}
