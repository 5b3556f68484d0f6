//! `[services.NAME]`, and services written in place (`[routes.upstream]`).

use std::{collections::BTreeMap, fmt, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};

use super::{
    Cache, Capacity, CircuitBreaker, Concurrency, EndpointUrl, Fallback, HealthCheck, Lit, OrTable,
    PassiveHealth, Rate, Retry, ServiceTimeouts, Strategy, UpstreamTls,
    literal::{CookieAge, Literal},
};
use crate::{
    model::{ProxyProtocol, SameSite, UpstreamHttp},
    scalar::{self, Problem},
};

/// A set of endpoints, and the policies for reaching them.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The endpoints: addresses (`http://`, `https://`, `h2c://`, `ws://`, `wss://`, `unix:/path`, `unix+h2c:/path`),
    /// or tables with `url`, `weight`, `metadata`, `concurrency` and `rate`.
    pub endpoints: Option<Vec<OrTable<Endpoint>>>,
    /// The same as `endpoints`.
    pub urls: Option<Vec<OrTable<Endpoint>>>,
    /// How an endpoint is chosen: `round_robin`, `weighted_round_robin`, `least_connections`, `random`, `p2c`, `ip_hash`, `consistent_hash`, or
    /// `{ hash = { header = "X-User" } }`. Default in turn, by weight.
    pub strategy: Option<OrTable<Strategy>>,
    /// Multiply weights by the value of a metadata key: `{ key = "provider", supabase = 3, gdrive = 1 }`. With
    /// `strategy = "round_robin"` they stay as they are written: that takes turns.
    pub weight_by: Option<WeightBy>,
    /// Keep a client at its endpoint by a cookie. `true`, the cookie's name, or a table. Default: off.
    pub sticky: Option<OrTable<Sticky>>,
    /// Probe the endpoints. A text is the path of an HTTP probe. Default: off.
    pub health_check: Option<OrTable<HealthCheck>>,
    /// Take an endpoint out for a time when real requests fail. `true` for the defaults. Default: off.
    pub passive_health: Option<OrTable<PassiveHealth>>,
    /// Send a request once more when its attempt failed. A number of attempts in all, or `true` for 3. Default: off.
    pub retry: Option<OrTable<Retry>>,
    /// Leave the service alone for a time when it fails. `true` for the defaults, a number of failures in a row, or an
    /// expression of Traefik's. Default: off.
    pub circuit_breaker: Option<OrTable<CircuitBreaker>>,
    /// What clients get in place of an error. Default: the error.
    pub fallback: Option<Fallback>,
    /// How much the service and its endpoints bear. A number is its `concurrency`. Default: unbounded.
    pub capacity: Option<OrTable<Capacity>>,
    /// Send `Host` as the client sent it (true) or the endpoint's own (false). Default true.
    pub pass_host: Option<bool>,
    /// How long to wait for an endpoint.
    #[serde(default)]
    pub timeouts: ServiceTimeouts,
    /// Connections kept to each endpoint.
    #[serde(default)]
    pub pool: Pool,
    /// How `https` endpoints are verified.
    pub tls: Option<UpstreamTls>,
    /// Version spoken to `http` and `https` endpoints: `auto`, `1` or `2`. Default `auto`: HTTP/2 when an `https` endpoint
    /// chooses it, else HTTP/1.1.
    pub http: Option<Lit<UpstreamHttp>>,
    /// Tell endpoints by the PROXY protocol, before TLS, whose connection it is: `v1` (text) or `v2` (binary).
    /// Connections to endpoints are then used for one client's connection only. Default: off.
    pub proxy_protocol: Option<Lit<ProxyProtocol>>,
    /// Pass WebSocket (and other) upgrades on. Default true.
    pub upgrade: Option<bool>,
    /// Cache answers, on all routes to the service that do not say otherwise. `true` for the defaults. Default: off.
    pub cache: Option<OrTable<Cache>>,
}

/// One address of a service.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Its address. A path in it is put before every forwarded path.
    pub url: Lit<EndpointUrl>,
    /// Share of the traffic; 0 gets none. At most 65535. Default 1.
    pub weight: Option<u32>,
    /// Facts about it, shown in the admin API and read by `weight_by`.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Requests under way at once: a number, or `"adaptive"`. Default: as `capacity.endpoint_concurrency` says.
    pub concurrency: Option<OrTable<Concurrency>>,
    /// How often it is asked, such as `"100/s"`. Default: as `capacity.endpoint_rate` says.
    pub rate: Option<OrTable<Rate>>,
}

impl Literal for Endpoint {
    const EXPECTED: &'static str = <EndpointUrl as Literal>::EXPECTED;

    fn text(text: &str) -> Result<Self, Problem> {
        let url = <EndpointUrl as Literal>::text(text)?;
        Ok(Endpoint { url: Lit(url), weight: None, metadata: BTreeMap::new(), concurrency: None, rate: None })
    }

    fn schema() -> Schema {
        <EndpointUrl as Literal>::schema()
    }
}

/// Weights from metadata: the key, and a factor for each of its values. Other values count 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightBy {
    /// The metadata key.
    pub key: String,
    /// Factor by value.
    pub factors: BTreeMap<String, u32>,
}

struct WeightByVisitor;

impl<'de> Visitor<'de> for WeightByVisitor {
    type Value = WeightBy;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table such as { key = \"provider\", supabase = 3, gdrive = 1 }")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightBy, A::Error> {
        let mut key = None;
        let mut factors = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "key" {
                key = Some(map.next_value()?);
            } else {
                factors.insert(name, map.next_value()?);
            }
        }
        let missing =
            || Problem::new("`key` is missing", "name the metadata key that decides: key = \"provider\"");
        Ok(WeightBy { key: key.ok_or_else(|| missing().into_error())?, factors })
    }
}

impl<'de> Deserialize<'de> for WeightBy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(WeightByVisitor)
    }
}

impl JsonSchema for WeightBy {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WeightBy".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "properties": { "key": { "type": "string" } },
            "required": ["key"],
            "additionalProperties": { "type": "integer", "minimum": 0 },
        })
    }
}

/// A cookie that keeps a client at its endpoint. Its value never shows the address, and a client whose endpoint is
/// out goes to another.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sticky {
    /// Name of the cookie. Default `portcullis_` and the name of the service.
    pub cookie: Option<String>,
    /// Send it over TLS only. Default false.
    pub secure: Option<bool>,
    /// Hide it from scripts. Default true.
    pub http_only: Option<bool>,
    /// `none`, `lax` or `strict`. Default: not said.
    pub same_site: Option<Lit<SameSite>>,
    /// How long it lives: `1h`, or seconds as a number; 0 ends with the browser's session. Default 0.
    pub max_age: Option<Lit<CookieAge>>,
    /// Path of the cookie. Default `/`.
    pub path: Option<String>,
    /// Domain of the cookie. Default: the host itself.
    pub domain: Option<String>,
}

impl Literal for Sticky {
    const EXPECTED: &'static str = "`true`, the name of a cookie";

    fn text(text: &str) -> Result<Self, Problem> {
        scalar::header_name(text).map_err(|_| Problem::new(format!("`{text}` cannot name a cookie"), ""))?;
        Ok(Sticky { cookie: Some(text.to_owned()), ..Sticky::default() })
    }

    fn boolean(value: bool) -> Option<Result<Self, Problem>> {
        let off = || Problem::new("stickiness is off by default", "leave `sticky` away");
        Some(if value { Ok(Sticky::default()) } else { Err(off()) })
    }

    fn schema() -> Schema {
        json_schema!({ "anyOf": [{ "const": true }, { "type": "string" }] })
    }
}

/// Connections kept to each endpoint, by each worker.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Idle connections kept; 0 closes each after its request. Default 256.
    pub max_idle: Option<usize>,
    /// Connections open at once to one endpoint, all workers together; 0 means unbounded. Default 0.
    pub max_connections: Option<usize>,
    /// How long an idle connection is kept. Default 60 s.
    pub idle_timeout: Option<Lit<Duration>>,
    /// Age at which a connection is no longer used; 0 means unbounded.
    /// Default 5 min.
    pub max_age: Option<Lit<Duration>>,
}
