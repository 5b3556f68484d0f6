//! `[middleware]` and `[rate_limiting]`: the short form for middlewares that every route shall have.

use schemars::JsonSchema;
use serde::Deserialize;

/// Switches. Each that is on adds a middleware before those of every route, in the order request id, CORS, rate
/// limit, compression.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Switches {
    /// Answer preflight requests and add the CORS headers, as `[cors]` says. Default false.
    pub enable_cors: Option<bool>,
    /// Limit the requests of each client, as `[rate_limiting]` says. Default false.
    pub enable_rate_limiting: Option<bool>,
    /// Compress answers for clients that accept it. Default false.
    pub enable_compression: Option<bool>,
    /// Give each request an id (`X-Request-Id`). Default false.
    pub enable_request_id: Option<bool>,
    /// Write the access log; the same as `access_log = true`. Default false.
    pub enable_logging: Option<bool>,
}

/// Settings of `enable_rate_limiting`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimiting {
    /// Requests that each client may make per second in the long run. Default 100.
    pub requests_per_second: Option<f64>,
    /// Requests that each client may make at once. Default: `requests_per_second`, rounded up.
    pub burst_size: Option<u64>,
}
