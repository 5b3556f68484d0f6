//! What routes and services say about caching.

use std::{sync::Arc, time::Duration};

use serde::Serialize;

use super::Name;
use crate::human;

/// Where answers are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CacheStore {
    /// Bytes of memory.
    pub memory: u64,
    /// Largest body kept.
    pub max_object: u64,
    /// Keep answers too, behind memory: asked in this order.
    #[serde(rename = "store", skip_serializing_if = "Vec::is_empty")]
    pub stores: Vec<Name>,
}

impl Default for CacheStore {
    fn default() -> CacheStore {
        CacheStore { memory: 128 << 20, max_object: 8 << 20, stores: Vec::new() }
    }
}

impl CacheStore {
    /// Is all as it is when nothing is written?
    pub fn is_default(&self) -> bool {
        *self == CacheStore::default()
    }
}

/// How answers are cached.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cache {
    /// Are they?
    pub enabled: bool,
    /// By pattern of the path, the longest first.
    #[serde(serialize_with = "human::times")]
    pub lifetimes: Vec<(Arc<str>, Duration)>,
    /// On other paths.
    #[serde(serialize_with = "human::maybe_time")]
    pub default_lifetime: Option<Duration>,
    /// Whatever answers say.
    pub force: bool,
    /// At least.
    #[serde(serialize_with = "human::time")]
    pub min_lifetime: Duration,
    /// At most.
    #[serde(serialize_with = "human::maybe_time")]
    pub max_lifetime: Option<Duration>,
    /// By `Last-Modified`.
    pub heuristics: bool,
    /// Patterns of paths.
    pub never: Vec<Arc<str>>,
    /// The key.
    pub key: CacheKey,
    /// Where answers do not say.
    #[serde(serialize_with = "human::time")]
    pub stale_while_revalidate: Duration,
    /// Where answers do not say.
    #[serde(serialize_with = "human::time")]
    pub stale_if_error: Duration,
    /// Answers with `Set-Cookie` too.
    pub store_cookies: bool,
    /// Requests have no say.
    pub ignore_request_directives: bool,
    /// Beside 404, 410 and 451.
    pub errors: Vec<u16>,
    /// In lower case.
    pub targeted: Vec<Arc<str>>,
    /// `X-Cache` too.
    pub x_cache: bool,
}

/// What beside scheme, host, path and query tells answers apart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CacheKey {
    /// `Authorization`.
    pub identity: bool,
    /// In lower case.
    pub headers: Vec<Arc<str>>,
    /// Names.
    pub cookies: Vec<Arc<str>>,
    /// Names.
    pub claims: Vec<Arc<str>>,
    /// Only these; `None` = all.
    pub query: Option<Vec<Arc<str>>>,
    /// All but these.
    pub ignore_query: Vec<Arc<str>>,
}
