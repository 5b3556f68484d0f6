//! Seeded simulations of balancing and health: endpoints that die, come back, flap, slow down and change their weight,
//! over minutes of simulated time. See [`world`] for what is asserted all the while.

mod world;

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use portcullis_config::model::{HashKey, Strategy};
use portcullis_core::{balance::Pick, endpoint::Endpoint, keep::Keep};
use portcullis_proxy::balance::{Place, build, stable_hash};
use world::{NOTICED, Plan, World, strategies};

fn plan(strategy: Strategy, weights: &[u32]) -> Plan {
    Plan { seed: 1, strategy, weights: weights.to_vec(), rate: 200.0, checked: false, passive: false }
}

async fn seconds(world: &mut World, seconds: u64) {
    world.run(Duration::from_secs(seconds)).await;
}

/// Something happens to somebody.
fn mischief(world: &mut World) {
    let index = world.rng.usize(..world.endpoints.len());
    match world.rng.u8(..10) {
        0..3 => world.set_up(index, false),
        3..6 => world.set_up(index, true),
        6 => world.set_latency(index, 200),
        7 => world.set_latency(index, 20),
        _ => {
            world.plan.weights[index] = world.rng.u32(..6);
            world.reload();
        }
    }
}

async fn storm(strategy: Strategy, seed: u64) -> (u64, usize) {
    let weights = [1, 2, 3, 1, 5, 1];
    let mut world = World::new(Plan { seed, checked: true, passive: true, ..plan(strategy, &weights) });
    for minute in 0..3 {
        for _ in 0..30 {
            mischief(&mut world);
            let pause = world.rng.u64(..2_000);
            world.run(Duration::from_millis(pause)).await;
        }
        // One that flaps, faster than its checks can follow.
        for turn in 0..20 {
            world.set_up(minute, turn % 2 == 0);
            world.run(Duration::from_millis(700)).await;
        }
        (0..6).for_each(|index| world.set_up(index, false));
        world.run(NOTICED).await;
        world.assert_known();
        // All are out and known to be: every request is refused at once.
        world.forget();
        seconds(&mut world, 1).await;
        assert!(world.served.iter().sum::<usize>() == 0 && world.lost > 130);
        (0..6).for_each(|index| world.set_up(index, true));
        world.plan.weights = weights.to_vec();
        world.reload();
        world.run(NOTICED + world::passive().ejection).await;
        world.assert_known();
        world.forget();
        seconds(&mut world, 5).await;
        assert_eq!(world.lost, 0);
    }
    (world.trace, world.served.iter().sum())
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_only_endpoints_in_service_are_chosen() {
    for strategy in strategies() {
        for seed in 1..3 {
            storm(strategy.clone(), seed).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_history() {
    for strategy in [Strategy::P2c, Strategy::LeastConnections] {
        let first = storm(strategy.clone(), 9).await;
        assert_eq!(first, storm(strategy.clone(), 9).await);
        assert_ne!(first, storm(strategy, 10).await);
    }
}

/// How far from its weight the share of an endpoint may be.
fn tolerance(strategy: &Strategy) -> f64 {
    match strategy {
        Strategy::RoundRobin => 0.001,
        Strategy::LeastConnections | Strategy::Random => 0.01,
        Strategy::P2c | Strategy::IpHash | Strategy::Hash { .. } => 0.02,
    }
}

#[tokio::test(start_paused = true)]
async fn shares_follow_the_weights_at_rest_and_under_load() {
    for strategy in strategies() {
        for weights in [&[5, 1, 1][..], &[1, 1, 1, 1], &[1, 2, 3, 4]] {
            // One request at a time; and two hundred at once.
            for rate in [1.0, 10_000.0] {
                let mut world = World::new(Plan { rate, ..plan(strategy.clone(), weights) });
                seconds(&mut world, (30_000.0 / rate) as u64).await;
                let total: u32 = weights.iter().sum();
                for (index, &weight) in weights.iter().enumerate() {
                    let (share, want) = (world.share(index), f64::from(weight) / f64::from(total));
                    let off = (share - want).abs();
                    assert!(
                        off < tolerance(&strategy),
                        "{strategy:?} {weights:?} {rate}: {share} is not {want}"
                    );
                }
                assert_eq!(world.lost, 0);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_changes_a_weight_changes_the_shares() {
    for strategy in strategies() {
        let mut world = World::new(Plan { rate: 2_000.0, ..plan(strategy.clone(), &[1, 1]) });
        seconds(&mut world, 5).await;
        assert!((world.share(0) - 0.5).abs() < 0.03, "{strategy:?}");
        world.plan.weights = vec![3, 1];
        world.reload();
        seconds(&mut world, 1).await;
        world.forget();
        seconds(&mut world, 5).await;
        assert!((world.share(0) - 0.75).abs() < 0.03, "{strategy:?}: {}", world.share(0));
        world.plan.weights = vec![0, 1];
        world.reload();
        seconds(&mut world, 1).await;
        world.forget();
        seconds(&mut world, 5).await;
        assert_eq!((world.served[0], world.lost), (0, 0), "{strategy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn p2c_leaves_a_slow_endpoint_alone_and_takes_it_back() {
    let mut world = World::new(plan(Strategy::P2c, &[1; 4]));
    world.set_latency(2, 400);
    seconds(&mut world, 5).await;
    world.forget();
    seconds(&mut world, 30).await;
    assert!(world.share(2) < 0.02, "{}", world.share(2));
    for other in [0, 1, 3] {
        assert!((world.share(other) - 1.0 / 3.0).abs() < 0.03);
    }
    world.set_latency(2, 20);
    seconds(&mut world, 60).await;
    world.forget();
    seconds(&mut world, 30).await;
    assert!((world.share(2) - 0.25).abs() < 0.03, "{}", world.share(2));
}

#[tokio::test(start_paused = true)]
async fn least_connections_leaves_a_slow_endpoint_alone_under_load() {
    let mut world = World::new(Plan { rate: 2_000.0, ..plan(Strategy::LeastConnections, &[1; 4]) });
    world.set_latency(2, 400);
    seconds(&mut world, 5).await;
    world.forget();
    seconds(&mut world, 10).await;
    assert!(world.share(2) < 0.05, "{}", world.share(2));
}

#[tokio::test(start_paused = true)]
async fn p2c_does_not_flood_an_endpoint_that_is_new() {
    let mut world = World::new(Plan { rate: 2_000.0, ..plan(Strategy::P2c, &[1, 1, 0]) });
    world.set_latency(2, 1_000);
    seconds(&mut world, 2).await;
    world.plan.weights = vec![1, 1, 1];
    world.reload();
    // Until it answers for the first time, it has one request.
    for _ in 0..45 {
        world.run(Duration::from_millis(10)).await;
        let in_flight = world.endpoints[2].state.in_flight.load(Relaxed);
        assert!(in_flight <= 1, "{in_flight}");
    }
}

#[tokio::test(start_paused = true)]
async fn passive_health_alone_keeps_most_requests_from_a_dead_endpoint() {
    for strategy in strategies() {
        let mut world = World::new(Plan { passive: true, ..plan(strategy.clone(), &[1, 1, 1]) });
        world.set_up(0, false);
        seconds(&mut world, 60).await;
        // Another endpoint took what failed there.
        assert_eq!(world.lost, 0, "{strategy:?}");
        // Out for five seconds, back until it failed five times, and so on; except that p2c hardly asks it again.
        let changes = world.endpoints[0].state.changes.load(Relaxed);
        let expected = if strategy == Strategy::P2c { 0..=8 } else { 20..=24 };
        assert!(expected.contains(&changes), "{strategy:?} {changes}");
        world.set_up(0, true);
        seconds(&mut world, 40).await;
        world.forget();
        seconds(&mut world, 20).await;
        assert!((world.share(0) - 1.0 / 3.0).abs() < 0.03, "{strategy:?} {}", world.share(0));
    }
}

#[tokio::test]
async fn few_keys_move_when_an_endpoint_leaves_the_configuration() {
    let owners = |count: usize, keys: u64| -> Vec<usize> {
        let keep = Keep::default();
        let endpoint = |index: usize| {
            let url = format!("http://10.0.0.{index}:80");
            let state = keep.get("endpoint", &url, || portcullis_core::endpoint::EndpointState::new(false));
            Endpoint { hash: stable_hash(url.as_bytes()), url: url.into(), weight: 1, state }
        };
        let endpoints: Vec<Endpoint> = (0..count).map(endpoint).collect();
        let strategy = Strategy::Hash { by: HashKey::Client, load_bound: 1.25 };
        let balancer = build(&strategy, &Place { service: "s", endpoints: &endpoints, keep: &keep });
        let now = std::time::Instant::now();
        let owner = |key: u64| {
            let key = Some(stable_hash(&key.to_le_bytes()));
            balancer.pick(&Pick { endpoints: &endpoints, key, tried: &[], now }).unwrap()
        };
        (0..keys).map(owner).collect()
    };
    for count in [2, 5, 20, 200] {
        let (before, after) = (owners(count, 20_000), owners(count - 1, 20_000));
        let moved =
            before.iter().zip(&after).filter(|(before, after)| before != after).count() as f64 / 20_000.0;
        assert!(moved <= 1.0 / count as f64 + 0.03, "{moved} of {count}");
    }
}
