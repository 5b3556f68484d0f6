//! Where answers are kept, for all routes of the gateway; it outlives every configuration.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{
    baggage::Baggage,
    epochs::Epochs,
    far::FarCounts,
    flights::Flights,
    purge::Purge,
    shelf::{Entry, Shelf},
};

/// All that is stored.
pub struct Stock {
    /// In memory.
    pub shelf: Shelf,
    /// What is not valid any longer.
    pub epochs: Epochs,
    pub(super) flights: Flights,
    /// What was asked of the store that gateways share.
    pub far: Arc<FarCounts>,
    purged: AtomicU64,
    invalidated: AtomicU64,
}

/// What is stored, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filled {
    /// Entries in memory.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of bodies on their way.
    pub arriving: u64,
    /// Thrown out to make room, ever.
    pub evicted: u64,
    /// Taken out at somebody's word, ever.
    pub purged: u64,
    /// URIs made invalid by unsafe requests, ever.
    pub invalidated: u64,
}

impl Stock {
    /// Room for so many bytes in memory, and for objects of this size. A quarter is for what is on its way.
    pub fn new(bytes: u64, largest: u64) -> Stock {
        let on_their_way = (bytes / 4).max(largest);
        Stock {
            shelf: Shelf::new(bytes.saturating_sub(on_their_way), largest),
            epochs: Epochs::new(),
            flights: Flights::new(Arc::new(Baggage::new(on_their_way))),
            far: Arc::default(),
            purged: AtomicU64::new(0),
            invalidated: AtomicU64::new(0),
        }
    }

    /// Keeps an answer, unless it was made invalid on its way. Tells whether.
    pub fn keep(&self, entry: &Arc<Entry>, vary: &[Box<str>]) -> bool {
        let put = || self.shelf.put(entry.clone(), vary);
        self.epochs.store(&entry.mark, entry.object.uri(), entry.tags(), put)
    }

    /// The same for one that may be large: what must go for it goes in steps, and others have the thread in between.
    pub async fn keep_gently(&self, entry: &Arc<Entry>, vary: &[Box<str>]) -> bool {
        for () in self.shelf.make_room(entry, vary) {
            tokio::task::yield_now().await;
        }
        let kept = self.keep(entry, vary);
        if !kept {
            self.shelf.remove(entry, vary);
        }
        kept
    }

    /// Would it be kept now?
    pub fn may_keep(&self, entry: &Entry) -> bool {
        self.epochs.may_store(&entry.mark, entry.object.uri(), entry.tags())
    }

    /// Throws one answer away.
    pub fn forget(&self, entry: &Entry) {
        self.shelf.remove(entry, &entry.vary());
    }

    /// What is stored for a URI is not valid any longer.
    pub fn invalidate(&self, uri: &[u8]) {
        self.invalidated.fetch_add(1, Relaxed);
        self.epochs.invalidate(uri);
    }

    /// Takes answers out; tells how many there were. Looks at everything that is stored: not for a worker's thread.
    pub fn purge(&self, purge: &Purge) -> u64 {
        self.epochs.purged(purge);
        let is_it = |entry: &Entry| purge.takes(entry.object.uri(), entry.mark.by_path, entry.tags());
        let count = self.shelf.remove_where(is_it);
        self.purged.fetch_add(count, Relaxed);
        count
    }

    /// What is stored, in numbers.
    pub fn filled(&self) -> Filled {
        let (entries, bytes) = self.shelf.filled();
        Filled {
            entries,
            bytes,
            arriving: self.flights.baggage.used(),
            evicted: self.shelf.evicted(),
            purged: self.purged.load(Relaxed),
            invalidated: self.invalidated.load(Relaxed),
        }
    }
}

impl std::fmt::Debug for Stock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.filled())
    }
}
