//! `[listeners.NAME]`.

use std::net::SocketAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Limits, ListenerTimeouts, ListenerTls, Lit, MiddlewareUse, PathPolicy};

/// An address that accepts connections.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// `0.0.0.0:443`, `[::]:80`, `:8080` (every IPv4 address), `localhost:3000`.
    pub address: Option<Lit<SocketAddr>>,
    /// Certificates; with them the listener speaks TLS.
    pub tls: Option<ListenerTls>,
    /// Accept HTTP/2: by ALPN with TLS, by prior knowledge without. Default true.
    pub http2: Option<bool>,
    /// Peers whose `X-Forwarded-*` and `Forwarded` fields are believed. Default: none.
    #[serde(default)]
    pub trusted_proxies: Vec<Lit<IpNet>>,
    /// Middlewares asked before those of the route, in this order: names, or tables written in place.
    #[serde(default)]
    pub middlewares: Vec<MiddlewareUse>,
    /// Bounds on what one client may send or hold.
    #[serde(default)]
    pub limits: Limits,
    /// How long to wait for a client.
    #[serde(default)]
    pub timeouts: ListenerTimeouts,
    /// What to do with doubtful paths.
    #[serde(default)]
    pub path_policy: PathPolicy,
    /// Let header names with `_` or `.` through. They are dropped otherwise, since servers take them for
    /// other headers. Default false.
    pub allow_odd_header_names: Option<bool>,
}
