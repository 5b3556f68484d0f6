//! Routes, where they lead, and the middlewares they ask.

use std::{sync::Arc, time::Duration};

use serde::Serialize;

use super::{Cache, Doubtful, Importance, Name, Origin, RoutePolicies};
use crate::{human, rule::Rule};

/// A rule that chooses a service, with an ordered list of middlewares.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Route {
    /// Qualified name.
    pub name: Name,
    /// Listeners it is reachable on; empty = all (except the admin listener).
    pub listeners: Vec<Name>,
    /// The whole condition: the short fields (path, hosts, methods …) and `rule`, as one expression.
    #[serde(serialize_with = "human::rule")]
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
    /// Overrides the service's: a tunnel without a byte either way; zero = unbounded.
    #[serde(serialize_with = "human::maybe_time")]
    pub tunnel_idle_timeout: Option<Duration>,
    /// Overrides the service's: server-sent events and gRPC; zero = unbounded.
    #[serde(serialize_with = "human::maybe_time")]
    pub stream_idle_timeout: Option<Duration>,
    /// Overrides the listener's.
    pub encoded_delimiters: Option<Doubtful>,
    /// `Host` forwarded as it came, or the endpoint's own authority; overrides the service's.
    pub pass_host: Option<bool>,
    /// What it does about failure, where that is not its service's business.
    #[serde(flatten)]
    pub policies: RoutePolicies,
    /// Overrides the service's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
    /// Which requests are refused first when the gateway is short of CPU or memory. Default normal.
    #[serde(skip_serializing_if = "Importance::is_default")]
    pub importance: Importance,
    /// Where it was written (`routes[3]` of which file), for findings and for the admin API.
    pub origin: Origin,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A service, by its qualified name.
    Service(Name),
    /// A built-in service, by its name without `@`: health, healthz, ready, metrics, stats, circuit-breakers, info, echo.
    Builtin(Arc<str>),
    /// What the route needs is quarantined or missing: it answers 503 and never passes unprotected.
    Quarantined(Arc<str>),
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
