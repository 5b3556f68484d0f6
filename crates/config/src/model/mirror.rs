//! Copies of a route's requests.

use std::time::Duration;

use serde::Serialize;

use super::Name;
use crate::human;

/// Copies of a route's requests for another service, whose answers nobody gets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mirror {
    /// The service.
    pub service: Name,
    /// This share of all, by chance. Default all.
    pub share: f64,
    /// Requests with a longer body are not copied. Default 64 KiB.
    pub body: u64,
    /// So many copies are under way at once, by worker. Default 100.
    pub most: usize,
    /// How long a copy may take. Default 30 s.
    #[serde(serialize_with = "human::time")]
    pub timeout: Duration,
}
