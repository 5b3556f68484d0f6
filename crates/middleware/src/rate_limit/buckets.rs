//! The counters of all clients, in memory: sharded, so that workers rarely meet at a lock, and bounded, so that a flood
//! of made-up clients costs no more memory than it is allowed.
//!
//! A bucket that refills is one number, the time at which it is full again (GCRA, "theoretical arrival time"); a quota is
//! the end of its window and what was taken in it.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use portcullis_core::store::Taken;

const SHARDS: usize = 64;
/// A full shard is swept of those who are at rest at most this often.
const SWEEP_EVERY: u64 = 1_000_000_000;
/// Of so many counters the fullest is given up when a shard is full of active ones.
const SAMPLE: usize = 8;

/// What bounds a counter, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// A bucket that refills by one after each interval.
    Rate { interval: u64, burst: u64, more: u64 },
    /// So many until the window ends, in so many nanoseconds from now.
    Quota { quota: u64, left: u64 },
}

/// Counters of one limit, by key.
pub struct Buckets {
    epoch: Instant,
    random: RandomState,
    shards: Vec<Mutex<Shard>>,
}

/// Keys are hashed already, with this process's randomness: nobody can aim at another's counter.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

#[derive(Default)]
struct Shard {
    states: HashMap<u64, State, BuildHasherDefault<AsIs>>,
    next_sweep: u64,
}

/// At rest at a time; until then, so much was taken (of a quota).
#[derive(Debug, Clone, Copy, Default)]
struct State {
    rest_at: u64,
    used: u64,
}

impl Buckets {
    /// No client yet.
    pub fn new() -> Buckets {
        let shards = std::iter::repeat_with(Mutex::default).take(SHARDS).collect();
        Buckets { epoch: Instant::now(), random: RandomState::new(), shards }
    }

    /// For hashing a key.
    pub fn hasher(&self) -> impl Hasher + use<> {
        self.random.build_hasher()
    }

    /// Takes from a counter at a time, if there is enough, or in any case when `forced`.
    pub fn take(&self, key: u64, bound: Bound, cost: u64, at: Instant, forced: bool, most: usize) -> Taken {
        let now = u64::try_from(at.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX);
        // The map takes the upper bits and the lowest; these are from between.
        let Some(shard) = self.shards.get((key >> 40) as usize % SHARDS) else { return PASS };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = shard.states.get_mut(&key) {
            return state.take(bound, cost, now, forced);
        }
        let mut state = State::default();
        let taken = state.take(bound, cost, now, forced);
        if state.rest_at > now {
            shard.make_room(now, most.div_ceil(SHARDS));
            shard.states.insert(key, state);
        }
        taken
    }

    /// Gives back what was taken, since another limit had not enough.
    pub fn give_back(&self, key: u64, bound: Bound, cost: u64) {
        let Some(shard) = self.shards.get((key >> 40) as usize % SHARDS) else { return };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(state) = shard.states.get_mut(&key) else { return };
        match bound {
            Bound::Rate { interval, .. } => {
                state.rest_at = state.rest_at.saturating_sub(interval.saturating_mul(cost));
            }
            Bound::Quota { .. } => state.used = state.used.saturating_sub(cost),
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().states.len()).sum()
    }
}

const PASS: Taken = Taken { enough: true, left: 0, wait: Duration::ZERO, reset: Duration::ZERO };

impl State {
    fn take(&mut self, bound: Bound, cost: u64, now: u64, forced: bool) -> Taken {
        match bound {
            Bound::Rate { interval, burst, more } => {
                let full_at = self.rest_at.max(now);
                let next = full_at.saturating_add(interval.saturating_mul(cost));
                let room = interval.saturating_mul(burst);
                let over = (next - now).saturating_sub(room.saturating_add(interval.saturating_mul(more)));
                let enough = over == 0;
                if enough || forced {
                    self.rest_at = next;
                }
                let filled = if enough || forced { next } else { full_at } - now;
                let wait = if enough { filled.saturating_sub(room) } else { over };
                Taken {
                    enough,
                    left: room.saturating_sub(filled).checked_div(interval).unwrap_or(0),
                    wait: Duration::from_nanos(wait),
                    reset: Duration::from_nanos(filled),
                }
            }
            Bound::Quota { quota, left } => {
                if self.rest_at <= now {
                    *self = State { rest_at: now.saturating_add(left), used: 0 };
                }
                let used = self.used.saturating_add(cost);
                let enough = used <= quota;
                if enough || forced {
                    self.used = used;
                }
                let reset = Duration::from_nanos(self.rest_at - now);
                let wait = if enough { Duration::ZERO } else { reset };
                Taken { enough, left: quota.saturating_sub(self.used), wait, reset }
            }
        }
    }
}

impl Shard {
    fn make_room(&mut self, now: u64, most: usize) {
        if self.states.len() < most {
            return;
        }
        if now >= self.next_sweep {
            // A full bucket, or a window that has ended, is as good as none.
            self.states.retain(|_, state| state.rest_at > now);
            self.next_sweep = now.saturating_add(SWEEP_EVERY);
        }
        while self.states.len() >= most {
            // Forgetting a client is a present to it: so forget whom it gives least.
            let least = self.states.iter().take(SAMPLE).min_by_key(|(_, state)| (state.rest_at, state.used));
            let Some((&key, _)) = least else { return };
            self.states.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn rate(per_second: f64, burst: u64) -> Bound {
        Bound::Rate { interval: (1e9 / per_second) as u64, burst, more: 0 }
    }

    fn key(client: u64) -> u64 {
        client.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn take(buckets: &Buckets, client: u64, bound: Bound, at: Instant) -> Taken {
        buckets.take(key(client), bound, 1, at, false, 6400)
    }

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
            let (mut now, mut state) = (0, State::default());
            for step in 0..2000 {
                now += random.u64(0..interval * 2);
                let cost = random.u64(0..3);
                let ours = state.take(Bound::Rate { interval, burst, more: 0 }, cost, now, false);
                assert_eq!(ours.enough, bucket.admit(now, cost), "seed {seed}, step {step}");
                assert_eq!(ours.left, bucket.level / interval, "seed {seed}, step {step}");
            }
        }
    }

    #[test]
    fn the_wait_is_exact_and_a_delay_is_told() {
        let (mut state, bound) = (State::default(), Bound::Rate { interval: SECOND / 2, burst: 3, more: 2 });
        for (n, wait) in [(0, 0), (1, 0), (2, 0), (3, 500), (4, 1000)] {
            let taken = state.take(bound, 1, 7, false);
            assert_eq!((taken.enough, taken.wait), (true, Duration::from_millis(wait)), "{n}");
        }
        let refused = state.take(bound, 1, 7, false);
        assert_eq!((refused.enough, refused.wait), (false, Duration::from_millis(500)));
        assert!(!state.take(bound, 1, SECOND / 2 + 6, false).enough);
        assert!(state.take(bound, 1, SECOND / 2 + 7, false).enough);
    }

    #[test]
    fn a_quota_begins_again_when_its_window_ends() {
        let (buckets, now) = (Buckets::new(), Instant::now());
        let quota = |left| Bound::Quota { quota: 3, left };
        let passes = |at: u64| {
            let left = 10 - at % 10;
            take(&buckets, 1, quota(left * SECOND), now + Duration::from_secs(at)).enough
        };
        let passed: Vec<bool> = [4, 5, 6, 7, 9, 10, 11, 12, 13, 30].into_iter().map(passes).collect();
        assert_eq!(passed, [true, true, true, false, false, true, true, true, false, true]);
        let refused = take(&buckets, 2, Bound::Quota { quota: 0, left: 5 * SECOND }, now);
        assert_eq!((refused.wait, refused.left), (Duration::from_secs(5), 0));
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let (buckets, now) = (Buckets::new(), Instant::now());
        for bound in [rate(0.01, 2), Bound::Quota { quota: 2, left: SECOND }] {
            let client = if matches!(bound, Bound::Rate { .. }) { 1 } else { 2 };
            for _ in 0..10 {
                assert!(take(&buckets, client, bound, now).enough);
                buckets.give_back(key(client), bound, 1);
            }
            assert_eq!(take(&buckets, client, bound, now).left, 1);
            assert_eq!(buckets.take(key(client), bound, 5, now, true, 100).left, 0, "forced");
            assert!(!take(&buckets, client, bound, now).enough);
        }
    }

    #[test]
    fn a_flood_of_clients_stays_within_bounds_and_frees_nobody_who_is_limited_for_long() {
        let (buckets, now) = (Buckets::new(), Instant::now());
        let (slow, fast) = (rate(0.01, 1), rate(1000.0, 1));
        // 64 clients that must wait 100 s, among a flood of clients that must wait 1 ms.
        (0..64).for_each(|client| assert!(take(&buckets, client, slow, now).enough));
        for client in 1000..100_000 {
            assert!(take(&buckets, client, fast, now).enough);
            assert!(client % 1000 != 0 || buckets.len() <= 6400);
        }
        assert!(buckets.len() > 6000);
        let freed = (0..64).filter(|client| take(&buckets, *client, slow, now).enough).count();
        assert!(freed <= 3, "{freed} were let off");
    }

    #[test]
    fn clients_at_rest_are_forgotten_when_room_is_needed() {
        let (buckets, limit, now) = (Buckets::new(), rate(1000.0, 1), Instant::now());
        (0..6400).for_each(|client| assert!(take(&buckets, client, limit, now).enough));
        let before = buckets.len();
        let later = now + Duration::from_secs(5);
        (10_000..11_000).for_each(|client| assert!(take(&buckets, client, limit, later).enough));
        assert!(buckets.len() < before, "{} of {before}", buckets.len());
    }
}
