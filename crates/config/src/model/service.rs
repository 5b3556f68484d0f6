//! Services, their endpoints, and the policies for reaching them.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use serde::Serialize;

use super::{
    Cache, CertificateFiles, EndpointCapacity, HealthCheck, Name, Origin, PassiveHealth, ServicePolicies,
};
use crate::human;

/// A named set of endpoints and the policies for reaching them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Service {
    /// Qualified name.
    pub name: Name,
    /// Its endpoints, in the order written.
    pub endpoints: Vec<Endpoint>,
    /// How one of them is chosen.
    pub strategy: Strategy,
    /// Keeps a client at its endpoint.
    pub sticky: Option<Sticky>,
    /// Active probes.
    pub health_check: Option<HealthCheck>,
    /// Judges real requests.
    pub passive_health: Option<PassiveHealth>,
    /// What it does about failure.
    #[serde(flatten)]
    pub policies: ServicePolicies,
    /// `Host` as the client sent it (true, default) or the endpoint's own authority.
    pub pass_host: bool,
    /// How long to wait for an endpoint.
    pub timeouts: ServiceTimeouts,
    /// Connections kept.
    pub pool: Pool,
    /// How `https` endpoints are verified.
    pub tls: UpstreamTls,
    /// Version spoken to `http` and `https` endpoints.
    pub http: UpstreamHttp,
    /// Endpoints are told by the PROXY protocol whose connection it is.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// WebSocket (and other) upgrades are passed on. Default true.
    pub upgrade: bool,
    /// Answers are cached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
    /// Where it was written.
    pub origin: Origin,
}

/// One address of a service.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Endpoint {
    /// As written, normalised: `http://10.0.0.1:80`, `unix:/run/app.sock`.
    pub url: Arc<str>,
    /// How to speak to it.
    pub scheme: Scheme,
    /// Where it is.
    pub address: EndpointAddress,
    /// Path put before every forwarded path (`http://a/base`); empty, or starts with `/` and does not end with it.
    pub base_path: Arc<str>,
    /// Share of the traffic; already multiplied by `weight_by`. 0 = gets none (drains).
    pub weight: u32,
    /// Facts about it.
    pub metadata: BTreeMap<Arc<str>, Arc<str>>,
    /// What it bears, where that differs from the others.
    #[serde(flatten)]
    pub capacity: EndpointCapacity,
}

/// How an endpoint is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// Plaintext.
    Http,
    /// TLS.
    Https,
    /// HTTP/2 in plaintext by prior knowledge.
    H2c,
}

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointAddress {
    /// Host name or IP literal (without brackets) and port.
    Tcp {
        /// Name or address.
        host: Arc<str>,
        /// Port.
        port: u16,
    },
    /// A Unix domain socket.
    Unix(PathBuf),
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Strategy {
    /// Smooth weighted round robin (also `weighted_round_robin`).
    RoundRobin,
    /// The fewest open requests for its weight.
    LeastConnections,
    /// By chance, by weight.
    Random,
    /// Power of two choices on peak EWMA of latency.
    P2c,
    /// By the client's address.
    IpHash,
    /// Consistent hash with bounded load.
    Hash {
        /// What is hashed.
        by: HashKey,
        /// How far above the average an endpoint may be loaded; at least 1.
        load_bound: f64,
    },
}

/// What a consistent hash looks at.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HashKey {
    /// The client's address.
    Client,
    /// The path.
    Path,
    /// A header field.
    Header(Arc<str>),
    /// A cookie.
    Cookie(Arc<str>),
    /// A query parameter.
    Query(Arc<str>),
}

/// A cookie that keeps a client at its endpoint. Its value never shows the address.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sticky {
    /// Its name.
    pub cookie: Arc<str>,
    /// Sent over TLS only.
    pub secure: bool,
    /// Hidden from scripts.
    pub http_only: bool,
    /// `None` = not said.
    pub same_site: Option<SameSite>,
    /// Seconds; `None` = session cookie.
    pub max_age: Option<i64>,
    /// Its path.
    pub path: Arc<str>,
    /// `None` = the host itself.
    pub domain: Option<Arc<str>>,
}

/// The `SameSite` attribute of a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SameSite {
    /// Sent to every site.
    None,
    /// Sent with navigation.
    Lax,
    /// Sent within the site only.
    Strict,
}

/// How long a service waits for its endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ServiceTimeouts {
    /// TCP connect (and TLS handshake). Default 3 s.
    #[serde(serialize_with = "human::time")]
    pub connect: Duration,
    /// From the request sent to the answer's head. Default 60 s.
    #[serde(serialize_with = "human::time")]
    pub response_header: Duration,
    /// Between two reads of an answer's body. Default 60 s.
    #[serde(serialize_with = "human::time")]
    pub body_idle: Duration,
    /// A write of the request that makes no progress. Default 30 s.
    #[serde(serialize_with = "human::time")]
    pub write_idle: Duration,
    /// Between two reads of a stream: server-sent events, gRPC. Default 1 h; zero = unbounded.
    #[serde(serialize_with = "human::time")]
    pub stream_idle: Duration,
    /// A tunnel (WebSocket) without a byte either way. Default 1 h; zero = unbounded.
    #[serde(serialize_with = "human::time")]
    pub tunnel_idle: Duration,
}

/// Connections kept to each endpoint, by each worker.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Pool {
    /// Idle connections kept. Default 256. 0 = keep-alive off.
    pub max_idle: usize,
    /// Connections open at once to one endpoint, all workers together; 0 = unbounded. Default 0.
    pub max_connections: usize,
    /// Default 60 s.
    #[serde(serialize_with = "human::time")]
    pub idle_timeout: Duration,
    /// Oldest age at which a connection is used again; zero = unbounded. Default 5 min.
    #[serde(serialize_with = "human::time")]
    pub max_age: Duration,
}

/// How `https` endpoints are verified.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UpstreamTls {
    /// Own authorities; empty = the system's.
    pub ca: Vec<PathBuf>,
    /// Name sent (SNI) and verified instead of the endpoint's host.
    pub server_name: Option<Arc<str>>,
    /// Shown to the endpoint when it asks.
    pub client_certificate: Option<CertificateFiles>,
    /// Never in production. Default false.
    pub insecure_skip_verify: bool,
}

/// A version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyProtocol {
    /// Text.
    V1,
    /// Binary.
    V2,
}

/// The version of HTTP spoken to endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamHttp {
    /// `https`: HTTP/2 when the endpoint chooses it by ALPN, else 1.1. `http`: 1.1.
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}
