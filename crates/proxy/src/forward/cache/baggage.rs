//! The bytes of bodies on their way, which count against the cache's memory as what is stored does.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How many there are or are sure to come, and how many there may be.
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

    /// Counts so many that are to come, if there is room for them.
    pub(super) fn book(&self, bytes: u64) -> bool {
        let with = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.most);
        self.used.fetch_update(Relaxed, Relaxed, with).is_ok()
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

    /// Are there no more than there may be? Where there are, bodies are not stored but only passed on.
    pub fn has_room(&self) -> bool {
        self.used() <= self.most
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::forward::cache::{epochs::Epochs, flight::Flight};

    /// Of many that begin at once and are too much together, those that were first are kept.
    #[test]
    fn room_is_for_whoever_was_first_and_counted_once() {
        let baggage = Arc::new(Baggage::new(100_000));
        let mark = Epochs::new().mark(b"x", false);
        let flights: Vec<_> = (0..20).map(|_| Flight::new(mark, &baggage)).collect();
        let booked: Vec<_> = flights.iter().map(|flight| flight.books(Some(40_000))).collect();
        assert_eq!((booked.iter().filter(|booked| **booked).count(), baggage.used()), (2, 80_000));
        assert!(booked[0] && booked[1]);
        flights[0].piece(vec![0; 30_000].into());
        assert_eq!(baggage.used(), 80_000);
        flights[0].piece(vec![0; 10_000].into());
        let used = baggage.used();
        assert!((80_000..80_500).contains(&used), "and what a piece needs: {used}");
        // One that turns out not to be stored needs no room for what is to come.
        flights[1].keep_little();
        assert!((40_000..40_500).contains(&baggage.used()));
        assert!(flights[2].books(Some(59_000)) && !flights[3].books(Some(41_000)) && flights[3].books(None));
        flights[2].end(Ok(None));
        assert!((40_000..40_500).contains(&baggage.used()));
        drop(flights);
        assert_eq!(baggage.used(), 0);
    }
}
