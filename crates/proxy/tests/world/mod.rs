//! A small world for simulations: clients that arrive at random, endpoints that do as they are told, and between them
//! the real balancers, checks and passive health. Time is tokio's, paused, so that minutes take no time; chance is
//! seeded, so that what happened once happens again.
//!
//! What must always hold is asserted at every pick and at every ejection.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::Duration,
};

use portcullis_config::model::{self, HashKey, HealthCheck, PassiveHealth, StatusRange, Strategy};
use portcullis_core::{
    BoxFuture, Kind,
    balance::{Balancer, Pick, Seen},
    endpoint::{Endpoint, EndpointState},
    keep::Keep,
};
use portcullis_proxy::{
    balance::{self, Place, stable_hash},
    health::{self, Checked, Checks, Failure, Passive, Probe, Target, Watcher},
};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, sleep_until},
};

/// How many endpoints a request tries.
const TRIES: usize = 3;

/// What an endpoint really is, whatever the gateway knows of it.
#[derive(Debug, Clone, Copy)]
pub struct Truth {
    pub up: bool,
    /// Mean time to an answer.
    pub latency: Duration,
    /// When it last came or went.
    pub since: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Running {
    ends: Instant,
    number: u64,
    index: usize,
    began: Instant,
}

/// How a world is set up.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub strategy: Strategy,
    pub weights: Vec<u32>,
    /// Requests per second.
    pub rate: f64,
    pub checked: bool,
    pub passive: bool,
}

pub struct World {
    pub plan: Plan,
    pub endpoints: Vec<Endpoint>,
    pub truths: Vec<Arc<Mutex<Truth>>>,
    /// Requests served by each endpoint.
    pub served: Vec<usize>,
    /// Requests that failed at every endpoint they tried, or found none.
    pub lost: usize,
    /// Every endpoint asked, in order, as one number.
    pub trace: u64,
    pub rng: fastrand::Rng,
    keep: Keep,
    balancer: Arc<dyn Balancer>,
    passive: Option<Passive>,
    checks: Checks,
    running: BinaryHeap<Reverse<Running>>,
    number: u64,
    next_arrival: Instant,
}

/// Every strategy.
pub fn strategies() -> Vec<Strategy> {
    let hash = Strategy::Hash { by: HashKey::Client, load_bound: 1.25 };
    let (random, round_robin) = (Strategy::Random, Strategy::RoundRobin);
    vec![round_robin, Strategy::LeastConnections, random, Strategy::P2c, Strategy::IpHash, hash]
}

pub fn check() -> HealthCheck {
    HealthCheck {
        kind: model::Probe::Tcp,
        interval: Duration::from_secs(2),
        unhealthy_interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        unhealthy_after: 3,
        healthy_after: 2,
        jitter: 0.2,
        port: None,
    }
}

/// By then an endpoint that is gone, or back, must be known as such: its probes in a row, and the one that just missed
/// the change.
pub const NOTICED: Duration = Duration::from_millis(4 * 2_400 + 1_000);

pub fn passive() -> PassiveHealth {
    PassiveHealth {
        failures: 5,
        window: Duration::from_secs(10),
        ejection: Duration::from_secs(5),
        statuses: vec![StatusRange { from: 502, to: 504 }],
        max_ejected: 0.5,
    }
}

struct Told(Arc<Mutex<Truth>>);

impl Probe for Told {
    fn probe(&self) -> BoxFuture<'_, Result<(), Failure>> {
        let up = self.0.lock().unwrap().up;
        let refused = || Failure::Connect(std::io::ErrorKind::ConnectionRefused.into());
        Box::pin(async move { if up { Ok(()) } else { Err(refused()) } })
    }
}

impl World {
    /// A world in which all is well and every endpoint answers within 20 ms on average.
    pub fn new(plan: Plan) -> World {
        fastrand::seed(plan.seed);
        let now = Instant::now();
        let truth =
            |_| Arc::new(Mutex::new(Truth { up: true, latency: Duration::from_millis(20), since: now }));
        let mut world = World {
            truths: plan.weights.iter().map(truth).collect(),
            served: vec![0; plan.weights.len()],
            lost: 0,
            trace: 0,
            rng: fastrand::Rng::with_seed(plan.seed),
            endpoints: Vec::new(),
            keep: Keep::default(),
            balancer: balance::build(
                &plan.strategy,
                &Place { service: "", endpoints: &[], keep: &Keep::default() },
            ),
            passive: None,
            checks: Checks::default(),
            running: BinaryHeap::new(),
            number: 0,
            next_arrival: now,
            plan,
        };
        world.reload();
        world
    }

    /// Takes the plan's weights into force as a reload does: all is built anew over the kept state.
    pub fn reload(&mut self) {
        let (keep, checked) = (&self.keep, self.plan.checked);
        let endpoint = |(index, &weight): (usize, &u32)| {
            let url = format!("http://10.0.0.{index}:80");
            let state = keep.get("endpoint", &url, || EndpointState::new(checked));
            Endpoint { hash: stable_hash(url.as_bytes()), url: url.into(), weight, state }
        };
        let endpoints: Vec<Endpoint> = self.plan.weights.iter().enumerate().map(endpoint).collect();
        let place = Place { service: "simulated", endpoints: &endpoints, keep };
        self.balancer = balance::build(&self.plan.strategy, &place);
        self.passive = self.plan.passive.then(|| Passive::new(&passive(), &place));
        self.endpoints = endpoints;
        if checked {
            let nobody: Arc<dyn Watcher> = Arc::new(());
            self.checks = Checks::start(vec![self.checked()], &nobody, &Handle::current());
        }
    }

    fn checked(&self) -> Checked {
        let target = |(endpoint, truth): (&Endpoint, &Arc<Mutex<Truth>>)| Target {
            url: endpoint.url.clone(),
            state: endpoint.state.clone(),
            probe: Arc::new(Told(truth.clone())),
        };
        let endpoints = self.endpoints.iter().zip(&self.truths).map(target).collect();
        Checked { service: "simulated".into(), settings: check(), endpoints }
    }

    /// Lets an endpoint die or come back.
    pub fn set_up(&mut self, index: usize, up: bool) {
        let mut truth = self.truths[index].lock().unwrap();
        if truth.up != up {
            *truth = Truth { up, since: Instant::now(), ..*truth };
        }
    }

    /// Makes an endpoint slow or fast.
    pub fn set_latency(&mut self, index: usize, millis: u64) {
        self.truths[index].lock().unwrap().latency = Duration::from_millis(millis);
    }

    /// What an endpoint really is.
    pub fn truth(&self, index: usize) -> Truth {
        *self.truths[index].lock().unwrap()
    }

    /// Forgets what was counted.
    pub fn forget(&mut self) {
        self.served.fill(0);
        self.lost = 0;
    }

    /// The part of the requests that an endpoint served.
    pub fn share(&self, index: usize) -> f64 {
        self.served[index] as f64 / self.served.iter().sum::<usize>() as f64
    }

    /// Lets time pass, with clients arriving.
    pub async fn run(&mut self, time: Duration) {
        let end = Instant::now() + time;
        // First of all, checks that were just started look at their endpoints.
        sleep(Duration::from_millis(1)).await;
        loop {
            let completes = self.running.peek().map_or(end, |Reverse(running)| running.ends);
            sleep_until(self.next_arrival.min(completes).min(end)).await;
            let now = Instant::now();
            while self.running.peek().is_some_and(|Reverse(running)| running.ends <= now) {
                let Reverse(running) = self.running.pop().unwrap();
                self.complete(running);
            }
            while self.next_arrival <= now {
                self.arrive();
                let gap = -(1.0 - self.rng.f64()).ln() / self.plan.rate;
                self.next_arrival += Duration::from_secs_f64(gap);
            }
            if now >= end {
                return;
            }
        }
    }

    /// One client: tries endpoints until one takes its request.
    fn arrive(&mut self) {
        let key = Some(stable_hash(&self.rng.u32(..50_000).to_le_bytes()));
        let mut tried = Vec::new();
        while tried.len() < TRIES {
            let Some(index) = self.pick(key, &tried) else { break };
            self.trace = stable_hash(&[self.trace.to_le_bytes(), index.to_le_bytes()].concat());
            if self.truth(index).up {
                return self.begin(index);
            }
            self.observe(index, Duration::from_micros(50), Err(Kind::ConnectionRefused));
            tried.push(index);
        }
        self.lost += 1;
    }

    fn begin(&mut self, index: usize) {
        let (began, mean) = (Instant::now(), self.truth(index).latency);
        let ends = began + mean.mul_f64(0.5 + self.rng.f64());
        self.number += 1;
        self.endpoints[index].state.in_flight.fetch_add(1, Relaxed);
        self.running.push(Reverse(Running { ends, number: self.number, index, began }));
    }

    fn complete(&mut self, running: Running) {
        let Running { index, began, .. } = running;
        self.endpoints[index].state.in_flight.fetch_sub(1, Relaxed);
        let up = self.truth(index).up;
        if up {
            self.served[index] += 1;
        }
        self.observe(index, began.elapsed(), if up { Ok(200) } else { Err(Kind::ConnectionTerminated) });
    }

    fn pick(&mut self, key: Option<u64>, tried: &[usize]) -> Option<usize> {
        let now = Instant::now();
        if let Some(passive) = &self.passive {
            passive.readmit(now.into_std());
        }
        let pick = Pick { endpoints: &self.endpoints, key, tried, now: now.into_std() };
        let picked = self.balancer.pick(&pick);
        let Some(index) = picked else {
            assert!((0..self.endpoints.len()).all(|index| !pick.allows(index)), "none, though one is there");
            return None;
        };
        assert!(pick.allows(index), "{index} is not to be chosen: {:?}", self.endpoints[index]);
        let truth = self.truth(index);
        let known = self.plan.checked && truth.since.elapsed() > NOTICED;
        assert!(truth.up || !known, "{index} is gone for {:?}", truth.since.elapsed());
        Some(index)
    }

    fn observe(&mut self, index: usize, latency: Duration, outcome: Result<u16, Kind>) {
        let (endpoint, now) = (&self.endpoints[index], Instant::now().into_std());
        self.balancer.observe(endpoint, &Seen { latency, status: outcome.ok(), now });
        let Some(passive) = &self.passive else { return };
        let before = endpoint.state.is_ejected();
        passive.observe(&self.endpoints, index, outcome, now);
        if endpoint.state.is_ejected() && !before {
            let ejected = self.endpoints.iter().filter(|e| e.state.is_ejected() && e.weight > 0).count();
            let in_use = self.endpoints.iter().filter(|e| e.weight > 0).count();
            assert!(ejected * 2 <= in_use, "{ejected} of {in_use} are ejected");
            assert!(self.endpoints.iter().any(Endpoint::is_available), "the last one was ejected");
        }
    }

    /// After a quiet while: everyone who is there is in service, everyone who is gone is not.
    pub fn assert_known(&self) {
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            let state = health::State::of(&endpoint.state);
            assert_eq!(self.truth(index).up, state == health::State::Healthy, "{index} is {state:?}");
        }
    }
}
