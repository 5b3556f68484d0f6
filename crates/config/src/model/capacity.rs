//! How much a service and its endpoints bear.

use std::time::Duration;

use serde::Serialize;

use crate::human;

/// How much a service and its endpoints bear, and who may wait.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Capacity {
    /// Requests under way at once, to all endpoints together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// Requests under way at once to each endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_concurrency: Option<Concurrency>,
    /// How often each endpoint is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_rate: Option<Rate>,
    /// So many wait. Default 0.
    pub queue: u32,
    /// For so long at most. Default 1 s.
    #[serde(serialize_with = "human::time")]
    pub queue_timeout: Duration,
}

/// How many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Concurrency {
    /// So many.
    Fixed(u32),
    /// What is found, from how long answers take.
    Adaptive {
        /// Never less. Default 4.
        min: u32,
        /// Never more. Default 1000.
        max: u32,
        /// At the start. Default 20.
        initial: u32,
    },
}

/// So many in so much time, refilling steadily.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Rate {
    /// How many.
    pub requests: u32,
    /// In which time.
    #[serde(serialize_with = "human::time")]
    pub per: Duration,
    /// At once, after a rest.
    pub burst: u32,
}

/// What one endpoint bears, where that differs from the others of its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct EndpointCapacity {
    /// Requests under way at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// How often it is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}
