//! What bounds a counter, and the arithmetic of taking from one: a counter is one number.
//!
//! Of a bucket that refills it is the time at which it is full again (GCRA, "theoretical arrival time"); of a quota, the
//! second at which its window ends, above what was taken in it. Of two counters the greater number is the one that holds
//! its client back more.

use std::time::Duration;

use crate::store::Taken;

/// What bounds a counter. Times are in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// A bucket that refills by one after each interval.
    Rate {
        /// Between two.
        interval: u64,
        /// What the full bucket holds.
        burst: u64,
        /// Beyond the burst, for those who are made to wait.
        more: u64,
    },
    /// So many until the window ends: at a second since 1970, in so many nanoseconds from now.
    Quota {
        /// So many.
        quota: u64,
        /// When it ends.
        ends: u64,
        /// In how long.
        left: u64,
    },
}

/// What came of taking, before anybody wants to read it: most never do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Was there enough?
    pub enough: bool,
    /// How long to wait, see [`Taken::wait`].
    pub wait: u64,
    /// How long until nothing is taken.
    reset: u64,
    /// Of a rate the time that refills what is taken; of a quota what is taken.
    level: u64,
}

const USED: u64 = u32::MAX as u64;

impl Bound {
    /// Takes from a counter, if there is enough, or in any case when `forced`.
    pub fn take(self, state: &mut u64, cost: u64, now: u64, forced: bool) -> Grant {
        match self {
            Bound::Rate { interval, burst, more } => {
                let full_at = (*state).max(now);
                let next = full_at.saturating_add(interval.saturating_mul(cost));
                let room = interval.saturating_mul(burst);
                let over = (next - now).saturating_sub(room.saturating_add(interval.saturating_mul(more)));
                let enough = over == 0;
                if enough || forced {
                    *state = next;
                }
                let filled = if enough || forced { next } else { full_at } - now;
                let wait = if enough { filled.saturating_sub(room) } else { over };
                Grant { enough, wait, reset: filled, level: filled }
            }
            Bound::Quota { quota, ends, left } => {
                if *state >> 32 < ends {
                    *state = ends << 32;
                }
                let used = (*state & USED).saturating_add(cost);
                let enough = used <= quota;
                if enough || forced {
                    *state = *state & !USED | used.min(USED);
                }
                let wait = if enough { 0 } else { left };
                Grant { enough, wait, reset: left, level: *state & USED }
            }
        }
    }

    /// Gives back what was taken.
    pub fn give_back(self, state: &mut u64, cost: u64) {
        *state = match self {
            Bound::Rate { interval, .. } => state.saturating_sub(interval.saturating_mul(cost)),
            Bound::Quota { .. } => *state & !USED | (*state & USED).saturating_sub(cost),
        };
    }

    /// Counters up to this are at rest: as good as none.
    pub fn rest(self, now: u64) -> u64 {
        match self {
            Bound::Rate { .. } => now,
            Bound::Quota { ends, .. } => (ends << 32).saturating_sub(1),
        }
    }

    /// For those who want to read it.
    pub fn told(self, grant: Grant) -> Taken {
        let left = match self {
            Bound::Rate { interval, burst, .. } => {
                interval.saturating_mul(burst).saturating_sub(grant.level).checked_div(interval).unwrap_or(0)
            }
            Bound::Quota { quota, .. } => quota.saturating_sub(grant.level),
        };
        Taken {
            enough: grant.enough,
            extra: 0,
            left,
            wait: Duration::from_nanos(grant.wait),
            reset: Duration::from_nanos(grant.reset),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// The plain token bucket, in units of one nanosecond's refill.
    struct TokenBucket {
        level: u64,
        last: u64,
        interval: u64,
        burst: u64,
    }

    impl TokenBucket {
        fn admit(&mut self, now: u64, cost: u64) -> bool {
            self.level = (self.level + (now - self.last)).min(self.interval * self.burst);
            self.last = now;
            let pass = self.level >= self.interval * cost;
            if pass {
                self.level -= self.interval * cost;
            }
            pass
        }
    }

    #[test]
    fn a_rate_decides_as_a_token_bucket_does() {
        for seed in 0..50 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (interval, burst) = (random.u64(1000..SECOND), random.u64(1..50));
            let mut bucket = TokenBucket { level: interval * burst, last: 0, interval, burst };
            let (mut now, mut state, bound) = (0, 0, Bound::Rate { interval, burst, more: 0 });
            for step in 0..2000 {
                now += random.u64(0..interval * 2);
                let cost = random.u64(0..3);
                let ours = bound.told(bound.take(&mut state, cost, now, false));
                assert_eq!(ours.enough, bucket.admit(now, cost), "seed {seed}, step {step}");
                assert_eq!(ours.left, bucket.level / interval, "seed {seed}, step {step}");
            }
        }
    }

    #[test]
    fn the_wait_is_exact_and_a_delay_is_told() {
        let (mut state, bound) = (0, Bound::Rate { interval: SECOND / 2, burst: 3, more: 2 });
        for (n, wait) in [(0, 0), (1, 0), (2, 0), (3, 500), (4, 1000)] {
            let taken = bound.told(bound.take(&mut state, 1, 7, false));
            assert_eq!((taken.enough, taken.wait), (true, Duration::from_millis(wait)), "{n}");
        }
        let refused = bound.take(&mut state, 1, 7, false);
        assert_eq!((refused.enough, refused.wait), (false, SECOND / 2));
        assert!(!bound.take(&mut state, 1, SECOND / 2 + 6, false).enough);
        assert!(bound.take(&mut state, 1, SECOND / 2 + 7, false).enough);
    }

    #[test]
    fn what_is_given_back_is_there_again() {
        let (mut state, bound) = (0, Bound::Rate { interval: SECOND, burst: 3, more: 0 });
        assert_eq!(bound.told(bound.take(&mut state, 3, 7, false)).left, 0);
        bound.give_back(&mut state, 2);
        assert_eq!(bound.told(bound.take(&mut state, 0, 7, false)).left, 2);
        bound.give_back(&mut state, 100);
        assert_eq!(bound.told(bound.take(&mut state, 0, 7, false)).left, 3, "never more than all");
    }

    #[test]
    fn a_quota_begins_again_when_its_window_ends() {
        let mut state = 0;
        let mut passes = |at: u64| {
            let left = 10 - at % 10;
            let bound = Bound::Quota { quota: 3, ends: at + left, left: left * SECOND };
            bound.take(&mut state, 1, at * SECOND, false).enough
        };
        let passed: Vec<bool> = [4, 5, 6, 7, 9, 10, 11, 12, 13, 9, 30].into_iter().map(&mut passes).collect();
        assert_eq!(passed, [true, true, true, false, false, true, true, true, false, false, true]);
        let bound = Bound::Quota { quota: 0, ends: 40, left: 5 * SECOND };
        let refused = bound.told(bound.take(&mut 0, 1, 35, false));
        assert_eq!((refused.wait, refused.left), (Duration::from_secs(5), 0));
    }

    #[test]
    fn no_cost_spills_into_the_window() {
        let mut state = 0;
        let bound = Bound::Quota { quota: USED, ends: 10, left: SECOND };
        assert_eq!(bound.told(bound.take(&mut state, u64::MAX, 0, true)).left, 0);
        assert_eq!(state >> 32, 10);
        bound.give_back(&mut state, u64::MAX);
        assert_eq!((state >> 32, state & USED), (10, 0));
    }
}
