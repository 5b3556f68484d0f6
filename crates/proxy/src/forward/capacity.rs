//! How much a service and its endpoints bear: so many requests at once, so often. An endpoint that has as much as it bears
//! is passed over; while all have, requests wait in one line, first come, first served.
//!
//! ```text
//! request ─► anybody in line? ─no─► room in the service, and in an endpoint? ─yes─► goes on, holding its places until
//!                │ yes                   │ no                                        the last byte of its answer has left
//!                ▼                       ▼
//!           fewer than `queue` in line? ─no─► 503 `overloaded`, Retry-After
//!                │ yes
//!                ▼
//!           the first in line tries again whenever a place is free or a rate allows
//! ```
//!
//! Only the first in line tries: the others stand behind a fair semaphore. Whoever leaves wakes it, which costs nothing
//! while nobody waits. The state survives a reload.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::{Duration, Instant},
};

use portcullis_config::model;
use portcullis_core::{
    keep::Keep,
    limit::Bound,
    meter::{Counter, Gauge, Meters},
};
use tokio::sync::{Notify, Semaphore};

use bounded::{Bounded, Pace, Places};

mod bounded;

pub use bounded::Level;

/// What a service and its endpoints bear, compiled.
pub struct Capacity {
    whole: Option<Bounded>,
    each: Vec<Each>,
    queue: usize,
    /// For so long one waits.
    pub patience: Duration,
    /// Those who wait.
    pub line: Arc<Line>,
    full: Arc<Counter>,
    timed_out: Arc<Counter>,
}

/// What an endpoint bears.
struct Each {
    bounded: Option<Bounded>,
    pace: Option<(Bound, Arc<Pace>)>,
    passed_full: Arc<Counter>,
    passed_rate: Arc<Counter>,
}

/// Those who wait for a service. Kept over reloads.
pub struct Line {
    waiting: AtomicUsize,
    /// Whose turn it is: the first in line holds it.
    pub turn: Semaphore,
    /// A place is free.
    pub freed: Notify,
    shown: Arc<Gauge>,
}

/// A place in line.
pub struct Standing(Arc<Line>);

/// Places held by a request. They are free again when it is dropped.
pub struct Held {
    whole: Option<Arc<Places>>,
    each: Option<Arc<Places>>,
    line: Arc<Line>,
}

/// There is no room at an endpoint, or in all of the service.
pub struct Busy {
    /// When there certainly will be, if that is known.
    pub wait: Option<Duration>,
}

/// With what a capacity is compiled.
pub struct Parts<'a> {
    /// State carried over.
    pub keep: &'a Keep,
    /// Where it counts.
    pub meters: &'a Meters,
}

impl Capacity {
    /// Compiles what a service bears.
    pub fn new(service: &model::Service, settings: &model::Capacity, parts: &Parts<'_>) -> Capacity {
        let name = &*service.name;
        let refused = |reason| {
            let help = "Requests refused since a service had as much as it bears: the line was full, or took too long.";
            parts.meters.counter(
                "gateway_capacity_refused_total",
                help,
                &[("service", name), ("reason", reason)],
            )
        };
        let line = parts.keep.get("capacity line", name, || {
            let help = "Requests that wait until a service has room.";
            Line::new(parts.meters.gauge("gateway_capacity_queued", help, &[("service", name)]))
        });
        let each = service.endpoints.iter().map(|endpoint| Each::new(name, endpoint, settings, parts));
        Capacity {
            whole: settings.concurrency.map(|number| Bounded::new(&[("service", name)], number, parts)),
            each: each.collect(),
            queue: settings.queue as usize,
            patience: settings.queue_timeout,
            line,
            full: refused("full"),
            timed_out: refused("timeout"),
        }
    }

    /// Has the whole service as much as it bears?
    pub fn is_full(&self) -> bool {
        self.whole.as_ref().is_some_and(|whole| !whole.has_room())
    }

    /// Holds places in the service and at an endpoint, unless there is no room there, or it was asked too often.
    ///
    /// # Errors
    /// There is no room.
    pub fn admit(&self, index: usize, now: Instant) -> Result<Held, Busy> {
        let each = self.each.get(index);
        let bounded = each.and_then(|each| each.bounded.as_ref());
        if let (Some(each), Some(bounded)) = (each, bounded)
            && !bounded.has_room()
        {
            each.passed_full.inc();
            return Err(Busy { wait: None });
        }
        // The rate goes before the places: a place that is given back at once would wake who waits, in vain.
        if let Some(each) = each
            && let Some((bound, pace)) = &each.pace
            && let Err(wait) = pace.take(*bound, now)
        {
            each.passed_rate.inc();
            return Err(Busy { wait: Some(wait) });
        }
        let mut held = Held { whole: None, each: None, line: self.line.clone() };
        let enter = |bounded: Option<&Bounded>, place: &mut Option<Arc<Places>>| match bounded {
            None => true,
            Some(bounded) => {
                *place = bounded.enter();
                place.is_some()
            }
        };
        if enter(bounded, &mut held.each) && enter(self.whole.as_ref(), &mut held.whole) {
            return Ok(held);
        }
        // Somebody else was quicker.
        if let Some((bound, pace)) = each.and_then(|each| each.pace.as_ref()) {
            pace.give_back(*bound);
        }
        Err(Busy { wait: None })
    }

    /// Stands in line, where there is room.
    pub fn stand(&self) -> Option<Standing> {
        let most = self.queue;
        let joined =
            self.line.waiting.fetch_update(SeqCst, SeqCst, |count| (count < most).then(|| count + 1));
        if joined.is_err() {
            self.full.inc();
            return None;
        }
        self.line.shown.add(1.0);
        Some(Standing(self.line.clone()))
    }

    /// Somebody stood in line for too long.
    pub fn gave_up(&self) {
        self.timed_out.inc();
    }

    /// An endpoint took so long for an answer, or for none: what is found follows.
    pub fn observe(&self, index: usize, took: Duration, now: Instant) {
        let each = self.each.get(index).and_then(|each| each.bounded.as_ref());
        for bounded in self.whole.iter().chain(each) {
            if bounded.observe(took, now) {
                self.line.freed();
            }
        }
    }

    /// What is known of the whole service, for people.
    pub fn level(&self) -> Option<Level> {
        self.whole.as_ref().map(Bounded::level)
    }

    /// What is known of an endpoint, for people.
    pub fn endpoint_level(&self, index: usize) -> Option<Level> {
        self.each.get(index)?.bounded.as_ref().map(Bounded::level)
    }

    /// How many wait, and may.
    pub fn queued(&self) -> (usize, usize) {
        (self.line.waiting.load(Relaxed), self.queue)
    }

    /// How many were refused since the line was full, or took too long.
    pub fn refused(&self) -> (u64, u64) {
        (self.full.get(), self.timed_out.get())
    }
}

impl Each {
    fn new(service: &str, endpoint: &model::Endpoint, settings: &model::Capacity, parts: &Parts<'_>) -> Each {
        let labels = [("service", service), ("endpoint", &*endpoint.url)];
        let passed = |reason| {
            let help = "How often an endpoint was passed over since it had as much as it bears: at once, or by rate.";
            let [a, b] = labels;
            parts.meters.counter("gateway_capacity_passed_over_total", help, &[a, b, ("reason", reason)])
        };
        let number = endpoint.capacity.concurrency.or(settings.endpoint_concurrency);
        let rate = endpoint.capacity.rate.or(settings.endpoint_rate);
        let pace = rate.map(|rate| {
            let interval = (rate.per.as_nanos() / u128::from(rate.requests.max(1))).max(1);
            let interval = u64::try_from(interval).unwrap_or(u64::MAX);
            let pace = parts.keep.get("capacity pace", &format!("{service} {}", endpoint.url), Pace::new);
            (Bound::Rate { interval, burst: rate.burst.into(), more: 0 }, pace)
        });
        Each {
            bounded: number.map(|number| Bounded::new(&labels, number, parts)),
            pace,
            passed_full: passed("concurrency"),
            passed_rate: passed("rate"),
        }
    }
}

impl Line {
    fn new(shown: Arc<Gauge>) -> Line {
        Line { waiting: AtomicUsize::new(0), turn: Semaphore::new(1), freed: Notify::new(), shown }
    }

    /// Does anybody wait?
    pub fn is_waited(&self) -> bool {
        self.waiting.load(SeqCst) > 0
    }

    /// Somebody left, or there is more room: the first in line looks again.
    fn freed(&self) {
        if self.is_waited() {
            self.freed.notify_one();
        }
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
        self.0.shown.add(-1.0);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let places = [self.whole.take(), self.each.take()];
        if places.iter().all(Option::is_none) {
            return;
        }
        for places in places.into_iter().flatten() {
            places.leave();
        }
        self.line.freed();
    }
}
