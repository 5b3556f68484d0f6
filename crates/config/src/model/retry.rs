//! When a request is sent once more.

use std::{sync::Arc, time::Duration};

use serde::{Serialize, Serializer};

use super::StatusRange;
use crate::human;

/// When a request is sent to a service once more.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Retry {
    /// Attempts in all, the first included; 1 = no retry. Default 3.
    pub attempts: u32,
    /// What is tried again.
    pub on: RetryOn,
    /// Methods of requests that an endpoint may have seen before they are sent again. Default: the idempotent ones.
    pub methods: Vec<Arc<str>>,
    /// The longest wait before the first retry; it doubles with each. Default 25 ms.
    #[serde(serialize_with = "human::time")]
    pub backoff_base: Duration,
    /// The longest wait of all. Default 250 ms.
    #[serde(serialize_with = "human::time")]
    pub backoff_max: Duration,
    /// From the start of an attempt to the head of its answer; `None` = as long as the request may take.
    #[serde(serialize_with = "human::maybe_time")]
    pub try_timeout: Option<Duration>,
    /// So much of a request's body is kept to be sent again. Default 64 KiB.
    pub body_buffer: u64,
    /// Another attempt beside one that is late; `None` = never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hedge: Option<Hedge>,
    /// How many retries there may be in all.
    pub budget: RetryBudget,
}

/// When an attempt is late, so that another is made beside it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Hedge {
    /// It takes longer than this share of the service's answers, over the last half a minute. Default 0.95.
    pub quantile: f64,
    /// And longer than this. Default 10 ms.
    #[serde(serialize_with = "human::time")]
    pub min: Duration,
    /// But not longer than this, also while too few answers tell how long they take; `None` = no such bound.
    #[serde(serialize_with = "human::maybe_time", skip_serializing_if = "Option::is_none")]
    pub max: Option<Duration>,
}

/// What is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct RetryOn {
    /// The request certainly did not reach an endpoint.
    pub connect_error: bool,
    /// The connection ended before a byte of the answer.
    pub reset: bool,
    /// The answer did not begin in time.
    pub timeout: bool,
    /// Answers.
    pub statuses: Vec<StatusRange>,
    /// Answers of gRPC that are nothing but this status.
    pub grpc: Vec<GrpcCode>,
}

/// How many retries a service gets in all.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RetryBudget {
    /// Retries for each request, over the last ten seconds. Default 0.2.
    pub ratio: f64,
    /// Beside them, so many each second. Default 10.
    pub min_per_second: f64,
}

/// A status code of gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GrpcCode(pub u8);

impl GrpcCode {
    /// Their names, by code.
    pub const NAMES: [&str; 17] = [
        "ok",
        "cancelled",
        "unknown",
        "invalid_argument",
        "deadline_exceeded",
        "not_found",
        "already_exists",
        "permission_denied",
        "resource_exhausted",
        "failed_precondition",
        "aborted",
        "out_of_range",
        "unimplemented",
        "internal",
        "unavailable",
        "data_loss",
        "unauthenticated",
    ];

    /// The code of this name (`-` for `_` will do, in any case).
    pub fn named(name: &str) -> Option<GrpcCode> {
        let plain = name.to_ascii_lowercase().replace('-', "_");
        let at = Self::NAMES.iter().position(|known| *known == plain)?;
        u8::try_from(at).ok().map(GrpcCode)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::NAMES.get(usize::from(self.0)).copied().unwrap_or("unknown")
    }
}

impl Serialize for GrpcCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
