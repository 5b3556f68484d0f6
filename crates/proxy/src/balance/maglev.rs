//! Maglev's lookup table (Eisenbud et al., NSDI 2016, §3.4): which endpoint a hash belongs to.
//!
//! Chosen over a ring, because its shares are exact to a slot where those of a ring of 160 points an endpoint stray by
//! a tenth, because a look-up is one load instead of a binary search, and because a key whose endpoint is out goes on
//! to a slot of its own choosing, so that the load of a lost endpoint falls on all others alike and not on a neighbour.
//! When an endpoint joins or leaves, a few keys per hundred move beside those that must.
//!
//! The table depends on the endpoints' hashes and weights alone, not on their order: replicas agree.

use portcullis_core::endpoint::Endpoint;

use super::key::mix;

/// Slots of a table: a prime, and the same for every service, since another size would move every key.
pub const SLOTS: u64 = 65_537;

const EMPTY: u16 = u16::MAX;
const OFFSET: u64 = 0xA076_1D64_78BD_642F;
const SKIP: u64 = 0xE703_7ED1_A0B4_28DB;

/// The table: an index of an endpoint in every slot. Endpoints of weight 0 have none.
///
/// Endpoints past the first 65,535 of a service have no slot either and are chosen only when others are out.
#[derive(Debug)]
pub struct Table {
    slots: Box<[u16]>,
}

/// An endpoint on its way through the slots it prefers.
struct Claim {
    index: u16,
    weight: u64,
    /// Reaches the greatest weight when it may take a slot.
    credit: u64,
    next: u64,
    skip: u64,
}

impl Table {
    /// The table of a service.
    pub fn new(endpoints: &[Endpoint]) -> Table {
        let mut claims = claims(endpoints);
        let greatest = claims.iter().map(|claim| claim.weight).max().unwrap_or(0);
        if claims.is_empty() {
            return Table { slots: Box::default() };
        }
        let mut slots = vec![EMPTY; SLOTS as usize].into_boxed_slice();
        let mut left = slots.len();
        while left > 0 {
            for claim in &mut claims {
                claim.credit += claim.weight;
                if claim.credit < greatest {
                    continue;
                }
                claim.credit -= greatest;
                if left > 0 && claim.take(&mut slots) {
                    left -= 1;
                }
            }
        }
        Table { slots }
    }

    /// The slots of a key: its own, and those it goes on to when the endpoint there cannot take it. Ends after every
    /// slot was visited once.
    pub fn slots_of(&self, key: u64) -> impl Iterator<Item = usize> {
        let (start, step) = walk(key);
        let slot = move |turn| ((start + turn * step) % SLOTS) as usize;
        (0..SLOTS).map_while(move |turn| self.slots.get(slot(turn)).map(|&index| usize::from(index)))
    }
}

impl Claim {
    /// Takes the free slot it prefers most. There is one: its walk visits every slot.
    fn take(&mut self, slots: &mut [u16]) -> bool {
        for _ in 0..SLOTS {
            let at = self.next;
            self.next = (self.next + self.skip) % SLOTS;
            match slots.get_mut(at as usize) {
                Some(slot) if *slot == EMPTY => {
                    *slot = self.index;
                    return true;
                }
                _ => {}
            }
        }
        false
    }
}

/// The endpoints with a weight, in the order of their hashes. Each begins with the credit for one slot, so that none
/// is forgotten, however light.
fn claims(endpoints: &[Endpoint]) -> Vec<Claim> {
    let greatest = endpoints.iter().map(|endpoint| u64::from(endpoint.weight)).max().unwrap_or(0);
    let weighty = (0..EMPTY).zip(endpoints).filter(|(_, endpoint)| endpoint.weight > 0);
    let mut sorted: Vec<(u64, Claim)> = weighty
        .map(|(index, endpoint)| {
            let (next, skip) = walk(endpoint.hash);
            let weight = u64::from(endpoint.weight);
            (endpoint.hash, Claim { index, weight, credit: greatest - weight, next, skip })
        })
        .collect();
    sorted.sort_by_key(|(hash, _)| *hash);
    sorted.into_iter().map(|(_, claim)| claim).collect()
}

/// A walk over all slots: where it starts and how far it steps. As many walks as there are hashes.
fn walk(hash: u64) -> (u64, u64) {
    (mix(hash ^ OFFSET) % SLOTS, mix(hash ^ SKIP) % (SLOTS - 1) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::testing::*;

    fn counts(table: &Table, endpoints: usize) -> Vec<usize> {
        let mut counts = vec![0; endpoints];
        table.slots.iter().for_each(|&index| counts[index as usize] += 1);
        counts
    }

    #[test]
    fn slots_are_shared_exactly() {
        for weights in [&[1; 3][..], &[5, 1, 1], &[0, 7, 100], &[1; 1000], &[60_000, 1]] {
            let table = Table::new(&endpoints(weights));
            let counts = counts(&table, weights.len());
            let total: u32 = weights.iter().sum();
            for (&count, &weight) in counts.iter().zip(weights) {
                let exact = SLOTS as f64 * f64::from(weight) / f64::from(total);
                assert!((count as f64 - exact).abs() <= 2.0, "{count} slots for {exact} of {weights:?}");
                assert_eq!(count == 0, weight == 0);
            }
        }
    }

    #[test]
    fn the_order_of_the_configuration_does_not_matter() {
        let forth = endpoints(&[3, 1, 4, 1, 5]);
        let mut back = endpoints(&[3, 1, 4, 1, 5]);
        back.reverse();
        let urls = |table: &Table, endpoints: &[Endpoint]| -> Vec<_> {
            table.slots.iter().map(|&index| endpoints[index as usize].url.clone()).collect()
        };
        assert_eq!(urls(&Table::new(&forth), &forth), urls(&Table::new(&back), &back));
    }

    #[test]
    fn few_slots_move_when_an_endpoint_leaves() {
        for (n, beside) in [(3, 0.03), (10, 0.03), (100, 0.03), (1000, 0.03)] {
            let all = endpoints(&vec![1; n]);
            let before = Table::new(&all);
            let after = Table::new(&all[..n - 1]);
            let moved =
                before.slots.iter().zip(&after.slots).filter(|(before, after)| before != after).count();
            let moved = moved as f64 / SLOTS as f64;
            assert!(moved >= 1.0 / n as f64 - 0.001 && moved <= 1.0 / n as f64 + beside, "{moved} of {n}");
        }
    }

    #[test]
    fn a_key_visits_every_slot_once() {
        let table = Table::new(&endpoints(&[2, 1]));
        let visited: Vec<usize> = table.slots_of(42).collect();
        assert_eq!(visited.len(), SLOTS as usize);
        let first = visited.iter().filter(|&&index| index == 0).count();
        assert_eq!(first, counts(&table, 2)[0]);
        assert_eq!(Table::new(&[]).slots_of(42).count(), 0);
    }
}
