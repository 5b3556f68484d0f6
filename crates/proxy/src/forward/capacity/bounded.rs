//! So many requests at once, written or found; and so often. What survives a reload is who is there.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::{Duration, Instant},
};

use portcullis_config::model;
use portcullis_core::{
    limit::{Bound, Bounds, Gradient},
    meter::Gauge,
};

use super::Parts;

/// So many at once.
pub(super) struct Bounded {
    /// The number; `None`: it is found.
    fixed: Option<usize>,
    bounds: Bounds,
    places: Arc<Places>,
    shown: Arc<Gauge>,
}

/// Who is there. Kept over reloads.
pub(super) struct Places {
    inside: AtomicUsize,
    /// The number that was found.
    limit: AtomicUsize,
    found: Mutex<Gradient>,
    shown: Arc<Gauge>,
}

/// When an endpoint may be asked again. Kept over reloads.
pub(super) struct Pace {
    epoch: Instant,
    state: AtomicU64,
}

/// What is known of a bound, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// So many at once.
    pub limit: usize,
    /// It was found, not written.
    pub adaptive: bool,
    /// Under way.
    pub in_flight: usize,
}

impl Bounded {
    pub(super) fn new(
        labels: &[(&'static str, &str)],
        number: model::Concurrency,
        parts: &Parts<'_>,
    ) -> Bounded {
        let (fixed, bounds) = match number {
            model::Concurrency::Fixed(number) => {
                (Some(number as usize), Bounds { min: 1.0, max: 1.0, initial: 1.0 })
            }
            model::Concurrency::Adaptive { min, max, initial } => {
                (None, Bounds { min: min.into(), max: max.into(), initial: initial.into() })
            }
        };
        let help = "Requests that may be under way at once to a service, or to an endpoint.";
        let shown = parts.meters.gauge("gateway_capacity_limit", help, labels);
        let of: Vec<&str> = labels.iter().map(|(_, value)| *value).collect();
        let identity = format!("{} {}", of.join(" "), fixed.is_some());
        let places = parts.keep.get("capacity places", &identity, || {
            let help = "Requests under way to a service or an endpoint with a bound.";
            let found = Gradient::new(bounds);
            Places {
                inside: AtomicUsize::new(0),
                limit: AtomicUsize::new(found.limit()),
                found: Mutex::new(found),
                shown: parts.meters.gauge("gateway_capacity_in_flight", help, labels),
            }
        });
        let bounded = Bounded { fixed, bounds, places, shown };
        bounded.shown.set(bounded.limit() as f64);
        bounded
    }

    fn limit(&self) -> usize {
        self.fixed.unwrap_or_else(|| self.places.limit.load(Relaxed).max(1))
    }

    pub(super) fn has_room(&self) -> bool {
        self.places.inside.load(SeqCst) < self.limit()
    }

    pub(super) fn enter(&self) -> Option<Arc<Places>> {
        let limit = self.limit();
        let more = |inside| (inside < limit).then(|| inside + 1);
        self.places.inside.fetch_update(SeqCst, SeqCst, more).ok()?;
        self.places.shown.add(1.0);
        Some(self.places.clone())
    }

    /// Takes an answer's time into what is found; true if there is more room now.
    pub(super) fn observe(&self, took: Duration, now: Instant) -> bool {
        if self.fixed.is_some() {
            return false;
        }
        let mut found = self.places.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.sample(now, took, self.places.inside.load(Relaxed), self.bounds);
        let limit = found.limit();
        drop(found);
        let before = self.places.limit.swap(limit, Relaxed);
        if before != limit {
            self.shown.set(limit as f64);
        }
        before < limit
    }

    pub(super) fn level(&self) -> Level {
        Level {
            limit: self.limit(),
            adaptive: self.fixed.is_none(),
            in_flight: self.places.inside.load(Relaxed),
        }
    }
}

impl Places {
    /// One leaves.
    pub(super) fn leave(&self) {
        self.inside.fetch_sub(1, SeqCst);
        self.shown.add(-1.0);
    }
}

impl Pace {
    /// Asked never yet.
    pub(super) fn new() -> Pace {
        Pace { epoch: Instant::now(), state: AtomicU64::new(0) }
    }

    /// Takes one, or tells how long until there is one.
    pub(super) fn take(&self, bound: Bound, now: Instant) -> Result<(), Duration> {
        let now = u64::try_from(now.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX);
        let mut known = self.state.load(Relaxed);
        loop {
            let mut state = known;
            let grant = bound.take(&mut state, 1, now, false);
            if !grant.enough {
                return Err(Duration::from_nanos(grant.wait.max(1)));
            }
            match self.state.compare_exchange_weak(known, state, Relaxed, Relaxed) {
                Ok(_) => return Ok(()),
                Err(other) => known = other,
            }
        }
    }

    pub(super) fn give_back(&self, bound: Bound) {
        let less = |mut state| {
            bound.give_back(&mut state, 1);
            Some(state)
        };
        // The closure never refuses.
        let _ = self.state.fetch_update(Relaxed, Relaxed, less);
    }
}
