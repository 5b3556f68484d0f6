//! Durations, counted into buckets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;

/// Upper bounds in seconds where none are given: up to 60 s, the longest that an endpoint is waited for by default.
pub const DEFAULT_BUCKETS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Bounds shared by the histograms of the process.
#[derive(Debug, PartialEq)]
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

/// A histogram that one worker writes. Its bounds can change, and then it begins again.
#[derive(Debug)]
pub(super) struct Histogram {
    cells: ArcSwap<Cells>,
}

#[derive(Debug)]
struct Cells {
    bounds: Arc<Bounds>,
    /// One per bound, and one for all that is longer.
    buckets: Box<[AtomicU64]>,
    sum_ns: AtomicU64,
}

impl Cells {
    fn new(bounds: &Arc<Bounds>) -> Cells {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Cells { bounds: bounds.clone(), buckets, sum_ns: AtomicU64::new(0) }
    }
}

impl Histogram {
    pub fn new(bounds: &Arc<Bounds>) -> Histogram {
        Histogram { cells: ArcSwap::from_pointee(Cells::new(bounds)) }
    }

    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let cells = self.cells.load();
        let bounds = &cells.bounds.nanos;
        // Most requests end in one of the first buckets: a walk finds them sooner than a binary search.
        let index = bounds.iter().position(|&bound| nanos <= bound).unwrap_or(bounds.len());
        if let Some(bucket) = cells.buckets.get(index) {
            bucket.fetch_add(1, Relaxed);
        }
        cells.sum_ns.fetch_add(nanos, Relaxed);
    }

    /// Begins again over these bounds, unless they are its own already.
    pub fn restart(&self, bounds: &Arc<Bounds>) {
        if !Arc::ptr_eq(&self.cells.load().bounds, bounds) {
            self.cells.store(Arc::new(Cells::new(bounds)));
        }
    }

    /// To be called once a new histogram is where others find it: whoever changed the bounds meanwhile did not.
    pub fn follow(&self, current: &ArcSwap<Bounds>) {
        self.restart(&current.load());
    }

    /// Adds what was counted over the bounds of the totals; over other bounds, nothing.
    pub fn collect(&self, into: &mut HistogramTotals) {
        let cells = self.cells.load();
        let bounds = into.bounds.get_or_insert_with(|| cells.bounds.clone());
        if !Arc::ptr_eq(bounds, &cells.bounds) {
            return;
        }
        into.buckets.resize(cells.buckets.len(), 0);
        for (total, bucket) in into.buckets.iter_mut().zip(&cells.buckets) {
            *total += bucket.load(Relaxed);
        }
        into.sum_ns += u128::from(cells.sum_ns.load(Relaxed));
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
        HistogramTotals { buckets: vec![0; bounds.len() + 1], sum_ns: 0, bounds: Some(bounds.clone()) }
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

    /// The bounds as they stand in the `le` label.
    pub(super) fn labels(&self) -> &[String] {
        self.bounds.as_ref().map_or(&[], |bounds| &bounds.labels)
    }

    /// Adds other totals over the same bounds. Those over others (they have just changed) are left out.
    pub fn absorb(&mut self, other: &HistogramTotals) {
        if let (Some(mine), Some(theirs)) = (&self.bounds, &other.bounds)
            && !Arc::ptr_eq(mine, theirs)
        {
            return;
        }
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
            histogram.observe(Duration::from_millis(ms));
        }
        histogram.observe(Duration::MAX);
        let mut totals = HistogramTotals::new(&bounds);
        histogram.collect(&mut totals);
        assert_eq!(totals.buckets, [2, 2, 3]);
        assert_eq!(totals.count(), 7);
    }

    #[test]
    fn over_other_bounds_it_begins_again() {
        let (old, new) = (Arc::new(Bounds::new(&[0.1])), Arc::new(Bounds::new(&[0.1, 0.3])));
        let histogram = Histogram::new(&old);
        histogram.observe(Duration::from_millis(200));
        histogram.restart(&old);
        let mut totals = HistogramTotals::new(&old);
        histogram.collect(&mut totals);
        assert_eq!(totals.buckets, [0, 1], "the same bounds change nothing");
        histogram.follow(&ArcSwap::new(new.clone()));
        histogram.observe(Duration::from_millis(200));
        histogram.collect(&mut totals);
        assert_eq!(totals.buckets, [0, 1], "counts over other bounds are not mixed in");
        let mut again = HistogramTotals::new(&new);
        histogram.collect(&mut again);
        assert_eq!((again.buckets.as_slice(), again.sum_ns), (&[0, 1, 0][..], 200_000_000));
        again.absorb(&totals);
        assert_eq!(again.count(), 1);
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
