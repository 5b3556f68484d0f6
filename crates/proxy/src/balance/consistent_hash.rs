//! Consistent hash with bounded load: the same key goes to the same endpoint, on every replica and after every restart.
//!
//! A key whose endpoint is out, or already tried, goes on through the table of [`super::maglev`] on a way of its own, so
//! that it falls to the same other endpoint each time; keys of endpoints in service do not move. With a load bound c
//! (Mirrokni et al., 2017), an endpoint that has c times its fair share of the requests in flight passes keys on in the
//! same way until it has less. A request without the key (no such header) goes to any endpoint, at random by weight.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use portcullis_core::{
    balance::{Balancer, Pick},
    endpoint::Endpoint,
};

use super::{
    Place, any,
    key::{mix, stable_hash},
    maglev::Table,
};

/// Slots of the table that a pick looks at before it looks at every endpoint.
const SLOTS: usize = 32;

/// See the module.
#[derive(Debug)]
pub struct ConsistentHash {
    table: Arc<Table>,
    /// At least 1; `None` = unbounded.
    load_bound: Option<f64>,
}

impl ConsistentHash {
    /// For the endpoints of a service. A `load_bound` below 1 means none, since nobody could take a request.
    pub fn new(place: &Place<'_>, load_bound: f64) -> ConsistentHash {
        let table = place.keep.get("balance.maglev", &identity(place), || Table::new(place.endpoints));
        let load_bound = (load_bound >= 1.0 && load_bound.is_finite()).then_some(load_bound);
        ConsistentHash { table, load_bound }
    }
}

impl Balancer for ConsistentHash {
    fn pick(&self, pick: &Pick<'_>) -> Option<usize> {
        let Some(key) = pick.key else { return any(pick) };
        let mut room = None;
        for index in self.table.slots_of(key).take(SLOTS) {
            if pick.allows(index) && self.has_room(pick, index, &mut room) {
                return Some(index);
            }
        }
        // Most are out or full.
        let with_room = rendezvous(pick, key, |index| self.has_room(pick, index, &mut room));
        with_room.or_else(|| rendezvous(pick, key, |_| true))
    }

    fn name(&self) -> &'static str {
        "hash"
    }
}

impl ConsistentHash {
    /// May it take one more within the load bound? The load of all is added up once, when first needed.
    fn has_room(&self, pick: &Pick<'_>, index: usize, room: &mut Option<Room>) -> bool {
        let (Some(bound), Some(endpoint)) = (self.load_bound, pick.endpoints.get(index)) else { return true };
        let in_flight = endpoint.state.in_flight.load(Relaxed);
        // The bound is never below one request.
        in_flight == 0 || room.get_or_insert_with(|| Room::of(pick, bound)).holds(endpoint, in_flight)
    }
}

/// What all endpoints in service may hold together per unit of weight.
struct Room {
    per_weight: f64,
}

impl Room {
    fn of(pick: &Pick<'_>, bound: f64) -> Room {
        let (mut in_flight, mut weight) = (0_u64, 0_u64);
        for endpoint in pick.endpoints.iter().filter(|endpoint| endpoint.is_available()) {
            in_flight += u64::from(endpoint.state.in_flight.load(Relaxed));
            weight += u64::from(endpoint.weight);
        }
        Room { per_weight: bound * (in_flight + 1) as f64 / weight.max(1) as f64 }
    }

    fn holds(&self, endpoint: &Endpoint, in_flight: u32) -> bool {
        f64::from(in_flight) < (self.per_weight * f64::from(endpoint.weight)).ceil()
    }
}

/// The allowed and suitable endpoint that wins this key by weighted rendezvous: as stable and as fair as the table,
/// but looks at all of them.
fn rendezvous(pick: &Pick<'_>, key: u64, mut suits: impl FnMut(usize) -> bool) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (index, endpoint) in pick.endpoints.iter().enumerate() {
        if !pick.allows(index) || !suits(index) {
            continue;
        }
        // Uniform in (0, 1]; an exponential of rate `weight` comes first with probability weight / sum of weights.
        let uniform = ((mix(key ^ endpoint.hash) >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        let arrives = -uniform.ln() / f64::from(endpoint.weight);
        if best.is_none_or(|(_, first)| arrives < first) {
            best = Some((index, arrives));
        }
    }
    best.map(|(index, _)| index)
}

/// All that a table depends on.
fn identity(place: &Place<'_>) -> String {
    let mut all = Vec::with_capacity(place.endpoints.len() * 12);
    for endpoint in place.endpoints {
        all.extend_from_slice(&endpoint.hash.to_le_bytes());
        all.extend_from_slice(&endpoint.weight.to_le_bytes());
    }
    format!("{} {:016x}", place.service, stable_hash(&all))
}

#[cfg(test)]
mod tests {
    use portcullis_core::{endpoint::Health, keep::Keep};

    use super::*;
    use crate::balance::testing::*;

    const KEYS: u64 = 20_000;

    fn built(endpoints: &[Endpoint], load_bound: f64) -> ConsistentHash {
        ConsistentHash::new(&Place { service: "s", endpoints, keep: &Keep::default() }, load_bound)
    }

    /// The endpoint of each key.
    fn owners(balancer: &ConsistentHash, endpoints: &[Endpoint], tried: &[usize]) -> Vec<usize> {
        let key = |key: u64| Some(stable_hash(&key.to_le_bytes()));
        (0..KEYS).map(|k| balancer.pick(&Pick { key: key(k), tried, ..pick(endpoints) }).unwrap()).collect()
    }

    fn counts(owners: &[usize], endpoints: usize) -> Vec<usize> {
        let mut counts = vec![0; endpoints];
        owners.iter().for_each(|&owner| counts[owner] += 1);
        counts
    }

    #[test]
    fn keys_are_shared_by_weight_and_stay() {
        let weights = [5, 1, 4];
        let endpoints = endpoints(&weights);
        let balancer = built(&endpoints, 1.25);
        let first = owners(&balancer, &endpoints, &[]);
        assert_proportional(&counts(&first, 3), &weights, 0.01);
        assert_eq!(first, owners(&built(&endpoints, 0.0), &endpoints, &[]));
    }

    #[test]
    fn owners_are_the_same_in_every_release() {
        let endpoints = endpoints(&[1, 1, 1, 1]);
        let balancer = built(&endpoints, 1.25);
        assert_eq!(owners(&balancer, &endpoints, &[])[..12], [2, 3, 3, 2, 2, 0, 3, 0, 0, 3, 0, 0]);
    }

    #[test]
    fn only_the_keys_of_an_absent_endpoint_move_and_to_all_others_alike() {
        let endpoints = endpoints(&[2, 1, 1, 1]);
        let balancer = built(&endpoints, 1.25);
        let before = owners(&balancer, &endpoints, &[]);
        endpoints[0].state.set_health(Health::Unhealthy);
        let after = owners(&balancer, &endpoints, &[]);
        let moved: Vec<usize> = before
            .iter()
            .zip(&after)
            .filter(|(before, after)| before != after)
            .map(|(_, after)| *after)
            .collect();
        assert_eq!(moved.len(), counts(&before, 4)[0]);
        assert_proportional(&counts(&moved, 4), &[0, 1, 1, 1], 0.02);
        // An endpoint already tried is passed over to the same place.
        endpoints[0].state.set_health(Health::Healthy);
        assert_eq!(after, owners(&balancer, &endpoints, &[0]));
        assert_eq!(before, owners(&balancer, &endpoints, &[]));
    }

    #[test]
    fn when_most_are_out_the_rest_share_by_weight_and_keys_stay() {
        let endpoints = endpoints(&[1; 200]);
        let balancer = built(&endpoints, 1.25);
        endpoints[3..].iter().for_each(|endpoint| _ = endpoint.state.set_health(Health::Unhealthy));
        let owners_now = owners(&balancer, &endpoints, &[]);
        assert_proportional(&counts(&owners_now, 200)[..3], &[1, 1, 1], 0.02);
        assert_eq!(owners_now, owners(&balancer, &endpoints, &[]));
    }

    #[test]
    fn one_hot_key_spills_over_within_the_bound() {
        let endpoints = endpoints(&[1, 1, 1, 1]);
        let balancer = built(&endpoints, 1.25);
        let hot = Pick { key: Some(7), ..pick(&endpoints) };
        let mut order = Vec::new();
        for _ in 0..400 {
            let index = balancer.pick(&hot).unwrap();
            order.push(index);
            endpoints[index].state.in_flight.fetch_add(1, Relaxed);
        }
        let greatest = endpoints.iter().map(|e| e.state.in_flight.load(Relaxed)).max().unwrap();
        assert_eq!(greatest, 125);
        // Unbounded, it stays where it is.
        assert_eq!(built(&endpoints, f64::INFINITY).pick(&hot), Some(order[0]));
        // The overflow always goes the same way.
        endpoints.iter().for_each(|e| e.state.in_flight.store(0, Relaxed));
        endpoints[order[0]].state.in_flight.store(100, Relaxed);
        let spilled: Vec<usize> = (0..10).map(|_| balancer.pick(&hot).unwrap()).collect();
        assert!(spilled.iter().all(|&index| index == spilled[0] && index != order[0]));
    }

    #[test]
    fn without_a_key_the_choice_is_random_by_weight() {
        fastrand::seed(5);
        let endpoints = endpoints(&[3, 1]);
        let picked: Vec<usize> =
            (0..KEYS).map(|_| built_once(&endpoints).pick(&pick(&endpoints)).unwrap()).collect();
        assert_proportional(&counts(&picked, 2), &[3, 1], 0.02);
    }

    fn built_once(endpoints: &[Endpoint]) -> &'static ConsistentHash {
        static ONCE: std::sync::OnceLock<ConsistentHash> = std::sync::OnceLock::new();
        ONCE.get_or_init(|| built(endpoints, 1.25))
    }

    #[test]
    fn a_reload_uses_the_table_again_unless_something_changed() {
        let (keep, mut endpoints) = (Keep::default(), endpoints(&[1, 1]));
        let table = |endpoints: &[Endpoint]| {
            ConsistentHash::new(&Place { service: "s", endpoints, keep: &keep }, 1.25).table
        };
        let first = table(&endpoints);
        assert!(Arc::ptr_eq(&first, &table(&endpoints)));
        endpoints[1].weight = 2;
        assert!(!Arc::ptr_eq(&first, &table(&endpoints)));
    }
}
