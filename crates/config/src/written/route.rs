//! `[[routes]]`.

use std::collections::BTreeMap;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;

use super::{
    Cache, Fallback, Lit, MiddlewareUse, Mirror, OneOrMany, OrTable, Retry, RouteLimits, RoutePathPolicy,
    RouteTimeouts, Service, Split,
    literal::{HostPattern, Literal, MethodName},
};
use crate::{
    model::Importance,
    scalar::{self, Problem},
};

/// A rule that chooses a service. All of its conditions must hold; without any, it takes every request.
///
/// The default priority of the short conditions is 1000 for an exact host (500 when one of the hosts is a wildcard),
/// plus the literal bytes of the path, plus 1 for each parameter, plus 1 when nothing may follow the path, plus 1 for
/// each further condition. That of `rule` is its length in bytes. With both, the two are added.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Name for metrics and logs, used once. Default: made from the path or the rule.
    pub name: Option<String>,
    /// `/users` exactly, `/users/{id}` with a parameter for one segment, `/users/*` with everything below
    /// (and `/users` itself).
    pub path: Option<String>,
    /// Take the literal part of `path` away before forwarding: `/api/users/7` becomes `/7` for `/api/users/*`.
    /// Default false.
    pub strip_path: Option<bool>,
    /// Methods; any other is answered 405 when no other route takes it. Default: all.
    pub methods: Option<OneOrMany<Lit<MethodName>>>,
    /// Hosts: `example.com`, `*.example.com` (exactly one label), `*`. Default: all.
    pub hosts: Option<OneOrMany<Lit<HostPattern>>>,
    /// Headers that must be there: `true` for any value, `false` for absent, a text for exactly that value, `"~regex"`
    /// or `{ regex = "…" }` for a matching value.
    #[serde(default)]
    pub headers: BTreeMap<String, OrTable<Condition>>,
    /// Query parameters that must be there, written as `headers` are.
    #[serde(default)]
    pub query: BTreeMap<String, OrTable<Condition>>,
    /// Clients by address, after `trusted_proxies` has been applied: `10.0.0.0/8`, `192.168.1.7`. Default: all.
    pub clients: Option<OneOrMany<Lit<IpNet>>>,
    /// Listeners on which the route can be reached. Default: all (never the admin listener).
    pub listeners: Option<OneOrMany<String>>,
    /// A condition in Traefik's rule language, beside the others: ``Host(`a.example`) && PathPrefix(`/b`)``.
    pub rule: Option<String>,
    /// Higher is tried first; among equals, the order written. Default: by how specific the conditions are.
    pub priority: Option<i64>,
    /// Which requests `[shedding]` refuses first: those of `background` routes, then `normal`, then `critical` ones.
    /// Default `normal`.
    pub importance: Option<Lit<Importance>>,
    /// Middlewares, in the order in which they are asked: names, or tables written in place.
    #[serde(default)]
    pub middlewares: Vec<MiddlewareUse>,
    /// Name of the service, `name@provider` for one of another provider, or `@health`, `@metrics` … for a built-in one.
    pub service: Option<String>,
    /// A service written in place, instead of `service`.
    pub upstream: Option<Service>,
    /// Timeouts of this route.
    #[serde(default)]
    pub timeouts: RouteTimeouts,
    /// Bounds of this route.
    #[serde(default)]
    pub limits: RouteLimits,
    /// What to do with doubtful paths. Default: the listener's.
    pub path_policy: Option<RoutePathPolicy>,
    /// Send a request once more when its attempt failed; `false` for never. Default: the service's.
    pub retry: Option<OrTable<Retry>>,
    /// What clients get in place of an error. Default: the service's.
    pub fallback: Option<Fallback>,
    /// Send some of the requests to other services: a share of all, or those with a header or a cookie.
    pub split: Option<Split>,
    /// Copy requests to another service, whose answers are dropped. A text is its name.
    pub mirror: Option<OrTable<Mirror>>,
    /// Other statuses for the gateway's own errors, by their slugs: `{ no_endpoints = 502 }`.
    #[serde(default)]
    pub errors: BTreeMap<String, u16>,
    /// Send `Host` as it came (true) or the endpoint's own (false). Default: the service's.
    pub pass_host: Option<bool>,
    /// Cache answers. `true` for the defaults, `false` for a route of a service that caches. Default: the service's.
    pub cache: Option<OrTable<Cache>>,
}

/// What a header or a query parameter must be.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// There (true) or absent (false), whatever its value.
    pub present: Option<bool>,
    /// Exactly this value.
    pub value: Option<String>,
    /// A value in which this regular expression is found.
    pub regex: Option<String>,
}

impl Literal for Condition {
    const EXPECTED: &'static str = "`true`, a text, \"~regex\"";

    fn text(text: &str) -> Result<Self, Problem> {
        match text.strip_prefix('~') {
            Some(regex) => {
                scalar::regex(regex)?;
                Ok(Condition { regex: Some(regex.to_owned()), ..Condition::default() })
            }
            None => Ok(Condition { value: Some(text.to_owned()), ..Condition::default() }),
        }
    }

    fn boolean(value: bool) -> Option<Result<Self, Problem>> {
        Some(Ok(Condition { present: Some(value), ..Condition::default() }))
    }

    fn schema() -> Schema {
        json_schema!({ "type": ["boolean", "string"] })
    }
}
