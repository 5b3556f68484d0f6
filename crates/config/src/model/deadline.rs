//! What clients say of the time they have.

use std::sync::Arc;

use serde::Serialize;

/// What clients say of the time they have for a request, and what endpoints are told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deadline {
    /// The field that says it, beside `grpc-timeout`.
    pub header: Option<Arc<str>>,
    /// What a number in it means.
    pub unit: TimeUnit,
    /// Whose field counts.
    pub from: DeadlineFrom,
    /// `grpc-timeout` of gRPC calls counts. Default true.
    pub grpc: bool,
}

/// A unit of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeUnit {
    /// Milliseconds.
    #[default]
    Ms,
    /// Seconds, with fractions.
    S,
}

/// Whose word about time counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadlineFrom {
    /// Peers that the listener trusts (`trusted_proxies`).
    #[default]
    Trusted,
    /// Everybody's.
    Anyone,
}
