//! The meaning of a configuration: every default filled in, every reference resolved, nothing compiled.
//!
//! `Model` is what `check` judges, what `portcullis show model` prints and what the data plane compiles into
//! its runtime. It is pure data: no sockets, no regex objects, no certificates, only what they are made from.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use ipnet::IpNet;
use serde::Serialize;

use crate::{human, rule::Rule};

/// A qualified name, `name@provider` (`users@file`). Two names are the same object exactly when they are equal.
pub type Name = Arc<str>;

/// The whole configuration, after merging all fragments.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Model {
    /// Worker threads, each with its own runtime, sockets and pools; 0 means one per available core.
    pub workers: usize,
    /// Listeners by name (listener names carry no provider).
    pub listeners: BTreeMap<Name, Listener>,
    /// Routes in the order written; the router orders them by priority.
    pub routes: Vec<Route>,
    /// Services by qualified name. A service written inside a route is named after the route.
    pub services: BTreeMap<Name, Service>,
    /// Middlewares by qualified name.
    pub middlewares: BTreeMap<Name, Middleware>,
    /// The admin listener; `None` when switched off.
    pub admin: Option<Admin>,
    /// Metrics settings.
    pub metrics: Metrics,
    /// Access log; `None` when switched off.
    pub access_log: Option<AccessLog>,
    /// Diagnostics of the gateway itself.
    pub log: Log,
    /// Own error pages by status (a single status or a class such as `5xx`).
    pub error_pages: BTreeMap<StatusRange, ErrorPage>,
    /// How long a drain may take after SIGTERM before open connections are cut. Default 30 s.
    #[serde(serialize_with = "human::time")]
    pub drain_timeout: Duration,
    /// The name by which the gateway calls itself in `Via`, `Proxy-Status` and `Forwarded;by`. Default `portcullis`.
    pub gateway_name: Arc<str>,
    /// Connections the whole process accepts at once; 0 means 80 % of the file-descriptor limit.
    pub max_connections: usize,
}

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

/// A rule that chooses a service, with an ordered list of middlewares.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Route {
    /// Qualified name.
    pub name: Name,
    /// Listeners it is reachable on; empty = all (except the admin listener).
    pub listeners: Vec<Name>,
    /// The whole condition: the short fields (path, hosts, methods …) and `rule`, as one expression.
    pub rule: Rule,
    /// Higher first. Explicit, or the default that `rule` documents.
    pub priority: i64,
    /// Whether `priority` was written.
    pub priority_is_explicit: bool,
    /// Asked in this order, after those of the listener.
    pub middlewares: Vec<Name>,
    /// Where it leads.
    pub target: Target,
    /// `strip_path`: the literal prefix of `path` is taken away before forwarding.
    pub strip_prefix: Option<Arc<str>>,
    /// From the arrival of the request to the last byte of the answer; `None` = unbounded.
    #[serde(serialize_with = "human::maybe_time")]
    pub total_timeout: Option<Duration>,
    /// Overrides the service's.
    #[serde(serialize_with = "human::maybe_time")]
    pub response_header_timeout: Option<Duration>,
    /// Overrides the listener's; `Some(None)` = unlimited.
    pub body_bytes: Option<Option<u64>>,
    /// Overrides the listener's.
    #[serde(serialize_with = "human::maybe_time")]
    pub body_idle_timeout: Option<Duration>,
    /// Overrides of the listener's path policy.
    pub path: Option<PathPolicy>,
    /// `Host` forwarded as it came, or the endpoint's own authority; overrides the service's.
    pub pass_host: Option<bool>,
    /// Where it was written (`routes[3]` of which file), for findings and for the admin API.
    pub origin: Origin,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A service, by its qualified name.
    Service(Name),
    /// A built-in service, by its name without `@`: health, healthz, ready, metrics, stats, info, echo.
    Builtin(Arc<str>),
    /// What the route needs is quarantined or missing: it answers 503 and never passes unprotected.
    Quarantined(Arc<str>),
}

/// Where an object was written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Origin {
    /// Which provider published it (`file`, `command-line`, `docker` …).
    pub provider: Arc<str>,
    /// The file, or whatever the provider calls its source.
    pub file: Option<Arc<str>>,
    /// Path in the document, `routes[3]`.
    pub path: Arc<str>,
    /// From 1; 0 when the source has no lines.
    pub line: u32,
    /// From 1; 0 when the source has no lines.
    pub column: u32,
}

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
    /// WebSocket (and other) upgrades are passed on. Default true.
    pub upgrade: bool,
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

/// Active probes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HealthCheck {
    /// How it is probed.
    pub kind: Probe,
    /// Between two probes of a healthy endpoint. Default 10 s.
    #[serde(serialize_with = "human::time")]
    pub interval: Duration,
    /// Between two probes of one that is out. Default = interval.
    #[serde(serialize_with = "human::time")]
    pub unhealthy_interval: Duration,
    /// Default 5 s.
    #[serde(serialize_with = "human::time")]
    pub timeout: Duration,
    /// Failures in a row that take it out. Default 3.
    pub unhealthy_after: u32,
    /// Successes in a row that bring it back. Default 1.
    pub healthy_after: u32,
    /// Share of the interval by which each probe is moved at random, 0 to 1. Default 0.1.
    pub jitter: f64,
    /// Port probed instead of the endpoint's.
    pub port: Option<u16>,
}

/// How an endpoint is probed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// A request and its status.
    Http {
        /// Its target.
        path: Arc<str>,
        /// Its method.
        method: Arc<str>,
        /// Further fields.
        headers: Vec<(Arc<str>, Arc<str>)>,
        /// Statuses that mean healthy. Default 200-399.
        expect: Vec<StatusRange>,
        /// `None` = the endpoint's own.
        host: Option<Arc<str>>,
    },
    /// A connection.
    Tcp,
}

/// Inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StatusRange {
    /// The first.
    pub from: u16,
    /// The last.
    pub to: u16,
}

/// Failures of real requests within a window take an endpoint out for a time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PassiveHealth {
    /// Default 5.
    pub failures: u32,
    /// Default 10 s.
    #[serde(serialize_with = "human::time")]
    pub window: Duration,
    /// How long it stays out. Default 30 s.
    #[serde(serialize_with = "human::time")]
    pub ejection: Duration,
    /// Statuses counted as failures beside connection errors and timeouts. Default 502-504.
    pub statuses: Vec<StatusRange>,
    /// Never take out more than this share of the endpoints, 0 to 1. Default 0.5, and never the last one.
    pub max_ejected: f64,
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

/// A middleware as written: which kind, and its settings as a document.
/// The kind's own row in the middleware table knows how to read them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Middleware {
    /// Qualified name.
    pub name: Name,
    /// `headers`, `cors`, `strip_prefix` … (always with `_`).
    pub kind: Arc<str>,
    /// As written; the kind accepted them.
    pub settings: serde_json::Value,
    /// Where it was written.
    pub origin: Origin,
}

/// The admin listener.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Admin {
    /// Default 127.0.0.1:9090.
    pub address: SocketAddr,
    /// `Host` values accepted beside the address itself and localhost (DNS-rebinding defence).
    pub allowed_hosts: Vec<Arc<str>>,
}

/// Metrics settings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metrics {
    /// Upper bounds of the duration histograms, seconds, ascending.
    pub buckets: Vec<f64>,
}

/// A line for every request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AccessLog {
    /// How it looks.
    pub format: AccessLogFormat,
    /// `None` = standard output.
    pub file: Option<PathBuf>,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessLogFormat {
    /// One JSON object.
    Json,
    /// Common log format.
    Common,
    /// Short, coloured on a terminal.
    Short,
}

/// The gateway's own log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Log {
    /// A `tracing` filter such as `info` or `portcullis=debug`; `RUST_LOG` wins.
    pub filter: Arc<str>,
    /// How it looks.
    pub format: LogFormat,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// An own page for errors that the gateway itself answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorPage {
    /// Its media type.
    pub content_type: Arc<str>,
    /// May hold `{status}`, `{title}`, `{detail}`, `{request_id}`.
    pub body: Arc<str>,
}
