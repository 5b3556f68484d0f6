//! `[limits]` and the path policy.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Lit,
    literal::{MaybeSize, Size},
};
use crate::model::Doubtful;

/// Bounds on what one client may send or hold.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// All of a request's head, the request line included; more is answered 431. Default 32 KiB.
    pub header_bytes: Option<Lit<Size>>,
    /// Fields in a request's head; more is answered 431. Default 100, at most 256.
    pub header_count: Option<usize>,
    /// Length of the request target; more is answered 414. Default 8 KiB, or `header_bytes` when that is less.
    pub uri_bytes: Option<Lit<Size>>,
    /// Length of a request's body, or `unlimited`; more is answered 413. Default `unlimited`.
    pub body_bytes: Option<Lit<MaybeSize>>,
    /// Connections open at once on one listener; 0 means no bound of its own. Default 0.
    pub connections: Option<usize>,
    /// Connections open at once from one client address; 0 means unbounded. Default 0.
    pub connections_per_client: Option<usize>,
    /// Requests on one connection before it is closed in an orderly way; 0 means unbounded. Default 10,000.
    pub requests_per_connection: Option<u64>,
    /// Concurrent streams of one HTTP/2 connection. Default 100.
    pub h2_streams: Option<u32>,
}

/// Bounds of one route.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteLimits {
    /// Length of a request's body, or `unlimited`. Default: the listener's.
    pub body_bytes: Option<Lit<MaybeSize>>,
}

/// What a route says about paths about which servers disagree. Whether slashes are merged is its listener's choice.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoutePathPolicy {
    /// Known, so that it can be refused with the reason: it is a listener's.
    #[schemars(skip)]
    pub merge_slashes: Option<bool>,
    /// `%2F`, `%5C`, `%3B`, `%25`, `%3F` and `%23` in a path: `reject` (400) or `keep` as they are. Default: the
    /// listener's.
    pub encoded_delimiters: Option<Lit<Doubtful>>,
}

/// What happens to paths about which servers disagree.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PathPolicy {
    /// `//` becomes `/`. Default true.
    pub merge_slashes: Option<bool>,
    /// `%2F`, `%5C`, `%3B`, `%25`, `%3F` and `%23` in a path: `reject` (400) or `keep` as they are. Default `reject`.
    pub encoded_delimiters: Option<Lit<Doubtful>>,
}
