//! The immutable compiled form of a configuration: what the data plane runs. Nothing in it is computed per request.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::StatusCode;
use portcullis_config::model::{self, Model, Name};
use portcullis_core::{Kind, Middleware, balance::Balancer, builtin::Builtin, endpoint::Endpoint};

use crate::{
    balance::{KeyOf, Sticky},
    dns::Named,
    forward::{
        budget::Allowance,
        cache::{RouteCache, Stock, Tiers},
        careful::Policies,
        split::Split,
        upstream::Upstream,
    },
    health::passive::Passive,
    observe::{AccessLog, ListenerMetrics, Metrics, RouteMetrics, ServiceMetrics},
    pages::Pages,
    route::Router,
    shed::Shedding,
    tls,
};

mod cache;
pub mod compile;
mod http3;

pub use http3::AltSvc;

/// One compiled configuration. A clone is shallow.
#[derive(Clone)]
pub struct Runtime {
    /// Counts configurations, from 1.
    pub generation: u64,
    /// What it was compiled from.
    pub model: Arc<Model>,
    /// By name.
    pub listeners: Arc<BTreeMap<Name, Arc<Listener>>>,
    /// In the order of the model; the router's indices point here.
    pub routes: Arc<[Arc<Route>]>,
    /// By qualified name.
    pub services: Arc<BTreeMap<Name, Arc<Service>>>,
    /// Names of endpoints, and what is known of them.
    pub names: Arc<BTreeMap<Arc<str>, Arc<Named>>>,
    /// How the gateway calls itself.
    pub gateway_name: Arc<str>,
    /// Bodies of the gateway's own errors.
    pub pages: Arc<Pages>,
    /// The access log, when there is one.
    pub access_log: Option<Arc<AccessLog>>,
    /// What is cached, where something may be.
    pub stock: Option<Arc<Stock>>,
    /// What stands behind the memory for it.
    pub tiers: Option<Arc<Tiers>>,
    /// What is refused when the gateway itself is short of something, where that is wanted.
    pub shedding: Option<Arc<Shedding>>,
    /// All counters of the process.
    pub metrics: Arc<Metrics>,
}

/// A listener's compiled form: its router and what applies to every request on it.
pub struct Listener {
    /// Its settings.
    pub settings: model::Listener,
    /// How paths are put into canonical form here: as tolerant as its most tolerant route.
    pub path: portcullis_core::path::Policy,
    /// Routes reachable on it.
    pub router: Router,
    /// Asked before those of the route.
    pub middlewares: Vec<Asked>,
    /// TLS termination; `None` on plaintext.
    pub tls: Option<tls::ServerTls>,
    /// QUIC, where HTTP/3 is spoken.
    pub quic: Option<Arc<quinn::ServerConfig>>,
    /// What tells clients over TCP that HTTP/3 is spoken.
    pub alt_svc: Option<AltSvc>,
    /// Counters.
    pub metrics: Arc<ListenerMetrics>,
    /// Metrics of requests that no route took.
    pub unrouted: Arc<RouteMetrics>,
}

/// A middleware instance in a list.
#[derive(Clone)]
pub struct Asked {
    /// Qualified name.
    pub name: Name,
    /// The instance, shared by all lists that name it.
    pub middleware: Arc<dyn Middleware>,
}

/// A route's compiled form.
pub struct Route {
    /// Qualified name.
    pub name: Name,
    /// Asked in this order, after those of the listener.
    pub middlewares: Vec<Asked>,
    /// Where it leads.
    pub target: Target,
    /// Refuses paths with escaped delimiters, which the listener may have let through for another route; `None`: as
    /// the listener's own policy says.
    pub rejects_delimiters: Option<bool>,
    /// Literal prefix taken away before forwarding.
    pub strip_prefix: Option<Arc<str>>,
    /// See the model.
    pub total_timeout: Option<Duration>,
    /// What clients say of the time they have; `None`: `grpc-timeout` counts, and nothing else.
    pub deadline: Option<Box<model::Deadline>>,
    /// See the model.
    pub response_header_timeout: Option<Duration>,
    /// `Some(None)` = unlimited.
    pub body_bytes: Option<Option<u64>>,
    /// See the model.
    pub body_idle_timeout: Option<Duration>,
    /// See the model.
    pub stream_idle_timeout: Option<Duration>,
    /// See the model.
    pub tunnel_idle_timeout: Option<Duration>,
    /// `TRACE` reaches it, since its rule asks for that by name.
    pub takes_trace: bool,
    /// Who goes first when something is short; `None`: never refused for that.
    pub importance: Option<model::Importance>,
    /// Overrides the service's.
    pub pass_host: Option<bool>,
    /// What it does about failure, where that is not the service's business.
    pub policies: Option<Box<Policies>>,
    /// Answers are cached.
    pub cache: Option<Arc<RouteCache>>,
    /// Counters.
    pub metrics: Arc<RouteMetrics>,
}

impl Route {
    /// The status of an error here, where that is not the usual one.
    pub fn status_of(&self, kind: Kind) -> Option<StatusCode> {
        let own = &self.policies.as_ref()?.errors;
        own.iter().find(|(known, _)| *known == kind).map(|(_, status)| *status)
    }

    /// Does it refuse this path for its escaped delimiters? By its own policy, or else by its listener's, which may have
    /// let them through for the sake of another route.
    pub fn refuses_path(&self, listener: &Listener, path: &str) -> bool {
        let rejects = || listener.settings.path.encoded_delimiters == model::Doubtful::Reject;
        self.rejects_delimiters.unwrap_or_else(rejects) && portcullis_core::path::has_escaped_delimiter(path)
    }
}

impl Target {
    /// The service that takes what nobody else does.
    pub fn service(&self) -> Option<&Arc<Service>> {
        match self {
            Target::Service(service) => Some(service),
            Target::Split(split) => split.own(),
            Target::Builtin(..) | Target::Unusable(_) => None,
        }
    }
}

/// Where a compiled route leads.
pub enum Target {
    /// To endpoints.
    Service(Arc<Service>),
    /// To one of several services.
    Split(Box<Split>),
    /// To a built-in service; its name stands in the log.
    Builtin(&'static str, Arc<dyn Builtin>),
    /// Nowhere: answers 503, with the reason in the log.
    Unusable(Arc<str>),
}

/// A service's compiled form.
pub struct Service {
    /// Qualified name.
    pub name: Name,
    /// Its settings.
    pub settings: model::Service,
    /// What balancing sees; same order as `upstreams`.
    pub endpoints: Vec<Endpoint>,
    /// How each endpoint is reached; same order as `endpoints`.
    pub upstreams: Vec<Arc<Upstream>>,
    /// The strategy.
    pub balancer: Arc<dyn Balancer>,
    /// What the strategy hashes by, when it does.
    pub key: Option<KeyOf>,
    /// Stickiness, when asked for.
    pub sticky: Option<Sticky>,
    /// Passive health, when asked for.
    pub passive: Option<Passive>,
    /// What it does about failure.
    pub policies: Option<Box<Policies>>,
    /// What retries may cost it.
    pub budget: Allowance,
    /// Counters.
    pub metrics: Arc<ServiceMetrics>,
}
