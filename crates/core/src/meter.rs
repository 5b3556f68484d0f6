//! Counters, gauges and histograms of whoever has something to tell beside routes and services: stores, limits. A
//! registry remembers them by name and labels; whoever renders the page of metrics reads them there.
//!
//! They belong to whoever holds them. A reload asks for the same name and labels before the old configuration goes, and so
//! carries them on; what nobody holds any longer is forgotten with the next look. Labels come from the configuration only,
//! never from a request.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

/// Cells of a counter, so that threads that count at once seldom meet.
const CELLS: usize = 8;
/// Upper bounds of the histograms, in seconds, and as they stand in the label.
pub const BOUNDS: [(f64, &str); 10] = [
    (0.0001, "0.0001"),
    (0.00025, "0.00025"),
    (0.0005, "0.0005"),
    (0.001, "0.001"),
    (0.0025, "0.0025"),
    (0.005, "0.005"),
    (0.01, "0.01"),
    (0.05, "0.05"),
    (0.25, "0.25"),
    (1.0, "1"),
];

/// Labels of a series, in their order.
pub type Labels = Vec<(&'static str, String)>;

/// All meters of the process.
#[derive(Debug, Default)]
pub struct Meters {
    families: Mutex<BTreeMap<&'static str, Family>>,
}

#[derive(Debug)]
struct Family {
    help: &'static str,
    series: BTreeMap<Labels, Meter>,
}

/// A series as it is read.
#[derive(Debug, Clone)]
pub enum Meter {
    /// Only ever grows.
    Counter(Arc<Counter>),
    /// Goes up and down.
    Gauge(Arc<Gauge>),
    /// How long things took.
    Histogram(Arc<Histogram>),
}

/// What a look at a registry finds: a family and its series.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The family's name.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Its series, sorted by their labels; at least one.
    pub series: Vec<(Labels, Meter)>,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Cell(AtomicU64);

/// Only ever grows.
#[derive(Debug, Default)]
pub struct Counter {
    cells: [Cell; CELLS],
}

/// Goes up and down.
#[derive(Debug, Default)]
pub struct Gauge {
    bits: AtomicU64,
}

/// How long things took.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

/// The cell of this thread.
fn own_cell() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static OWN: usize = NEXT.fetch_add(1, Relaxed) % CELLS);
    OWN.try_with(|own| *own).unwrap_or(0)
}

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        if let Some(cell) = self.cells.get(own_cell()) {
            cell.0.fetch_add(count, Relaxed);
        }
    }

    /// The sum.
    pub fn get(&self) -> u64 {
        self.cells.iter().map(|cell| cell.0.load(Relaxed)).sum()
    }
}

impl Gauge {
    /// Is now this.
    pub fn set(&self, value: f64) {
        self.bits.store(value.to_bits(), Relaxed);
    }

    /// Is now so much more, or less.
    pub fn add(&self, change: f64) {
        let more = |bits| Some((f64::from_bits(bits) + change).to_bits());
        // The closure never refuses.
        let _ = self.bits.fetch_update(Relaxed, Relaxed, more);
    }

    /// What it is.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.bits.load(Relaxed))
    }
}

impl Histogram {
    /// Something took so long.
    pub fn record(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let at = BOUNDS.iter().position(|(bound, _)| seconds <= *bound).unwrap_or(BOUNDS.len());
        if let Some(bucket) = self.buckets.get(at) {
            bucket.fetch_add(1, Relaxed);
        }
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(0), Relaxed);
    }

    /// How many fell into each bucket; the last is beyond all bounds.
    pub fn buckets(&self) -> [u64; BOUNDS.len() + 1] {
        std::array::from_fn(|at| self.buckets.get(at).map_or(0, |bucket| bucket.load(Relaxed)))
    }

    /// The sum of all, in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.nanos.load(Relaxed) as f64 / 1e9
    }
}

impl Meter {
    fn is_held(&self) -> bool {
        1 < match self {
            Meter::Counter(counter) => Arc::strong_count(counter),
            Meter::Gauge(gauge) => Arc::strong_count(gauge),
            Meter::Histogram(histogram) => Arc::strong_count(histogram),
        }
    }
}

impl Meters {
    /// The counter of this name and these labels.
    pub fn counter(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
    ) -> Arc<Counter> {
        match self.meter(name, help, labels, || Meter::Counter(Arc::default())) {
            Meter::Counter(counter) => counter,
            // One name is one kind; a mistake of ours shows as a series that nobody sees.
            _ => Arc::default(),
        }
    }

    /// The gauge of this name and these labels.
    pub fn gauge(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
    ) -> Arc<Gauge> {
        match self.meter(name, help, labels, || Meter::Gauge(Arc::default())) {
            Meter::Gauge(gauge) => gauge,
            _ => Arc::default(),
        }
    }

    /// The histogram of this name and these labels.
    pub fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
    ) -> Arc<Histogram> {
        match self.meter(name, help, labels, || Meter::Histogram(Arc::default())) {
            Meter::Histogram(histogram) => histogram,
            _ => Arc::default(),
        }
    }

    fn meter(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        make: impl FnOnce() -> Meter,
    ) -> Meter {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(name).or_insert_with(|| Family { help, series: BTreeMap::new() });
        let labels: Labels = labels.iter().map(|(label, value)| (*label, (*value).to_owned())).collect();
        family.series.entry(labels).or_insert_with(make).clone()
    }

    /// All that somebody holds, sorted by name. What nobody holds is forgotten.
    pub fn look(&self) -> Vec<Seen> {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        families.retain(|_, family| {
            family.series.retain(|_, meter| meter.is_held());
            !family.series.is_empty()
        });
        let seen = |(name, family): (&&'static str, &Family)| Seen {
            name,
            help: family.help,
            series: family.series.iter().map(|(labels, meter)| (labels.clone(), meter.clone())).collect(),
        };
        families.iter().map(seen).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_and_labels_are_the_same_meter_while_somebody_holds_it() {
        let meters = Meters::default();
        let one = meters.counter("a_total", "A.", &[("x", "1")]);
        one.inc();
        let again = meters.counter("a_total", "A.", &[("x", "1")]);
        assert!(Arc::ptr_eq(&one, &again));
        assert!(!Arc::ptr_eq(&one, &meters.counter("a_total", "A.", &[("x", "2")])));
        again.add(4);
        assert_eq!(one.get(), 5);
        let seen = meters.look();
        assert_eq!((seen.len(), seen[0].name, seen[0].series.len()), (1, "a_total", 1), "x=2 is let go");
        drop((one, again, seen));
        assert!(meters.look().is_empty());
    }

    #[test]
    fn counts_of_many_threads_add_up() {
        let meters = Meters::default();
        let (counter, gauge) = (meters.counter("c_total", "", &[]), meters.gauge("g", "", &[]));
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| (0..1000).for_each(|_| (counter.inc(), gauge.add(0.5)).1));
            }
        });
        assert_eq!((counter.get(), gauge.get()), (20_000, 10_000.0));
    }

    #[test]
    fn durations_fall_into_their_buckets() {
        let histogram = Histogram::default();
        for micros in [50, 100, 101, 2_000_000] {
            histogram.record(Duration::from_micros(micros));
        }
        let buckets = histogram.buckets();
        assert_eq!((buckets[0], buckets[1], buckets[BOUNDS.len()]), (2, 1, 1));
        assert!((histogram.sum_seconds() - 2.000_251).abs() < 1e-9);
    }
}
