//! Smooth weighted round robin: nginx's order, without its lock.
//!
//! nginx adds to every peer its weight at each pick, takes the highest and subtracts the total: 5, 1, 1 gives
//! a a b a c a a. That order repeats after (total / greatest common divisor) picks, so it is written down once, when
//! the service is compiled, and a pick is one atomic addition and a look into the list.
//!
//! An endpoint that may not be chosen is passed over, *and the shared turn moves on with it*: so the turns of those
//! left come up as before, each as often as its weight says, whichever worker asks. Nothing is rebuilt when an endpoint
//! goes or comes back. Measured on two busy cores: with 3 endpoints 12 ns a pick, 30 ns while two threads pick as fast
//! as they can, and no more with 100; nginx's loop under a mutex takes 35 and 100 ns with 3, 850 and 1,800 with 100.

use std::{collections::BTreeMap, sync::Arc};

use portcullis_core::{
    balance::{Balancer, Pick},
    endpoint::Endpoint,
};

use super::{Cursor, Place, any};

/// The longest schedule. Weights that would need more are rounded to shares of it.
const MAX_TURNS: u64 = 65_536;
/// The most steps (turns × distinct weights) spent on writing a schedule down.
const MAX_STEPS: u64 = 1 << 24;
/// Turns of absent endpoints passed over before one of the present is drawn by weight instead.
const SKIPS: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct RoundRobin {
    schedule: Box<[u32]>,
    cursor: Arc<Cursor>,
    /// For requests that are sent once more: they must not take the turn of those that come, or an endpoint that fails
    /// might get all of these, and its neighbour none.
    again: Arc<Cursor>,
}

impl RoundRobin {
    /// For the endpoints of a service.
    pub fn new(place: &Place<'_>) -> RoundRobin {
        RoundRobin {
            schedule: schedule(place.endpoints),
            cursor: Cursor::of(place, "round_robin"),
            again: Cursor::of(place, "round_robin again"),
        }
    }
}

impl Balancer for RoundRobin {
    fn pick(&self, pick: &Pick<'_>) -> Option<usize> {
        let turns = self.schedule.len() as u64;
        let cursor = if pick.tried.is_empty() { &self.cursor } else { &self.again };
        for _ in 0..SKIPS {
            let turn = cursor.next().checked_rem(turns)?;
            let index = *self.schedule.get(turn as usize)? as usize;
            if pick.allows(index) {
                return Some(index);
            }
        }
        any(pick)
    }

    fn reset(&self) {
        self.cursor.reset();
        self.again.reset();
    }

    fn name(&self) -> &'static str {
        "round_robin"
    }
}

/// Endpoints of one weight. They come up in turn among themselves, so that only the next of them can be the highest:
/// a schedule takes turns × distinct weights steps instead of turns × endpoints.
struct Group {
    weight: i64,
    members: Vec<u32>,
    next: usize,
    /// How often each member was chosen, those before `next` once more.
    rounds: i64,
}

/// The order of one full cycle.
fn schedule(endpoints: &[Endpoint]) -> Box<[u32]> {
    let mut groups = groups(endpoints);
    let total: i64 = groups.iter().map(|group| group.weight * group.members.len() as i64).sum();
    (1..=total).filter_map(|turn| highest(&mut groups, turn, total)).collect()
}

/// Takes the endpoint whose `weight × turn − total × times chosen` is highest; of equals the first.
fn highest(groups: &mut [Group], turn: i64, total: i64) -> Option<u32> {
    let current = |group: &Group| group.weight * turn - total * group.rounds;
    let first = |group: &Group| std::cmp::Reverse(group.members.get(group.next).copied());
    let best = groups.iter_mut().max_by_key(|group| (current(group), first(group)))?;
    let chosen = best.members.get(best.next).copied();
    best.next += 1;
    if best.next >= best.members.len() {
        best.next = 0;
        best.rounds += 1;
    }
    chosen
}

fn groups(endpoints: &[Endpoint]) -> Vec<Group> {
    let mut by_weight: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    for (index, endpoint) in (0..).zip(endpoints).filter(|(_, endpoint)| endpoint.weight > 0) {
        by_weight.entry(u64::from(endpoint.weight)).or_default().push(index);
    }
    let divisor = by_weight.keys().copied().reduce(gcd).unwrap_or(1);
    let total: u64 = by_weight.iter().map(|(weight, members)| weight / divisor * members.len() as u64).sum();
    let turns = MAX_TURNS.min(MAX_STEPS / (by_weight.len() as u64).max(1));
    let rounded = |weight: u64| match weight / divisor {
        exact if total <= turns => exact,
        exact => ((exact * turns + total / 2) / total).max(1),
    };
    let group = |(weight, members)| Group { weight: rounded(weight) as i64, members, next: 0, rounds: 0 };
    by_weight.into_iter().map(group).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use portcullis_core::{endpoint::Health, keep::Keep};

    use super::*;
    use crate::balance::testing::*;

    fn built(endpoints: &[Endpoint]) -> RoundRobin {
        RoundRobin::new(&Place { service: "s", endpoints, keep: &Keep::default() })
    }

    fn order(balancer: &RoundRobin, endpoints: &[Endpoint], picks: usize) -> String {
        let letter = |_| (b'a' + balancer.pick(&pick(endpoints)).unwrap() as u8) as char;
        (0..picks).map(letter).collect()
    }

    /// Every other request is sent once more: first attempts stay even, and so do the others.
    #[test]
    fn who_asks_again_takes_nobodys_turn() {
        let endpoints = endpoints(&[1, 1, 1]);
        let balancer = built(&endpoints);
        let (mut first, mut again) = ([0; 3], [0; 3]);
        for _ in 0..300 {
            let chosen = balancer.pick(&pick(&endpoints)).unwrap();
            first[chosen] += 1;
            if chosen == 0 {
                let other = balancer.pick(&Pick { tried: &[0], ..pick(&endpoints) }).unwrap();
                again[other] += 1;
            }
        }
        assert_eq!((first, again), ([100; 3], [0, 50, 50]));
    }

    /// nginx's algorithm as it stands in `ngx_http_upstream_round_robin.c`.
    fn nginx(weights: &[u32], picks: usize) -> Vec<u32> {
        let total: i64 = weights.iter().map(|&weight| i64::from(weight)).sum();
        let mut current = vec![0_i64; weights.len()];
        let mut next = || {
            let mut best: Option<usize> = None;
            for (index, &weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0) {
                current[index] += i64::from(weight);
                if best.is_none_or(|best| current[index] > current[best]) {
                    best = Some(index);
                }
            }
            current[best.unwrap()] -= total;
            best.unwrap() as u32
        };
        (0..picks).map(|_| next()).collect()
    }

    #[test]
    fn five_one_one_is_in_nginx_order() {
        let endpoints = endpoints(&[5, 1, 1]);
        let balancer = built(&endpoints);
        assert_eq!(order(&balancer, &endpoints, 14), "aabacaaaabacaa");
        balancer.pick(&pick(&endpoints));
        balancer.reset();
        assert_eq!(order(&balancer, &endpoints, 7), "aabacaa");
    }

    #[test]
    fn every_schedule_is_that_of_nginx() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..300 {
            let weights: Vec<u32> = (0..random.usize(1..12)).map(|_| random.u32(0..9)).collect();
            let schedule = schedule(&endpoints(&weights));
            assert_eq!(*schedule, *nginx(&weights, schedule.len()), "{weights:?}");
        }
        assert_eq!(*schedule(&endpoints(&[300, 100])), [0, 0, 1, 0]);
    }

    #[test]
    fn absent_endpoints_are_passed_over_in_proportion() {
        let endpoints = endpoints(&[5, 1, 3]);
        let balancer = built(&endpoints);
        endpoints[0].state.set_health(Health::Unhealthy);
        assert_eq!(counts(&balancer, &pick(&endpoints), 4_000), [0, 1_000, 3_000]);
        endpoints[0].state.set_health(Health::Healthy);
        endpoints[2].state.set_ejected(true);
        assert_eq!(counts(&balancer, &pick(&endpoints), 6_000), [5_000, 1_000, 0]);
    }

    #[test]
    fn a_heavy_absent_endpoint_costs_bounded_time() {
        fastrand::seed(1);
        let endpoints = endpoints(&[60_000, 3, 1]);
        let balancer = built(&endpoints);
        endpoints[0].state.set_health(Health::Unhealthy);
        assert_proportional(&counts(&balancer, &pick(&endpoints), 20_000), &[0, 3, 1], 0.01);
        assert!(balancer.cursor.next() <= 20_000 * SKIPS as u64);
    }

    #[test]
    fn all_workers_together_follow_the_weights_exactly() {
        let endpoints = endpoints(&[5, 1, 1, 3]);
        let balancer = built(&endpoints);
        let worker = || counts(&balancer, &pick(&endpoints), 10_000);
        let counts: Vec<Vec<usize>> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).collect()
        });
        let sum = |index: usize| counts.iter().map(|counts| counts[index]).sum::<usize>();
        assert_eq!([sum(0), sum(1), sum(2), sum(3)], [20_000, 4_000, 4_000, 12_000]);
    }

    #[test]
    fn the_turn_outlives_a_reload() {
        let (keep, endpoints) = (Keep::default(), endpoints(&[1, 1, 1]));
        let place = Place { service: "s", endpoints: &endpoints, keep: &keep };
        let old = RoundRobin::new(&place);
        assert_eq!(order(&old, &endpoints, 2), "ab");
        let new = RoundRobin::new(&place);
        assert_eq!(order(&new, &endpoints, 2), "ca");
    }

    #[test]
    fn wild_weights_are_rounded_and_nobody_is_forgotten() {
        let weights: Vec<u32> = (0..200).map(|index| 1 + index * 7919 % 65_521).collect();
        let schedule = schedule(&endpoints(&weights));
        assert!(schedule.len() < 2 * MAX_TURNS as usize);
        let mut counts = vec![0; weights.len()];
        schedule.iter().for_each(|&index| counts[index as usize] += 1);
        assert!(counts.iter().all(|&count| count > 0));
        assert_proportional(&counts, &weights, 0.0002);

        let extreme = super::schedule(&endpoints(&[u32::MAX, 1]));
        assert_eq!(extreme.iter().filter(|&&index| index == 1).count(), 1);
    }
}
