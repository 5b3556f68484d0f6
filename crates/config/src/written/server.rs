//! `[server]`: the short form for one listener.

use schemars::JsonSchema;
use serde::Deserialize;

/// The short form: one listener named `web`, the number of workers, and a time limit for every request.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Address to listen on: an IP address or `localhost`. Default `0.0.0.0`.
    pub host: Option<String>,
    /// Port to listen on. Default 8080.
    pub port: Option<u16>,
    /// Worker threads; the same as `workers` at the top.
    pub workers: Option<usize>,
    /// From the arrival of a request to the last byte of its answer, milliseconds; the same as `timeouts.total`.
    /// Default: no limit. 0 is no limit.
    pub timeout_ms: Option<u64>,
}
