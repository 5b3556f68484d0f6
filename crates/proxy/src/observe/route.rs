//! What is counted of requests, by route, method and status.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use http::Method;
use portcullis_core::Kind;

use super::{
    histogram::{Bounds, Histogram, HistogramTotals},
    shards::{Padded, Shards},
    tally::{OTHER, Tally},
};
use crate::by_worker::ByWorker;

/// Methods with series of their own. All others are one, so that a client cannot make series by inventing methods.
pub(super) const METHODS: [&str; 10] =
    ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE", "_other"];
const OTHER_METHOD: usize = METHODS.len() - 1;

/// The code of an answer of 500 and above that was not an error of the gateway's; beyond every `Kind`.
pub(super) const STATUS_5XX: u16 = 1000;

/// Series (of route and method) that one worker may make. With the default buckets they take about 9 MB then. What
/// comes after them is counted under the route and method `_other`.
const SERIES_PER_WORKER: u32 = 32_768;

/// Counters of one route.
#[derive(Debug)]
pub struct RouteMetrics {
    /// The `path` label.
    pub(super) label: Arc<str>,
    shared: Arc<Shared>,
    shards: Shards<Shard>,
}

/// How a request went, all of it: counted when the last byte of the answer left, or when it was given up.
#[derive(Debug, Clone, Copy)]
pub struct RequestSeen<'a> {
    /// The method as it came.
    pub method: &'a Method,
    /// The status sent to the client; 499 when it went away before.
    pub status: u16,
    /// From the arrival of the head to the last byte of the answer.
    pub duration: Duration,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// What went wrong, when the gateway ended the request.
    pub error: Option<Kind>,
}

/// What all routes share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Of histograms to be made; those that are there have been told.
    pub bounds: Arc<ArcSwap<Bounds>>,
    /// How many series each worker has made.
    made: ByWorker<Padded<AtomicU32>>,
    /// How many it may make.
    most: u32,
    /// Where the rest is counted.
    pub rest: Shards<MethodSeries>,
}

impl Shared {
    pub fn new(shards: usize, bounds: Arc<Bounds>) -> Shared {
        Shared::limited(shards, bounds, SERIES_PER_WORKER)
    }

    fn limited(shards: usize, bounds: Arc<Bounds>, series: u32) -> Shared {
        let bounds = Arc::new(ArcSwap::new(bounds));
        Shared { bounds, made: ByWorker::new(shards), most: series, rest: Shards::new(shards) }
    }

    /// May this worker make another series?
    fn take(&self, shard: usize) -> bool {
        let more = |made: u32| (made < self.most).then_some(made + 1);
        self.made.get(shard).0.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    /// Durations are counted over other bounds from now on, and from nothing: those of the routes, which the caller
    /// tells, and those beyond the limit.
    pub fn restart(&self, bounds: &Arc<Bounds>) {
        self.bounds.store(bounds.clone());
        self.rest.iter().for_each(|series| series.duration.restart(bounds));
    }

    /// What was counted beyond the limit.
    pub fn rest_totals(&self) -> Option<MethodTotals> {
        let mut totals = MethodTotals::default();
        self.rest.iter().for_each(|series| series.collect(&mut totals));
        (totals.duration.count() > 0).then_some(totals)
    }
}

/// One worker's counters of one route.
#[derive(Debug)]
struct Shard {
    in_progress: AtomicI64,
    received: AtomicU64,
    sent: AtomicU64,
    errors: OnceLock<Box<Tally>>,
    methods: [OnceLock<Box<MethodSeries>>; METHODS.len()],
}

/// One worker's counters of one method of one route.
#[derive(Debug)]
pub(super) struct MethodSeries {
    statuses: Tally,
    duration: Histogram,
}

impl MethodSeries {
    pub fn new(bounds: &Arc<Bounds>) -> MethodSeries {
        MethodSeries { statuses: Tally::default(), duration: Histogram::new(bounds) }
    }

    fn collect(&self, into: &mut MethodTotals) {
        self.statuses.collect(&mut into.statuses);
        self.duration.collect(&mut into.duration);
    }
}

impl RouteMetrics {
    pub(super) fn new(label: &str, shards: usize, shared: Arc<Shared>) -> RouteMetrics {
        RouteMetrics { label: label.into(), shared, shards: Shards::new(shards) }
    }

    /// A request arrived.
    pub fn begin(&self, shard: usize) {
        self.shards.get(shard, Shard::new).in_progress.fetch_add(1, Relaxed);
    }

    /// It ended. Exactly one call for each of [`RouteMetrics::begin`], with the same worker or another.
    pub fn end(&self, shard: usize, seen: &RequestSeen<'_>) {
        let cell = self.shards.get(shard, Shard::new);
        cell.in_progress.fetch_sub(1, Relaxed);
        if seen.bytes_in > 0 {
            cell.received.fetch_add(seen.bytes_in, Relaxed);
        }
        if seen.bytes_out > 0 {
            cell.sent.fetch_add(seen.bytes_out, Relaxed);
        }
        if let Some(code) = error_code(seen) {
            cell.errors.get_or_init(Box::default).add(code);
        }
        if let Some(series) = self.series(cell, shard, method_index(seen.method)) {
            series.statuses.add(status_code(seen.status));
            series.duration.observe(seen.duration);
        }
    }

    fn series<'a>(&'a self, cell: &'a Shard, shard: usize, method: usize) -> Option<&'a MethodSeries> {
        let slot = cell.methods.get(method)?;
        if let Some(series) = slot.get() {
            return Some(series);
        }
        let make = || MethodSeries::new(&self.shared.bounds.load());
        let series = if self.shared.take(shard) {
            slot.get_or_init(|| Box::new(make())).as_ref()
        } else {
            self.shared.rest.get(shard, make)
        };
        series.duration.follow(&self.shared.bounds);
        Some(series)
    }

    /// Durations are counted over other bounds from now on, and from nothing.
    pub(super) fn restart(&self, bounds: &Arc<Bounds>) {
        let series = self.shards.iter().flat_map(|shard| &shard.methods).filter_map(OnceLock::get);
        series.for_each(|series| series.duration.restart(bounds));
    }

    /// What all workers counted together.
    pub fn totals(&self) -> RouteTotals {
        let mut totals = RouteTotals::default();
        for shard in self.shards.iter() {
            totals.in_progress += shard.in_progress.load(Relaxed);
            totals.received += shard.received.load(Relaxed);
            totals.sent += shard.sent.load(Relaxed);
            if let Some(errors) = shard.errors.get() {
                errors.collect(&mut totals.errors);
            }
            for (index, series) in shard.methods.iter().enumerate() {
                if let (Some(series), Some(name)) = (series.get(), METHODS.get(index)) {
                    let fresh = || MethodTotals::new(&self.shared.bounds.load());
                    series.collect(totals.methods.entry(name).or_insert_with(fresh));
                }
            }
        }
        totals
    }
}

impl Drop for RouteMetrics {
    fn drop(&mut self) {
        // The room of its series is free again.
        for (shard, cell) in self.shards.numbered() {
            let made = cell.methods.iter().filter(|series| series.get().is_some()).count() as u32;
            self.shared.made.get(shard).0.fetch_sub(made, Relaxed);
        }
    }
}

impl Shard {
    fn new() -> Shard {
        Shard {
            in_progress: AtomicI64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            errors: OnceLock::new(),
            methods: Default::default(),
        }
    }
}

/// What was counted of one route, or of all routes of one label.
#[derive(Debug, Clone, Default)]
pub struct RouteTotals {
    /// Requests that have not ended.
    pub in_progress: i64,
    /// Bytes of request bodies.
    pub received: u64,
    /// Bytes of answer bodies.
    pub sent: u64,
    /// By method.
    pub methods: BTreeMap<&'static str, MethodTotals>,
    errors: BTreeMap<u16, u64>,
}

/// What was counted of one method of one route.
#[derive(Debug, Clone, Default)]
pub struct MethodTotals {
    /// Requests that ended, by status.
    statuses: BTreeMap<u16, u64>,
    /// How long they took.
    pub duration: HistogramTotals,
}

impl MethodTotals {
    fn new(bounds: &Arc<Bounds>) -> MethodTotals {
        MethodTotals { statuses: BTreeMap::new(), duration: HistogramTotals::new(bounds) }
    }

    /// Requests that ended, by status; `_other` for what is no status, and beyond 32 different ones.
    pub fn statuses(&self) -> impl Iterator<Item = (String, u64)> {
        self.statuses.iter().map(|(&code, &count)| (status_label(code), count))
    }

    fn absorb(&mut self, other: &MethodTotals) {
        other.statuses.iter().for_each(|(&code, count)| *self.statuses.entry(code).or_default() += count);
        self.duration.absorb(&other.duration);
    }
}

impl RouteTotals {
    /// Requests that ended.
    pub fn requests(&self) -> u64 {
        self.methods.values().flat_map(|method| method.statuses.values()).sum()
    }

    /// Errors by type: the slug of a [`Kind`], or `status-5xx` for an answer of 500 and above by an endpoint, a
    /// middleware or a built-in service.
    pub fn errors(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.errors.iter().map(|(&code, &count)| (error_label(code), count))
    }

    /// How long requests took, all methods together.
    pub fn duration(&self) -> HistogramTotals {
        let mut all = HistogramTotals::default();
        self.methods.values().for_each(|method| all.absorb(&method.duration));
        all
    }

    /// Forgets durations, which were counted over other bounds.
    pub(super) fn restart(&mut self, bounds: &Arc<Bounds>) {
        self.methods.values_mut().for_each(|method| method.duration = HistogramTotals::new(bounds));
    }

    /// Adds other totals.
    pub fn absorb(&mut self, other: &RouteTotals) {
        self.in_progress += other.in_progress;
        self.received += other.received;
        self.sent += other.sent;
        other.errors.iter().for_each(|(&code, count)| *self.errors.entry(code).or_default() += count);
        for (name, method) in &other.methods {
            self.methods.entry(name).or_default().absorb(method);
        }
    }
}

fn method_index(method: &Method) -> usize {
    match *method {
        Method::GET => 0,
        Method::POST => 1,
        Method::PUT => 2,
        Method::DELETE => 3,
        Method::PATCH => 4,
        Method::HEAD => 5,
        Method::OPTIONS => 6,
        Method::CONNECT => 7,
        Method::TRACE => 8,
        _ => OTHER_METHOD,
    }
}

fn error_code(seen: &RequestSeen<'_>) -> Option<u16> {
    match seen.error {
        Some(kind) => Some(kind_code(kind)),
        None => (seen.status >= 500).then_some(STATUS_5XX),
    }
}

/// The code of a kind in a tally, where 0 is taken.
pub(super) fn kind_code(kind: Kind) -> u16 {
    kind as u16 + 1
}

pub(super) fn error_label(code: u16) -> &'static str {
    let kind = usize::from(code).checked_sub(1).and_then(|index| Kind::ALL.get(index));
    match (kind, code) {
        (Some(&kind), _) => portcullis_core::answer::mapping(kind).slug,
        (None, STATUS_5XX) => "status-5xx",
        (None, _) => "_other",
    }
}

/// A status as a code of a tally.
pub(super) fn status_code(status: u16) -> u16 {
    if (100..1000).contains(&status) { status } else { OTHER }
}

/// A status's code as a label.
pub(super) fn status_label(code: u16) -> String {
    if code == OTHER { "_other".into() } else { code.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(method: &Method, status: u16) -> RequestSeen<'_> {
        let duration = Duration::from_millis(3);
        RequestSeen { method, status, duration, bytes_in: 1, bytes_out: 2, error: None }
    }

    fn shared(series: u32) -> Arc<Shared> {
        Arc::new(Shared::limited(2, Arc::new(Bounds::new(&[])), series))
    }

    #[test]
    fn workers_are_added_up() {
        let route = RouteMetrics::new("/a", 2, shared(100));
        for shard in [0, 1, 1] {
            route.begin(shard);
            route.end(shard, &seen(&Method::GET, 200));
        }
        route.begin(0);
        let totals = route.totals();
        assert_eq!((totals.requests(), totals.in_progress), (3, 1));
        assert_eq!((totals.received, totals.sent), (3, 6));
        assert_eq!(totals.duration().count(), 3);
        assert_eq!(totals.errors().count(), 0);
    }

    #[test]
    fn a_request_may_end_on_another_worker() {
        let route = RouteMetrics::new("/a", 2, shared(100));
        route.begin(0);
        route.end(1, &seen(&Method::GET, 200));
        assert_eq!(route.totals().in_progress, 0);
    }

    #[test]
    fn invented_methods_are_one() {
        let route = RouteMetrics::new("/a", 1, shared(100));
        for name in ["BREW", "WHEN", "get"] {
            route.end(0, &seen(&Method::from_bytes(name.as_bytes()).unwrap(), 200));
        }
        let totals = route.totals();
        assert_eq!(totals.methods.keys().copied().collect::<Vec<_>>(), ["_other"]);
        assert_eq!(totals.requests(), 3);
    }

    #[test]
    fn every_standard_method_has_its_own_series() {
        for (index, name) in METHODS.iter().enumerate().take(OTHER_METHOD) {
            assert_eq!(method_index(&Method::from_bytes(name.as_bytes()).unwrap()), index);
        }
    }

    #[test]
    fn errors_go_by_type() {
        let route = RouteMetrics::new("/a", 1, shared(100));
        for kind in Kind::ALL {
            route.end(0, &RequestSeen { error: Some(kind), ..seen(&Method::GET, 502) });
        }
        route.end(0, &seen(&Method::GET, 500));
        route.end(0, &seen(&Method::GET, 404));
        let counted: u64 = route.totals().errors().map(|(_, count)| count).sum();
        assert_eq!(counted, Kind::ALL.len() as u64 + 1, "a 404 of an endpoint is no error");
        assert_eq!(error_label(kind_code(Kind::NoRoute)), "no-route");
        assert_eq!(error_label(STATUS_5XX), "status-5xx");
    }

    #[test]
    fn beyond_the_limit_requests_are_counted_together() {
        let shared = shared(1);
        let routes: Vec<_> = (0..3).map(|_| RouteMetrics::new("/x", 2, shared.clone())).collect();
        routes.iter().for_each(|route| route.end(0, &seen(&Method::GET, 200)));
        assert_eq!(routes.iter().map(|route| route.totals().requests()).sum::<u64>(), 1);
        assert_eq!(shared.rest_totals().unwrap().duration.count(), 2);
        // A route that goes makes room.
        drop(routes);
        let next = RouteMetrics::new("/y", 2, shared.clone());
        next.end(0, &seen(&Method::GET, 200));
        assert_eq!(next.totals().requests(), 1);
    }
}
