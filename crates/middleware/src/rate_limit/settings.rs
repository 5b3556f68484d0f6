//! What people write.

use std::{fmt, num::NonZeroU32, time::Duration};

use portcullis_config::scalar;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};

use super::calendar::Unit;
use crate::settings::Time;

/// Settings of `rate_limit`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Requests per second, on average; 0.5 is one in two seconds. The short form for a single limit; `limits` is the long one.
    pub requests_per_second: Option<f64>,
    /// Requests that may come at once after a rest; without it, what one second allows, at least one.
    pub burst: Option<NonZeroU32>,
    /// Several limits, all of which must have room: `{ requests = 100, per = "1s" }`, `{ requests = 5000, per = "day" }`.
    #[serde(default)]
    pub limits: Vec<LimitSettings>,
    /// Who shares a limit: each `client` address, each value of a header (`{ header = "X-Api-Key" }`), of a cookie or of a
    /// parameter of the route's path, each authenticated `identity` or each value of one of its claims (`{ claim = "tenant" }`),
    /// each `host`, each `route`, or `all`; or a list of these, for each combination. Requests without the header (cookie,
    /// identity …) count by address.
    #[serde(default)]
    pub key: Keys,
    /// IPv6 clients share a limit when so many of their first bits agree: one site usually has 64 bits to itself.
    #[serde(default = "one_site")]
    pub ipv6_prefix: u8,
    /// What a request costs, if not 1.
    pub cost: Option<CostSettings>,
    /// What a request cost, as its answer says: taken afterwards.
    pub answer_cost: Option<AnswerCostSettings>,
    /// Requests beyond the burst wait for so long at most before they go on, instead of being refused.
    pub max_delay: Option<Time>,
    /// The store where several gateways count together, by its name in `[stores]`; without it, each gateway counts by itself.
    pub store: Option<String>,
    /// While the store does not answer: count in this gateway alone (`local`), let all pass (`open`), or refuse all with 429 (`closed`).
    #[serde(default)]
    pub when_away: WhenAway,
    /// Take some of each limit ahead from the store, so that most requests need not ask it. `{}` takes the defaults.
    pub allowance: Option<Allowance>,
    /// Tell clients of their limits in the fields `RateLimit` and `RateLimit-Policy`.
    #[serde(default = "yes")]
    pub headers: bool,
    /// Tell them in the older fields `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset` too.
    #[serde(default)]
    pub legacy_headers: bool,
    /// What is counted, as clients are told in `RateLimit-Policy` (`qu`): `requests`, which needs no word, or `content-bytes`,
    /// where `cost` or `answer_cost` says how many these are.
    #[serde(default)]
    pub unit: Counted,
    /// What a refusal says happened, as the type of the problem document: `quota-exceeded`, or `abnormal-usage-detected` for
    /// limits that nobody meets who uses the service as it is meant.
    #[serde(default)]
    pub problem: ProblemType,
    /// Names to clients the counter that is theirs: `pk` in `RateLimit` and `RateLimit-Policy`, a hash of the key under this
    /// secret, the same in all gateways that have the same. Without it, counters are not named. Write `${PARTITION_SECRET}`
    /// rather than the secret itself.
    pub partition_secret: Option<String>,
    /// Clients remembered at most, for each limit. When there are more, those are forgotten whom it gives least.
    #[serde(default = "many_clients")]
    pub max_clients: NonZeroU32,
}

/// One of several limits.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitSettings {
    /// Its name, for clients and logs; without it, what `per` says.
    pub name: Option<String>,
    /// How many requests.
    pub requests: NonZeroU32,
    /// In which time: `"1s"`, `"10m"` for a bucket that refills steadily; `"minute"`, `"hour"`, `"day"` or `"month"` for a quota
    /// that begins again with each of these, in UTC.
    pub per: Per,
    /// Of a bucket: requests that may come at once after a rest; without it, `requests`.
    pub burst: Option<NonZeroU32>,
    /// Who shares this limit, if others than `key` above says.
    pub key: Option<Keys>,
    /// What a refusal by this limit says happened, if not what `problem` above says.
    pub problem: Option<ProblemType>,
}

/// What is counted: units that are registered with the `RateLimit` fields, and that a rate can be of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Counted {
    /// Requests, or points that have no registered name.
    #[default]
    Requests,
    /// Bytes of bodies.
    ContentBytes,
}

/// What a refusal says happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemType {
    /// What was agreed to is used up.
    #[default]
    QuotaExceeded,
    /// Nobody asks like this who means well.
    AbnormalUsageDetected,
}

/// In which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Per {
    /// Steadily.
    Time(Duration),
    /// Anew with each.
    Calendar(Unit),
}

/// What a request costs.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CostSettings {
    /// The request's header that says it: a whole number. Have it set by a middleware before this one; clients would write 1.
    pub header: String,
    /// The most that one request may cost.
    #[serde(default = "much")]
    pub max: NonZeroU32,
}

/// What a request cost.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerCostSettings {
    /// The answer's header that says it: a whole number. What it says beyond what was taken already is taken then.
    pub header: String,
    /// The most that one answer may cost, whatever it says.
    #[serde(default = "much")]
    pub max: NonZeroU32,
}

/// What is taken ahead from the store.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Allowance {
    /// One gateway holds so much of a limit at most, as a share of what it allows at once: at most 0.5.
    #[serde(default = "a_twentieth")]
    pub share: f64,
    /// The store is asked again after so long at the latest, however little was used.
    #[serde(default = "a_second")]
    pub max_age: Time,
}

/// While the store does not answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenAway {
    /// Each gateway counts by itself.
    #[default]
    Local,
    /// All pass.
    Open,
    /// All are refused.
    Closed,
}

/// Who shares a limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyPart {
    /// Each client address.
    #[default]
    Client,
    /// Each value of this header.
    Header(String),
    /// Each value of this cookie.
    Cookie(String),
    /// Each value of this parameter of the route's path.
    Parameter(String),
    /// Each authenticated client.
    Identity,
    /// Each value of what is known of an authenticated client under this name.
    Claim(String),
    /// Each host.
    Host,
    /// Each route that uses the middleware.
    Route,
    /// All requests together.
    All,
}

/// One, or each combination of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys(pub Vec<KeyPart>);

impl Default for Keys {
    fn default() -> Keys {
        Keys(vec![KeyPart::Client])
    }
}

fn a_twentieth() -> f64 {
    0.05
}

fn a_second() -> Time {
    Time(Duration::from_secs(1))
}

fn yes() -> bool {
    true
}

fn one_site() -> u8 {
    64
}

fn many_clients() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(99_999)
}

/// The most that a request costs where nobody says how much.
pub(super) fn much() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(999)
}

impl Serialize for Keys {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(serializer),
            many => many.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Keys, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`client`, `{ header = \"…\" }` or another key, or a list of them")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Keys, E> {
                plain(text).map(|part| Keys(vec![part]))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Keys, A::Error> {
                named(map).map(|part| Keys(vec![part]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Keys, A::Error> {
                let mut parts = Vec::new();
                while let Some(Part(part)) = list.next_element()? {
                    parts.push(part);
                }
                if parts.is_empty() {
                    return Err(de::Error::custom("no key; write \"all\" for all requests together"));
                }
                Ok(Keys(parts))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

/// One of a list.
struct Part(KeyPart);

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Part, D::Error> {
        struct One;
        impl<'de> Visitor<'de> for One {
            type Value = Part;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`client`, `{ header = \"…\" }` or another key")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Part, E> {
                plain(text).map(Part)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Part, A::Error> {
                named(map).map(Part)
            }
        }
        deserializer.deserialize_any(One)
    }
}

/// Parts that have a name.
const NAMED: [&str; 4] = ["header", "cookie", "parameter", "claim"];

/// A part that says it all: `client`.
fn plain<E: de::Error>(text: &str) -> Result<KeyPart, E> {
    if NAMED.contains(&text) {
        return Err(E::custom(format!("which {text} is not said; write {{ {text} = \"…\" }}")));
    }
    KeyPart::deserialize(de::value::StrDeserializer::new(text))
}

/// A part that has a name: `{ header = "X-Api-Key" }`.
fn named<'de, A: MapAccess<'de>>(mut map: A) -> Result<KeyPart, A::Error> {
    let Some(kind) = map.next_key::<String>()? else {
        let message = "what counts is missing; write { header = \"…\" }, { cookie = \"…\" }, { parameter = \"…\" } or { claim = \"…\" }";
        return Err(de::Error::custom(message));
    };
    let part = match kind.as_str() {
        "header" => KeyPart::Header(map.next_value()?),
        "cookie" => KeyPart::Cookie(map.next_value()?),
        "parameter" => KeyPart::Parameter(map.next_value()?),
        "claim" => KeyPart::Claim(map.next_value()?),
        other => return Err(de::Error::unknown_variant(other, &NAMED)),
    };
    if map.next_key::<de::IgnoredAny>()?.is_some() {
        let message = "one table for several; write a list for each combination: [{ header = \"…\" }, { cookie = \"…\" }]";
        return Err(de::Error::custom(message));
    }
    Ok(part)
}

impl JsonSchema for Keys {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Keys".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<KeyPart>();
        json_schema!({ "anyOf": [one, { "type": "array", "minItems": 1, "items": one }] })
    }
}

impl<'de> Deserialize<'de> for Per {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Per, D::Error> {
        let text = String::deserialize(deserializer)?;
        if let Some(unit) = Unit::of(&text) {
            return Ok(Per::Calendar(unit));
        }
        match scalar::duration(&text) {
            Ok(time) => Ok(Per::Time(time)),
            Err(_) => Err(de::Error::custom(format!(
                "`{text}` is neither a time nor a unit of the calendar; write \"1s\", \"10m\", \"minute\", \"hour\", \"day\" or \"month\""
            ))),
        }
    }
}

impl JsonSchema for Per {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Per".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["1s", "10m", "minute", "hour", "day", "month"] })
    }
}
