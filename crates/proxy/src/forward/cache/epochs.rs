//! Invalidation without a search: each URI has a counter (some share one), and an answer remembers where it stood when it
//! was asked for. An unsafe request moves the counter on; what remembers another number is as if it were not there, be it
//! stored already or still on its way. Counters shared by chance cost a miss, never a wrong answer.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

use super::purge::{Purge, path_of};

/// How many counters there are.
const COUNTERS: usize = 1 << 16;
/// Purges that are remembered for answers still on their way. What began before the oldest is not stored.
const REMEMBERED: usize = 256;

/// The counters.
pub struct Epochs {
    seed: RandomState,
    counters: Box<[AtomicU32]>,
    purges: AtomicU64,
    /// Read by who stores, for as long as that takes: what was purged meanwhile cannot come back.
    last: RwLock<VecDeque<(u64, Purge)>>,
}

/// How things stood when an answer was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    counter: u32,
    epoch: u32,
    purges: u64,
    /// Its key is for several URIs of one path, of which only some parameters count: what invalidates any of them
    /// invalidates it.
    pub by_path: bool,
}

impl Epochs {
    /// All at zero.
    pub(super) fn new() -> Epochs {
        Epochs {
            seed: RandomState::new(),
            counters: (0..COUNTERS).map(|_| AtomicU32::new(0)).collect(),
            purges: AtomicU64::new(0),
            last: RwLock::default(),
        }
    }

    fn counter(&self, uri: &[u8], by_path: bool) -> u32 {
        let uri = if by_path { path_of(uri) } else { uri };
        (self.seed.hash_one((uri, by_path)) % COUNTERS as u64) as u32
    }

    fn epoch(&self, counter: u32) -> u32 {
        self.counters.get(counter as usize).map_or(0, |counter| counter.load(Relaxed))
    }

    /// How things stand for a URI; `by_path` where its key is for others too, which differ in their query.
    pub fn mark(&self, uri: &[u8], by_path: bool) -> Mark {
        let counter = self.counter(uri, by_path);
        Mark { counter, epoch: self.epoch(counter), purges: self.purges.load(Relaxed), by_path }
    }

    /// Do they still stand like that, purges aside?
    pub fn holds(&self, mark: &Mark) -> bool {
        self.epoch(mark.counter) == mark.epoch
    }

    /// What is stored for a URI is not valid any longer.
    pub fn invalidate(&self, uri: &[u8]) {
        for by_path in [false, true] {
            if let Some(counter) = self.counters.get(self.counter(uri, by_path) as usize) {
                counter.fetch_add(1, Relaxed);
            }
        }
    }

    /// Something was purged: what is on its way counts too. To be called before the stores are searched.
    pub fn purged(&self, purge: &Purge) {
        let mut last = self.last.write().unwrap_or_else(PoisonError::into_inner);
        let number = self.purges.fetch_add(1, Relaxed) + 1;
        last.push_back((number, purge.clone()));
        if last.len() > REMEMBERED {
            last.pop_front();
        }
    }

    /// Stores an answer that was asked for at this mark, unless something was purged since that would have been it. No
    /// purge begins while it is stored: each either is seen here, or sees what was stored.
    pub fn store(&self, mark: &Mark, uri: &[u8], tags: &[Box<str>], store: impl FnOnce()) -> bool {
        let last = self.last.read().unwrap_or_else(PoisonError::into_inner);
        let may = self.holds(mark) && {
            self.purges.load(Relaxed) == mark.purges || {
                let is_remembered = last.front().is_none_or(|(oldest, _)| *oldest <= mark.purges + 1);
                let since = |number: &u64| *number > mark.purges;
                let by_path = mark.by_path;
                is_remembered && !last.iter().any(|(n, purge)| since(n) && purge.takes(uri, by_path, tags))
            }
        };
        if may {
            store();
        }
        may
    }

    /// Would it be stored now?
    pub fn may_store(&self, mark: &Mark, uri: &[u8], tags: &[Box<str>]) -> bool {
        self.store(mark, uri, tags, || ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_before_is_not_valid_after() {
        let epochs = Epochs::new();
        let mark = epochs.mark(b"http://a/b", false);
        assert!(epochs.holds(&mark));
        epochs.invalidate(b"http://a/b");
        assert!(!epochs.holds(&mark) && epochs.holds(&epochs.mark(b"http://a/b", false)));
    }

    #[test]
    fn what_is_for_several_uris_goes_with_any_of_them() {
        let epochs = Epochs::new();
        let (exact, coarse) = (epochs.mark(b"http://a/b?x=1", false), epochs.mark(b"http://a/b?x=1", true));
        let other = epochs.mark(b"http://a/c", true);
        epochs.invalidate(b"http://a/b?utm=2&x=1");
        assert!(epochs.holds(&exact) && !epochs.holds(&coarse) && epochs.holds(&other));
    }

    #[test]
    fn no_purge_begins_while_something_is_stored() {
        let epochs = std::sync::Arc::new(Epochs::new());
        let mark = epochs.mark(b"http://a/b", false);
        let began = std::sync::Arc::new(std::sync::Barrier::new(2));
        let (purging, go) = (epochs.clone(), began.clone());
        let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let is_done = done.clone();
        let thread = std::thread::spawn(move || {
            go.wait();
            purging.purged(&Purge::Everything);
            is_done.store(true, std::sync::atomic::Ordering::SeqCst);
        });
        let stored = epochs.store(&mark, b"http://a/b", &[], || {
            began.wait();
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(!done.load(std::sync::atomic::Ordering::SeqCst), "it would not have seen what is stored");
        });
        thread.join().unwrap();
        assert!(stored && !epochs.may_store(&mark, b"http://a/b", &[]));
    }

    #[test]
    fn purges_reach_what_is_on_its_way() {
        let epochs = Epochs::new();
        let mark = epochs.mark(b"http://a/b", false);
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
