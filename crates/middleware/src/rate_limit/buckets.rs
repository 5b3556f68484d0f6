//! The counters of all clients, in memory: sharded, so that workers rarely meet at a lock, and bounded, so that a flood
//! of made-up clients costs no more memory than it is allowed.
//!
//! Of a client there is nothing but a keyed hash and a number, 16 bytes: four clients share a line of the processor's
//! cache, and of a million clients one line is fetched from memory for each request. A table is lines; a client stands in
//! the line that its hash names, or in one of the next few where that was full. Who is at rest gives its place to
//! whoever comes, and goes when the table is made anew.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use portcullis_core::limit::{Bound, Grant};

use super::key::Random;

const SHARDS: usize = 128;
/// A client stands in one of so many lines. Nearly all stand in the first; but lines that are full lie together, and of a
/// table that is three quarters full nobody is to be sent away for that.
const REACH: usize = 64;
/// A full shard is rid of those who are at rest at most this often.
const SWEEP_EVERY: u64 = 1_000_000_000;

/// Counters of one limit, by key.
pub struct Buckets {
    epoch: Instant,
    /// What keys are hashed with.
    pub random: Random,
    shards: Vec<Shard>,
}

/// A shard, with its lock on a line of its own.
#[repr(align(64))]
struct Shard(Mutex<Table>);

#[derive(Default)]
struct Table {
    lines: Vec<Line>,
    /// Places that are taken, also by those who are at rest.
    taken: usize,
    next_sweep: u64,
}

/// A line of the cache.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct Line([Place; 4]);

/// A client; nobody's while the key is 0.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    key: u64,
    state: u64,
}

/// Where a key is looked for ends.
enum Found {
    /// It is here.
    Here(usize, usize),
    /// It is nowhere; this place is nobody's, or of somebody at rest.
    Free(usize, usize),
    /// It is nowhere, and all places are taken; here is the one whom it gives least.
    Least(usize, usize),
    /// There are no places.
    Nowhere,
}

impl Buckets {
    /// No client yet.
    pub fn new() -> Buckets {
        let shards = std::iter::repeat_with(|| Shard(Mutex::default())).take(SHARDS).collect();
        Buckets { epoch: Instant::now(), random: Random::new(), shards }
    }

    fn table(&self, key: u64) -> Option<MutexGuard<'_, Table>> {
        // The lines take the lower bits.
        let shard = self.shards.get((key >> 57) as usize % SHARDS)?;
        Some(shard.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes from a counter at a time, if there is enough, or in any case when `forced`. So many clients are remembered
    /// at most.
    pub fn take(&self, key: u64, bound: Bound, cost: u64, at: Instant, forced: bool, most: usize) -> Grant {
        let since = at.saturating_duration_since(self.epoch);
        let now = since.as_secs().wrapping_mul(1_000_000_000) + u64::from(since.subsec_nanos());
        let (key, rest) = (key.max(1), bound.rest(now));
        let Some(mut table) = self.table(key) else { return bound.take(&mut 0, cost, now, forced) };
        if let Some(place) = table.at_home(key) {
            return bound.take(&mut place.state, cost, now, forced);
        }
        let found = table.find(key, rest);
        if let Found::Here(line, place) = found
            && let Some(place) = table.place(line, place)
        {
            return bound.take(&mut place.state, cost, now, forced);
        }
        let mut state = 0;
        let grant = bound.take(&mut state, cost, now, forced);
        if state > rest {
            table.insert(Place { key, state }, found, (now, rest), most.div_ceil(SHARDS));
        }
        grant
    }

    /// Gives back what was taken, since another limit had not enough.
    pub fn give_back(&self, key: u64, bound: Bound, cost: u64) {
        let key = key.max(1);
        let Some(mut table) = self.table(key) else { return };
        if let Found::Here(line, place) = table.find(key, 0)
            && let Some(place) = table.place(line, place)
        {
            bound.give_back(&mut place.state, cost);
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.0.lock().unwrap().taken).sum()
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.0.lock().unwrap().lines.capacity() * size_of::<Line>()).sum()
    }
}

/// The line that a key names.
fn home(key: u64, lines: usize) -> usize {
    // The upper half of a product takes any number of lines evenly, without a division.
    ((key & u64::from(u32::MAX)).wrapping_mul(lines as u64) >> 32) as usize
}

impl Table {
    fn place(&mut self, line: usize, place: usize) -> Option<&mut Place> {
        self.lines.get_mut(line)?.0.get_mut(place)
    }

    /// Where nearly all are found who are there.
    #[inline]
    fn at_home(&mut self, key: u64) -> Option<&mut Place> {
        let home = home(key, self.lines.len());
        self.lines.get_mut(home)?.0.iter_mut().find(|place| place.key == key)
    }

    /// Looks for a key, and where it might go.
    fn find(&self, key: u64, rest: u64) -> Found {
        let (mut line, mut free) = (home(key, self.lines.len()), None);
        let mut least = (u64::MAX, Found::Nowhere);
        for _ in 0..REACH.min(self.lines.len()) {
            let Some(Line(places)) = self.lines.get(line) else { break };
            if let Some(here) = places.iter().position(|place| place.key == key) {
                return Found::Here(line, here);
            }
            for (at, place) in places.iter().enumerate() {
                if place.key == 0 {
                    // Nobody is sent on from a line with a free place.
                    return free.unwrap_or(Found::Free(line, at));
                }
                if place.state <= rest {
                    free.get_or_insert(Found::Free(line, at));
                } else if place.state < least.0 {
                    least = (place.state, Found::Least(line, at));
                }
            }
            line = if line + 1 == self.lines.len() { 0 } else { line + 1 };
        }
        free.unwrap_or(least.1)
    }

    /// Takes a client in who was not found, with so many in this table at most.
    fn insert(&mut self, client: Place, mut found: Found, (now, rest): (u64, u64), most: usize) {
        let fits = match found {
            Found::Free(line, place) => self.is_taken(line, place) || self.taken < most.min(self.room()),
            _ => false,
        };
        if !fits {
            if self.grow(now, rest, most) {
                found = self.find(client.key, rest);
            } else if matches!(found, Found::Free(..)) {
                // Forgetting a client is a present to it: so forget whom it gives least.
                self.forget_near(client.key);
            }
        }
        let (Found::Free(line, place) | Found::Least(line, place)) = found else { return };
        self.taken += usize::from(!self.is_taken(line, place));
        if let Some(place) = self.place(line, place) {
            *place = client;
        }
    }

    fn is_taken(&self, line: usize, place: usize) -> bool {
        self.lines.get(line).and_then(|line| line.0.get(place)).is_some_and(|place| place.key != 0)
    }

    /// So many may stand in it before it is made anew: three quarters of its places. Seven in eight find their line free then;
    /// were it emptier, more of it would lie beyond the processor's caches, which costs more than the eighth who go on.
    fn room(&self) -> usize {
        self.lines.len() * 3
    }

    /// Forgets who is held back least, of those around a key in whose line a place is free anyway: nobody was ever sent
    /// on from there, so that another free place in it hides nobody.
    fn forget_near(&mut self, key: u64) {
        let (lines, first) = (self.lines.len(), home(key, self.lines.len()));
        let mut least: Option<(u64, usize, usize)> = None;
        for step in 0..lines {
            if step >= REACH && least.is_some() {
                break;
            }
            let line = if first + step < lines { first + step } else { first + step - lines };
            let Some(Line(places)) = self.lines.get(line) else { break };
            if places.iter().any(|place| place.key == 0) {
                let taken = places.iter().enumerate().filter(|(_, place)| place.key != 0);
                let here = taken.map(|(at, place)| (place.state, line, at)).min();
                least = least.into_iter().chain(here).min_by_key(|(state, ..)| *state);
            }
        }
        if let Some((_, line, at)) = least
            && let Some(place) = self.place(line, at)
        {
            *place = Place::default();
            self.taken -= 1;
        }
    }

    /// Makes the table anew without those who are at rest, larger where there are many others. False if that is of no
    /// use, or has just been done.
    fn grow(&mut self, now: u64, rest: u64, most: usize) -> bool {
        let largest = most.div_ceil(3).max(1);
        if self.lines.len() >= largest && now < self.next_sweep {
            return false;
        }
        let active = |place: &&Place| place.key != 0 && place.state > rest;
        let others = self.lines.iter().flat_map(|line| &line.0).filter(active).count();
        if others >= most {
            self.next_sweep = now.saturating_add(SWEEP_EVERY);
            return false;
        }
        // A sixth is free of what may be taken at least, so that it is not made anew again soon.
        let (lines, crowded) = (self.lines.len(), others > self.lines.len() * 5 / 2);
        let lines = if crowded { lines + lines.div_ceil(4) } else { lines };
        let old = std::mem::replace(&mut self.lines, vec![Line::default(); lines.clamp(1, largest)]);
        self.taken = 0;
        for place in old.iter().flat_map(|line| &line.0).filter(active) {
            if let Found::Free(line, at) | Found::Least(line, at) = self.find(place.key, rest) {
                self.taken += usize::from(!self.is_taken(line, at));
                if let Some(slot) = self.place(line, at) {
                    *slot = *place;
                }
            }
        }
        self.next_sweep = now.saturating_add(SWEEP_EVERY);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::{hash::BuildHasher, time::Duration};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn rate(per_second: f64, burst: u64) -> Bound {
        Bound::Rate { interval: (1e9 / per_second) as u64, burst, more: 0 }
    }

    fn key(client: u64) -> u64 {
        std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::default().hash_one(client)
    }

    fn take(buckets: &Buckets, client: u64, bound: Bound, at: Instant) -> bool {
        buckets.take(key(client), bound, 1, at, false, 6400).enough
    }

    /// The table decides as a plain map does that forgets nobody, whatever comes, leaves and is forgotten at rest.
    #[test]
    fn nobody_is_lost_or_taken_for_another_while_there_is_room() {
        for seed in 0..10 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (buckets, begun) = (Buckets::new(), Instant::now());
            let mut plain = std::collections::HashMap::<u64, u64>::new();
            let (mut now, clients) = (0, random.u64(1..20_000));
            for step in 0..60_000 {
                now += random.u64(0..SECOND / 1000);
                let bound = rate(random.u64(1..1000) as f64 / 10.0, random.u64(1..4));
                let client = if random.u8(..) < 128 { random.u64(0..clients) } else { random.u64(0..50) };
                let at = buckets.epoch.max(begun) + Duration::from_nanos(now);
                let since = at.duration_since(buckets.epoch).as_nanos() as u64;
                let expected = bound.take(plain.entry(client).or_default(), 1, since, false);
                let ours = buckets.take(key(client), bound, 1, at, false, 1_000_000);
                assert_eq!(ours, expected, "seed {seed}, step {step}, client {client}");
            }
        }
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let (buckets, now) = (Buckets::new(), Instant::now());
        for bound in [rate(0.01, 2), Bound::Quota { quota: 2, ends: 1, left: SECOND }] {
            let client = if matches!(bound, Bound::Rate { .. }) { 1 } else { 2 };
            for _ in 0..10 {
                assert!(take(&buckets, client, bound, now));
                buckets.give_back(key(client), bound, 1);
            }
            assert_eq!(bound.told(buckets.take(key(client), bound, 1, now, false, 100)).left, 1);
            assert_eq!(bound.told(buckets.take(key(client), bound, 5, now, true, 100)).left, 0, "forced");
            assert!(!take(&buckets, client, bound, now));
        }
    }

    #[test]
    fn a_flood_of_clients_stays_within_bounds_and_frees_nobody_who_is_limited_for_long() {
        let (buckets, now) = (Buckets::new(), Instant::now());
        let (slow, fast) = (rate(0.01, 1), rate(1000.0, 1));
        // 64 clients that must wait 100 s, among a flood of clients that must wait 1 ms.
        (0..64).for_each(|client| assert!(take(&buckets, client, slow, now)));
        for client in 1000..200_000 {
            assert!(take(&buckets, client, fast, now));
            assert!(client % 1000 != 0 || buckets.len() <= 6400, "{} after {client}", buckets.len());
        }
        assert!(buckets.len() > 6000, "{}", buckets.len());
        assert!(buckets.bytes() <= 6400 * 22, "{} bytes", buckets.bytes());
        let freed = (0..64).filter(|client| take(&buckets, *client, slow, now)).count();
        assert!(freed <= 3, "{freed} were let off");
    }

    #[test]
    fn clients_at_rest_are_forgotten_when_room_is_needed() {
        let (buckets, limit, now) = (Buckets::new(), rate(1000.0, 1), Instant::now());
        (0..6400).for_each(|client| assert!(take(&buckets, client, limit, now)));
        let before = buckets.len();
        let later = now + Duration::from_secs(5);
        (10_000..12_000).for_each(|client| assert!(take(&buckets, client, limit, later)));
        assert!(buckets.len() <= before, "{} of {before}", buckets.len());
        let bytes = buckets.bytes();
        for round in 1..50_u32 {
            let later = later + Duration::from_secs(round.into());
            (0..1000).for_each(|n| assert!(take(&buckets, u64::from(round) << 32 | n, limit, later)));
        }
        assert!(buckets.bytes() <= bytes, "{} of {bytes}: those at rest take no room", buckets.bytes());
    }

    #[test]
    fn half_of_the_bound_is_remembered_by_everybody() {
        let (buckets, slow, now) = (Buckets::new(), rate(0.01, 1), Instant::now());
        (0..3200).for_each(|client| assert!(take(&buckets, client, slow, now)));
        let freed = (0..3200).filter(|client| take(&buckets, *client, slow, now)).count();
        assert_eq!(freed, 0);
    }

    #[test]
    fn quotas_of_ended_windows_are_at_rest() {
        let (buckets, now) = (Buckets::new(), Instant::now());
        for window in 1..40 {
            let bound = Bound::Quota { quota: 1, ends: window * 60, left: 60 * SECOND };
            let at = now + Duration::from_secs(window * 60);
            for client in 0..1000 {
                assert!(take(&buckets, window << 32 | client, bound, at));
                assert!(!take(&buckets, window << 32 | client, bound, at));
            }
        }
        assert!(buckets.len() <= 4000, "{}", buckets.len());
    }
}
