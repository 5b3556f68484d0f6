//! `concurrency`: so many requests at once; the others wait in line for a time. The number is written, or found.

mod gate;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use portcullis_core::{
    Answer, Decision, Done, Error, Exchange, Flow, Kind, Middleware, Source,
    limit::{Bounds, Gradient},
    meter::{Counter, Gauge},
    middleware::{Around, MiddlewareKind, Problem},
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    rate_limit::{Key, KeyPart, Keys, Random},
    settings::Time,
};
use gate::{Entry, Gate, Permit, Tally};

/// Settings of `concurrency`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Concurrency {
    /// Requests at once: from being let in to the last byte of the answer.
    pub max: Option<NonZeroU32>,
    /// Finds the number by itself, from how long answers take: instead of `max`. `{}` will do.
    pub adaptive: Option<Adaptive>,
    /// Who shares the number, as for `rate_limit`: `all`, or each `client`, each value of a header, and so on.
    #[serde(default = "all")]
    pub key: Keys,
    /// IPv6 clients count as one when so many of their first bits agree.
    #[serde(default = "one_site")]
    pub ipv6_prefix: u8,
    /// So many more may wait for their turn, first come, first served; what comes beyond is refused at once.
    #[serde(default)]
    pub queue: u32,
    /// For so long at most; who still waits then is refused.
    #[serde(default = "a_second")]
    pub queue_timeout: Time,
}

/// Bounds of a number that is found.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Adaptive {
    /// Never less at once.
    #[serde(default = "few")]
    pub min: NonZeroU32,
    /// Never more at once.
    #[serde(default = "many")]
    pub max: NonZeroU32,
    /// At the start, once the usual time has been measured with `min` at once.
    #[serde(default = "some")]
    pub initial: NonZeroU32,
}

fn all() -> Keys {
    Keys(vec![KeyPart::All])
}

fn one_site() -> u8 {
    64
}

fn a_second() -> Time {
    Time(Duration::from_secs(1))
}

fn few() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(3)
}

fn many() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(999)
}

fn some() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(19)
}

/// The rule, compiled.
struct Rule {
    max: usize,
    bounds: Option<Bounds>,
    key: Key,
    /// Is a refusal the client's own doing?
    by_client: bool,
    queue: usize,
    patience: Duration,
    gates: Arc<Gates>,
    meters: Meters,
}

/// Keys are spread over so many tables, so that workers seldom meet at a lock.
const SHARDS: usize = 64;

/// Gates by key, with their lock on a line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Shard(Mutex<HashMap<u64, Weak<Gate>>>);

/// State that outlives a configuration.
struct Gates {
    all: Arc<Gate>,
    random: Random,
    by_key: [Shard; SHARDS],
    tally: Arc<Tally>,
    found: Mutex<Gradient>,
    limit: AtomicUsize,
}

struct Meters {
    limit: Arc<Gauge>,
    passed: Arc<Counter>,
    full: Arc<Counter>,
    timed_out: Arc<Counter>,
}

/// What a request holds until its answer has left.
struct Held(Vec<Hold>);

struct Hold {
    /// Which rule: its address.
    rule: usize,
    since: Instant,
    permit: Permit,
}

impl MiddlewareKind for Concurrency {
    const NAME: &'static str = "concurrency";
    const SUMMARY: &'static str =
        "Lets so many requests through at once; the others wait in line for a time.";
    const EXAMPLE: &'static str = "max = 100\nqueue = 50\nqueue_timeout = \"1s\"";

    fn build(self, around: &Around<'_>) -> Result<Arc<dyn Middleware>, Problem> {
        let bounds = self.bounds()?;
        let key = Key::compile(&self.key, "key", self.ipv6_prefix.min(128))?;
        if self.queue > 0 && self.queue_timeout.0.is_zero() {
            let help = "write a time such as 1s, or take `queue` away";
            return Err(Problem::at("queue_timeout", "who may wait no time need not wait").help(help));
        }
        let of_gateway = |part: &KeyPart| matches!(part, KeyPart::All | KeyPart::Host | KeyPart::Route);
        let identity = format!("{} {:?} /{} {}", around.name, self.key, self.ipv6_prefix, bounds.is_some());
        let gates = around.keep.get(Self::NAME, &identity, || Gates::new(bounds, around));
        let meters = Meters::new(around);
        let max = self.max.map_or(0, |max| max.get() as usize);
        meters.limit.set(match bounds {
            Some(_) => gates.limit.load(Relaxed) as f64,
            None => max as f64,
        });
        Ok(Arc::new(Rule {
            max,
            bounds,
            by_client: !self.key.0.iter().all(of_gateway),
            key,
            queue: self.queue as usize,
            patience: self.queue_timeout.0,
            gates,
            meters,
        }))
    }
}

impl Concurrency {
    fn bounds(&self) -> Result<Option<Bounds>, Problem> {
        let Some(adaptive) = &self.adaptive else {
            return match self.max {
                Some(_) => Ok(None),
                None => {
                    Err(Problem::at("", "missing field `max`").help("add `max = 100`, or `adaptive = {}`"))
                }
            };
        };
        if self.max.is_some() {
            let help = "keep one of the two; `adaptive` has a `max` of its own";
            return Err(Problem::at("max", "`max` stands beside `adaptive`").help(help));
        }
        if self.key.0 != all().0 {
            let help = "take `key` away, or write a `max`";
            return Err(Problem::at("key", "what is found is found for all together").help(help));
        }
        let of = |number: NonZeroU32| f64::from(number.get());
        let bounds = Bounds { min: of(adaptive.min), max: of(adaptive.max), initial: of(adaptive.initial) };
        if !(bounds.min <= bounds.initial && bounds.initial <= bounds.max) {
            let message = format!(
                "`min` {}, `initial` {} and `max` {} do not ascend",
                adaptive.min, adaptive.initial, adaptive.max
            );
            return Err(
                Problem::at("adaptive", message).help("for instance { min = 4, initial = 20, max = 1000 }")
            );
        }
        Ok(Some(bounds))
    }
}

impl Meters {
    fn new(around: &Around<'_>) -> Meters {
        let count = |result: &str| {
            let help = "Requests that met a bound on requests at once: passed, or refused since the line was full or took too long.";
            let labels = [("middleware", around.name), ("result", result)];
            around.meters.counter("gateway_concurrency_requests_total", help, &labels)
        };
        Meters {
            limit: around.meters.gauge(
                "gateway_concurrency_limit",
                "Requests that may be under way at once, for each key.",
                &[("middleware", around.name)],
            ),
            passed: count("passed"),
            full: count("full"),
            timed_out: count("timeout"),
        }
    }
}

impl Gates {
    fn new(bounds: Option<Bounds>, around: &Around<'_>) -> Gates {
        let gauge = |name, help| around.meters.gauge(name, help, &[("middleware", around.name)]);
        let inside = gauge("gateway_concurrency_in_flight", "Requests under way.");
        let waiting = gauge("gateway_concurrency_queued", "Requests that wait for their turn.");
        let tally = Arc::new(Tally { inside, waiting });
        let found = Gradient::new(bounds.unwrap_or(Bounds { min: 1.0, max: 1.0, initial: 1.0 }));
        Gates {
            all: Arc::new(Gate::new(&tally)),
            random: Random::new(),
            by_key: std::array::from_fn(|_| Shard::default()),
            tally,
            limit: AtomicUsize::new(found.limit()),
            found: Mutex::new(found),
        }
    }

    /// The gate of a key: the one that somebody is at, or a new one.
    fn of(&self, key: u64) -> Arc<Gate> {
        let [first, ..] = &self.by_key;
        let shard = self.by_key.get((key >> 57) as usize % SHARDS).unwrap_or(first);
        let mut gates = shard.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get(&key).and_then(Weak::upgrade) {
            return gate;
        }
        // Amortised: whenever the table would grow, those are forgotten where nobody is.
        if gates.len() == gates.capacity() {
            gates.retain(|_, gate| gate.strong_count() > 0);
        }
        let gate = Arc::new(Gate::new(&self.tally));
        gates.insert(key, Arc::downgrade(&gate));
        gate
    }
}

impl Rule {
    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn limit(&self) -> usize {
        if self.bounds.is_some() { self.gates.limit.load(Relaxed).max(1) } else { self.max }
    }

    fn gate(&self, x: &Exchange) -> Arc<Gate> {
        if self.key.is_all() {
            return self.gates.all.clone();
        }
        self.gates.of(self.key.hash(x, &self.gates.random))
    }

    fn hold(&self, x: &mut Exchange, permit: Permit) {
        self.meters.passed.inc();
        let hold = Hold { rule: self.id(), since: Instant::now(), permit };
        match x.recall_mut::<Held>() {
            Some(held) => held.0.push(hold),
            None => x.remember(Held(vec![hold])),
        }
    }

    fn refused(&self, counter: &Counter) -> Error {
        counter.inc();
        let kind = if self.by_client { Kind::RateLimited } else { Kind::Overloaded };
        Error::because(kind, "too many requests at once").retry_after(Duration::from_secs(1))
    }
}

impl Middleware for Rule {
    fn on_request<'a>(&'a self, x: &'a mut Exchange) -> Result<Flow<'a>, Error> {
        match self.gate(x).enter(self.limit(), self.queue) {
            Entry::In(permit) => {
                self.hold(x, permit);
                Ok(Flow::Next)
            }
            Entry::Full => Err(self.refused(&self.meters.full)),
            Entry::Wait(waiting) => Ok(Flow::Wait(Box::pin(async move {
                let link = x.client_link.clone();
                let gone = std::future::poll_fn(|cx| link.poll_gone(cx));
                let permit = tokio::select! {
                    permit = waiting.turn(self.patience) => permit,
                    () = gone => return Err(Error::new(Kind::ClientGone)),
                };
                match permit {
                    Some(permit) => {
                        self.hold(x, permit);
                        Ok(Decision::Next)
                    }
                    None => Err(self.refused(&self.meters.timed_out)),
                }
            }))),
        }
    }

    fn on_response<'a>(&'a self, x: &'a mut Exchange, answer: &'a mut Answer) -> Result<Done<'a>, Error> {
        let Some(bounds) = self.bounds else { return Ok(Done::Now) };
        // How long a client takes says nothing about the service, nor does what we answered ourselves.
        let failed = matches!(answer.source, Source::Error(Kind::ResponseTimeout | Kind::TotalTimeout));
        if answer.source != Source::Endpoint && !failed {
            return Ok(Done::Now);
        }
        let id = self.id();
        let Some(hold) = x.recall::<Held>().and_then(|held| held.0.iter().find(|hold| hold.rule == id))
        else {
            return Ok(Done::Now);
        };
        let (now, inside) = (Instant::now(), hold.permit.inside());
        let mut found = self.gates.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.sample(now, now.duration_since(hold.since), inside, bounds);
        let limit = found.limit();
        drop(found);
        if self.gates.limit.swap(limit, Relaxed) != limit {
            self.meters.limit.set(limit as f64);
        }
        Ok(Done::Now)
    }
}
