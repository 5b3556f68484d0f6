//! What this gateway has taken ahead from the store for each client, so that most requests need not ask it: sharded, and
//! bounded. Who finds no room asks the store each time, as all do without an allowance.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use portcullis_core::{
    limit::{Ask, Bound, Decided, Lease, Terms},
    meter::Counter,
    store::Taken,
};

const SHARDS: usize = 64;

/// Leases of one limit, by key.
pub struct Leases {
    epoch: Instant,
    shards: Vec<Mutex<Shard>>,
}

#[derive(Default)]
struct Shard {
    leases: HashMap<u64, Lease, BuildHasherDefault<Itself>>,
    next_sweep: u64,
}

/// Keys are hashes already.
#[derive(Default)]
struct Itself(u64);

impl Hasher for Itself {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// Leases of a limit and what they go by.
#[derive(Clone)]
pub struct Ahead {
    pub leases: Arc<Leases>,
    /// What they go by.
    pub terms: Terms,
    /// So many clients at most.
    pub clients: usize,
    /// Tokens that were taken ahead and not used.
    pub unused: Arc<Counter>,
}

/// What was decided of a request, by one limit.
pub enum Step {
    /// It was taken from what is held. And it is time to take more ahead.
    Held { taken: Taken, key: u64, of: u64, more: Option<Asked> },
    /// There was not enough a moment ago.
    Refused(Taken),
    /// The store must be asked.
    Ask(Asked),
}

/// Something that the store must be asked. Dropped without an answer, it leaves the way to others.
pub struct Asked {
    ahead: Ahead,
    key: u64,
    /// What.
    pub ask: Ask,
    answered: bool,
}

impl Leases {
    /// Nothing taken yet.
    pub fn new() -> Leases {
        let shards = std::iter::repeat_with(Mutex::default).take(SHARDS).collect();
        Leases { epoch: Instant::now(), shards }
    }

    fn shard(&self, key: u64) -> Option<MutexGuard<'_, Shard>> {
        // The map takes the bits at both ends.
        let shard = self.shards.get((key >> 32) as usize % SHARDS)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn nanos(&self, at: Instant) -> u64 {
        // 0 means never.
        u64::try_from(at.saturating_duration_since(self.epoch).as_nanos())
            .unwrap_or(u64::MAX)
            .saturating_add(1)
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().leases.len()).sum()
    }
}

impl Shard {
    /// The lease of a key, if there is room for it.
    fn lease(&mut self, key: u64, ahead: &Ahead, bound: Bound, now: u64) -> Option<&mut Lease> {
        let most = ahead.clients.div_ceil(SHARDS);
        if self.leases.len() >= most && !self.leases.contains_key(&key) {
            if now < self.next_sweep {
                return None;
            }
            self.next_sweep = now.saturating_add(ahead.terms.max_age);
            self.leases.retain(|_, lease| {
                let idle = lease.is_idle(&ahead.terms, bound, now);
                ahead.unused.add(lease.unused());
                !idle
            });
            if self.leases.len() >= most {
                return None;
            }
        }
        Some(self.leases.entry(key).or_default())
    }
}

impl Ahead {
    /// Decides about a request.
    pub fn decide(&self, key: u64, bound: Bound, cost: u64, at: Instant) -> Step {
        let now = self.leases.nanos(at);
        let mut shard = self.leases.shard(key);
        let lease = shard.as_mut().and_then(|shard| shard.lease(key, self, bound, now));
        // Without room it is as if there had never been anything.
        let (mut none, room) = (Lease::default(), lease.is_some());
        let lease = lease.unwrap_or(&mut none);
        let decided = lease.decide(&self.terms, bound, cost, now);
        let unused = lease.unused();
        drop(shard);
        self.count(unused);
        let asked = |ask| Asked { ahead: self.clone(), key, ask, answered: !room };
        match decided {
            Decided::Held(taken, of, more) => Step::Held { taken, key, of, more: more.map(asked) },
            Decided::Refused(taken) => Step::Refused(taken),
            Decided::Ask(ask) => Step::Ask(asked(ask)),
        }
    }

    /// Gives back what was taken of the tokens of a time, since another limit had not enough.
    pub fn put_back(&self, key: u64, cost: u64, of: u64) {
        self.with(key, |lease| lease.put_back(cost, of));
    }

    /// Does something to a lease that is there.
    fn with<T>(&self, key: u64, what: impl FnOnce(&mut Lease) -> T) -> Option<T> {
        let mut shard = self.leases.shard(key)?;
        let lease = shard.leases.get_mut(&key)?;
        let out = what(lease);
        self.count(lease.unused());
        Some(out)
    }

    fn count(&self, unused: u64) {
        if unused > 0 {
            self.unused.add(unused);
        }
    }
}

impl Asked {
    /// What the store said to something asked at a time, and whether all limits had enough; what the client is told.
    pub fn heard(mut self, bound: Bound, sent: Instant, taken: &Taken, granted: bool) -> Taken {
        let (ask, terms, sent) = (self.ask, self.ahead.terms, self.ahead.leases.nanos(sent));
        if std::mem::replace(&mut self.answered, true) {
            return *taken;
        }
        let told = self.ahead.with(self.key, |lease| {
            lease.heard(&terms, bound, &ask, sent, (taken, granted));
            lease.told(bound, true, ask.cost, sent)
        });
        match told {
            // What is held is the client's too.
            Some(told) if taken.enough => Taken { wait: taken.wait, ..told },
            _ => *taken,
        }
    }

    /// It is not asked after all; what the client is told.
    pub fn unasked(mut self, bound: Bound, at: Instant) -> Taken {
        let (ask, now) = (self.ask, self.ahead.leases.nanos(at));
        self.answered = true;
        let told = self.ahead.with(self.key, |lease| {
            lease.unasked(&ask);
            lease.told(bound, true, ask.cost, now)
        });
        told.unwrap_or_else(|| Lease::default().told(bound, true, ask.cost, now))
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.answered {
            self.ahead.with(self.key, |lease| lease.unheard(&self.ask));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_of_clients_stays_within_bounds_and_gets_no_lease() {
        let second = 1_000_000_000;
        let terms = Terms { most: 20, horizon: second / 5, max_age: second, pause: second / 5 };
        let unused = portcullis_core::meter::Meters::default().counter("unused", "", &[]);
        let ahead = Ahead { leases: Arc::new(Leases::new()), terms, clients: 640, unused };
        let bound = Bound::Rate { interval: second / 100, burst: 100, more: 0 };
        let begun = Instant::now() + Duration::from_secs(10);
        let ask = |client: u64, at: Instant| {
            let key = client.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let Step::Ask(asked) = ahead.decide(key, bound, 1, at) else { panic!("nobody holds anything") };
            let taken =
                Taken { enough: true, extra: asked.ask.extra, ..Lease::default().told(bound, true, 1, 0) };
            asked.heard(bound, at, &taken, true);
        };
        (0..100_000).for_each(|client| ask(client, begun));
        assert!(ahead.leases.len() <= 640 && ahead.leases.len() > 600, "{}", ahead.leases.len());
        // Who rests makes room.
        let later = begun + Duration::from_secs(2);
        (200_000..200_100).for_each(|client| ask(client, later));
        let inside = |client: u64| {
            let key = client.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            ahead.leases.shard(key).unwrap().leases.contains_key(&key)
        };
        assert!((200_000..200_100).all(inside));
        assert!(size_of::<(u64, Lease)>() <= 136, "{}", size_of::<(u64, Lease)>());
    }
}
