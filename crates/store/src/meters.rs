//! What a store counts of itself.

use std::{sync::Arc, time::Instant};

use portcullis_core::{
    meter::{Counter, Gauge, Histogram, Meters},
    store::{Failure, FailureKind},
};

/// What is done with a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Counting.
    Take,
    /// Reading a value.
    Get,
    /// Keeping a value.
    Put,
    /// Forgetting one.
    Delete,
    /// Forgetting many.
    Purge,
    /// Asking for the time.
    Clock,
}

impl Operation {
    const ALL: [Operation; 6] = [
        Operation::Take,
        Operation::Get,
        Operation::Put,
        Operation::Delete,
        Operation::Purge,
        Operation::Clock,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Operation::Take => "take",
            Operation::Get => "get",
            Operation::Put => "put",
            Operation::Delete => "delete",
            Operation::Purge => "purge",
            Operation::Clock => "clock",
        }
    }
}

/// Counters of one store.
pub(crate) struct StoreMeters {
    operations: Vec<OfOperation>,
    failures: Vec<(FailureKind, Arc<Counter>)>,
    /// Connections that answer.
    pub connections: Arc<Gauge>,
    /// 1 when it has such a connection.
    pub up: Arc<Gauge>,
    /// Connections lost, or never got.
    pub lost: Arc<Counter>,
}

struct OfOperation {
    operation: Operation,
    requests: Arc<Counter>,
    took: Arc<Histogram>,
}

impl StoreMeters {
    pub(crate) fn new(store: &str, meters: &Meters) -> StoreMeters {
        let of = |operation: Operation| {
            let labels = [("store", store), ("operation", operation.as_str())];
            OfOperation {
                operation,
                requests: meters.counter("gateway_store_requests_total", "What a store was asked.", &labels),
                took: meters.histogram(
                    "gateway_store_request_duration_seconds",
                    "From asking a store to its answer, or to giving up.",
                    &labels,
                ),
            }
        };
        let failure = |kind: FailureKind| {
            let help = "What a store was asked and did not do; `away` costs no time.";
            let labels = [("store", store), ("error", kind.as_str())];
            (kind, meters.counter("gateway_store_errors_total", help, &labels))
        };
        let named = [("store", store)];
        StoreMeters {
            operations: Operation::ALL.into_iter().map(of).collect(),
            failures: FailureKind::ALL.into_iter().map(failure).collect(),
            connections: meters.gauge(
                "gateway_store_connections",
                "Connections to the store that answer.",
                &named,
            ),
            up: meters.gauge("gateway_store_up", "1 when the store answers.", &named),
            lost: meters.counter(
                "gateway_store_connection_failures_total",
                "Connections to the store that were lost, or could not be made.",
                &named,
            ),
        }
    }

    /// Counts what came of an operation.
    pub(crate) fn seen<T>(&self, operation: Operation, since: Instant, result: &Result<T, Failure>) {
        if let Some(of) = self.operations.iter().find(|of| of.operation == operation) {
            of.requests.inc();
            // What is not asked takes no time, and would hide how long the others take.
            if !matches!(result, Err(failure) if failure.kind == FailureKind::Away) {
                of.took.record(since.elapsed());
            }
        }
        if let Err(failure) = result
            && let Some((_, counter)) = self.failures.iter().find(|(kind, _)| *kind == failure.kind)
        {
            counter.inc();
        }
    }
}
