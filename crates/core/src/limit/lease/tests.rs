//! Seeded simulations of several gateways on one store, with messages that take their time or get lost, beside models that
//! know nothing of leases.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    time::Duration,
};

use super::*;

const SECOND: u64 = 1_000_000_000;
const MILLI: u64 = 1_000_000;

/// The store, as its script does it.
#[derive(Default)]
struct Store {
    full_at: u64,
    used: HashMap<u64, u64>,
    asked: u64,
}

impl Store {
    fn take(&mut self, bound: Bound, ask: &Ask, now: u64) -> Taken {
        self.asked += 1;
        let time = |nanos: u64| Duration::from_micros(nanos.div_ceil(1000));
        match bound {
            Bound::Rate { interval, burst, .. } => {
                let was = self.full_at.max(now);
                let (next, room) = (was + ask.cost * interval, interval * burst);
                let over = (next - now).saturating_sub(room);
                let enough = over == 0;
                let extra = if enough { (room - (next - now)) / interval } else { 0 }.min(ask.extra.into());
                let is = if enough { next + extra * interval } else { was };
                self.full_at = is;
                let left = room.saturating_sub(is - now) / interval;
                Taken { enough, extra: extra as u32, left, wait: time(over), reset: time(is - now) }
            }
            Bound::Quota { quota, ends, left } => {
                let used = self.used.entry(ends).or_default();
                *used = used.saturating_sub(ask.back);
                let enough = *used + ask.cost <= quota;
                let extra = if enough { quota - *used - ask.cost } else { 0 }.min(ask.extra.into());
                *used += if enough { ask.cost + extra } else { 0 };
                let wait = if enough { Duration::ZERO } else { time(left) };
                Taken { enough, extra: extra as u32, left: quota - *used, wait, reset: time(left) }
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Request(usize),
    Asked(usize),
    Answered(usize),
    Lost(usize),
}

/// A question on its way.
#[derive(Clone, Copy)]
struct Question {
    gateway: usize,
    ask: Ask,
    bound: Bound,
    sent: u64,
    said: Option<Taken>,
}

/// What lets pass exactly what it may.
enum Model {
    Bucket { level: u64, last: u64 },
    Windows(HashMap<u64, u64>),
}

struct World {
    random: fastrand::Rng,
    terms: Terms,
    shape: Shape,
    now: u64,
    leases: Vec<Lease>,
    store: Store,
    model: Model,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    questions: Vec<Question>,
    /// Time between the requests of each gateway, on average.
    pauses: Vec<u64>,
    /// So many in a hundred answers get lost.
    lossy: u8,
    requests: u64,
    passed: u64,
    unused: u64,
}

#[derive(Debug, Clone, Copy)]
enum Shape {
    Rate { interval: u64, burst: u64 },
    Quota { quota: u64, seconds: u64 },
}

impl World {
    fn new(seed: u64, shape: Shape, share: f64, pauses: Vec<u64>) -> World {
        let (most, interval) = match shape {
            Shape::Rate { interval, burst } => (burst, interval),
            Shape::Quota { quota, .. } => (quota, SECOND),
        };
        let most = ((most as f64 * share) as u64).max(2);
        let horizon = (most * interval).min(SECOND);
        let model = match shape {
            Shape::Rate { interval, burst } => Model::Bucket { level: interval * burst, last: 0 },
            Shape::Quota { .. } => Model::Windows(HashMap::new()),
        };
        let mut world = World {
            random: fastrand::Rng::with_seed(seed),
            terms: Terms { most, horizon, max_age: SECOND, pause: horizon },
            shape,
            now: 1,
            leases: vec![Lease::default(); pauses.len()],
            store: Store::default(),
            model,
            events: BinaryHeap::new(),
            questions: Vec::new(),
            pauses,
            lossy: 0,
            requests: 0,
            passed: 0,
            unused: 0,
        };
        (0..world.leases.len()).for_each(|gateway| world.at(0, Event::Request(gateway)));
        world
    }

    fn at(&mut self, after: u64, event: Event) {
        let tie = self.random.u64(..);
        self.events.push(Reverse((self.now + after, tie, event)));
    }

    fn bound(&self) -> Bound {
        match self.shape {
            Shape::Rate { interval, burst } => Bound::Rate { interval, burst, more: 0 },
            Shape::Quota { quota, seconds } => {
                let ends = (self.now / SECOND / seconds + 1) * seconds;
                Bound::Quota { quota, ends, left: ends * SECOND - self.now }
            }
        }
    }

    /// A request passes: the model must allow it.
    fn pass(&mut self, cost: u64, of: Bound) {
        self.passed += cost;
        match (&mut self.model, self.shape, of) {
            (Model::Bucket { level, last }, Shape::Rate { interval, burst }, _) => {
                *level = (*level + (self.now - *last)).min(interval * burst);
                *last = self.now;
                assert!(*level >= interval * cost, "more than the limit at {}", self.now);
                *level -= interval * cost;
            }
            (Model::Windows(used), _, Bound::Quota { quota, ends, .. }) => {
                let used = used.entry(ends).or_default();
                *used += cost;
                assert!(*used <= quota, "more than the quota at {}", self.now);
            }
            _ => unreachable!(),
        }
    }

    fn send(&mut self, gateway: usize, ask: Ask) {
        let (bound, sent) = (self.bound(), self.now);
        self.questions.push(Question { gateway, ask, bound, sent, said: None });
        let way = self.random.u64(..5 * MILLI);
        self.at(way, Event::Asked(self.questions.len() - 1));
    }

    fn request(&mut self, gateway: usize) {
        self.requests += 1;
        let pause = self.random.u64(..=2 * self.pauses[gateway]);
        self.at(pause, Event::Request(gateway));
        let cost = if self.random.u8(..) < 16 { self.random.u64(1..4) } else { 1 };
        let (bound, terms) = (self.bound(), self.terms);
        match self.leases[gateway].decide(&terms, bound, cost, self.now) {
            Decided::Held(taken, of, more) => {
                assert!(taken.enough && taken.wait.is_zero());
                more.into_iter().for_each(|ask| self.send(gateway, ask));
                // Now and then another limit refuses it.
                if self.random.u8(..) < 8 {
                    self.leases[gateway].put_back(cost, of);
                } else {
                    self.pass(cost, bound);
                }
            }
            Decided::Refused(taken) => assert!(!taken.enough && taken.left < cost && !taken.wait.is_zero()),
            Decided::Ask(ask) if self.random.u8(..) < 8 => self.leases[gateway].unasked(&ask),
            Decided::Ask(ask) => self.send(gateway, ask),
        }
        assert!(self.leases[gateway].held() <= 2 * terms.most + 4);
        self.unused += self.leases[gateway].unused();
    }

    fn step(&mut self) {
        let Reverse((now, _, event)) = self.events.pop().unwrap();
        self.now = now;
        match event {
            Event::Request(gateway) => self.request(gateway),
            Event::Asked(at) => {
                let Question { ask, bound, .. } = self.questions[at];
                let said = self.store.take(bound, &ask, self.now);
                self.questions[at].said = Some(said);
                if said.enough && ask.cost > 0 {
                    self.pass(ask.cost, bound);
                }
                let back = self.random.u64(..5 * MILLI);
                let lost = self.random.u8(..100) < self.lossy;
                self.at(back, if lost { Event::Lost(at) } else { Event::Answered(at) });
            }
            Event::Answered(at) => {
                let Question { gateway, ask, bound, sent, said } = self.questions[at];
                let (said, terms) = (said.unwrap(), self.terms);
                self.leases[gateway].heard(&terms, bound, &ask, sent, (&said, said.enough));
            }
            Event::Lost(at) => {
                let Question { gateway, ask, .. } = self.questions[at];
                self.leases[gateway].unheard(&ask);
            }
        }
    }

    fn run(&mut self, seconds: u64) -> u64 {
        let end = self.now + seconds * SECOND;
        let before = self.passed;
        while self.now < end {
            self.step();
        }
        self.passed - before
    }
}

#[test]
fn gateways_that_take_ahead_never_let_more_pass_than_the_limit() {
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let shape = match seed % 3 {
            0 => Shape::Quota { quota: random.u64(2..3000), seconds: random.u64(1..20) },
            _ => Shape::Rate { interval: random.u64(MILLI / 4..SECOND / 4), burst: random.u64(2..500) },
        };
        let pauses = (0..random.usize(1..6)).map(|_| random.u64(MILLI / 2..SECOND / 10)).collect();
        let mut world = World::new(seed, shape, random.f64() / 2.0, pauses);
        world.lossy = random.u8(..10);
        for _ in 0..6 {
            world.run(1);
            // Clients come, go and rest.
            for pause in &mut world.pauses {
                *pause = random.u64(MILLI / 2..SECOND / 5);
            }
        }
    }
}

#[test]
fn under_pressure_the_limit_is_used_up_and_the_store_asked_seldom() {
    for seed in 0..20 {
        let shape = Shape::Rate { interval: SECOND / 1000, burst: 1000 };
        let mut world = World::new(seed, shape, 0.05, vec![SECOND / 1500; 2]);
        world.run(1);
        let (requests, asked) = (world.requests, world.store.asked);
        let passed = world.run(10);
        assert!((9_800..=11_000).contains(&passed), "seed {seed}: {passed}");
        let (requests, asked) = (world.requests - requests, world.store.asked - asked);
        assert!(asked * 15 < requests, "seed {seed}: asked {asked} times for {requests} requests");
    }
}

#[test]
fn below_the_limit_nobody_is_refused_and_who_comes_seldom_holds_nothing() {
    for seed in 0..20 {
        let shape = Shape::Quota { quota: 100_000, seconds: 3600 };
        let mut world = World::new(seed, shape, 0.01, vec![2 * MILLI, 700 * MILLI]);
        world.lossy = 0;
        world.run(20);
        assert!(world.store.asked * 20 < world.requests, "seed {seed}: {}", world.store.asked);
        assert!(world.leases[1].held() <= 3, "seed {seed}: {}", world.leases[1].held());
        // What was taken and not used was given back.
        let taken: u64 = world.store.used.values().sum();
        let held: u64 = world.leases.iter().map(Lease::held).sum();
        assert!(taken - world.passed - held <= 1200, "seed {seed}: {taken}, {}, {held}", world.passed);
    }
}

/// A bucket that is nearly full takes back at once what is not used: so as much is taken as refills while it is.
#[test]
fn far_below_the_limit_the_store_is_asked_seldom_too() {
    for seed in 0..20 {
        let shape = Shape::Rate { interval: SECOND / 100_000, burst: 200_000 };
        let mut world = World::new(seed, shape, 0.05, vec![3 * MILLI; 2]);
        world.run(10);
        assert!(world.store.asked * 10 < world.requests, "seed {seed}: {}", world.store.asked);
        assert!(world.passed >= world.requests * 9 / 10, "seed {seed}: {}", world.passed);
    }
}

const BUCKET: Bound = Bound::Rate { interval: SECOND / 100, burst: 100, more: 0 };

fn terms() -> Terms {
    Terms { most: 20, horizon: SECOND / 5, max_age: SECOND, pause: SECOND / 5 }
}

fn asked(decided: Decided) -> Ask {
    match decided {
        Decided::Ask(ask) => ask,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lease_grows_with_what_is_asked_for_and_clients_are_told_of_all_of_it() {
    let (mut lease, mut store) = (Lease::default(), Store::default());
    let mut got = Vec::new();
    let mut now = SECOND;
    for n in 1..=40 {
        now += MILLI;
        match lease.decide(&terms(), BUCKET, 1, now) {
            Decided::Ask(ask) => {
                let said = store.take(BUCKET, &ask, now);
                got.push(ask.extra);
                lease.heard(&terms(), BUCKET, &ask, now, (&said, true));
            }
            Decided::Held(taken, _, more) => {
                assert!(
                    taken.left.abs_diff(100 - n + (now - SECOND) / (SECOND / 100)) <= 1,
                    "{n}: {taken:?}"
                );
                if let Some(ask) = more {
                    let said = store.take(BUCKET, &ask, now);
                    got.push(ask.extra);
                    lease.heard(&terms(), BUCKET, &ask, now, (&said, true));
                }
            }
            Decided::Refused(taken) => panic!("{taken:?}"),
        }
    }
    assert_eq!(&got[..3], [0, 1, 3], "twice as much each time");
    assert!(got.iter().all(|extra| *extra < 20), "{got:?}");
}

#[test]
fn what_was_refused_is_refused_here_until_it_pays_to_ask_again() {
    let (mut lease, mut store) = (Lease::default(), Store::default());
    store.full_at = 2 * SECOND;
    let ask = asked(lease.decide(&terms(), BUCKET, 2, SECOND));
    let said = store.take(BUCKET, &ask, SECOND);
    assert!(!said.enough);
    lease.heard(&terms(), BUCKET, &ask, SECOND, (&said, false));
    let Decided::Refused(taken) = lease.decide(&terms(), BUCKET, 2, SECOND + SECOND / 10) else { panic!() };
    assert_eq!((taken.wait, taken.left), (Duration::from_millis(100), 1));
    // A smaller one may fit, and later all may.
    let smaller = asked(lease.decide(&terms(), BUCKET, 1, SECOND + SECOND / 10));
    // While that is on its way, the others hear what was said last.
    assert!(matches!(lease.decide(&terms(), BUCKET, 2, SECOND + SECOND / 5), Decided::Refused(_)));
    lease.unheard(&smaller);
    asked(lease.decide(&terms(), BUCKET, 2, SECOND + SECOND / 5));
}

#[test]
fn only_one_takes_ahead_and_who_does_not_answer_makes_way() {
    let mut lease = Lease { got: 8, wanted: 8, since: SECOND, ..Lease::default() };
    let first = asked(lease.decide(&terms(), BUCKET, 1, SECOND + MILLI));
    let second = asked(lease.decide(&terms(), BUCKET, 1, SECOND + MILLI));
    assert_eq!((first.extra, first.leads, second.extra, second.leads), (15, true, 0, false));
    lease.unheard(&second);
    assert!(!asked(lease.decide(&terms(), BUCKET, 1, SECOND + MILLI)).leads);
    lease.unheard(&first);
    assert!(asked(lease.decide(&terms(), BUCKET, 1, SECOND + MILLI)).leads);
}

#[test]
fn what_is_left_of_a_quota_is_given_back_and_nothing_outlives_its_window() {
    let bound = |ends| Bound::Quota { quota: 100, ends, left: SECOND };
    let mut lease = Lease { got: 8, wanted: 8, since: SECOND, window: 60, ..Lease::default() };
    let mut store = Store::default();
    let ask = asked(lease.decide(&terms(), bound(60), 1, SECOND + MILLI));
    let said = store.take(bound(60), &ask, SECOND);
    lease.heard(&terms(), bound(60), &ask, SECOND + MILLI, (&said, true));
    assert_eq!((lease.held(), store.used[&60]), (15, 16));
    let ask = asked(lease.decide(&terms(), bound(60), 1, 3 * SECOND));
    assert_eq!((ask.back, ask.extra, lease.held()), (15, 0, 0));
    let said = store.take(bound(60), &ask, 3 * SECOND);
    lease.heard(&terms(), bound(60), &ask, 3 * SECOND, (&said, true));
    assert_eq!(store.used[&60], 2);
    lease.keep(Held { left: 5, until: 60 });
    let ask = asked(lease.decide(&terms(), bound(120), 1, 3 * SECOND));
    assert_eq!((ask.back, lease.held(), lease.unused()), (0, 0, 20));
}
