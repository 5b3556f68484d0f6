//! What is counted of services and their endpoints.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use portcullis_core::Kind;

use super::{
    histogram::{Bounds, Histogram, HistogramTotals},
    route::{error_label, kind_code, status_code, status_label},
    shards::Shards,
    tally::Tally,
};

/// Counters of one service.
#[derive(Debug)]
pub struct ServiceMetrics {
    /// The `service` label.
    pub(super) label: Arc<str>,
    bounds: Arc<ArcSwap<Bounds>>,
    shards: Shards<ServiceShard>,
    went_up: AtomicU64,
    went_down: AtomicU64,
}

#[derive(Debug)]
struct ServiceShard {
    statuses: Tally,
    errors: Tally,
    duration: Histogram,
    retries: AtomicU64,
    retries_refused: AtomicU64,
    fallbacks: AtomicU64,
    hedges: AtomicU64,
    hedges_won: AtomicU64,
}

impl ServiceMetrics {
    pub(super) fn new(label: &str, shards: usize, bounds: Arc<ArcSwap<Bounds>>) -> ServiceMetrics {
        ServiceMetrics {
            label: label.into(),
            bounds,
            shards: Shards::new(shards),
            went_up: AtomicU64::new(0),
            went_down: AtomicU64::new(0),
        }
    }

    /// One of its endpoints came into service (`up`) or went out of it.
    pub fn health_changed(&self, up: bool) {
        let counter = if up { &self.went_up } else { &self.went_down };
        counter.fetch_add(1, Relaxed);
    }

    /// A request is sent to an endpoint once more.
    pub fn retried(&self, shard: usize) {
        self.shard(shard).retries.fetch_add(1, Relaxed);
    }

    /// A request would have been sent once more, but the budget for that is used up.
    pub fn retry_refused(&self, shard: usize) {
        self.shard(shard).retries_refused.fetch_add(1, Relaxed);
    }

    /// An attempt was made beside one that was late, and brought the answer (`won`) or not.
    pub fn hedged(&self, shard: usize, won: bool) {
        self.shard(shard).hedges.fetch_add(1, Relaxed);
        self.shard(shard).hedges_won.fetch_add(u64::from(won), Relaxed);
    }

    /// A request gets the fallback.
    pub fn fell_back(&self, shard: usize) {
        self.shard(shard).fallbacks.fetch_add(1, Relaxed);
    }

    /// A request failed before there was an endpoint to blame: none in service, or a limit of the service's own.
    pub fn failed(&self, shard: usize, kind: Kind) {
        self.shard(shard).errors.add(kind_code(kind));
    }

    fn shard(&self, shard: usize) -> &ServiceShard {
        let mut fresh = false;
        let cell = self.shards.get(shard, || {
            fresh = true;
            ServiceShard {
                statuses: Tally::default(),
                errors: Tally::default(),
                duration: Histogram::new(&self.bounds.load()),
                retries: AtomicU64::new(0),
                retries_refused: AtomicU64::new(0),
                fallbacks: AtomicU64::new(0),
                hedges: AtomicU64::new(0),
                hedges_won: AtomicU64::new(0),
            }
        });
        if fresh {
            cell.duration.follow(&self.bounds);
        }
        cell
    }

    /// Durations are counted over other bounds from now on, and from nothing.
    pub(super) fn restart(&self, bounds: &Arc<Bounds>) {
        self.shards.iter().for_each(|shard| shard.duration.restart(bounds));
    }

    /// What all workers counted together.
    pub fn totals(&self) -> ServiceTotals {
        let mut totals = ServiceTotals {
            duration: HistogramTotals::new(&self.bounds.load()),
            went_up: self.went_up.load(Relaxed),
            went_down: self.went_down.load(Relaxed),
            retries: 0,
            retries_refused: 0,
            fallbacks: 0,
            hedges: 0,
            hedges_won: 0,
            statuses: BTreeMap::new(),
            errors: BTreeMap::new(),
        };
        for shard in self.shards.iter() {
            shard.statuses.collect(&mut totals.statuses);
            shard.errors.collect(&mut totals.errors);
            shard.duration.collect(&mut totals.duration);
            totals.retries += shard.retries.load(Relaxed);
            totals.retries_refused += shard.retries_refused.load(Relaxed);
            totals.fallbacks += shard.fallbacks.load(Relaxed);
            totals.hedges += shard.hedges.load(Relaxed);
            totals.hedges_won += shard.hedges_won.load(Relaxed);
        }
        totals
    }
}

/// What was counted of one service.
#[derive(Debug, Clone)]
pub struct ServiceTotals {
    /// From the request sent to the answer's head, or to the failure.
    pub duration: HistogramTotals,
    /// Times an endpoint came into service.
    pub went_up: u64,
    /// Times an endpoint went out of service.
    pub went_down: u64,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Attempts that were not made, because the retry budget was used up.
    pub retries_refused: u64,
    /// Requests that got the fallback.
    pub fallbacks: u64,
    /// Attempts made beside one that was late.
    pub hedges: u64,
    /// Of those, how many brought the answer.
    pub hedges_won: u64,
    statuses: BTreeMap<u16, u64>,
    errors: BTreeMap<u16, u64>,
}

impl ServiceTotals {
    /// Answers of endpoints, by status.
    pub fn statuses(&self) -> impl Iterator<Item = (String, u64)> {
        self.statuses.iter().map(|(&code, &count)| (status_label(code), count))
    }

    /// Failures, by the slug of their [`Kind`].
    pub fn errors(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.errors.iter().map(|(&code, &count)| (error_label(code), count))
    }
}

/// Counters of one endpoint. What it counts, its service counts too.
#[derive(Debug)]
pub struct EndpointMetrics {
    pub(super) service: Arc<ServiceMetrics>,
    /// The `endpoint` label.
    pub(super) url: Arc<str>,
    shards: Shards<EndpointShard>,
}

#[derive(Debug, Default)]
struct EndpointShard {
    requests: AtomicU64,
    failures: AtomicU64,
    opened: AtomicU64,
    reused: AtomicU64,
}

/// What was counted of one endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EndpointTotals {
    /// Requests sent to it, answered or not.
    pub requests: u64,
    /// Those of them that it did not answer.
    pub failures: u64,
    /// Connections opened to it.
    pub opened: u64,
    /// Requests that went over a connection opened before.
    pub reused: u64,
}

impl EndpointMetrics {
    pub(super) fn new(service: Arc<ServiceMetrics>, url: &str, shards: usize) -> EndpointMetrics {
        EndpointMetrics { service, url: url.into(), shards: Shards::new(shards) }
    }

    /// The head of a final answer came.
    pub fn answered(&self, shard: usize, status: u16, latency: Duration) {
        let service = self.service.shard(shard);
        service.statuses.add(status_code(status));
        service.duration.observe(latency);
        self.count(shard, |cell| &cell.requests);
    }

    /// There was none.
    pub fn failed(&self, shard: usize, kind: Kind, latency: Duration) {
        let service = self.service.shard(shard);
        service.errors.add(kind_code(kind));
        service.duration.observe(latency);
        self.count(shard, |cell| &cell.requests);
        self.count(shard, |cell| &cell.failures);
    }

    /// A connection to it was opened.
    pub fn opened(&self, shard: usize) {
        self.count(shard, |cell| &cell.opened);
    }

    /// A request goes over a connection opened before.
    pub fn reused(&self, shard: usize) {
        self.count(shard, |cell| &cell.reused);
    }

    fn count(&self, shard: usize, counter: impl FnOnce(&EndpointShard) -> &AtomicU64) {
        counter(self.shards.get(shard, EndpointShard::default)).fetch_add(1, Relaxed);
    }

    /// What all workers counted together.
    pub fn totals(&self) -> EndpointTotals {
        self.shards.iter().fold(EndpointTotals::default(), |sum, cell| EndpointTotals {
            requests: sum.requests + cell.requests.load(Relaxed),
            failures: sum.failures + cell.failures.load(Relaxed),
            opened: sum.opened + cell.opened.load(Relaxed),
            reused: sum.reused + cell.reused.load(Relaxed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_counts_what_its_endpoints_count() {
        let service =
            Arc::new(ServiceMetrics::new("users", 2, Arc::new(ArcSwap::from_pointee(Bounds::new(&[])))));
        let one = EndpointMetrics::new(service.clone(), "http://a", 2);
        let two = EndpointMetrics::new(service.clone(), "http://b", 2);
        one.answered(0, 200, Duration::from_millis(1));
        one.answered(1, 503, Duration::from_millis(1));
        two.failed(1, Kind::ConnectionRefused, Duration::ZERO);
        service.failed(0, Kind::NoHealthyEndpoints);
        service.retried(1);
        service.health_changed(false);
        one.opened(0);
        one.reused(1);
        let totals = service.totals();
        assert_eq!(totals.statuses().collect::<Vec<_>>(), [("200".into(), 1), ("503".into(), 1)]);
        let errors: Vec<_> = totals.errors().collect();
        assert_eq!(errors, [("no-healthy-endpoints", 1), ("connection-refused", 1)]);
        assert_eq!((totals.duration.count(), totals.retries, totals.went_down, totals.went_up), (3, 1, 1, 0));
        let expected = EndpointTotals { requests: 2, failures: 0, opened: 1, reused: 1 };
        assert_eq!(one.totals(), expected);
        assert_eq!((two.totals().requests, two.totals().failures), (1, 1));
    }
}
