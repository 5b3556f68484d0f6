use std::{cmp::Reverse, collections::BinaryHeap};

use portcullis_config::model::RetryBudget;

use super::*;
use crate::forward::budget::Budget;

const LATE: Late = Late { quantile: 0.95, min: Duration::from_millis(1), max: None };

#[test]
fn little_is_not_enough_and_the_least_is_kept() {
    let start = Instant::now();
    let tail = Tail::new(2, start);
    let millis = Duration::from_millis;
    (0..49).for_each(|n| tail.record(n % 2, millis(10), start));
    assert_eq!(tail.delay(0, LATE, start), None);
    tail.record(0, millis(10), start);
    // What is known is good for a while.
    assert_eq!(tail.delay(0, LATE, start), None);
    let soon = start + FRESH;
    let delay = tail.delay(0, LATE, soon).unwrap();
    assert!((millis(10)..millis(12)).contains(&delay), "{delay:?}");
    assert_eq!(tail.delay(1, Late { min: millis(30), ..LATE }, soon), Some(millis(30)));
    assert_eq!(tail.delay(1, LATE, soon + WINDOW), None);
    let bounded = |max| Late { max: Some(millis(max)), ..LATE };
    assert_eq!(tail.delay(0, bounded(5), soon), Some(millis(5)));
    assert_eq!(tail.delay(0, bounded(500), soon), Some(delay));
    assert_eq!(tail.delay(0, bounded(500), soon + WINDOW * 2), Some(millis(500)), "nothing is known");
}

/// A service and its clients, in simulated time.
struct World {
    random: fastrand::Rng,
    tail: Tail,
    budget: Budget,
    start: Instant,
    /// Milliseconds since the start.
    now: f64,
    hedged: bool,
    /// Everything takes so many times as long.
    slow: f64,
    /// Ends of attempts: when, and how long they took.
    ending: BinaryHeap<Reverse<(u64, u64)>>,
}

/// What became of the requests of some time.
#[derive(Debug, Default)]
struct Told {
    times: Vec<f64>,
    hedges: usize,
    refused: usize,
}

impl Told {
    fn quantile(&mut self, share: f64) -> f64 {
        self.times.sort_by(f64::total_cmp);
        self.times[(share * self.times.len() as f64) as usize]
    }

    fn hedged(&self) -> f64 {
        self.hedges as f64 / self.times.len() as f64
    }
}

const ALLOWED: RetryBudget = RetryBudget { ratio: 0.1, min_per_second: 1.0 };

impl World {
    fn new(seed: u64, hedged: bool) -> World {
        let start = Instant::now();
        World {
            random: fastrand::Rng::with_seed(seed),
            tail: Tail::new(2, start),
            budget: Budget::new(2, start),
            start,
            now: 0.0,
            hedged,
            slow: 1.0,
            ending: BinaryHeap::new(),
        }
    }

    fn at(&self, millis: f64) -> Instant {
        self.start + Duration::from_secs_f64(millis / 1e3)
    }

    /// Around 10 ms; one of fifty takes half a second.
    fn latency(&mut self) -> f64 {
        let usual = 10.0 * (0.5 + self.random.f64() + self.random.f64().powi(4));
        let latency = if self.random.f64() < 0.02 { 500.0 } else { usual };
        latency * self.slow
    }

    fn ends(&mut self, began: f64, took: f64) {
        self.ending.push(Reverse((((began + took) * 1e3) as u64, (took * 1e3) as u64)));
    }

    /// A thousand requests a second, for so long.
    fn run(&mut self, seconds: f64) -> Told {
        let (until, mut told) = (self.now + seconds * 1e3, Told::default());
        while self.now < until {
            self.now += -self.random.f64().max(1e-9).ln();
            while let Some(Reverse((end, took))) = self.ending.peek().copied() {
                if end as f64 > self.now * 1e3 {
                    break;
                }
                self.ending.pop();
                let worker = self.random.usize(..2);
                self.tail.record(worker, Duration::from_micros(took), self.at(end as f64 / 1e3));
            }
            self.request(&mut told);
        }
        told
    }

    fn request(&mut self, told: &mut Told) {
        let (began, worker) = (self.now, self.random.usize(..2));
        self.budget.deposit(worker, self.at(began));
        let first = self.latency();
        let delay = self.tail.delay(worker, LATE, self.at(began)).map(|delay| delay.as_secs_f64() * 1e3);
        let delay = delay.filter(|delay| self.hedged && *delay < first);
        let Some(delay) = delay else {
            self.ends(began, first);
            return told.times.push(first);
        };
        if !self.budget.withdraw(&ALLOWED, self.at(began + delay)) {
            told.refused += 1;
            self.ends(began, first);
            return told.times.push(first);
        }
        told.hedges += 1;
        let second = self.latency();
        // The one that is left behind is known to have taken as long as the other needed.
        let took = first.min(delay + second);
        self.ends(began, took);
        self.ends(began + delay, took - delay);
        told.times.push(took);
    }
}

#[test]
fn the_tail_is_cut_for_a_few_requests_more() {
    for seed in 0..5 {
        let (mut plain, mut hedging) = (World::new(seed, false), World::new(seed, true));
        plain.run(30.0);
        hedging.run(30.0);
        let (mut without, mut with) = (plain.run(30.0), hedging.run(30.0));
        assert!(without.quantile(0.99) > 490.0, "{seed}: {}", without.quantile(0.99));
        assert!(with.quantile(0.99) < 60.0, "{seed}: {}", with.quantile(0.99));
        assert!((0.02..0.08).contains(&with.hedged()), "{seed}: {}", with.hedged());
    }
}

/// Everything becomes ten times as slow: what was late is usual now. The budget holds until that is known, and then there
/// are as few hedges as before.
#[test]
fn when_everything_is_slow_the_budget_holds_and_the_quantile_follows() {
    for seed in 0..5 {
        let mut world = World::new(seed, true);
        world.run(30.0);
        world.slow = 10.0;
        let storm = world.run(10.0);
        let most = 0.1 * 20_000.0 + 20.0 + 10.0;
        assert!(
            storm.refused > 0 && (storm.hedges as f64) < most,
            "{seed}: {} {}",
            storm.hedges,
            storm.refused
        );
        world.run(40.0);
        let after = world.run(20.0);
        assert!(after.hedged() < 0.08 && after.refused == 0, "{seed}: {} {}", after.hedged(), after.refused);
        let quantile = world.tail.quantile(0.5, world.at(world.now)).unwrap();
        assert!(quantile > Duration::from_millis(90), "{seed}: {quantile:?}");
        // And back again.
        world.slow = 1.0;
        world.run(40.0);
        let back = world.run(20.0);
        assert!(back.hedged() < 0.08, "{seed}: {}", back.hedged());
        assert!(world.tail.quantile(0.5, world.at(world.now)).unwrap() < Duration::from_millis(20));
    }
}

#[test]
fn the_same_seed_is_the_same_story() {
    let story = |seed| {
        let told = World::new(seed, true).run(20.0);
        (told.hedges, told.refused, told.times.len())
    };
    assert_eq!(story(3), story(3));
    assert_ne!(story(3), story(4));
}
