//! `strategy`: how an endpoint is chosen.

use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;

use super::{
    Lit, OrTable,
    literal::{Choice, FieldName, Literal},
};
use crate::scalar::Problem;

/// A strategy by name, or with settings.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Strategy {
    /// By name.
    #[serde(skip)]
    #[schemars(skip)]
    pub named: Option<NamedStrategy>,
    /// Consistent hash with bounded load: the same client, header, cookie, path or query parameter leads to the same
    /// endpoint, and few move when endpoints come or go.
    pub hash: Option<OrTable<Hash>>,
}

/// The strategies that have a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedStrategy {
    /// In turn, smoothly, by the weights that are written; what `weight_by` says does not count.
    RoundRobin,
    /// In turn, smoothly, by weight, with what `weight_by` says.
    WeightedRoundRobin,
    /// The fewest open requests for its weight.
    LeastConnections,
    /// By chance, by weight.
    Random,
    /// The better of two by chance, judged by latency and open requests.
    P2c,
    /// By the client's address.
    IpHash,
    /// Consistent hash of the client's address.
    ConsistentHash,
}

impl Choice for NamedStrategy {
    const WHAT: &'static str = "a strategy";
    const ALL: &'static [(&'static str, Self)] = &[
        ("round_robin", Self::RoundRobin),
        ("least_connections", Self::LeastConnections),
        ("random", Self::Random),
        ("p2c", Self::P2c),
        ("ip_hash", Self::IpHash),
        ("consistent_hash", Self::ConsistentHash),
        ("weighted_round_robin", Self::WeightedRoundRobin),
        ("weighted", Self::WeightedRoundRobin),
        ("wrr", Self::WeightedRoundRobin),
        ("rr", Self::RoundRobin),
        ("roundrobin", Self::RoundRobin),
        ("least_conn", Self::LeastConnections),
        ("least_connection", Self::LeastConnections),
        ("leastconn", Self::LeastConnections),
        ("power_of_two", Self::P2c),
        ("power_of_two_choices", Self::P2c),
        ("peak_ewma", Self::P2c),
        ("source_ip", Self::IpHash),
        ("iphash", Self::IpHash),
        ("hash", Self::ConsistentHash),
    ];
}

impl Literal for Strategy {
    const EXPECTED: &'static str = "a strategy such as \"round_robin\"";

    fn text(text: &str) -> Result<Self, Problem> {
        Ok(Strategy { named: Some(<NamedStrategy as Literal>::text(text)?), hash: None })
    }

    fn schema() -> Schema {
        <NamedStrategy as Literal>::schema()
    }
}

/// What a consistent hash looks at: exactly one. Default: the client's address.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hash {
    /// The client's address.
    pub client: Option<bool>,
    /// The path of the request.
    pub path: Option<bool>,
    /// A header; requests without it go to any endpoint, at random.
    pub header: Option<Lit<FieldName>>,
    /// A cookie; requests without it go to any endpoint, at random.
    pub cookie: Option<String>,
    /// A query parameter; requests without it go to any endpoint, at random.
    pub query: Option<String>,
    /// How far above the average an endpoint may be loaded before its requests go to the next. At least 1. Default 1.25.
    pub load_bound: Option<f64>,
}

impl Literal for Hash {
    const EXPECTED: &'static str = "\"client\" or \"path\"";

    fn text(text: &str) -> Result<Self, Problem> {
        match text {
            "client" => Ok(Hash { client: Some(true), ..Hash::default() }),
            "path" => Ok(Hash { path: Some(true), ..Hash::default() }),
            _ => Err(Problem::new(
                format!("`{text}` cannot be hashed"),
                "write \"client\", \"path\", { header = \"…\" }, { cookie = \"…\" } or { query = \"…\" }",
            )),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "enum": ["client", "path"] })
    }
}
