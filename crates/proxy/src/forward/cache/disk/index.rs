//! What is on the disk, as far as it is known: enough to find it, to purge it and to choose what goes when room is needed,
//! without a look at the disk. Its lock is never held while the disk is waited for.
//!
//! Room is made by SIEVE: new objects stand at one end of a queue; a hand goes over it from the other, spares what was
//! asked for since it came by last, and takes the first that was not.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry as Place},
    sync::Arc,
};

use portcullis_cache::{date::Seconds, vary::write_variant};
use portcullis_core::Fields;

use super::{
    super::purge::Purge,
    names::{Id, LEAVES, object_digest},
    pending::Pending,
};

/// Different lists of fields by which one key's answers vary.
const SPECS: usize = 4;
/// Files take whole blocks.
const BLOCK: u64 = 4096;

/// What is known of a file.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// Where it is.
    pub id: Id,
    /// Digest of its key.
    pub key: u128,
    /// Its length.
    pub length: u64,
    /// From then on it is of no use.
    pub until: Seconds,
    /// Its URI.
    pub uri: Box<[u8]>,
    /// Its key is for several URIs.
    pub by_path: bool,
    /// What it varies by.
    pub names: Arc<[Box<str>]>,
    /// Names by which it can be purged.
    pub tags: Box<[Box<str>]>,
}

#[derive(Debug)]
struct Slot {
    record: Record,
    order: u64,
    used: bool,
}

/// By what the answers for a key vary: the newest first.
#[derive(Debug, Default)]
struct Varies {
    by: Vec<Arc<[Box<str>]>>,
    count: usize,
}

/// What is on the disk.
#[derive(Debug)]
pub(super) struct Index {
    objects: HashMap<u128, Slot>,
    keys: HashMap<u128, Varies>,
    uris: BTreeSet<(u64, u128)>,
    queue: BTreeMap<u64, u128>,
    next: u64,
    hand: u64,
    bytes: u64,
    /// Bytes that are being written.
    reserved: u64,
    known: Vec<bool>,
    unknown: usize,
    /// What was taken out and may be in folders that were not read yet.
    pub pending: Pending,
}

/// What a file of this length takes.
pub(super) fn blocks(length: u64) -> u64 {
    length.div_ceil(BLOCK).saturating_mul(BLOCK)
}

impl Index {
    /// Nothing is known.
    pub fn new() -> Index {
        Index {
            objects: HashMap::new(),
            keys: HashMap::new(),
            uris: BTreeSet::new(),
            queue: BTreeMap::new(),
            next: 0,
            hand: 0,
            bytes: 0,
            reserved: 0,
            known: vec![false; LEAVES],
            unknown: LEAVES,
            pending: Pending::default(),
        }
    }

    /// Forgets all but what was taken out, and all that is being written.
    pub fn clear(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        *self = Index { pending, ..Index::new() };
    }

    /// Objects and bytes.
    pub fn filled(&self) -> (u64, u64) {
        (self.objects.len() as u64, self.bytes)
    }

    /// Was this folder read?
    pub fn knows(&self, leaf: usize) -> bool {
        self.known.get(leaf).copied().unwrap_or(true)
    }

    /// It was.
    pub fn learnt(&mut self, leaf: usize) {
        if let Some(known) = self.known.get_mut(leaf).filter(|known| !**known) {
            *known = true;
            self.unknown -= 1;
        }
        if self.unknown == 0 {
            self.pending = Pending::default();
        }
    }

    /// Were all read?
    pub fn knows_all(&self) -> bool {
        self.unknown == 0
    }

    /// The file for a request with this key, which then counts as used.
    pub fn find(&mut self, uri: u64, key: u128, request: &Fields) -> Option<Id> {
        let plain = object_digest(key, &[], &[]);
        let by = self.keys.get(&key).map(|varies| varies.by.clone()).unwrap_or_default();
        let mut variant = Vec::new();
        let varied = by.iter().map(|names| {
            variant.clear();
            write_variant(names, request, &mut variant);
            object_digest(key, names, &variant)
        });
        let digest = varied.chain([plain]).find(|digest| self.objects.contains_key(digest))?;
        let slot = self.objects.get_mut(&digest)?;
        slot.used = true;
        Some(Id { uri, ..slot.record.id })
    }

    /// Takes a file in. What it replaces is returned, to be removed: itself, when something newer is there.
    pub fn insert(&mut self, record: Record) -> Vec<Id> {
        let id = record.id;
        if let Some(known) = self.objects.get(&id.object).map(|slot| slot.record.id) {
            if known.stamp == id.stamp {
                return Vec::new();
            }
            if known.stamp > id.stamp {
                return vec![id];
            }
        }
        let mut gone: Vec<Id> = self.remove_digest(id.object).into_iter().collect();
        if record.names.is_empty() {
            // It is for all requests now.
            gone.extend(self.remove_key(id.uri, record.key));
        } else {
            gone.extend(self.remove_digest(object_digest(record.key, &[], &[])));
            let varies = self.keys.entry(record.key).or_default();
            varies.count += 1;
            varies.by.retain(|names| *names != record.names);
            varies.by.insert(0, record.names.clone());
            varies.by.truncate(SPECS);
        }
        self.bytes += blocks(record.length);
        self.uris.insert((id.uri, id.object));
        self.queue.insert(self.next, id.object);
        self.objects.insert(id.object, Slot { record, order: self.next, used: false });
        self.next += 1;
        gone
    }

    fn remove_key(&mut self, uri: u64, key: u128) -> Vec<Id> {
        if !self.keys.contains_key(&key) {
            return Vec::new();
        }
        let is_one = |slot: &Slot| slot.record.key == key;
        let digests: Vec<u128> =
            self.of_uri(uri).filter(|digest| self.objects.get(digest).is_some_and(is_one)).collect();
        digests.into_iter().filter_map(|digest| self.remove_digest(digest)).collect()
    }

    fn of_uri(&self, uri: u64) -> impl Iterator<Item = u128> {
        self.uris.range((uri, 0)..=(uri, u128::MAX)).map(|(_, digest)| *digest)
    }

    fn remove_digest(&mut self, digest: u128) -> Option<Id> {
        let slot = self.objects.remove(&digest)?;
        let record = slot.record;
        self.queue.remove(&slot.order);
        self.uris.remove(&(record.id.uri, digest));
        self.bytes = self.bytes.saturating_sub(blocks(record.length));
        if !record.names.is_empty()
            && let Place::Occupied(mut varies) = self.keys.entry(record.key)
        {
            varies.get_mut().count -= 1;
            if varies.get().count == 0 {
                varies.remove();
            }
        }
        Some(record.id)
    }

    /// Forgets this very file. Was it known?
    pub fn remove(&mut self, id: Id) -> bool {
        let known = self.objects.get(&id.object).is_some_and(|slot| slot.record.id.stamp == id.stamp);
        known && self.remove_digest(id.object).is_some()
    }

    /// Forgets the answer of this digest.
    pub fn remove_object(&mut self, object: u128) -> Option<Id> {
        self.remove_digest(object)
    }

    /// Forgets all answers for a URI; `stamp` is now.
    pub fn invalidate(&mut self, uri: u64, stamp: u64) -> Vec<Id> {
        if !self.knows_all() {
            self.pending.uri(uri, stamp);
        }
        self.remove_of_uri(uri, |_| true)
    }

    /// Forgets those answers for a URI that are to go.
    pub fn remove_of_uri(&mut self, uri: u64, is_doomed: impl Fn(&Record) -> bool) -> Vec<Id> {
        let doomed = |digest: &u128| self.objects.get(digest).is_some_and(|slot| is_doomed(&slot.record));
        let digests: Vec<u128> = self.of_uri(uri).filter(doomed).collect();
        digests.into_iter().filter_map(|digest| self.remove_digest(digest)).collect()
    }

    /// Forgets what is to go, of so many after this place in the queue; tells where to go on.
    pub fn remove_where(
        &mut self,
        after: u64,
        most: usize,
        is_doomed: impl Fn(&Record) -> bool,
    ) -> (Vec<Id>, Option<u64>) {
        let looked: Vec<(u64, u128)> =
            self.queue.range(after..).take(most).map(|(order, digest)| (*order, *digest)).collect();
        let next = looked.last().filter(|_| looked.len() == most).map(|(order, _)| order + 1);
        let doomed = |digest: &u128| self.objects.get(digest).is_some_and(|slot| is_doomed(&slot.record));
        let digests: Vec<u128> = looked.into_iter().map(|(_, digest)| digest).filter(doomed).collect();
        (digests.into_iter().filter_map(|digest| self.remove_digest(digest)).collect(), next)
    }

    /// Is what is known of a file still so, as far as purges of late go?
    pub fn may_adopt(&self, record: &Record) -> bool {
        !self.pending.takes(record)
    }

    /// Something is purged now; folders that are not known yet are told when they are read.
    pub fn purged(&mut self, purge: &Purge, stamp: u64) {
        if !self.knows_all() {
            self.pending.purge(purge, stamp);
        }
    }

    /// Keeps room for a file that is being written, in a store of this size. Returns what has to go for it; `None` when
    /// there is no room for it whatever goes.
    pub fn reserve(&mut self, length: u64, size: u64) -> Option<Vec<Id>> {
        let wanted = blocks(length);
        if self.reserved.saturating_add(wanted) > size {
            return None;
        }
        self.reserved += wanted;
        Some(self.shrink(size))
    }

    /// What was reserved is written, or not.
    pub fn release(&mut self, length: u64) {
        self.reserved = self.reserved.saturating_sub(blocks(length));
    }

    /// What has to go so that all together is not more than this.
    pub fn shrink(&mut self, size: u64) -> Vec<Id> {
        let mut gone = Vec::new();
        while self.bytes + self.reserved > size
            && let Some(id) = self.evict()
        {
            gone.push(id);
        }
        gone
    }

    fn evict(&mut self) -> Option<Id> {
        // Twice around at most: the first spares, the second takes.
        for _ in 0..=self.queue.len().saturating_mul(2) {
            let (order, digest) =
                self.queue.range(self.hand..).next().or_else(|| self.queue.iter().next())?;
            let (order, digest) = (*order, *digest);
            self.hand = order + 1;
            match self.objects.get_mut(&digest) {
                Some(slot) if slot.used => slot.used = false,
                _ => return self.remove_digest(digest),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
