//! Stores: where several gateways share what they count and what they keep. A store that does not answer is never an
//! error of a request: whoever asks it knows how to go on without.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use crate::BoxFuture;

/// All stores of a configuration, by name.
#[derive(Clone, Default)]
pub struct Stores {
    by_name: BTreeMap<Arc<str>, Store>,
}

/// What a store can do. A clone is shallow.
#[derive(Clone, Default)]
pub struct Store {
    /// Counts.
    pub counters: Option<Arc<dyn CounterStore>>,
    /// Keeps bytes.
    pub blobs: Option<Arc<dyn BlobStore>>,
}

impl Stores {
    /// The store of this name.
    pub fn get(&self, name: &str) -> Option<&Store> {
        self.by_name.get(name)
    }

    /// Takes a store in.
    pub fn insert(&mut self, name: Arc<str>, store: Store) {
        self.by_name.insert(name, store);
    }

    /// All stores, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Store)> {
        self.by_name.iter()
    }

    /// Their names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(AsRef::as_ref)
    }
}

impl std::fmt::Debug for Stores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// Why a store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}{}", .kind.as_str(), if .detail.is_empty() { "" } else { ": " }, .detail)]
pub struct Failure {
    /// What happened.
    pub kind: FailureKind,
    /// For logs.
    pub detail: String,
}

/// What happened to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// There is no connection to it. Known at once, without asking.
    Away,
    /// It did not answer in time.
    Slow,
    /// It is full.
    Full,
    /// It refused, or answered something odd.
    Refused,
}

impl FailureKind {
    /// Every kind.
    pub const ALL: [FailureKind; 4] =
        [FailureKind::Away, FailureKind::Slow, FailureKind::Full, FailureKind::Refused];

    /// For metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            FailureKind::Away => "away",
            FailureKind::Slow => "timeout",
            FailureKind::Full => "full",
            FailureKind::Refused => "refused",
        }
    }
}

impl Failure {
    /// A failure with detail for logs.
    pub fn new(kind: FailureKind, detail: impl Into<String>) -> Failure {
        Failure { kind, detail: detail.into() }
    }
}

/// What is wanted of one counter.
#[derive(Debug, Clone, PartialEq)]
pub struct Take {
    /// Which counter. The store puts its own prefix before it.
    pub key: String,
    /// What bounds it.
    pub bound: Bound,
    /// How much is taken.
    pub cost: u64,
    /// So much that was taken before is given back first, whatever comes of the rest. Of quotas only: of a bucket that
    /// refills, what was not used comes back by itself.
    pub back: u64,
    /// So much more is taken, or as much of it as is there, if there is enough for the cost.
    pub extra: u32,
}

impl Take {
    /// Takes so much, and nothing else.
    pub fn new(key: String, bound: Bound, cost: u64) -> Take {
        Take { key, bound, cost, back: 0, extra: 0 }
    }
}

/// What bounds a counter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// So many at once, and one more after each interval: a bucket that refills (GCRA).
    Rate {
        /// In nanoseconds; may have a fraction.
        interval: f64,
        /// What the full bucket holds.
        burst: u64,
        /// Beyond the burst, for those who are made to wait.
        more: u64,
    },
    /// So many until a point in time; then it begins again. The key names the window.
    Quota {
        /// So many.
        quota: u64,
        /// When it ends.
        ends: SystemTime,
    },
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Was there enough in this counter?
    pub enough: bool,
    /// Taken beyond the cost.
    pub extra: u32,
    /// What is left now (never counts what is beyond the burst).
    pub left: u64,
    /// Not enough: how long until there would be. Enough, but beyond the burst: how long to wait before going on.
    pub wait: Duration,
    /// How long until it is full again.
    pub reset: Duration,
}

/// A store that counts.
pub trait CounterStore: Send + Sync + 'static {
    /// Takes from all of these counters, or, where one has not enough, from none: in one round trip. `forced` takes in
    /// any case: for what is known only afterwards.
    fn take<'a>(&'a self, takes: &'a [Take], forced: bool) -> BoxFuture<'a, Result<Vec<Taken>, Failure>>;
}

/// What became of a value that was to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is kept.
    Kept,
    /// It was purged since it was asked for.
    Purged,
    /// It was asked for so long ago that nobody knows whether it was purged since.
    Late,
}

/// A store that keeps bytes under keys for a time.
pub trait BlobStore: Send + Sync + 'static {
    /// What is kept under a key.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, Failure>>;

    /// Now, by the store's own clock, in microseconds.
    fn now(&self) -> BoxFuture<'_, Result<u64, Failure>>;

    /// Keeps a value for a time, in place of what was there, under tags by which it can be purged: unless it was purged,
    /// by whomever, `since` this moment of the store's clock, when it was asked for.
    fn put<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        ttl: Duration,
        tags: &'a [&'a str],
        since: u64,
    ) -> BoxFuture<'a, Result<Put, Failure>>;

    /// Forgets a key; was it there?
    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, Failure>>;

    /// Forgets everything under a tag; how many there were.
    fn purge_tag<'a>(&'a self, tag: &'a str) -> BoxFuture<'a, Result<u64, Failure>>;

    /// Forgets every key that begins so; how many there were. Goes through the whole store.
    fn purge_prefix<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<u64, Failure>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_tell_what_happened() {
        assert_eq!(Failure::new(FailureKind::Away, "").to_string(), "away");
        assert_eq!(Failure::new(FailureKind::Full, "OOM").to_string(), "full: OOM");
        assert!(Stores::default().get("main").is_none());
    }
}
