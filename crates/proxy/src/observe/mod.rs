//! Seeing: metrics and the access log. Called from `serve.rs`, `forward/` and `listen/` only.
//!
//! Counting must not slow down what is counted. So every worker counts into cells of its own, which no other worker
//! writes; a scrape adds them up. Cells are made on first use, so that ten thousand routes of which ten are asked cost
//! what ten cost. Labels come from the configuration only, never from the request.

mod access_log;
mod cache;
mod gauges;
mod health;
mod histogram;
mod listener;
mod metrics;
mod process;
mod render;
mod route;
mod service;
mod shards;
mod tally;
mod text;

pub use access_log::{AccessLog, Line, rfc3339};
pub use cache::CacheMetrics;
pub use gauges::{BreakerGauge, EndpointGauge, Gauges};
pub use histogram::{DEFAULT_BUCKETS, HistogramTotals};
pub use listener::ListenerMetrics;
pub use metrics::Metrics;
pub use route::{MethodTotals, RequestSeen, RouteMetrics, RouteTotals};
pub use service::{EndpointMetrics, EndpointTotals, ServiceMetrics, ServiceTotals};
