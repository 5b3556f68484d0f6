//! Breakers in simulated time.

use portcullis_config::{expression::Expression, model::StatusRange};

use super::*;

fn settings() -> CircuitBreaker {
    let seconds = Duration::from_secs;
    CircuitBreaker {
        per_endpoint: false,
        failure_threshold: Some(5),
        failure_ratio: None,
        slow_call: None,
        slow_ratio: 0.5,
        minimum_requests: 20,
        window: seconds(10),
        expression: None,
        timeout: seconds(60),
        success_threshold: 2,
        ramp_up: Duration::ZERO,
        failures: vec![StatusRange { from: 500, to: 599 }],
    }
}

struct World {
    keep: Keep,
    breaker: Breaker,
    now: Instant,
}

impl World {
    fn new(settings: &CircuitBreaker) -> World {
        let (keep, now) = (Keep::default(), Instant::now());
        World { breaker: Breaker::new(settings, "a", &keep, 2, now), keep, now }
    }

    fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    /// A request with this outcome (0: no answer); false when it was turned away.
    fn ask(&self, status: u16, millis: u64) -> bool {
        let Ok(permit) = self.breaker.admit(self.now, 0.5) else { return false };
        let status = (status > 0).then_some(status);
        let outcome = Outcome { status, latency: Duration::from_millis(millis) };
        self.breaker.observe(0, permit, &outcome, self.now);
        true
    }

    fn phase(&self) -> Phase {
        self.breaker.state.snapshot().phase
    }
}

#[test]
fn it_opens_by_failures_in_a_row_and_closes_by_trials() {
    let mut world = World::new(&settings());
    for status in [500, 0, 503, 500, 200, 500, 500, 404, 500, 500, 500, 500] {
        assert!(world.ask(status, 1));
        assert_eq!(world.phase(), Phase::Closed);
    }
    assert!(world.ask(0, 1));
    assert_eq!(world.phase(), Phase::Open);
    let snapshot = world.breaker.state.snapshot();
    assert!(snapshot.opened_at.is_some() && snapshot.failure_count == 5);
    world.pass(59_000);
    assert!(!world.ask(200, 1));
    assert_eq!(world.breaker.admit(world.now, 0.0).unwrap_err(), Duration::from_secs(1));
    world.pass(1_000);
    assert!(world.ask(200, 1));
    assert_eq!((world.phase(), world.breaker.state.snapshot().success_count), (Phase::HalfOpen, 1));
    assert!(world.ask(200, 1));
    assert_eq!(world.phase(), Phase::Closed);
    assert_eq!(world.breaker.state.snapshot().rejected, 2);
}

#[test]
fn a_trial_that_fails_opens_it_again() {
    let mut world = World::new(&settings());
    (0..5).for_each(|_| assert!(world.ask(500, 1)));
    world.pass(60_000);
    assert!(world.ask(200, 1) && world.ask(500, 1));
    assert_eq!(world.phase(), Phase::Open);
    world.pass(59_999);
    assert!(!world.ask(200, 1));
}

#[test]
fn trials_are_few_and_one_without_outcome_makes_room() {
    let mut world = World::new(&settings());
    (0..5).for_each(|_| assert!(world.ask(500, 1)));
    world.pass(60_000);
    let one = world.breaker.admit(world.now, 0.0).unwrap();
    let two = world.breaker.admit(world.now, 0.0).unwrap();
    assert!(world.breaker.admit(world.now, 0.0).is_err());
    drop(one);
    let three = world.breaker.admit(world.now, 0.0).unwrap();
    assert!(world.breaker.admit(world.now, 0.0).is_err());
    let good = Outcome { status: Some(200), latency: Duration::ZERO };
    world.breaker.observe(0, two, &good, world.now);
    world.breaker.observe(1, three, &good, world.now);
    assert_eq!(world.phase(), Phase::Closed);
}

#[test]
fn who_began_before_it_opened_says_nothing_about_trials() {
    let mut world = World::new(&settings());
    let early = world.breaker.admit(world.now, 0.0).unwrap();
    (0..5).for_each(|_| assert!(world.ask(500, 1)));
    world.pass(60_000);
    assert!(world.ask(200, 1));
    let bad = Outcome { status: None, latency: Duration::ZERO };
    world.breaker.observe(0, early, &bad, world.now);
    assert_eq!(world.phase(), Phase::HalfOpen);
    // A trial of the last half-open phase neither.
    let late = world.breaker.admit(world.now, 0.0).unwrap();
    world.breaker.change(&mut world.breaker.state.lock(), Phase::Open, world.now, "test");
    world.pass(60_000);
    assert!(world.ask(200, 1));
    world.breaker.observe(0, late, &bad, world.now);
    assert_eq!(world.phase(), Phase::HalfOpen);
}

#[test]
fn shares_are_judged_from_a_minimum_on() {
    let ratio = CircuitBreaker { failure_threshold: None, failure_ratio: Some(0.5), ..settings() };
    let world = World::new(&ratio);
    (0..19).for_each(|n| assert!(world.ask(if n % 2 == 0 { 200 } else { 500 }, 1)));
    assert_eq!(world.phase(), Phase::Closed);
    assert!(world.ask(500, 1));
    assert_eq!(world.phase(), Phase::Open);
    // Spread over more than the window, they are too few.
    let mut world = World::new(&ratio);
    for _ in 0..100 {
        world.pass(600);
        assert!(world.ask(500, 1));
    }
    let slow = Some(Duration::from_millis(100));
    let world = World::new(&CircuitBreaker { failure_threshold: None, slow_call: slow, ..settings() });
    (0..10).for_each(|_| assert!(world.ask(200, 100)));
    (0..10).for_each(|_| assert!(world.ask(200, 101)));
    assert_eq!(world.phase(), Phase::Open);
}

#[test]
fn a_slow_trial_opens_it_again_and_what_opened_it_does_not() {
    let slow = Some(Duration::from_millis(100));
    let timeout = Duration::from_secs(1);
    let settings = CircuitBreaker { failure_threshold: None, slow_call: slow, timeout, ..settings() };
    let mut world = World::new(&settings);
    (0..20).for_each(|_| assert!(world.ask(200, 101)));
    assert_eq!(world.phase(), Phase::Open);
    world.pass(1000);
    assert!(world.ask(200, 100) && world.ask(200, 101));
    assert_eq!(world.phase(), Phase::Open);
    world.pass(1000);
    assert!(world.ask(200, 100) && world.ask(200, 100));
    assert_eq!(world.phase(), Phase::Closed);
    // The twenty are still within the window.
    assert!(world.ask(200, 101));
    assert_eq!(world.phase(), Phase::Closed);
}

#[test]
fn an_expression_opens_it() {
    let expression = Expression::parse("NetworkErrorRatio() > 0.3 && RequestThreshold() >= 10").unwrap();
    let settings = CircuitBreaker { failure_threshold: None, expression: Some(expression), ..settings() };
    // No answer, and those that proxies give for it.
    for status in [0, 502, 504] {
        let mut world = World::new(&settings);
        for n in 0..200 {
            world.pass(10);
            assert!(world.ask(if n % 4 == 0 { status } else { 500 }, 1));
        }
        assert_eq!(world.phase(), Phase::Closed);
        let mut asked = 0;
        while world.ask(status, 1) {
            world.pass(10);
            asked += 1;
            assert!(asked < 1000);
        }
        assert_eq!(world.phase(), Phase::Open);
    }
}

#[test]
fn after_the_trials_a_growing_share_passes() {
    let ramp = CircuitBreaker { ramp_up: Duration::from_secs(10), ..settings() };
    let mut world = World::new(&ramp);
    (0..5).for_each(|_| assert!(world.ask(500, 1)));
    world.pass(60_000);
    assert!(world.ask(200, 1) && world.ask(200, 1));
    assert_eq!((world.phase(), world.phase().number()), (Phase::Ramp, 2));
    let mut random = fastrand::Rng::with_seed(3);
    for tenth in 1..10_u64 {
        world.pass(1000);
        let passed = (0..1000).filter(|_| world.breaker.admit(world.now, random.f64()).is_ok()).count();
        assert!(passed.abs_diff(tenth as usize * 100) < 60, "{passed} after {tenth} s");
    }
    world.pass(1000);
    assert!(world.ask(200, 1));
    assert_eq!(world.phase(), Phase::Closed);
}

#[test]
fn it_is_the_same_after_a_reload() {
    let world = World::new(&settings());
    (0..5).for_each(|_| assert!(world.ask(500, 1)));
    let longer = CircuitBreaker { timeout: Duration::from_secs(90), ..settings() };
    let again = Breaker::new(&longer, "a", &world.keep, 2, world.now);
    assert_eq!(again.admit(world.now, 0.0).unwrap_err(), Duration::from_secs(90));
    assert!(Breaker::new(&longer, "b", &world.keep, 2, world.now).admit(world.now, 0.0).is_ok());
}

/// An hour in which the service is well and ill by turns: while it is ill it gets a trial now and then and no more, and
/// once it is well it gets everything again within the time that the settings say.
#[test]
fn an_hour_of_outages() {
    for seed in 0..5 {
        let mut random = fastrand::Rng::with_seed(seed);
        let settings = CircuitBreaker { timeout: Duration::from_secs(5), ..settings() };
        let mut world = World::new(&settings);
        let (mut ill, mut since) = (false, 0_u64);
        let mut reached_while_ill = 0;
        for tick in 0..360_000_u64 {
            world.pass(10);
            if random.u32(..6000) == 0 {
                (ill, since) = (!ill, tick);
                reached_while_ill = 0;
            }
            let passed = world.ask(if ill { 503 } else { 200 }, 1);
            reached_while_ill += u64::from(passed && ill);
            let so_far = (tick - since) / 100;
            if ill {
                assert!(reached_while_ill <= 5 + 2 * (so_far / 5 + 1), "{reached_while_ill} in {so_far} s");
            } else if so_far > 6 {
                assert!(passed, "well for {so_far} s");
            }
        }
    }
}

#[test]
fn who_began_before_it_opened_does_not_open_it_again() {
    let mut world = World::new(&settings());
    let early: Vec<_> = (0..6).map(|_| world.breaker.admit(world.now, 0.0).unwrap()).collect();
    (0..5).for_each(|_| assert!(world.ask(500, 1)));
    world.pass(60_000);
    assert!(world.ask(200, 1) && world.ask(200, 1));
    assert_eq!(world.phase(), Phase::Closed);
    let bad = Outcome { status: Some(503), latency: Duration::ZERO };
    early.into_iter().for_each(|permit| world.breaker.observe(0, permit, &bad, world.now));
    assert_eq!(world.phase(), Phase::Closed);
}

#[test]
fn a_trial_that_takes_its_time_holds_nobody_up() {
    let mut world = World::new(&settings());
    (0..5).for_each(|_| assert!(world.ask(500, 1)));
    world.pass(60_000);
    let slow = [world.breaker.admit(world.now, 0.0).unwrap(), world.breaker.admit(world.now, 0.0).unwrap()];
    world.pass(4_999);
    assert!(!world.ask(200, 1));
    world.pass(1);
    assert!(world.ask(200, 1) && world.ask(200, 1));
    assert_eq!(world.phase(), Phase::Closed);
    // What they say in the end is of a phase that is over.
    let bad = Outcome { status: Some(503), latency: Duration::ZERO };
    slow.into_iter().for_each(|permit| world.breaker.observe(0, permit, &bad, world.now));
    assert_eq!(world.phase(), Phase::Closed);
}
