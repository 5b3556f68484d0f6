//! `[cache]`, and `cache` of routes and services.

use std::{collections::BTreeMap, time::Duration};

use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;

use super::{
    Lit, OneOrMany,
    literal::{Literal, Size},
};
use crate::scalar::Problem;

/// Where answers are kept that routes and services may cache: one place for the whole gateway.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CacheStore {
    /// How much memory it may take. Default 128 MB.
    pub memory: Option<Lit<Size>>,
    /// Names of stores (`[stores.NAME]`) that keep answers too, asked in this order when memory has none: at most one on a
    /// disk, which survives a restart, and one in Redis, which is shared by all gateways that use it. Default: none.
    pub store: Option<OneOrMany<String>>,
    /// The largest body that is kept. Default 8 MB, or a quarter of `memory` when that is less.
    pub max_object: Option<Lit<Size>>,
}

/// Cache answers, as RFC 9111 has it for shared caches. `true` for the defaults.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Whether answers are cached. `false` on a route of a service that caches: not here. Default true once the table is
    /// there.
    pub enabled: Option<bool>,
    /// Lifetimes by path, for answers that do not say theirs: `{ "/products/*" = "5m", "/stock/*" = "10s" }`. Of several
    /// that match, the longest pattern counts.
    #[serde(default)]
    pub lifetimes: BTreeMap<String, Lit<Duration>>,
    /// Lifetime of answers that do not say theirs, on all other paths. Default: those are not cached, but by `heuristics`.
    pub default_lifetime: Option<Lit<Duration>>,
    /// `lifetimes` and `default_lifetime` count whatever the answer says, `no-store` and `private` aside. Default false.
    pub force: Option<bool>,
    /// Lifetimes that answers say are at least this long. Default 0.
    pub min_lifetime: Option<Lit<Duration>>,
    /// Lifetimes are at most this long. Default: unbounded.
    pub max_lifetime: Option<Lit<Duration>>,
    /// Guess the lifetime of an answer that says nothing of it, from `Last-Modified`: a tenth of its age, a day at most.
    /// Never for what has a query, or was asked for with a cookie. Default true.
    pub heuristics: Option<bool>,
    /// Paths that are never cached: `["/login", "/account/*"]`.
    pub never: Option<OneOrMany<String>>,
    /// What else tells one answer from another, beside scheme, host, path and query.
    #[serde(default)]
    pub key: CacheKey,
    /// How long a stale answer is sent while it is refreshed in the background, where the answer does not say. Default 0.
    pub stale_while_revalidate: Option<Lit<Duration>>,
    /// How long a stale answer is sent while the service fails, where the answer does not say. Default 0.
    pub stale_if_error: Option<Lit<Duration>>,
    /// Cache answers with `Set-Cookie` too: everybody then gets the same cookie. Default false.
    pub store_cookies: Option<bool>,
    /// Do not listen to `Cache-Control` and `Pragma` of requests, by which a client can have every answer fetched anew.
    /// Default false.
    pub ignore_request_directives: Option<bool>,
    /// Error statuses that may be cached beside 404, 410 and 451: an error that a client can provoke is then everybody's.
    pub errors: Option<OneOrMany<u16>>,
    /// Fields that count instead of `Cache-Control` and `Expires` when they are there, the first first.
    /// Default `Portcullis-Cache-Control`, `CDN-Cache-Control`.
    pub targeted: Option<Vec<String>>,
    /// Say `X-Cache: HIT` or `X-Cache: MISS` beside `Cache-Status`. Default false.
    pub x_cache: Option<bool>,
}

/// What else tells one answer from another.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CacheKey {
    /// Who asks, by the request's `Authorization`: answers are then cached for each user alone, also those to requests with
    /// credentials. Default false.
    pub identity: Option<bool>,
    /// Request headers.
    pub headers: Option<OneOrMany<String>>,
    /// Cookies, by name.
    pub cookies: Option<OneOrMany<String>>,
    /// Claims of the client's token, as the middleware `jwt` has checked it: `["sub"]` caches for each user alone, `["tenant"]`
    /// for all of a tenant together. Answers to requests with credentials are then cached too, where the token has them all.
    pub claims: Option<OneOrMany<String>>,
    /// Only these parameters of the query count; `*` stands for anything. Default: all.
    pub query: Option<OneOrMany<String>>,
    /// All parameters of the query count but these: `["utm_*", "fbclid"]`.
    pub ignore_query: Option<OneOrMany<String>>,
}

impl Literal for Cache {
    const EXPECTED: &'static str = "`true`, `false`";

    fn text(text: &str) -> Result<Self, Problem> {
        match text {
            "true" => Ok(Cache::switched(true)),
            "false" => Ok(Cache::switched(false)),
            _ => Err(Problem::new(
                format!("`{text}` is neither true nor false"),
                "write cache = true, or a table",
            )),
        }
    }

    fn boolean(value: bool) -> Option<Result<Self, Problem>> {
        Some(Ok(Cache::switched(value)))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "boolean" })
    }
}

impl Cache {
    fn switched(enabled: bool) -> Cache {
        Cache { enabled: Some(enabled), ..Cache::default() }
    }
}
