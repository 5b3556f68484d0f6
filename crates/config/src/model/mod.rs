//! The meaning of a configuration: every default filled in, every reference resolved, nothing compiled.
//!
//! `Model` is what `check` judges, what `portcullis show model` prints and what the data plane compiles into
//! its runtime. It is pure data: no sockets, no regex objects, no certificates, only what they are made from.

mod breaker;
mod cache;
mod capacity;
mod deadline;
mod dns;
mod fallback;
mod health;
mod listener;
mod mirror;
mod observe;
mod policies;
mod retry;
mod route;
mod service;
mod shedding;
mod split;
mod store;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::Serialize;

use crate::human;

pub use breaker::CircuitBreaker;
pub use cache::{Cache, CacheKey, CacheStore};
pub use capacity::{Capacity, Concurrency, EndpointCapacity, Rate};
pub use deadline::{Deadline, DeadlineFrom, TimeUnit};
pub use dns::Dns;
pub use fallback::{ERRORS, Fallback, Instead};
pub use health::{HealthCheck, PassiveHealth, Probe, StatusRange};
pub use listener::{
    CertificateFiles, Doubtful, Http3, Listener, ListenerLimits, ListenerTimeouts, ListenerTls, PathPolicy,
    ProxiedPeers, TlsVersion,
};
pub use mirror::Mirror;
pub use observe::{AccessLog, AccessLogFormat, Admin, ErrorPage, Log, LogFormat, Metrics};
pub use policies::{RoutePolicies, ServicePolicies};
pub use retry::{GrpcCode, Hedge, Retry, RetryBudget, RetryOn};
pub use route::{Middleware, Route, Target};
pub use service::{
    Endpoint, EndpointAddress, HashKey, Pool, ProxyProtocol, SameSite, Scheme, Service, ServiceTimeouts,
    Sticky, Strategy, UpstreamHttp, UpstreamTls,
};
pub use shedding::{Importance, MemoryLimit, Shedding};
pub use split::{Share, Split};
pub use store::{DiskStore, RedisStore, Store, StoreKind};

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
    /// Stores by name (store names carry no provider).
    pub stores: BTreeMap<Name, Store>,
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
    /// How long a new binary may take to become ready in an upgrade, before the old one gives it up. Default 30 s.
    #[serde(serialize_with = "human::time")]
    pub upgrade_timeout: Duration,
    /// The name by which the gateway calls itself in `Via`, `Proxy-Status` and `Forwarded;by`. Default `portcullis`.
    pub gateway_name: Arc<str>,
    /// Where answers are kept.
    #[serde(skip_serializing_if = "CacheStore::is_default")]
    pub cache: CacheStore,
    /// What is refused when the gateway itself is short of CPU or memory; `None` when nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shedding: Option<Shedding>,
    /// How names of endpoints are looked up.
    pub dns: Dns,
    /// Connections the whole process accepts at once; 0 means 80 % of the file-descriptor limit.
    pub max_connections: usize,
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
