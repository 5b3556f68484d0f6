//! When a service (or an endpoint of it) is left alone for a time.

use std::time::Duration;

use serde::Serialize;

use super::StatusRange;
use crate::{expression::Expression, human};

/// A circuit breaker. It opens by whatever of its conditions is written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CircuitBreaker {
    /// One for all endpoints together, or one for each. Default: one.
    pub per_endpoint: bool,
    /// Failures in a row. Default 5, where no other condition is written.
    pub failure_threshold: Option<u32>,
    /// Share of failures within the window.
    pub failure_ratio: Option<f64>,
    /// Answers that take longer are slow.
    #[serde(serialize_with = "human::maybe_time")]
    pub slow_call: Option<Duration>,
    /// Share of slow ones within the window. Default 0.5.
    pub slow_ratio: f64,
    /// Requests that the window must hold before shares are judged. Default 20.
    pub minimum_requests: u32,
    /// What shares are counted over. Default 10 s.
    #[serde(serialize_with = "human::time")]
    pub window: Duration,
    /// In Traefik's words.
    pub expression: Option<Expression>,
    /// How long it stays open. Default 60 s.
    #[serde(serialize_with = "human::time")]
    pub timeout: Duration,
    /// Trials that must succeed before it closes. Default 2.
    pub success_threshold: u32,
    /// After that, the share of requests that are let through grows for so long. Default zero.
    #[serde(serialize_with = "human::time")]
    pub ramp_up: Duration,
    /// Statuses that are failures, beside errors of the connection and timeouts. Default 5xx.
    pub failures: Vec<StatusRange>,
}
