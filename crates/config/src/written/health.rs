//! `health_check` and `passive_health`.

use std::{collections::BTreeMap, time::Duration};

use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;

use super::{
    Lit, OneOrMany,
    literal::{Choice, Literal, MethodName, Ratio},
};
use crate::{model::StatusRange, scalar::Problem};

/// Active probes. An endpoint with a check gets no traffic before its first success.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// `http` or `tcp` (a connection is enough). Default `http`.
    pub kind: Option<Lit<ProbeKind>>,
    /// Path of the HTTP probe.
    pub path: Option<String>,
    /// Method of the HTTP probe. Default `GET`.
    pub method: Option<Lit<MethodName>>,
    /// Headers of the HTTP probe.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// `Host` of the HTTP probe. Default: the endpoint's own.
    pub host: Option<String>,
    /// Statuses that mean healthy. Default `200-399`.
    pub expect: Option<OneOrMany<Lit<StatusRange>>>,
    /// Between two probes of a healthy endpoint. Default 10 s.
    pub interval: Option<Lit<Duration>>,
    /// Between two probes of one that is out. Default: `interval`.
    pub unhealthy_interval: Option<Lit<Duration>>,
    /// How long a probe may take. Default 5 s.
    pub timeout: Option<Lit<Duration>>,
    /// Failures in a row that take an endpoint out. Default 3.
    pub unhealthy_after: Option<u32>,
    /// Successes in a row that bring it back. Default 1.
    pub healthy_after: Option<u32>,
    /// Share of the interval by which each probe is moved at random. Default 10 %.
    pub jitter: Option<Lit<Ratio>>,
    /// Port probed instead of the endpoint's.
    pub port: Option<u16>,
}

/// How an endpoint is probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeKind {
    /// A request and its status.
    Http,
    /// A connection.
    Tcp,
}

impl Choice for ProbeKind {
    const WHAT: &'static str = "\"http\" or \"tcp\"";
    const ALL: &'static [(&'static str, Self)] = &[("http", Self::Http), ("tcp", Self::Tcp)];
}

impl Literal for HealthCheck {
    const EXPECTED: &'static str = "the path of a probe";

    fn text(text: &str) -> Result<Self, Problem> {
        Ok(HealthCheck { path: Some(text.to_owned()), ..HealthCheck::default() })
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "examples": ["/health"] })
    }
}

/// Failures of real requests within a window take an endpoint out for a time.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PassiveHealth {
    /// Failures within `window` that take an endpoint out. Default 5.
    pub failures: Option<u32>,
    /// The time within which failures are counted. Default 10 s.
    pub window: Option<Lit<Duration>>,
    /// How long it stays out. Default 30 s.
    pub ejection: Option<Lit<Duration>>,
    /// Statuses that count as failures, beside connection errors and timeouts. Default `502-504`.
    pub statuses: Option<OneOrMany<Lit<StatusRange>>>,
    /// Never take out more than this share of the endpoints, and never the last one. Default 50 %.
    pub max_ejected: Option<Lit<Ratio>>,
}

impl Literal for PassiveHealth {
    const EXPECTED: &'static str = "`true`";

    fn text(text: &str) -> Result<Self, Problem> {
        Err(Problem::new(format!("`{text}` is not a setting of passive health"), "write `true` or a table"))
    }

    fn boolean(value: bool) -> Option<Result<Self, Problem>> {
        let off = || Problem::new("passive health is off by default", "leave `passive_health` away");
        Some(if value { Ok(PassiveHealth::default()) } else { Err(off()) })
    }

    fn schema() -> Schema {
        json_schema!({ "const": true })
    }
}
