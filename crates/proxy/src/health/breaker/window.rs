//! What happened of late: counts over a sliding window, by worker, in ten slots.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use portcullis_config::expression::Measure;

use super::latencies::Latencies;
use crate::by_worker::ByWorker;

const SLOTS: usize = 10;

/// One request.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// Its status, if it was answered.
    pub status: Option<u16>,
    /// Did it fail?
    pub failed: bool,
    /// Was it slow?
    pub slow: bool,
    /// How long it took.
    pub latency: Duration,
}

/// Counts over a window of this length. Each worker has its own lock, which nobody else takes but to add them up.
pub struct Window {
    born: Instant,
    slot: Duration,
    is_detailed: bool,
    shards: ByWorker<Mutex<Slots>>,
}

type Slots = [Slot; SLOTS];

#[derive(Debug, Default)]
struct Slot {
    number: u64,
    counts: Counts,
}

/// What was counted.
#[derive(Debug, Default)]
pub struct Counts {
    /// Requests.
    pub total: u64,
    /// Failures.
    pub failed: u64,
    /// Slow ones.
    pub slow: u64,
    network: u64,
    statuses: Vec<(u16, u64)>,
    latencies: Option<Latencies>,
}

impl Window {
    /// `is_detailed`: statuses and latencies are counted too, as expressions need them.
    pub fn new(length: Duration, workers: usize, is_detailed: bool, now: Instant) -> Window {
        let slot = (length / SLOTS as u32).max(Duration::from_millis(1));
        Window { born: now, slot, is_detailed, shards: ByWorker::new(workers) }
    }

    /// One more request.
    pub fn record(&self, worker: usize, seen: &Seen, now: Instant) {
        let number = self.number(now);
        let mut slots = lock(self.shards.get(worker));
        let Some(slot) = slots.get_mut((number % SLOTS as u64) as usize) else { return };
        if slot.number != number {
            *slot = Slot { number, counts: Counts::default() };
        }
        slot.counts.record(seen, self.is_detailed);
    }

    /// All of the window that ends now.
    pub fn sum(&self, now: Instant) -> Counts {
        let number = self.number(now);
        let mut sum = Counts::default();
        for shard in self.shards.iter() {
            let slots = lock(shard);
            let recent = slots.iter().filter(|slot| number - slot.number.min(number) < SLOTS as u64);
            recent.for_each(|slot| sum.add(&slot.counts));
        }
        sum
    }

    /// Begins anew.
    pub fn clear(&self) {
        self.shards.iter().for_each(|shard| *lock(shard) = Slots::default());
    }

    /// Counted so that an untouched slot is an old one.
    fn number(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.born).as_nanos() / self.slot.as_nanos().max(1);
        u64::try_from(since).unwrap_or(u64::MAX / 2) + SLOTS as u64
    }
}

impl Counts {
    fn record(&mut self, seen: &Seen, is_detailed: bool) {
        self.total += 1;
        self.failed += u64::from(seen.failed);
        self.slow += u64::from(seen.slow);
        if !is_detailed {
            return;
        }
        self.network += u64::from(matches!(seen.status, None | Some(502 | 504)));
        self.latencies.get_or_insert_default().record(seen.latency);
        // Without an answer, the client sees a 502.
        let status = seen.status.unwrap_or(502);
        match self.statuses.iter_mut().find(|(known, _)| *known == status) {
            Some((_, count)) => *count += 1,
            None => self.statuses.push((status, 1)),
        }
    }

    fn add(&mut self, other: &Counts) {
        self.total += other.total;
        self.failed += other.failed;
        self.slow += other.slow;
        self.network += other.network;
        self.statuses.extend_from_slice(&other.statuses);
        if let Some(more) = &other.latencies {
            self.latencies.get_or_insert_default().add(more);
        }
    }

    /// The time within which this share (0 to 1) was over, where latencies are counted.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        self.latencies.as_ref()?.quantile(share)
    }

    /// A measure of an expression. Of nothing, every share is nothing.
    pub fn measure(&self, measure: Measure) -> f64 {
        let share = |part: u64, of: u64| if of == 0 { 0.0 } else { part as f64 / of as f64 };
        let within = |from: u16, to: u16| {
            let inside = self.statuses.iter().filter(|(status, _)| (from..to).contains(status));
            inside.map(|(_, count)| count).sum::<u64>()
        };
        match measure {
            Measure::NetworkErrorRatio => share(self.network, self.total),
            Measure::ResponseCodeRatio(from, to, of_from, of_to) => {
                share(within(from, to), within(of_from, of_to))
            }
            Measure::LatencyAtQuantileMs(quantile) => {
                let found =
                    self.latencies.as_ref().and_then(|latencies| latencies.quantile(quantile / 100.0));
                found.map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
            }
            Measure::Requests => self.total as f64,
        }
    }
}

fn lock(slots: &Mutex<Slots>) -> MutexGuard<'_, Slots> {
    slots.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let window = Window::new(Duration::from_secs(10), 2, true, start);
        let seen = |status| Seen {
            status,
            failed: status != Some(200),
            slow: false,
            latency: Duration::from_millis(10),
        };
        window.record(0, &seen(Some(200)), at(0));
        window.record(1, &seen(Some(503)), at(500));
        window.record(5, &seen(None), at(1500));
        let sum = window.sum(at(9900));
        assert_eq!((sum.total, sum.failed), (3, 2));
        assert_eq!(sum.measure(Measure::ResponseCodeRatio(500, 600, 0, 600)), 2.0 / 3.0);
        assert_eq!(sum.measure(Measure::NetworkErrorRatio), 1.0 / 3.0);
        let median = sum.measure(Measure::LatencyAtQuantileMs(50.0));
        assert!((10.0..11.5).contains(&median), "{median}");
        assert_eq!(window.sum(at(10_000)).total, 1);
        assert_eq!(window.sum(at(11_000)).total, 0);
        window.record(0, &seen(Some(200)), at(20_000));
        assert_eq!(window.sum(at(20_000)).total, 1);
        window.clear();
        assert_eq!(window.sum(at(20_000)).measure(Measure::NetworkErrorRatio), 0.0);
    }
}
