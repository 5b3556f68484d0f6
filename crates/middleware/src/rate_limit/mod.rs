//! `rate_limit`: so many requests per second from each client.

mod buckets;
mod gcra;

use std::{num::NonZeroU32, sync::Arc};

use portcullis_core::{
    Error, Exchange, Flow, Kind, Known, Middleware,
    middleware::{Around, MiddlewareKind, Problem},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{addresses::network, settings};
use buckets::Buckets;
use gcra::Gcra;

/// Settings of `rate_limit`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Requests per second, on average; 0.5 is one in two seconds.
    pub requests_per_second: f64,
    /// Requests that may come at once after a rest; without it, what one second allows, at least one.
    pub burst: Option<NonZeroU32>,
    /// Who shares a limit: each `client` address, each value of a header (`{ header = "X-Api-Key" }`; requests without
    /// it count by address), or `all`.
    #[serde(default)]
    pub key: KeySettings,
    /// IPv6 clients share a limit when so many of their first bits agree: one site usually has 64 bits to itself.
    #[serde(default = "one_site")]
    pub ipv6_prefix: u8,
    /// Clients remembered at most. When there are more, those are forgotten whom it gives least.
    #[serde(default = "many_clients")]
    pub max_clients: NonZeroU32,
}

/// Who shares a limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeySettings {
    /// Each client address.
    #[default]
    Client,
    /// Each value of this header.
    Header(String),
    /// All requests together.
    All,
}

fn one_site() -> u8 {
    64
}

fn many_clients() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(99_999)
}

struct Limit {
    rate: Gcra,
    key: Key,
    ipv6_prefix: u8,
    max_clients: usize,
    buckets: Arc<Buckets>,
}

enum Key {
    Client,
    Header(Known, String),
    All,
}

impl MiddlewareKind for RateLimit {
    const NAME: &'static str = "rate_limit";
    const SUMMARY: &'static str = "Lets so many requests per second pass from each client.";
    const EXAMPLE: &'static str = "requests_per_second = 100\nburst = 200";

    fn build(self, around: &Around<'_>) -> Result<Arc<dyn Middleware>, Problem> {
        let rps = self.requests_per_second;
        let by_rate = NonZeroU32::new(rps.ceil() as u32).unwrap_or(NonZeroU32::MIN);
        let burst = self.burst.unwrap_or(by_rate);
        let rate = Gcra::new(rps, burst.get()).ok_or_else(|| {
            let message = format!("{rps} requests per second with a burst of {burst} cannot be counted");
            Problem::at("requests_per_second", message).help("between 0.00001 and 1,000,000,000, such as 100")
        })?;
        if self.ipv6_prefix > 128 {
            let message = format!("an IPv6 address has 128 bits, not {}", self.ipv6_prefix);
            return Err(
                Problem::at("ipv6_prefix", message).help("64, or less to count larger networks as one")
            );
        }
        let key = match &self.key {
            KeySettings::Client => Key::Client,
            KeySettings::All => Key::All,
            KeySettings::Header(name) => {
                settings::name("key.header", name)?;
                Key::Header(Known::of(name.as_bytes()), name.clone())
            }
        };
        // Who is counted decides whether the buckets still mean the same; a new rate applies to the old ones.
        let identity = format!("{} {:?} /{}", around.name, self.key, self.ipv6_prefix);
        let buckets = around.keep.get(Self::NAME, &identity, Buckets::new);
        let max_clients = self.max_clients.get() as usize;
        Ok(Arc::new(Limit { rate, key, ipv6_prefix: self.ipv6_prefix, max_clients, buckets }))
    }
}

impl Limit {
    fn client(&self, x: &Exchange) -> u128 {
        let header = match &self.key {
            Key::All => return 0,
            Key::Client => None,
            Key::Header(Known::Other, name) => x.request.fields.get(name),
            Key::Header(known, _) => x.request.fields.known(*known),
        };
        header.map_or_else(|| network(x.client, self.ipv6_prefix), |value| self.buckets.key_of(value))
    }
}

impl Middleware for Limit {
    fn on_request<'a>(&'a self, x: &'a mut Exchange) -> Result<Flow<'a>, Error> {
        let verdict = self.buckets.admit(self.rate, self.client(x), x.started, self.max_clients);
        verdict.map(|()| Flow::Next).map_err(|wait| Error::new(Kind::RateLimited).retry_after(wait))
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{build, problem, request, try_build_keeping};
    use portcullis_core::{Exchange, Kind, Middleware, keep::Keep};
    use serde_json::json;
    use std::{sync::Arc, time::Duration};

    fn from(client: &str, key: Option<&str>, at: Duration) -> Exchange {
        let mut x = request("/");
        x.client = client.parse().unwrap();
        x.started += at;
        key.iter().for_each(|key| x.request.fields.append("x-api-key", key));
        x
    }

    fn passes(limit: &Arc<dyn Middleware>, client: &str, key: Option<&str>) -> bool {
        match limit.on_request(&mut from(client, key, Duration::ZERO)) {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.kind, Kind::RateLimited);
                assert!(error.retry_after.is_some_and(|wait| wait > Duration::ZERO));
                false
            }
        }
    }

    #[test]
    fn counts_by_address_and_ipv6_by_site() {
        let limit = build("rate_limit", json!({"requests_per_second": 0.01}));
        for (client, expected) in [
            ("192.0.2.1", true),
            ("192.0.2.1", false),
            ("::ffff:192.0.2.1", false),
            ("192.0.2.2", true),
            ("2001:db8:1:1::1", true),
            ("2001:db8:1:1:ffff::2", false),
            ("2001:db8:1:2::1", true),
        ] {
            assert_eq!(passes(&limit, client, Some("ignored")), expected, "{client}");
        }
    }

    #[test]
    fn counts_by_header_or_all_together() {
        let by_header =
            build("rate_limit", json!({"requests_per_second": 0.01, "key": {"header": "X-Api-Key"}}));
        let all = build("rate_limit", json!({"requests_per_second": 0.01, "burst": 2, "key": "all"}));
        for (client, key, header_passes, all_passes) in [
            ("192.0.2.1", Some("a"), true, true),
            ("192.0.2.2", Some("a"), false, true),
            ("192.0.2.1", Some("b"), true, false),
            ("192.0.2.1", None, true, false),
            ("192.0.2.1", None, false, false),
        ] {
            assert_eq!(passes(&by_header, client, key), header_passes, "{client} {key:?}");
            assert_eq!(passes(&all, client, key), all_passes, "{client} {key:?}");
        }
    }

    #[test]
    fn the_rate_refills_the_burst() {
        let limit = build("rate_limit", json!({"requests_per_second": 100, "burst": 200}));
        let mut passed = 0;
        for millis in 0..5000 {
            let mut x = from("192.0.2.1", None, Duration::from_millis(millis));
            passed += usize::from(limit.on_request(&mut x).is_ok());
        }
        assert!((695..=705).contains(&passed), "{passed} of 200 + 5 s × 100");
    }

    #[test]
    fn a_reload_forgets_nothing() {
        let keep = Keep::default();
        let of = |settings| try_build_keeping("rate_limit", settings, &keep).unwrap();
        let before = of(json!({"requests_per_second": 0.01}));
        assert!(passes(&before, "192.0.2.1", None));
        let same = of(json!({"requests_per_second": 0.01}));
        let slower = of(json!({"requests_per_second": 0.001}));
        let other_key = of(json!({"requests_per_second": 0.01, "key": "all"}));
        drop(before);
        assert!(!passes(&same, "192.0.2.1", None));
        assert!(!passes(&slower, "192.0.2.1", None));
        assert!(passes(&other_key, "192.0.2.1", None));
    }

    #[test]
    fn settings_are_judged() {
        let path = |settings| problem("rate_limit", settings).path;
        assert_eq!(path(json!({"requests_per_second": 0})), "requests_per_second");
        assert_eq!(path(json!({"requests_per_second": -5})), "requests_per_second");
        assert_eq!(path(json!({"requests_per_second": 1, "burst": 0})), "burst");
        assert_eq!(path(json!({"requests_per_second": 1, "key": {"header": "a b"}})), "key.header");
        assert_eq!(path(json!({"requests_per_second": 1, "key": "clients"})), "key");
        assert_eq!(path(json!({"requests_per_second": 1, "ipv6_prefix": 129})), "ipv6_prefix");
        assert_eq!(path(json!({"requests_per_second": 1, "max_clients": 0})), "max_clients");
    }
}
