//! `circuit_breaker`, of services.

use std::time::Duration;

use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;

use super::{
    Lit, OneOrMany,
    literal::{Choice, Literal, Ratio},
};
use crate::{model::StatusRange, scalar::Problem};

/// Leaves a service alone for a time when it fails: requests are answered 503 at once. After `timeout` a few trials are let
/// through; when they succeed, all are. It opens by whatever of `failure_threshold`, `failure_ratio`, `slow_call` and
/// `expression` is written.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CircuitBreaker {
    /// `service`: one for all endpoints; `endpoint`: one for each, and requests go to the others. Default `service`.
    pub per: Option<Lit<BreakerScope>>,
    /// Failures in a row that open it. Default 5, where no other condition is written.
    pub failure_threshold: Option<u32>,
    /// Share of failures within `window` that opens it, from `minimum_requests` on.
    pub failure_ratio: Option<Lit<Ratio>>,
    /// Answers that take longer (to their head) are slow, and `slow_ratio` of them opens it.
    pub slow_call: Option<Lit<Duration>>,
    /// Share of slow answers within `window` that opens it, from `minimum_requests` on. Default 50 %.
    pub slow_ratio: Option<Lit<Ratio>>,
    /// Requests within `window` below which no share is judged. Default 20.
    pub minimum_requests: Option<u32>,
    /// The time over which shares are counted. Default 10 s.
    pub window: Option<Lit<Duration>>,
    /// Opens it, in Traefik's words: `NetworkErrorRatio() > 0.30 || LatencyAtQuantileMS(50.0) > 100`. Measured over
    /// `window`.
    pub expression: Option<String>,
    /// How long it stays open before trials are let through. Default 60 s.
    pub timeout: Option<Lit<Duration>>,
    /// Trials that must succeed in a row to close it, and how many are under way at once at most. Default 2.
    pub success_threshold: Option<u32>,
    /// After the trials, the share of requests that are let through grows from nothing to all for so long. Default 0.
    pub ramp_up: Option<Lit<Duration>>,
    /// Statuses that are failures, beside errors of the connection and timeouts. Default `5xx`.
    pub failures: Option<OneOrMany<Lit<StatusRange>>>,
}

/// What one circuit breaker watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerScope {
    /// All endpoints of the service together.
    Service,
    /// Each endpoint.
    Endpoint,
}

impl Choice for BreakerScope {
    const WHAT: &'static str = "\"service\" or \"endpoint\"";
    const ALL: &'static [(&'static str, Self)] = &[("service", Self::Service), ("endpoint", Self::Endpoint)];
}

impl Literal for CircuitBreaker {
    const EXPECTED: &'static str = "`true`, a number of failures, an expression";

    fn text(text: &str) -> Result<Self, Problem> {
        Ok(CircuitBreaker { expression: Some(text.to_owned()), ..CircuitBreaker::default() })
    }

    fn integer(value: i64) -> Option<Result<Self, Problem>> {
        let threshold = u32::try_from(value).unwrap_or(0);
        Some(Ok(CircuitBreaker { failure_threshold: Some(threshold), ..CircuitBreaker::default() }))
    }

    fn boolean(value: bool) -> Option<Result<Self, Problem>> {
        let off = || Problem::new("circuit breakers are off by default", "leave `circuit_breaker` away");
        Some(if value { Ok(CircuitBreaker::default()) } else { Err(off()) })
    }

    fn schema() -> Schema {
        json_schema!({ "anyOf": [{ "const": true }, { "type": "integer", "minimum": 1 }, { "type": "string" }] })
    }
}
