//! What services and routes do about failure. Each of it is off unless it was written.

use serde::Serialize;

use super::{CircuitBreaker, Retry};

/// What a service does about failure.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ServicePolicies {
    /// Sends a request once more when its attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Leaves it alone for a time when it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<CircuitBreaker>,
}

/// What a route does about failure, where that is not its service's business.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct RoutePolicies {
    /// Overrides the service's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}
