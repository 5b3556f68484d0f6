//! The store in memory: bounded in bytes, for what is asked for often.
//!
//! One look-up, by a hash of the key under a seed of this process; the key itself is compared afterwards, so that two
//! keys of one hash are a miss, and nobody can make two on purpose without the seed. What varies has its variants under
//! hashes of their own, which a list under the key's hash leads to.

use std::{
    cell::RefCell,
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use portcullis_cache::{Object, date::Seconds, vary::write_variant};
use portcullis_core::Fields;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter, sync::Cache as Map};

use super::epochs::Mark;

/// A stored answer, and what is only known while it is.
#[derive(Debug)]
pub struct Entry {
    /// The answer.
    pub object: Object,
    /// How things stood when it was asked for.
    pub mark: Mark,
    /// Names by which it can be purged; most have none.
    pub tags: Option<Box<[Box<str>]>>,
    /// Somebody refreshes it in the background.
    pub refreshing: AtomicBool,
}

/// What stands under a hash.
#[derive(Debug, Clone)]
enum Slot {
    /// An answer.
    Entry(Arc<Entry>),
    /// It depends on the request which.
    Varies(Arc<Varies>),
    /// The last answer was not storable: do not wait for each other, until then.
    Pass(Seconds),
    /// So many bytes are about to be put here.
    Room(u64),
}

/// By which fields the answers for one key vary: the newest first, since its word counts (RFC 9111 §4.1).
#[derive(Debug)]
struct Varies {
    key: Box<[u8]>,
    by: Vec<Box<[Box<str>]>>,
    /// The newest variants, oldest first.
    variants: Vec<u64>,
}

/// What was found.
#[derive(Debug)]
pub enum Found {
    /// An answer for this request.
    Entry(Arc<Entry>),
    /// Nothing for its key.
    Nothing,
    /// Answers for its key, none for it.
    OtherVariant,
    /// What comes will not be storable.
    Pass,
}

/// Different lists of fields by which one key's answers vary.
const SPECS: usize = 4;
/// Variants of one key.
const VARIANTS: usize = 128;
/// What an entry costs beside its bytes, as it is measured (`portcullis/tests/cache_memory.rs`).
const OVERHEAD: usize = 232;
/// Room for a large answer is made in steps of so many bytes: each throws out some two hundred small ones at most, which
/// takes a fraction of a millisecond, under a lock of its own.
const STEP: u64 = 64 * 1024;

#[derive(Debug, Clone)]
struct Bytes;

impl Weighter<u64, Slot> for Bytes {
    fn weight(&self, _: &u64, slot: &Slot) -> u64 {
        let bytes = match slot {
            Slot::Entry(entry) => entry.weight(),
            Slot::Varies(varies) => {
                let names = varies
                    .by
                    .iter()
                    .flat_map(|names| names.iter())
                    .map(|name| name.len() + 16)
                    .sum::<usize>();
                OVERHEAD + varies.key.len() + names + varies.variants.len() * 8
            }
            Slot::Pass(_) => 64,
            Slot::Room(bytes) => return *bytes,
        };
        bytes as u64
    }
}

/// Counts the answers that are thrown out for room.
#[derive(Debug, Clone)]
struct Watched(Arc<AtomicU64>);

/// What was thrown out or replaced by one insertion. It is let go when the insertion is over and its lock with it.
#[derive(Default)]
struct Out(Vec<Slot>);

impl Lifecycle<u64, Slot> for Watched {
    type RequestState = Out;

    /// Not asked when something else takes its place.
    fn before_evict(&self, _: &mut Out, _: &u64, slot: &mut Slot) {
        self.0.fetch_add(u64::from(matches!(slot, Slot::Entry(_))), Relaxed);
    }

    fn on_evict(&self, state: &mut Out, _: u64, slot: Slot) {
        state.0.push(slot);
    }
}

impl Entry {
    /// What stood behind memory.
    pub(super) fn found(found: &super::tiers::Found, mark: Mark) -> Entry {
        let tags = super::purge::tags(&found.object.fields());
        Entry { object: found.object.clone(), mark, tags, refreshing: AtomicBool::new(false) }
    }

    /// Names by which it can be purged.
    pub fn tags(&self) -> &[Box<str>] {
        self.tags.as_deref().unwrap_or_default()
    }

    /// What it varies by.
    pub fn vary(&self) -> Vec<Box<str>> {
        if self.object.variant().is_empty() {
            return Vec::new();
        }
        match portcullis_cache::vary::Vary::of_object(&self.object) {
            portcullis_cache::vary::Vary::Names(names) => names,
            portcullis_cache::vary::Vary::Any => Vec::new(),
        }
    }

    /// Bytes that it takes.
    pub fn weight(&self) -> usize {
        let tags = self.tags.iter().flat_map(|tags| tags.iter()).map(|tag| tag.len() + 16).sum::<usize>();
        OVERHEAD + self.object.size() + tags
    }
}

thread_local!(static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });

/// A buffer of this thread's, empty.
pub(super) fn with_scratch<T>(f: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
        Ok(mut scratch) => {
            scratch.clear();
            f(&mut scratch)
        }
        Err(_) => f(&mut Vec::new()),
    })
}

/// The store.
pub struct Shelf {
    map: Map<u64, Slot, Bytes, RandomState, Watched>,
    seed: RandomState,
    evicted: Arc<AtomicU64>,
}

impl Shelf {
    /// Room for so many bytes, in which objects of this size have their place.
    pub fn new(bytes: u64, largest: u64) -> Shelf {
        let evicted = Arc::new(AtomicU64::new(0));
        // A part of the store must have room for a few of the largest.
        let shards = (bytes / largest.saturating_mul(3).max(1)).clamp(1, 1024);
        let shards = 1_usize << shards.ilog2();
        let mut options = OptionsBuilder::new();
        options
            .shards(shards)
            .weight_capacity(bytes)
            .estimated_items_capacity((bytes / 4096).clamp(64, 1 << 20) as usize);
        let seed = RandomState::new();
        let map = match options.build() {
            Ok(options) => Map::with_options(options, Bytes, seed.clone(), Watched(evicted.clone())),
            Err(_) => Map::with(64, bytes, Bytes, seed.clone(), Watched(evicted.clone())),
        };
        Shelf { map, seed, evicted }
    }

    /// The hash of a key.
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.seed.hash_one(key)
    }

    /// The hash of a variant of a key.
    fn variant_hash(&self, key: u64, names: &[Box<str>], variant: &[u8]) -> u64 {
        let mut hasher = self.seed.build_hasher();
        (key, names.len(), variant).hash(&mut hasher);
        names.iter().for_each(|name| name.hash(&mut hasher));
        hasher.finish()
    }

    /// What is there for a request with this key and these fields. `lane` is where it is remembered that answers are not
    /// storable.
    pub fn find(&self, hash: u64, lane: u64, key: &[u8], request: &Fields, now: Seconds) -> Found {
        let found = match self.map.get(&hash) {
            Some(Slot::Entry(entry)) if entry.object.key() == key => Found::Entry(entry),
            Some(Slot::Varies(varies)) if *varies.key == *key => {
                return self.variant(hash, key, &varies, request).map_or(Found::OtherVariant, Found::Entry);
            }
            _ => Found::Nothing,
        };
        if matches!(found, Found::Nothing)
            && let Some(Slot::Pass(until)) = self.map.get(&lane)
            && now < until
        {
            return Found::Pass;
        }
        found
    }

    fn variant(&self, hash: u64, key: &[u8], varies: &Varies, request: &Fields) -> Option<Arc<Entry>> {
        let mut variant = Vec::with_capacity(64);
        varies.by.iter().find_map(|names| {
            variant.clear();
            write_variant(names, request, &mut variant);
            match self.map.get(&self.variant_hash(hash, names, &variant)) {
                Some(Slot::Entry(entry))
                    if entry.object.key() == key && entry.object.variant() == variant =>
                {
                    Some(entry)
                }
                _ => None,
            }
        })
    }

    /// By which fields the newest answer for a key varies.
    pub fn varies_by(&self, hash: u64) -> Vec<Box<str>> {
        match self.map.peek(&hash) {
            Some(Slot::Varies(varies)) => varies.by.first().map(|names| names.to_vec()).unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// Where an answer is put.
    fn place(&self, entry: &Entry, names: &[Box<str>]) -> u64 {
        let hash = self.hash(entry.object.key());
        if names.is_empty() { hash } else { self.variant_hash(hash, names, entry.object.variant()) }
    }

    /// Makes room for a large answer, one step for each item: the caller may let others have the thread in between.
    pub fn make_room(&self, entry: &Entry, names: &[Box<str>]) -> impl Iterator<Item = ()> {
        let (place, all) = (self.place(entry, names), entry.weight() as u64);
        (1..all / STEP).map(move |step| self.map.insert(place, Slot::Room(step * STEP)))
    }

    /// Puts an answer there. `names` is what it varies by.
    pub fn put(&self, entry: Arc<Entry>, names: &[Box<str>]) {
        let hash = self.hash(entry.object.key());
        if names.is_empty() {
            self.map.insert(hash, Slot::Entry(entry));
            return;
        }
        let variant = self.variant_hash(hash, names, entry.object.variant());
        let known = match self.map.peek(&hash) {
            Some(Slot::Varies(varies)) if *varies.key == *entry.object.key() => Some(varies),
            _ => None,
        };
        let mut by: Vec<Box<[Box<str>]>> = vec![names.into()];
        let mut variants = Vec::new();
        if let Some(known) = &known {
            by.extend(known.by.iter().filter(|other| ***other != *names).take(SPECS - 1).cloned());
            variants.extend(known.variants.iter().copied().filter(|other| *other != variant));
        }
        variants.push(variant);
        if variants.len() > VARIANTS {
            self.map.remove(&variants.remove(0));
        }
        let varies = Varies { key: entry.object.key().into(), by, variants };
        self.map.insert(hash, Slot::Varies(Arc::new(varies)));
        self.map.insert(variant, Slot::Entry(entry));
    }

    /// Remembers that answers are not storable.
    pub fn pass(&self, lane: u64, until: Seconds) {
        if !matches!(self.map.peek(&lane), Some(Slot::Entry(_) | Slot::Varies(_))) {
            self.map.insert(lane, Slot::Pass(until));
        }
    }

    /// Takes an answer away.
    pub fn remove(&self, entry: &Entry, names: &[Box<str>]) {
        let is_it = |slot: &Slot| match slot {
            Slot::Entry(other) => std::ptr::eq(&**other, entry),
            Slot::Room(_) => true,
            _ => false,
        };
        self.map.remove_if(&self.place(entry, names), is_it);
    }

    /// Takes away all answers for which this is true; tells how many. Looks at one after the other, each under a lock of
    /// its own and judged under none: nobody waits for the end of it. What comes meanwhile may be missed.
    pub fn remove_where(&self, is_doomed: impl Fn(&Entry) -> bool) -> u64 {
        let is_removed = |(place, slot): (u64, Slot)| match slot {
            Slot::Entry(entry) if is_doomed(&entry) => {
                let is_it = |slot: &Slot| matches!(slot, Slot::Entry(other) if Arc::ptr_eq(other, &entry));
                self.map.remove_if(&place, is_it).is_some()
            }
            _ => false,
        };
        self.map.iter().filter_map(|each| is_removed(each).then_some(())).count() as u64
    }

    /// Entries and bytes.
    pub fn filled(&self) -> (u64, u64) {
        (self.map.len() as u64, self.map.weight())
    }

    /// How many were thrown out to make room.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Relaxed)
    }
}

#[cfg(test)]
mod tests;
