//! How long a service's answers take, of late, and after how long one is late. Time is passed in.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use portcullis_config::model::Hedge;

use crate::{
    by_worker::ByWorker,
    health::breaker::window::{Seen, Window},
};

/// Over so long.
const WINDOW: Duration = Duration::from_secs(30);
/// A quantile is good for so long.
const FRESH: Duration = Duration::from_millis(250);
/// With fewer answers nothing is known.
const LEAST: u64 = 50;

/// When an attempt is late, as configured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Late {
    /// Longer than so many of the service's answers.
    pub quantile: f64,
    /// And than this.
    pub min: Duration,
    /// Or than this, whatever is known.
    pub max: Option<Duration>,
}

impl From<Hedge> for Late {
    fn from(Hedge { quantile, min, max }: Hedge) -> Late {
        Late { quantile, min, max }
    }
}

/// Latencies of a service. Kept over reloads.
pub struct Tail {
    window: Window,
    known: ByWorker<Mutex<Vec<Known>>>,
}

/// A quantile, as it was when it was looked up.
struct Known {
    quantile: f64,
    time: Option<Duration>,
    until: Instant,
}

impl Tail {
    /// Nothing is known yet.
    pub fn new(workers: usize, now: Instant) -> Tail {
        Tail { window: Window::new(WINDOW, workers, true, now), known: ByWorker::new(workers) }
    }

    /// An attempt took so long. One that was let go took at least so long, and counts as such: that it is longer than what
    /// was late is all that matters here.
    pub fn record(&self, worker: usize, latency: Duration, now: Instant) {
        let seen = Seen { status: Some(200), failed: false, slow: false, latency };
        self.window.record(worker, &seen, now);
    }

    /// After how long an attempt that begins now is late; `None`: nobody can tell.
    pub fn delay(&self, worker: usize, late: Late, now: Instant) -> Option<Duration> {
        let mut known = self.known.get(worker).lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|known| known.until > now);
        let found = known.iter().find(|known| known.quantile == late.quantile).map(|known| known.time);
        let time = found.unwrap_or_else(|| {
            let time = self.quantile(late.quantile, now);
            known.push(Known { quantile: late.quantile, time, until: now + FRESH });
            time
        });
        let late_by_others = time.map(|time| time.max(late.min));
        late_by_others.into_iter().chain(late.max).min()
    }

    /// The time within which this share of the answers came, of late.
    pub fn quantile(&self, share: f64, now: Instant) -> Option<Duration> {
        let recent = self.window.sum(now);
        if recent.total < LEAST { None } else { recent.quantile(share) }
    }
}

#[cfg(test)]
mod tests;
