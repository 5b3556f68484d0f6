//! `[listeners.NAME]`.

use std::net::SocketAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Http3, Limits, ListenerTimeouts, ListenerTls, Lit, MiddlewareUse, OrTable, PathPolicy};

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
    /// Accept HTTP/3 as well, on the UDP port of the same number: `true`, or a table with settings. Needs `tls`. Default
    /// false.
    pub http3: Option<OrTable<Http3>>,
    /// Proxies before this listener that say by the PROXY protocol (version 1 or 2, before TLS) whose connection they
    /// pass on. Default: none.
    pub proxy_protocol: Option<ProxiedPeers>,
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

/// Who may say whose connection it is. What is told takes the place of the connection's own address in everything:
/// client, logs, limits, `trusted_proxies`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxiedPeers {
    /// The proxies, by address. Whoever else sends a header is refused; whoever else sends none is a client like any
    /// other.
    pub from: Option<Vec<Lit<IpNet>>>,
    /// The proxies must send a header. Default true.
    pub required: Option<bool>,
}
