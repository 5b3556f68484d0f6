//! What services and routes do about failure. Each of it is off unless it was written.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::Serialize;

use super::{Capacity, CircuitBreaker, Deadline, Fallback, Mirror, Retry, Split};
use crate::human;

/// What a service does about failure.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ServicePolicies {
    /// Sends a request once more when its attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Leaves it alone for a time when it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<CircuitBreaker>,
    /// What clients get in place of an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// How stale an answer of the cache may be that stands in for an error.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "human::maybe_time")]
    pub fallback_stale: Option<Duration>,
    /// How much it and its endpoints bear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
}

/// What a route does about failure, where that is not its service's business.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct RoutePolicies {
    /// Overrides the service's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Overrides the service's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// How stale an answer of the cache may be that stands in for an error.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "human::maybe_time")]
    pub fallback_stale: Option<Duration>,
    /// What clients say of the time they have; `None`: `grpc-timeout` counts, and nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Deadline>,
    /// Requests that go to other services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// Copies for another service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Mirror>,
    /// Statuses of the gateway's own errors, by slug.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub errors: BTreeMap<Arc<str>, u16>,
}
