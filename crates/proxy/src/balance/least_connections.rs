//! Least connections: the endpoint with the fewest requests in flight for its weight.
//!
//! Equals take turns in proportion to their weights, so that a service at rest, where all have nothing in flight, is
//! spread like a round robin instead of landing on the first endpoint. The turns are spaced by the golden ratio, which
//! spreads them evenly over any weights without a schedule.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use portcullis_core::{
    balance::{Balancer, Pick},
    endpoint::Endpoint,
};

use super::{Cursor, Place, at_share};

/// 2⁶⁴ divided by the golden ratio.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// See the module.
#[derive(Debug)]
pub struct LeastConnections {
    cursor: Arc<Cursor>,
}

impl LeastConnections {
    /// For the endpoints of a service.
    pub fn new(place: &Place<'_>) -> LeastConnections {
        LeastConnections { cursor: Cursor::of(place, "least_connections") }
    }
}

impl Balancer for LeastConnections {
    fn pick(&self, pick: &Pick<'_>) -> Option<usize> {
        let least = least(pick)?;
        let turn = self.cursor.next().wrapping_mul(GOLDEN);
        // Another worker may have loaded the least one since: as good as it was, so it is the answer then.
        at_share(pick, turn, |_, endpoint| !Load::of(endpoint).is_more_than(least.load)).or(Some(least.index))
    }

    fn reset(&self) {
        self.cursor.reset();
    }

    fn name(&self) -> &'static str {
        "least_connections"
    }
}

/// Requests in flight, and the weight to carry them.
#[derive(Debug, Clone, Copy)]
struct Load {
    in_flight: u64,
    weight: u64,
}

impl Load {
    fn of(endpoint: &Endpoint) -> Load {
        let in_flight = u64::from(endpoint.state.in_flight.load(Relaxed));
        Load { in_flight, weight: u64::from(endpoint.weight) }
    }

    /// Compares `in_flight / weight` by multiplying across; both factors are below 2³².
    fn is_more_than(self, other: Load) -> bool {
        self.in_flight * other.weight > other.in_flight * self.weight
    }
}

struct Least {
    index: usize,
    load: Load,
}

fn least(pick: &Pick<'_>) -> Option<Least> {
    let mut least: Option<Least> = None;
    for (index, endpoint) in pick.endpoints.iter().enumerate().filter(|(index, _)| pick.allows(*index)) {
        let load = Load::of(endpoint);
        if least.as_ref().is_none_or(|least| least.load.is_more_than(load)) {
            least = Some(Least { index, load });
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use portcullis_core::keep::Keep;

    use super::*;
    use crate::balance::testing::*;

    fn built(endpoints: &[Endpoint]) -> LeastConnections {
        LeastConnections::new(&Place { service: "s", endpoints, keep: &Keep::default() })
    }

    fn load(endpoints: &[Endpoint], in_flight: &[u32]) {
        endpoints.iter().zip(in_flight).for_each(|(e, &n)| e.state.in_flight.store(n, Relaxed));
    }

    #[test]
    fn the_least_loaded_for_its_weight_is_chosen() {
        let endpoints = endpoints(&[1, 4, 2]);
        let balancer = built(&endpoints);
        for (in_flight, chosen) in [([1, 3, 2], 1), ([0, 1, 1], 0), ([2, 7, 3], 2), ([9, 36, 17], 2)] {
            load(&endpoints, &in_flight);
            assert_eq!(counts(&balancer, &pick(&endpoints), 10)[chosen], 10, "{in_flight:?}");
        }
    }

    #[test]
    fn equals_take_turns_by_weight() {
        let endpoints = endpoints(&[5, 1, 2]);
        let balancer = built(&endpoints);
        assert_proportional(&counts(&balancer, &pick(&endpoints), 8_000), &[5, 1, 2], 0.001);
        // Also when only two of three are equal, which do not stand together.
        load(&endpoints, &[5, 2, 2]);
        assert_proportional(&counts(&balancer, &pick(&endpoints), 8_000), &[5, 0, 2], 0.001);
    }

    #[test]
    fn requests_that_stay_fill_up_in_proportion() {
        let endpoints = endpoints(&[3, 1, 2]);
        let balancer = built(&endpoints);
        for _ in 0..600 {
            let index = balancer.pick(&pick(&endpoints)).unwrap();
            endpoints[index].state.in_flight.fetch_add(1, Relaxed);
        }
        let in_flight: Vec<u32> = endpoints.iter().map(|e| e.state.in_flight.load(Relaxed)).collect();
        assert_eq!(in_flight, [300, 100, 200]);
    }
}
