//! Durations, counted into buckets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Upper bounds in seconds where none are given: up to 60 s, the longest that an endpoint is waited for by default.
pub const DEFAULT_BUCKETS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Bounds shared by all histograms of the process.
#[derive(Debug)]
pub(super) struct Bounds {
    nanos: Box<[u64]>,
    /// As they stand in the `le` label.
    pub labels: Box<[String]>,
    seconds: Box<[f64]>,
}

impl Bounds {
    /// From seconds. What is no positive finite number is left out; none at all means the default.
    pub fn new(seconds: &[f64]) -> Bounds {
        let mut seconds: Vec<f64> = seconds.iter().copied().filter(|s| s.is_finite() && *s > 0.0).collect();
        seconds.sort_by(f64::total_cmp);
        seconds.dedup();
        if seconds.is_empty() {
            seconds = DEFAULT_BUCKETS.to_vec();
        }
        Bounds {
            nanos: seconds.iter().map(|s| (s * 1e9).round() as u64).collect(),
            labels: seconds.iter().map(f64::to_string).collect(),
            seconds: seconds.into(),
        }
    }

    fn len(&self) -> usize {
        self.nanos.len()
    }
}

/// A histogram that one worker writes.
#[derive(Debug)]
pub(super) struct Histogram {
    /// One per bound, and one for all that is longer.
    buckets: Box<[AtomicU64]>,
    sum_ns: AtomicU64,
}

impl Histogram {
    pub fn new(bounds: &Bounds) -> Histogram {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { buckets, sum_ns: AtomicU64::new(0) }
    }

    /// Counts one duration.
    pub fn observe(&self, bounds: &Bounds, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        // Most requests end in one of the first buckets: a walk finds them sooner than a binary search.
        let index = bounds.nanos.iter().position(|&bound| nanos <= bound).unwrap_or(bounds.len());
        if let Some(bucket) = self.buckets.get(index) {
            bucket.fetch_add(1, Relaxed);
        }
        self.sum_ns.fetch_add(nanos, Relaxed);
    }

    /// Adds what was counted.
    pub fn collect(&self, into: &mut HistogramTotals) {
        into.buckets.resize(self.buckets.len().max(into.buckets.len()), 0);
        for (total, bucket) in into.buckets.iter_mut().zip(&self.buckets) {
            *total += bucket.load(Relaxed);
        }
        into.sum_ns += u128::from(self.sum_ns.load(Relaxed));
    }
}

/// What the histograms of all workers hold together.
#[derive(Debug, Clone, Default)]
pub struct HistogramTotals {
    /// One count per bound, not cumulative, and one for what is longer than the last.
    pub buckets: Vec<u64>,
    /// Nanoseconds, all together.
    pub sum_ns: u128,
    bounds: Option<Arc<Bounds>>,
}

impl HistogramTotals {
    pub(super) fn new(bounds: &Arc<Bounds>) -> HistogramTotals {
        HistogramTotals { bounds: Some(bounds.clone()), ..HistogramTotals::default() }
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All durations together, in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }

    /// The duration below which this share (0 to 1) of them stayed, in seconds, as `histogram_quantile` would estimate
    /// it: linear inside a bucket, and the last bound for whatever lies beyond. `None` when nothing was counted.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let bounds = self.bounds.as_ref()?;
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = share.clamp(0.0, 1.0) * count as f64;
        let (mut below, mut lower) = (0.0, 0.0);
        for (&held, &upper) in self.buckets.iter().zip(&bounds.seconds) {
            let held = held as f64;
            if held > 0.0 && below + held >= rank {
                return Some(lower + (upper - lower) * ((rank - below) / held).clamp(0.0, 1.0));
            }
            below += held;
            lower = upper;
        }
        Some(lower)
    }

    /// Adds other totals over the same bounds.
    pub fn absorb(&mut self, other: &HistogramTotals) {
        self.buckets.resize(self.buckets.len().max(other.buckets.len()), 0);
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(mine, theirs)| *mine += theirs);
        self.sum_ns += other.sum_ns;
        if self.bounds.is_none() {
            self.bounds.clone_from(&other.bounds);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_put_in_order_and_odd_ones_left_out() {
        let bounds = Bounds::new(&[0.5, f64::NAN, 0.1, -1.0, 0.5, f64::INFINITY]);
        assert_eq!(*bounds.labels, ["0.1", "0.5"]);
        assert_eq!(Bounds::new(&[]).len(), DEFAULT_BUCKETS.len());
        assert!(DEFAULT_BUCKETS.is_sorted());
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let bounds = Arc::new(Bounds::new(&[0.1, 0.3]));
        let histogram = Histogram::new(&bounds);
        for ms in [1, 100, 101, 300, 301, 9000] {
            histogram.observe(&bounds, Duration::from_millis(ms));
        }
        histogram.observe(&bounds, Duration::MAX);
        let mut totals = HistogramTotals::new(&bounds);
        histogram.collect(&mut totals);
        assert_eq!(totals.buckets, [2, 2, 3]);
        assert_eq!(totals.count(), 7);
    }

    #[test]
    fn quantiles_are_interpolated() {
        let bounds = Arc::new(Bounds::new(&[1.0, 2.0, 4.0]));
        let mut totals = HistogramTotals::new(&bounds);
        assert_eq!(totals.quantile(0.5), None);
        totals.buckets = vec![50, 0, 50, 0];
        assert_eq!(totals.quantile(0.25), Some(0.5));
        assert_eq!(totals.quantile(0.75), Some(3.0));
        totals.buckets = vec![0, 0, 0, 9];
        assert_eq!(totals.quantile(0.99), Some(4.0));
    }
}
