//! What people write: one type per word. The doc comments are the reference (`docs/configuration.md`), and the
//! JSON Schema comes from the same types.

mod admin;
mod breaker;
mod cache;
mod capacity;
mod deadline;
mod dns;
mod error_page;
mod fallback;
mod health;
mod http3;
mod limits;
mod listener;
pub mod literal;
mod middleware;
mod mirror;
mod observe;
mod retry;
mod route;
mod server;
mod service;
mod shedding;
mod split;
mod store;
mod strategy;
mod switches;
mod timeouts;
mod tls;
mod url;

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

pub use admin::Admin;
pub use breaker::{BreakerScope, CircuitBreaker};
pub use cache::{Cache, CacheKey, CacheStore};
pub use capacity::{Capacity, Concurrency, Rate};
pub use deadline::Deadline;
pub use dns::{Dns, NameServer};
pub use error_page::ErrorPage;
pub(crate) use fallback::slug;
pub use fallback::{Fallback, FallbackCause};
pub use health::{HealthCheck, PassiveHealth, ProbeKind};
pub use http3::Http3;
pub use limits::{Limits, PathPolicy, RouteLimits, RoutePathPolicy};
pub use listener::{Listener, ProxiedPeers};
pub use literal::{Lit, Literal, OneOrMany, OrTable};
pub use middleware::{Middleware, MiddlewareUse, Settings};
pub use mirror::Mirror;
pub use observe::{AccessLog, Log, Metrics};
pub use retry::{Backoff, Hedge, Retry, RetryBudget, RetryCause};
pub use route::{Condition, Route};
pub use server::Server;
pub use service::{Endpoint, Pool, Service, Sticky, WeightBy};
pub use shedding::Shedding;
pub use split::{Share, Split};
pub use store::{Disk, Redis, RedisUrl, Store};
pub use strategy::{Hash, NamedStrategy, Strategy};
pub use switches::{RateLimiting, Switches};
pub use timeouts::{ListenerTimeouts, RouteTimeouts, ServiceTimeouts, Timeouts};
pub use tls::{Certificate, ListenerTls, UpstreamTls};
pub use url::EndpointUrl;

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// The name by which the gateway calls itself in `Via`, `Proxy-Status` and `Forwarded`. Default `portcullis`.
    pub gateway_name: Option<String>,
    /// Worker threads, each with its own sockets and connection pools. Default, and 0: one per available core.
    pub workers: Option<usize>,
    /// How long open requests may take to end after SIGTERM. Default 30 s.
    pub drain_timeout: Option<Lit<Duration>>,
    /// How long a new binary may take to become ready in an upgrade, before the old one gives it up and goes on.
    /// Default 30 s.
    pub upgrade_timeout: Option<Lit<Duration>>,
    /// Connections the whole process accepts at once. Default: 80 % of the file-descriptor limit.
    pub max_connections: Option<usize>,
    /// The short form for a single listener, named `web`.
    pub server: Option<Server>,
    /// Addresses that accept connections, by name. Without any (and without `[server]`), one named `web` on port 8080.
    #[serde(default)]
    pub listeners: BTreeMap<String, Listener>,
    /// The admin listener. `false` switches it off; a text is its address. Default `127.0.0.1:9090`.
    pub admin: Option<OrTable<Admin>>,
    /// Rules that choose a service. The one of the highest priority that matches takes the request.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Sets of endpoints, by name, with the policies for reaching them.
    #[serde(default)]
    pub services: BTreeMap<String, Service>,
    /// Middlewares, by name, each a table with the one key that is its kind.
    #[serde(default)]
    pub middlewares: BTreeMap<String, Middleware>,
    /// Stores, by name: where several gateways share counters and answers.
    #[serde(default)]
    pub stores: BTreeMap<String, Store>,
    /// Switches for middlewares that every route shall have.
    pub middleware: Option<Switches>,
    /// Settings of `enable_rate_limiting`.
    pub rate_limiting: Option<RateLimiting>,
    /// Settings of `enable_cors`: those of the `cors` middleware. Without `origins`, every origin may read.
    pub cors: Option<Settings>,
    /// Bounds that every listener inherits.
    #[serde(default)]
    pub limits: Limits,
    /// Timeouts that every listener, service and route inherits.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// Where answers are kept that routes and services may cache.
    pub cache: Option<CacheStore>,
    /// Refuse requests, the less important first, when the gateway itself is short of CPU or memory. `true` for the
    /// defaults. Default: off.
    pub shedding: Option<OrTable<Shedding>>,
    /// How the names of endpoints are looked up.
    pub dns: Option<Dns>,
    /// Metrics, in the text format of Prometheus.
    pub metrics: Option<Metrics>,
    /// A line for every request. `true` for JSON to standard output; a text is the format. Default: off.
    pub access_log: Option<OrTable<AccessLog>>,
    /// The gateway's own log. A text is the filter. Default `info`.
    pub log: Option<OrTable<Log>>,
    /// Own pages for the gateway's own errors, by status: `404`, `5xx`, `500-504`. A text is the page itself.
    #[serde(default)]
    pub error_pages: BTreeMap<String, OrTable<ErrorPage>>,
}
