//! The bytes of bodies on their way, which count against the cache's memory as what is stored does.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How many there are, and may be.
#[derive(Debug)]
pub struct Baggage {
    used: AtomicU64,
    most: u64,
}

impl Baggage {
    /// Room for so many.
    pub fn new(most: u64) -> Baggage {
        Baggage { used: AtomicU64::new(0), most }
    }

    pub(super) fn add(&self, bytes: usize) {
        self.used.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn sub(&self, bytes: usize) {
        self.used.fetch_sub(bytes as u64, Relaxed);
    }

    /// How many there are.
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// Is there room for so many more? Where there is none, bodies are not stored but only passed on.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.used().saturating_add(bytes) <= self.most
    }
}
