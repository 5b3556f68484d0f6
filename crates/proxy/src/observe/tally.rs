//! Counts by a small number (a status, a kind of error) or by a fixed word, without lock and without a slot for every
//! number there could be.

use std::{
    collections::BTreeMap,
    sync::{
        OnceLock,
        atomic::{AtomicU16, AtomicU64, Ordering::Relaxed},
    },
};

/// Codes per link of the chain. Most series see fewer.
const LINK: usize = 8;
/// Links of one chain: 32 different codes; what comes after them is counted together.
const LINKS: usize = 4;

/// The code under which a full tally counts the rest.
pub(super) const OTHER: u16 = u16::MAX;

/// Counts by code. Codes are claimed in the order in which they are first seen; code 0 is none.
#[derive(Debug, Default)]
pub(super) struct Tally {
    first: Link,
    other: AtomicU64,
}

#[derive(Debug, Default)]
struct Link {
    codes: [AtomicU16; LINK],
    counts: [AtomicU64; LINK],
    next: OnceLock<Box<Link>>,
}

impl Tally {
    /// Counts one.
    pub fn add(&self, code: u16) {
        let mut link = &self.first;
        for left in (0..LINKS).rev() {
            if link.add(code) {
                return;
            }
            if left > 0 {
                link = link.next.get_or_init(Box::default);
            }
        }
        self.other.fetch_add(1, Relaxed);
    }

    /// Adds what was counted to a map.
    pub fn collect(&self, into: &mut BTreeMap<u16, u64>) {
        let mut link = Some(&self.first);
        while let Some(this) = link {
            for (code, count) in this.codes.iter().zip(&this.counts) {
                let (code, count) = (code.load(Relaxed), count.load(Relaxed));
                if code != 0 && count != 0 {
                    *into.entry(code).or_default() += count;
                }
            }
            link = this.next.get().map(Box::as_ref);
        }
        let other = self.other.load(Relaxed);
        if other != 0 {
            *into.entry(OTHER).or_default() += other;
        }
    }
}

impl Link {
    /// Counts the code if it has a slot here or can have one.
    fn add(&self, code: u16) -> bool {
        for (slot, count) in self.codes.iter().zip(&self.counts) {
            let mut holder = slot.load(Relaxed);
            if holder == 0 {
                holder =
                    slot.compare_exchange(0, code, Relaxed, Relaxed).map_or_else(|other| other, |_| code);
            }
            if holder == code {
                count.fetch_add(1, Relaxed);
                return true;
            }
        }
        false
    }
}

/// Different words that one [`Reasons`] tells apart.
const WORDS: usize = 24;

/// Counts by a word of the program's own; for what happens seldom enough not to need a cell per worker.
#[derive(Debug, Default)]
pub(super) struct Reasons {
    words: [OnceLock<&'static str>; WORDS],
    counts: [AtomicU64; WORDS],
    other: AtomicU64,
}

impl Reasons {
    /// Counts one.
    pub fn add(&self, word: &'static str) {
        let slots = self.words.iter().zip(&self.counts);
        let mut mine = slots.filter(|(slot, _)| *slot.get_or_init(|| word) == word);
        mine.next().map_or(&self.other, |(_, count)| count).fetch_add(1, Relaxed);
    }

    /// What was counted, by word.
    pub fn totals(&self) -> BTreeMap<&'static str, u64> {
        let named = self.words.iter().zip(&self.counts);
        let mut totals: BTreeMap<_, _> =
            named.filter_map(|(word, count)| Some((*word.get()?, count.load(Relaxed)))).collect();
        let other = self.other.load(Relaxed);
        if other != 0 {
            *totals.entry("_other").or_default() += other;
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(tally: &Tally) -> BTreeMap<u16, u64> {
        let mut map = BTreeMap::new();
        tally.collect(&mut map);
        map
    }

    #[test]
    fn counts_by_code_and_the_rest_together() {
        let tally = Tally::default();
        for code in (200..240).chain(200..204) {
            tally.add(code);
        }
        let map = totals(&tally);
        assert_eq!((map[&200], map[&204], map[&231]), (2, 1, 1));
        assert_eq!(map.get(&232), None, "the 33rd code has no slot");
        assert_eq!((map[&OTHER], map.values().sum::<u64>()), (8, 44));
    }

    #[test]
    fn threads_that_claim_at_once_lose_nothing() {
        let tally = Tally::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000_u16).for_each(|n| tally.add(100 + n % 20)));
            }
        });
        let map = totals(&tally);
        assert_eq!(map.len(), 20);
        assert!(map.values().all(|&count| count == 2000), "{map:?}");
    }

    #[test]
    fn words_are_compared_by_their_text() {
        let reasons = Reasons::default();
        reasons.add("limit");
        reasons.add(String::from("limit").leak());
        reasons.add("shutdown");
        assert_eq!(reasons.totals(), BTreeMap::from([("limit", 2), ("shutdown", 1)]));
        for n in 0..40 {
            reasons.add(format!("w{n}").leak());
        }
        assert_eq!(reasons.totals()["_other"], 40 - (WORDS as u64 - 2));
    }
}
