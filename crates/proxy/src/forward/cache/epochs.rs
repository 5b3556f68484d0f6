//! Invalidation without a search: each URI has a counter (some share one), and an answer remembers where it stood when it
//! was asked for. An unsafe request moves the counter on; what remembers another number is as if it were not there, be it
//! stored already or still on its way. Counters shared by chance cost a miss, never a wrong answer.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

use super::purge::Purge;

/// How many counters there are.
const COUNTERS: usize = 1 << 16;
/// Purges that are remembered for answers still on their way. What began before the oldest is not stored.
const REMEMBERED: usize = 256;

/// The counters.
pub struct Epochs {
    seed: RandomState,
    counters: Box<[AtomicU32]>,
    purges: AtomicU64,
    last: Mutex<VecDeque<(u64, Purge)>>,
}

/// How things stood when an answer was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    counter: u32,
    epoch: u32,
    purges: u64,
}

impl Epochs {
    /// All at zero.
    pub(super) fn new() -> Epochs {
        Epochs {
            seed: RandomState::new(),
            counters: (0..COUNTERS).map(|_| AtomicU32::new(0)).collect(),
            purges: AtomicU64::new(0),
            last: Mutex::default(),
        }
    }

    fn counter(&self, uri: &[u8]) -> u32 {
        (self.seed.hash_one(uri) % COUNTERS as u64) as u32
    }

    fn epoch(&self, counter: u32) -> u32 {
        self.counters.get(counter as usize).map_or(0, |counter| counter.load(Relaxed))
    }

    /// How things stand for a URI.
    pub fn mark(&self, uri: &[u8]) -> Mark {
        let counter = self.counter(uri);
        Mark { counter, epoch: self.epoch(counter), purges: self.purges.load(Relaxed) }
    }

    /// Do they still stand like that, purges aside?
    pub fn holds(&self, mark: &Mark) -> bool {
        self.epoch(mark.counter) == mark.epoch
    }

    /// What is stored for a URI is not valid any longer.
    pub fn invalidate(&self, uri: &[u8]) {
        if let Some(counter) = self.counters.get(self.counter(uri) as usize) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// Something was purged: what is on its way counts too. To be called before the stores are searched.
    pub fn purged(&self, purge: &Purge) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.purges.fetch_add(1, Relaxed) + 1;
        last.push_back((number, purge.clone()));
        if last.len() > REMEMBERED {
            last.pop_front();
        }
    }

    /// May an answer be stored that was asked for at this mark: has nothing been purged since that would have been it?
    pub fn may_store(&self, mark: &Mark, uri: &[u8], tags: &[Box<str>]) -> bool {
        if !self.holds(mark) {
            return false;
        }
        if self.purges.load(Relaxed) == mark.purges {
            return true;
        }
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_remembered = last.front().is_none_or(|(oldest, _)| *oldest <= mark.purges + 1);
        is_remembered && !last.iter().any(|(number, purge)| *number > mark.purges && purge.takes(uri, tags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_before_is_not_valid_after() {
        let epochs = Epochs::new();
        let mark = epochs.mark(b"http://a/b");
        assert!(epochs.holds(&mark));
        epochs.invalidate(b"http://a/b");
        assert!(!epochs.holds(&mark) && epochs.holds(&epochs.mark(b"http://a/b")));
    }

    #[test]
    fn purges_reach_what_is_on_its_way() {
        let epochs = Epochs::new();
        let mark = epochs.mark(b"http://a/b");
        let tag: Box<str> = "news".into();
        epochs.purged(&Purge::Tag("sport".into()));
        assert!(epochs.may_store(&mark, b"http://a/b", std::slice::from_ref(&tag)));
        epochs.purged(&Purge::Tag("news".into()));
        assert!(!epochs.may_store(&mark, b"http://a/b", std::slice::from_ref(&tag)));
        assert!(epochs.may_store(&mark, b"http://a/b", &[]));
        (0..300).for_each(|_| epochs.purged(&Purge::Tag("x".into())));
        assert!(!epochs.may_store(&mark, b"http://a/b", &[]), "too long ago to know");
    }
}
