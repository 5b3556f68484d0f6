//! The generic cell rate algorithm: a token bucket whose whole state is one number, the time at which the bucket would
//! be full again ("theoretical arrival time").

use std::time::Duration;

/// A rate and a burst. Times are nanoseconds since some epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gcra {
    /// Between two requests at exactly the rate.
    interval: u64,
    /// How far ahead of the rate a client may be: `burst - 1` intervals.
    tolerance: u64,
}

impl Gcra {
    /// `None` when the numbers are beyond all use.
    pub fn new(requests_per_second: f64, burst: u32) -> Option<Gcra> {
        if !(requests_per_second.is_finite() && requests_per_second > 0.0) || burst == 0 {
            return None;
        }
        let interval = (1e9 / requests_per_second).round();
        if !(1.0..1e15).contains(&interval) {
            return None;
        }
        let interval = interval as u64;
        Some(Gcra { interval, tolerance: interval.checked_mul(u64::from(burst) - 1)? })
    }

    /// A request at `now`, of a client whose bucket is full again at `full_at`: its new `full_at`.
    ///
    /// # Errors
    /// How long to wait until one would pass.
    pub fn admit(self, full_at: u64, now: u64) -> Result<u64, Duration> {
        let full_at = full_at.max(now);
        match (full_at - now).checked_sub(self.tolerance) {
            None | Some(0) => Ok(full_at.saturating_add(self.interval)),
            Some(wait) => Err(Duration::from_nanos(wait)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The plain token bucket, in units of one nanosecond's refill.
    struct TokenBucket {
        level: u64,
        last: u64,
        interval: u64,
        burst: u64,
    }

    impl TokenBucket {
        fn admit(&mut self, now: u64) -> bool {
            self.level = (self.level + (now - self.last)).min(self.interval * self.burst);
            self.last = now;
            let pass = self.level >= self.interval;
            if pass {
                self.level -= self.interval;
            }
            pass
        }
    }

    #[test]
    fn decides_as_a_token_bucket_does() {
        for seed in 0..50 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (rate, burst) = (f64::from(random.u32(1..1000)), random.u32(1..50));
            let gcra = Gcra::new(rate, burst).unwrap();
            let mut bucket = TokenBucket {
                level: gcra.interval * u64::from(burst),
                last: 0,
                interval: gcra.interval,
                burst: u64::from(burst),
            };
            let (mut now, mut full_at) = (0, 0);
            for step in 0..2000 {
                now += random.u64(0..gcra.interval * 2);
                let ours = gcra.admit(full_at, now);
                assert_eq!(ours.is_ok(), bucket.admit(now), "seed {seed}, step {step}");
                full_at = ours.unwrap_or(full_at);
            }
        }
    }

    #[test]
    fn the_wait_is_exact() {
        let gcra = Gcra::new(2.0, 3).unwrap();
        let mut full_at = 0;
        for _ in 0..3 {
            full_at = gcra.admit(full_at, 7).unwrap();
        }
        assert_eq!(gcra.admit(full_at, 7), Err(Duration::from_millis(500)));
        assert_eq!(gcra.admit(full_at, 500_000_006), Err(Duration::from_nanos(1)));
        assert!(gcra.admit(full_at, 500_000_007).is_ok());
    }

    #[test]
    fn nonsense_is_refused() {
        for (rate, burst) in
            [(0.0, 1), (-1.0, 1), (f64::NAN, 1), (f64::INFINITY, 1), (1.0, 0), (1e10, 1), (1e-7, 1)]
        {
            assert_eq!(Gcra::new(rate, burst), None, "{rate} {burst}");
        }
        assert!(Gcra::new(1.0 / 86_400.0, u32::MAX).is_none(), "overflow");
        assert!(Gcra::new(1.0 / 3600.0, 100).is_some());
    }
}
