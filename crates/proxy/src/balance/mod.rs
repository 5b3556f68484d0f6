//! Balancing: which endpoint of a service takes a request.
//!
//! One file per strategy, and one arm of [`build`] for each; a new strategy is a new file, a new arm and its name in
//! the configuration. Every strategy obeys [`Pick::allows`], allocates nothing per pick, waits for nobody and looks at
//! each endpoint a bounded number of times, with one endpoint as with a thousand.
//!
//! What outlives a reload is small: the turn of the strategies that take turns ([`Cursor`]), latencies and requests in
//! flight (which live in the endpoints' state), and tables that would come out the same ([`maglev::Table`]).

pub mod consistent_hash;
pub mod ip_hash;
pub mod key;
pub mod least_connections;
pub mod maglev;
pub mod p2c;
pub mod random;
pub mod round_robin;
mod shares;
pub mod sticky;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use portcullis_config::model::Strategy;
use portcullis_core::{
    balance::{Balancer, Pick},
    endpoint::Endpoint,
    keep::Keep,
};

pub use key::{KeyOf, stable_hash};
pub use sticky::Sticky;

/// The service that a strategy is built for.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The service's qualified name.
    pub service: &'a str,
    /// Its endpoints, in the order in which they will be picked from.
    pub endpoints: &'a [Endpoint],
    /// State carried over from the last configuration.
    pub keep: &'a Keep,
}

/// Builds a strategy. This is the table of strategies: without a wildcard, so that a new one does not compile until it
/// stands here.
pub fn build(strategy: &Strategy, place: &Place<'_>) -> Arc<dyn Balancer> {
    match strategy {
        Strategy::RoundRobin => Arc::new(round_robin::RoundRobin::new(place)),
        Strategy::LeastConnections => Arc::new(least_connections::LeastConnections::new(place)),
        Strategy::Random => Arc::new(random::Random::new(place)),
        Strategy::P2c => Arc::new(p2c::P2c::new(place)),
        Strategy::IpHash => Arc::new(ip_hash::IpHash::new(place)),
        Strategy::Hash { load_bound, .. } => {
            Arc::new(consistent_hash::ConsistentHash::new(place, *load_bound))
        }
    }
}

/// Whose turn it is: a counter that all workers share, on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Cursor(AtomicU64);

impl Cursor {
    /// The cursor of a service's strategy, where the last configuration left it.
    fn of(place: &Place<'_>, strategy: &str) -> Arc<Cursor> {
        place.keep.get("balance.cursor", &format!("{strategy} {}", place.service), Cursor::default)
    }

    /// The next turn. Each number is given out once.
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Relaxed)
    }

    /// Starts over.
    fn reset(&self) {
        self.0.store(0, Relaxed);
    }
}

/// Chooses at random among all that are allowed, in proportion to their weights. Looks at every endpoint twice: the
/// last resort of strategies that usually look at a few.
fn any(pick: &Pick<'_>) -> Option<usize> {
    at_share(pick, fastrand::u64(..), |_, _| true)
}

/// The endpoint at a share of the weight of all that are allowed and suit: `at` is a fraction of 2⁶⁴.
///
/// Availability may change between the two passes; then it is the last one that still suits.
fn at_share(pick: &Pick<'_>, at: u64, suits: impl Fn(usize, &Endpoint) -> bool) -> Option<usize> {
    let suitable = || {
        let all = pick.endpoints.iter().enumerate();
        all.filter(|(index, endpoint)| pick.allows(*index) && suits(*index, endpoint))
    };
    let total: u64 = suitable().map(|(_, endpoint)| u64::from(endpoint.weight)).sum();
    let mut left = scale(at, total);
    let mut last = None;
    for (index, endpoint) in suitable() {
        last = Some(index);
        match left.checked_sub(u64::from(endpoint.weight)) {
            Some(rest) => left = rest,
            None => break,
        }
    }
    last
}

/// A number below `bound` from a fraction of 2⁶⁴, without division (Lemire).
fn scale(fraction: u64, bound: u64) -> u64 {
    ((u128::from(fraction) * u128::from(bound)) >> 64) as u64
}

#[cfg(test)]
pub(crate) mod testing {
    //! Endpoints for the strategies' tests.

    use std::{sync::Arc, time::Instant};

    use portcullis_core::{
        balance::{Balancer, Pick},
        endpoint::{Endpoint, EndpointState},
    };

    use super::stable_hash;

    /// Endpoints of these weights, all in service.
    pub(crate) fn endpoints(weights: &[u32]) -> Vec<Endpoint> {
        let endpoint = |(index, &weight): (usize, &u32)| {
            let url = format!("http://10.0.{}.{}:80", index / 256, index % 256);
            Endpoint {
                hash: stable_hash(url.as_bytes()),
                url: url.into(),
                weight,
                state: Arc::new(EndpointState::new(false)),
            }
        };
        weights.iter().enumerate().map(endpoint).collect()
    }

    /// A pick among these.
    pub(crate) fn pick(endpoints: &[Endpoint]) -> Pick<'_> {
        Pick { endpoints, key: None, tried: &[], now: Instant::now() }
    }

    /// How often each is picked.
    pub(crate) fn counts(balancer: &dyn Balancer, pick: &Pick<'_>, picks: usize) -> Vec<usize> {
        let mut counts = vec![0; pick.endpoints.len()];
        for _ in 0..picks {
            counts[balancer.pick(pick).unwrap()] += 1;
        }
        counts
    }

    /// Asserts that counts lie within `tolerance` (a share of the whole) of the weights.
    #[track_caller]
    pub(crate) fn assert_proportional(counts: &[usize], weights: &[u32], tolerance: f64) {
        let (picks, total): (usize, u32) = (counts.iter().sum(), weights.iter().sum());
        for (index, (&count, &weight)) in counts.iter().zip(weights).enumerate() {
            let (share, want) = (count as f64 / picks as f64, f64::from(weight) / f64::from(total));
            assert!(
                (share - want).abs() <= tolerance,
                "endpoint {index}: {share} is not {want} ({counts:?})"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use portcullis_config::model::HashKey;
    use portcullis_core::endpoint::Health;

    use super::{testing::*, *};

    fn all() -> Vec<Strategy> {
        let hash = Strategy::Hash { by: HashKey::Path, load_bound: 1.25 };
        vec![
            Strategy::RoundRobin,
            Strategy::LeastConnections,
            Strategy::Random,
            Strategy::P2c,
            Strategy::IpHash,
            hash,
        ]
    }

    fn built(strategy: &Strategy, endpoints: &[Endpoint]) -> Arc<dyn Balancer> {
        build(strategy, &Place { service: "s@file", endpoints, keep: &Keep::default() })
    }

    /// With and without a key, since the hashes answer differently.
    fn picked(balancer: &dyn Balancer, endpoints: &[Endpoint], tried: &[usize]) -> Vec<Option<usize>> {
        let keys = (0..200).map(|key| (key % 2 == 0).then_some(key));
        keys.map(|key| balancer.pick(&Pick { key, tried, ..pick(endpoints) })).collect()
    }

    #[test]
    fn every_strategy_obeys_availability_weight_and_tried() {
        for strategy in all() {
            let endpoints = endpoints(&[1, 0, 3, 2, 1]);
            let balancer = built(&strategy, &endpoints);
            endpoints[0].state.set_health(Health::Unhealthy);
            endpoints[4].state.set_ejected(true);
            let found = picked(&*balancer, &endpoints, &[2]);
            assert!(found.iter().all(|found| *found == Some(3)), "{}", balancer.name());
            endpoints[4].state.set_ejected(false);
            let found = picked(&*balancer, &endpoints, &[2]);
            assert!(found.contains(&Some(3)) && found.contains(&Some(4)), "{}", balancer.name());
            assert!(picked(&*balancer, &endpoints, &[2, 3, 4]).iter().all(Option::is_none));
        }
    }

    #[test]
    fn every_strategy_copes_with_none_one_and_a_thousand() {
        for strategy in all() {
            assert_eq!(built(&strategy, &[]).pick(&pick(&[])), None);
            let one = endpoints(&[7]);
            assert_eq!(built(&strategy, &one).pick(&pick(&one)), Some(0));
            let drained = endpoints(&[0, 0]);
            assert_eq!(built(&strategy, &drained).pick(&pick(&drained)), None);

            let many = endpoints(&[3; 1000]);
            let balancer = built(&strategy, &many);
            many.iter().for_each(|endpoint| _ = endpoint.state.set_health(Health::Unhealthy));
            assert!(picked(&*balancer, &many, &[]).iter().all(Option::is_none));
            many[613].state.set_health(Health::Healthy);
            assert!(picked(&*balancer, &many, &[]).iter().all(|found| *found == Some(613)));
        }
    }

    #[test]
    fn names_are_those_of_the_configuration() {
        for strategy in all() {
            let written = serde_json::to_value(&strategy).unwrap();
            assert_eq!(written["kind"], built(&strategy, &[]).name());
        }
    }

    #[test]
    fn scaling_covers_the_range() {
        assert_eq!((scale(0, 10), scale(u64::MAX, 10), scale(1 << 63, 10)), (0, 9, 5));
        assert_eq!(scale(u64::MAX, 0), 0);
    }
}
