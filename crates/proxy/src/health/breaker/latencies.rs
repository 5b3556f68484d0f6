//! How long things took, in buckets that are an eighth wide: quantiles within 12 %, in a kilobyte.

use std::time::Duration;

/// Buckets: 0 to 7 µs one by one, then eight for each doubling, up to half an hour.
const BUCKETS: usize = 8 * 29;

/// Counts of durations.
#[derive(Debug, Clone)]
pub struct Latencies {
    counts: Box<[u32]>,
    total: u64,
}

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies { counts: vec![0; BUCKETS].into(), total: 0 }
    }
}

impl Latencies {
    /// One more.
    pub fn record(&mut self, latency: Duration) {
        if let Some(count) = self.counts.get_mut(bucket(latency)) {
            *count = count.saturating_add(1);
            self.total += 1;
        }
    }

    /// Those of another.
    pub fn add(&mut self, other: &Latencies) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
        self.total += other.total;
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The time within which this share of them (0 to 1) was over; `None` when there are none.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let wanted = ((share.clamp(0.0, 1.0) * self.total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let at = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= wanted
        });
        at.filter(|_| self.total > 0).map(upper)
    }
}

fn bucket(latency: Duration) -> usize {
    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    if micros < 8 {
        return micros as usize;
    }
    let power = 63 - u64::from(micros.leading_zeros());
    let eighth = micros >> (power - 3) & 7;
    (((power - 2) * 8 + eighth) as usize).min(BUCKETS - 1)
}

/// The end of a bucket.
fn upper(bucket: usize) -> Duration {
    let bucket = bucket as u64;
    if bucket < 8 {
        return Duration::from_micros(bucket + 1);
    }
    let power = bucket / 8 + 2;
    Duration::from_micros((8 + bucket % 8 + 1) << (power - 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_an_eighth_off_at_most() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), None);
        (1..=1000).for_each(|n| latencies.record(Duration::from_millis(n)));
        for (share, millis) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (1.0, 1000.0), (0.0, 1.0)] {
            let found = latencies.quantile(share).unwrap().as_secs_f64() * 1000.0;
            assert!(found >= millis && found <= millis * 1.13, "{share}: {found}");
        }
        for micros in [0, 1, 7, 8, 9, 15, 16, 17, 1000, 123_456, 60_000_000] {
            let time = Duration::from_micros(micros);
            assert!(upper(bucket(time)) > time, "{micros}");
        }
        latencies.record(Duration::MAX);
        assert_eq!(latencies.total(), 1001);
    }
}
