//! Fetches under way, by what they are for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{baggage::Baggage, epochs::Mark, flight::Flight, reader::Seat};

/// Parts with a lock each.
const PARTS: usize = 64;

/// Fetches under way.
pub struct Flights {
    parts: [Mutex<HashMap<u64, Arc<Flight>>>; PARTS],
    /// What all of them carry.
    pub baggage: Arc<Baggage>,
}

impl Flights {
    /// None.
    pub fn new(baggage: Arc<Baggage>) -> Flights {
        Flights { parts: std::array::from_fn(|_| Mutex::default()), baggage }
    }

    fn part(&self, place: u64) -> Option<MutexGuard<'_, HashMap<u64, Arc<Flight>>>> {
        let part = self.parts.get((place % PARTS as u64) as usize)?;
        Some(part.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A seat at the fetch for a place, and whether it is a new one, which the caller begins. One that began before
    /// something was written or purged is not joined by who asks after that.
    pub fn join(&self, place: u64, mark: Mark) -> (Seat, bool) {
        let new = || Arc::new(Flight::new(mark, &self.baggage));
        let Some(mut part) = self.part(place) else { return (Seat::take(&new()), true) };
        if let Some(flight) = part.get(&place).filter(|flight| flight.mark == mark) {
            return (Seat::take(flight), false);
        }
        let flight = new();
        part.insert(place, flight.clone());
        (Seat::take(&flight), true)
    }

    /// Nobody joins it any longer.
    pub fn leave(&self, place: u64, flight: &Arc<Flight>) {
        if let Some(mut part) = self.part(place)
            && part.get(&place).is_some_and(|other| Arc::ptr_eq(other, flight))
        {
            part.remove(&place);
        }
    }
}
