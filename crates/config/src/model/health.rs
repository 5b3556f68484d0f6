//! Health checks, active and passive.

use std::{sync::Arc, time::Duration};

use serde::Serialize;

use crate::human;

/// Active probes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HealthCheck {
    /// How it is probed.
    pub kind: Probe,
    /// Between two probes of a healthy endpoint. Default 10 s.
    #[serde(serialize_with = "human::time")]
    pub interval: Duration,
    /// Between two probes of one that is out. Default = interval.
    #[serde(serialize_with = "human::time")]
    pub unhealthy_interval: Duration,
    /// Default 5 s.
    #[serde(serialize_with = "human::time")]
    pub timeout: Duration,
    /// Failures in a row that take it out. Default 3.
    pub unhealthy_after: u32,
    /// Successes in a row that bring it back. Default 1.
    pub healthy_after: u32,
    /// Share of the interval by which each probe is moved at random, 0 to 1. Default 0.1.
    pub jitter: f64,
    /// Port probed instead of the endpoint's.
    pub port: Option<u16>,
}

/// How an endpoint is probed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// A request and its status.
    Http {
        /// Its target.
        path: Arc<str>,
        /// Its method.
        method: Arc<str>,
        /// Further fields.
        headers: Vec<(Arc<str>, Arc<str>)>,
        /// Statuses that mean healthy. Default 200-399.
        expect: Vec<StatusRange>,
        /// `None` = the endpoint's own.
        host: Option<Arc<str>>,
    },
    /// A connection.
    Tcp,
}

/// Inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StatusRange {
    /// The first.
    pub from: u16,
    /// The last.
    pub to: u16,
}

/// Failures of real requests within a window take an endpoint out for a time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PassiveHealth {
    /// Default 5.
    pub failures: u32,
    /// Default 10 s.
    #[serde(serialize_with = "human::time")]
    pub window: Duration,
    /// How long it stays out. Default 30 s.
    #[serde(serialize_with = "human::time")]
    pub ejection: Duration,
    /// Statuses counted as failures beside connection errors and timeouts. Default 502-504.
    pub statuses: Vec<StatusRange>,
    /// Never take out more than this share of the endpoints, 0 to 1. Default 0.5, and never the last one.
    pub max_ejected: f64,
}
