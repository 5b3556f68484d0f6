//! What Portcullis promises, held by the real binary on real sockets. One file per promise; the ids in the comments
//! (VK1, AVX3 …) are those of the project's requirements.

mod access_log;
mod admin;
mod avx_gateway;
mod balancing;
mod browser;
mod built_in;
mod cache;
mod cache_conformance;
mod cache_disk;
mod cache_shared;
mod cache_sharing;
mod cache_tiers;
mod capacity;
mod chaos;
mod circuit_breaker;
mod cli;
mod concurrency;
mod config_forms;
mod deadlines;
mod dns;
mod errors;
mod failing_endpoints;
mod fallback;
mod floods;
mod forwarding_fields;
mod grpc;
mod health;
mod hedging;
mod hostile;
mod http3;
mod http3_by_hand;
mod http3_lives;
mod interim;
mod jwt;
mod large_bodies;
mod limits;
mod many_connections;
mod metrics;
mod mi_mascota;
mod middlewares;
mod mirror;
mod paths;
mod proxy_protocol;
mod rate_limit_allowance;
mod rate_limit_trouble;
mod rate_limits;
mod redis_access;
mod reload;
mod reload_under_load;
mod resize;
mod retries;
mod routing;
mod running;
mod shedding;
mod shutdown;
mod slow_clients;
mod smuggling;
mod split;
mod sse;
mod sticky;
mod supervised;
mod timeouts;
mod tls;
mod upgrade;
mod upgrade_under_load;
mod upstream_tls;
mod versions;
mod vk_gateway;
mod websocket;

/// Every path to one service `app` at `{app}`, through the cache.
const CACHED: &str = r#"
[[routes]]
path = "/*"
service = "app"

[services.app]
endpoints = ["{app}"]
cache = true
"#;

/// Every path to one service `app` at `{app}`; `extra` is appended to the service's table.
fn one(extra: &str) -> String {
    format!(
        r#"
[[routes]]
name = "all"
path = "/*"
service = "app"

[services.app]
endpoints = [{{ url = "{{app}}" }}]
{extra}
"#
    )
}
