//! The buckets of all clients, in memory: sharded, so that workers rarely meet at a lock, and bounded, so that a flood
//! of made-up clients costs no more memory than it is allowed.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::gcra::Gcra;

const SHARDS: usize = 64;
/// A full shard is swept of those who are at rest at most this often.
const SWEEP_EVERY: u64 = 1_000_000_000;
/// Of so many buckets the fullest is given up when a shard is full of active ones.
const SAMPLE: usize = 8;

/// State of a limiter: per client, the time at which its bucket is full again.
pub struct Buckets {
    epoch: Instant,
    random: RandomState,
    shards: Vec<Mutex<Shard>>,
}

#[derive(Default)]
struct Shard {
    full_at: HashMap<u128, u64>,
    next_sweep: u64,
}

impl Buckets {
    /// No client yet.
    pub fn new() -> Buckets {
        let shards = std::iter::repeat_with(Mutex::default).take(SHARDS).collect();
        Buckets { epoch: Instant::now(), random: RandomState::new(), shards }
    }

    /// A key for text (a header's value). Keyed by this process's randomness: nobody can aim at another's bucket.
    pub fn key_of(&self, text: &[u8]) -> u128 {
        u128::from(self.random.hash_one((0_u8, text))) << 64 | u128::from(self.random.hash_one((1_u8, text)))
    }

    /// A request of a client at a time.
    ///
    /// # Errors
    /// How long to wait until one would pass.
    pub fn admit(&self, limit: Gcra, client: u128, at: Instant, max_clients: usize) -> Result<(), Duration> {
        let now = u64::try_from(at.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX);
        let index = self.random.hash_one(client) as usize % SHARDS;
        let Some(shard) = self.shards.get(index) else { return Ok(()) };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(full_at) = shard.full_at.get_mut(&client) {
            *full_at = limit.admit(*full_at, now)?;
            return Ok(());
        }
        let full_at = limit.admit(0, now)?;
        shard.make_room(now, max_clients.div_ceil(SHARDS));
        shard.full_at.insert(client, full_at);
        Ok(())
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().full_at.len()).sum()
    }
}

impl Shard {
    fn make_room(&mut self, now: u64, most: usize) {
        if self.full_at.len() < most {
            return;
        }
        if now >= self.next_sweep {
            // A full bucket is as good as none.
            self.full_at.retain(|_, full_at| *full_at > now);
            self.next_sweep = now.saturating_add(SWEEP_EVERY);
        }
        while self.full_at.len() >= most {
            // Forgetting a client is a present to it: so forget whom it gives least.
            let Some((&client, _)) = self.full_at.iter().take(SAMPLE).min_by_key(|(_, full_at)| **full_at)
            else {
                return;
            };
            self.full_at.remove(&client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_own_bucket() {
        let (buckets, limit, now) = (Buckets::new(), Gcra::new(1.0, 2).unwrap(), Instant::now());
        for client in [1, 2] {
            assert!(buckets.admit(limit, client, now, 100).is_ok());
            assert!(buckets.admit(limit, client, now, 100).is_ok());
            let wait = buckets.admit(limit, client, now, 100).unwrap_err();
            assert_eq!(wait, Duration::from_secs(1));
        }
        assert!(buckets.admit(limit, 1, now + Duration::from_secs(1), 100).is_ok());
    }

    #[test]
    fn a_flood_of_clients_stays_within_bounds_and_frees_nobody_who_is_limited_for_long() {
        let (buckets, now) = (Buckets::new(), Instant::now());
        let slow = Gcra::new(0.01, 1).unwrap();
        let fast = Gcra::new(1000.0, 1).unwrap();
        // 64 clients that must wait 100 s, among a flood of clients that must wait 1 ms.
        (0..64).for_each(|client| buckets.admit(slow, client, now, 6400).unwrap());
        for client in 1000..100_000_u128 {
            buckets.admit(fast, client, now, 6400).unwrap();
            assert!(client % 1000 != 0 || buckets.len() <= 6400);
        }
        assert!(buckets.len() > 6000);
        let freed = (0..64).filter(|client| buckets.admit(slow, *client, now, 6400).is_ok()).count();
        assert!(freed <= 3, "{freed} were let off");
    }

    #[test]
    fn clients_at_rest_are_forgotten_when_room_is_needed() {
        let (buckets, limit, now) = (Buckets::new(), Gcra::new(1000.0, 1).unwrap(), Instant::now());
        (0..6400).for_each(|client| buckets.admit(limit, client, now, 6400).unwrap());
        let before = buckets.len();
        let later = now + Duration::from_secs(5);
        (10_000..11_000).for_each(|client| buckets.admit(limit, client, later, 6400).unwrap());
        assert!(buckets.len() < before, "{} of {before}", buckets.len());
    }

    #[test]
    fn keys_of_text_differ() {
        let buckets = Buckets::new();
        assert_eq!(buckets.key_of(b"a"), buckets.key_of(b"a"));
        assert_ne!(buckets.key_of(b"a"), buckets.key_of(b"b"));
        assert_ne!(buckets.key_of(b"a"), Buckets::new().key_of(b"a"));
    }
}
