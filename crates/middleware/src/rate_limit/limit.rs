//! One limit of a rule, compiled.

use std::{
    cell::Cell,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use portcullis_core::{
    Exchange,
    limit::{Bound, Grant, Terms},
    middleware::{Around, Problem},
    store::{self, Take, Taken},
};
use ring::hmac;

use super::{
    buckets::Buckets,
    calendar::Unit,
    key::Key,
    leases::{Ahead, Leases},
    settings::{Allowance, Counted, Keys, LimitSettings, Per, ProblemType, RateLimit},
};

/// One limit.
pub struct Limit {
    /// As clients see it.
    pub name: Arc<str>,
    shape: Shape,
    key: Key,
    /// Before each key in a store.
    prefix: String,
    most: usize,
    /// Does nobody exceed it who uses the service as it is meant?
    pub abnormal: bool,
    buckets: Arc<Buckets>,
}

#[derive(Debug, Clone, Copy)]
enum Shape {
    Rate { interval: f64, burst: u64, more: u64 },
    Calendar { quota: u64, unit: Unit },
}

impl Limit {
    /// Compiles all limits of a rule.
    pub fn all(settings: &RateLimit, around: &Around<'_>) -> Result<Vec<Limit>, Problem> {
        if settings.ipv6_prefix > 128 {
            let message = format!("an IPv6 address has 128 bits, not {}", settings.ipv6_prefix);
            let help = "64, or less to count larger networks as one";
            return Err(Problem::at("ipv6_prefix", message).help(help));
        }
        let delay = settings.max_delay.map_or(Duration::ZERO, |time| time.0);
        match (settings.requests_per_second, settings.limits.as_slice()) {
            (Some(_), [_, ..]) => {
                let help = "write it as one of them: { requests = 100, per = \"1s\" }";
                Err(Problem::at("requests_per_second", "`limits` are written too").help(help))
            }
            (None, []) => {
                let help =
                    "add `requests_per_second = 100`, or `limits = [{ requests = 5000, per = \"day\" }]`";
                Err(Problem::at("", "missing field `requests_per_second`").help(help))
            }
            (None, [_, ..]) if settings.burst.is_some() => {
                let help = "write it into the limit that it is for";
                Err(Problem::at("burst", "`burst` stands beside `requests_per_second` only").help(help))
            }
            (Some(rate), []) => Ok(vec![Limit::short(rate, settings, delay, around)?]),
            (None, limits) => {
                let mut all: Vec<Limit> = Vec::with_capacity(limits.len());
                for (index, limit) in limits.iter().enumerate() {
                    let path = format!("limits[{index}]");
                    let limit = Limit::long(limit, &path, settings, delay, around)?;
                    if all.iter().any(|other| other.name == limit.name) {
                        let message = format!("two limits are called `{}`", limit.name);
                        return Err(Problem::at(path, message).help("give each a `name` of its own"));
                    }
                    all.push(limit);
                }
                Ok(all)
            }
        }
    }

    fn short(
        rate: f64,
        settings: &RateLimit,
        delay: Duration,
        around: &Around<'_>,
    ) -> Result<Limit, Problem> {
        let burst = settings.burst.map_or_else(|| (rate.ceil() as u32).max(1), |burst| burst.get());
        let shape = steady(1e9 / rate, burst.into(), delay).ok_or_else(|| {
            let message = format!("{rate} requests per second with a burst of {burst} cannot be counted");
            Problem::at("requests_per_second", message).help("between 0.00001 and 1,000,000,000, such as 100")
        })?;
        Limit::of("default", shape, (&settings.key, "key"), settings.problem, settings, around)
    }

    fn long(
        limit: &LimitSettings,
        path: &str,
        settings: &RateLimit,
        delay: Duration,
        around: &Around<'_>,
    ) -> Result<Limit, Problem> {
        let requests = u64::from(limit.requests.get());
        let (shape, said) = match limit.per {
            Per::Calendar(unit) => {
                if limit.burst.is_some() {
                    let help = "take it away, or write a time such as per = \"24h\"";
                    return Err(Problem::at(format!("{path}.burst"), "a quota has no burst").help(help));
                }
                (Shape::Calendar { quota: requests, unit }, unit.as_str().to_owned())
            }
            Per::Time(time) => {
                let burst = limit.burst.map_or(requests, |burst| burst.get().into());
                let shape =
                    steady(time.as_nanos() as f64 / requests as f64, burst, delay).ok_or_else(|| {
                        let message = format!(
                            "{requests} requests per {time:?} with a burst of {burst} cannot be counted"
                        );
                        Problem::at(format!("{path}.per"), message)
                            .help("write a time such as \"1s\" or \"10m\"")
                    })?;
                (shape, format!("{time:?}"))
            }
        };
        let name = limit.name.clone().unwrap_or(said);
        if name.is_empty()
            || name.len() > 64
            || name.bytes().any(|b| !(b' '..=b'~').contains(&b) || b == b'"' || b == b'\\')
        {
            let help = "use at most 64 letters, digits and signs, without quotes";
            return Err(Problem::at(format!("{path}.name"), "this cannot name a limit").help(help));
        }
        let own = format!("{path}.key");
        let keys = limit.key.as_ref().map_or((&settings.key, "key"), |key| (key, own.as_str()));
        Limit::of(&name, shape, keys, limit.problem.unwrap_or(settings.problem), settings, around)
    }

    fn of(
        name: &str,
        shape: Shape,
        (keys, path): (&Keys, &str),
        problem: ProblemType,
        settings: &RateLimit,
        around: &Around<'_>,
    ) -> Result<Limit, Problem> {
        let key = Key::compile(keys, path, settings.ipv6_prefix)?;
        // Who is counted decides whether the counts still mean the same; a new rate applies to the old ones.
        let sort = match shape {
            Shape::Rate { .. } => "",
            Shape::Calendar { unit, .. } => unit.as_str(),
        };
        let identity = format!("{} {name} {sort} {keys:?} /{}", around.name, settings.ipv6_prefix);
        let buckets = around.keep.get("rate_limit", &identity, Buckets::new);
        let prefix = format!("{}:{name}:{sort}", around.name);
        let most = settings.max_clients.get() as usize;
        let abnormal = problem == ProblemType::AbnormalUsageDetected;
        Ok(Limit { name: name.into(), shape, key, prefix, most, abnormal, buckets })
    }

    /// What is taken ahead of it from a store.
    pub fn ahead(&self, allowance: &Allowance, store: &str, around: &Around<'_>) -> Result<Ahead, Problem> {
        let terms = self.terms(allowance)?;
        let identity = format!("{store} {} {:?}", self.prefix, self.key);
        let leases = around.keep.get("rate_limit_leases", &identity, Leases::new);
        let help = "What was taken ahead of quotas and not used: given back, or lost with its window.";
        let labels = [("middleware", around.name), ("store", store)];
        let unused = around.meters.counter("gateway_rate_limit_allowance_unused_total", help, &labels);
        Ok(Ahead { leases, terms, clients: self.most, unused })
    }

    /// What is taken ahead, and for how long.
    fn terms(&self, allowance: &Allowance) -> Result<Terms, Problem> {
        let max_age = allowance.max_age.0;
        if !(Duration::from_millis(10)..=Duration::from_secs(60)).contains(&max_age) {
            let message = format!("an allowance that is {max_age:?} old is of no use, or far from the truth");
            return Err(Problem::at("allowance.max_age", message).help("between 10ms and 1m, such as \"1s\""));
        }
        if !(allowance.share > 0.0 && allowance.share <= 0.5) {
            let message =
                format!("a share of {} leaves nothing for the others, or nothing ahead", allowance.share);
            return Err(Problem::at("allowance.share", message).help("between 0 and 0.5, such as 0.05"));
        }
        let most = (self.most() as f64 * allowance.share) as u64;
        if most < 2 {
            let message = format!(
                "{} of the {} of `{}` is less than 2: every request asks the store",
                allowance.share,
                self.most(),
                self.name
            );
            let help = match 2.0 / self.most() as f64 {
                least if least <= 0.5 => {
                    format!("share = {:.2} at least, or no `allowance`", (least * 100.0).ceil() / 100.0)
                }
                _ => "take `allowance` away: the limit is too small for one".to_owned(),
            };
            return Err(Problem::at("allowance.share", message).help(help));
        }
        let max_age = u64::try_from(max_age.as_nanos()).unwrap_or(u64::MAX);
        // What is taken of a bucket lapses while it refills.
        let horizon = match self.shape {
            Shape::Rate { interval, .. } => max_age.min((interval * most as f64) as u64),
            Shape::Calendar { .. } => max_age,
        };
        Ok(Terms { most, horizon, max_age, pause: horizon })
    }

    /// `"day";q=5000;w=86400`: a bucket's quota is its burst, in the time that fills it.
    pub fn policy(&self, counted: Counted) -> String {
        let (quota, seconds) = match self.shape {
            Shape::Rate { interval, burst, .. } => {
                (burst, (interval * burst as f64 / 1e9).ceil().max(1.0) as u64)
            }
            Shape::Calendar { quota, unit } => (quota, unit.seconds()),
        };
        let unit = match counted {
            // What is not said means requests.
            Counted::Requests => "",
            Counted::ContentBytes => ";qu=\"content-bytes\"",
        };
        format!("\"{}\";q={quota}{unit};w={seconds}", self.name)
    }

    /// What it allows at once.
    pub fn most(&self) -> u64 {
        match self.shape {
            Shape::Rate { burst, .. } => burst,
            Shape::Calendar { quota, .. } => quota,
        }
    }

    /// The key of a request, in memory.
    pub fn hash(&self, x: &Exchange) -> u64 {
        self.key.hash(x, &self.buckets.random)
    }

    /// A name for those whom a request counts with; `None` where all count together.
    pub fn partition(&self, x: &Exchange, secret: &hmac::Key) -> Option<String> {
        (!self.key.is_all()).then(|| self.key.partition(x, secret))
    }

    /// Takes from memory.
    pub fn take(&self, key: u64, cost: u64, at: Instant, forced: bool) -> Grant {
        self.buckets.take(key, self.bound(at), cost, at, forced, self.most)
    }

    /// What came of taking at a time, for those who want to read it.
    pub fn told(&self, grant: Grant, at: Instant) -> Taken {
        self.bound(at).told(grant)
    }

    /// Gives back to memory.
    pub fn give_back(&self, key: u64, cost: u64, at: Instant) {
        self.buckets.give_back(key, self.bound(at), cost);
    }

    /// What bounds it at a time.
    pub fn bound(&self, at: Instant) -> Bound {
        match self.shape {
            Shape::Rate { interval, burst, more } => {
                Bound::Rate { interval: (interval as u64).max(1), burst, more }
            }
            Shape::Calendar { quota, unit } => {
                let wall = wall(at);
                let window = unit.window(wall);
                let left = window.end().duration_since(wall).unwrap_or_default();
                let left = u64::try_from(left.as_nanos()).unwrap_or(u64::MAX);
                Bound::Quota { quota, ends: window.ends, left }
            }
        }
    }

    /// What a store is asked to take at a time.
    pub fn wanted(&self, x: &Exchange, cost: u64, at: Instant) -> Take {
        let (prefix, key) = (&self.prefix, self.key.text(x));
        match self.shape {
            Shape::Rate { interval, burst, more } => {
                let bound = store::Bound::Rate { interval, burst, more };
                Take::new(format!("{prefix}:{key}"), bound, cost)
            }
            Shape::Calendar { quota, unit } => {
                let window = unit.window(wall(at));
                let bound = store::Bound::Quota { quota, ends: window.end() };
                Take::new(format!("{prefix}:{}:{key}", window.starts), bound, cost)
            }
        }
    }
}

/// A bucket, unless its numbers are beyond all use.
fn steady(interval: f64, burst: u64, delay: Duration) -> Option<Shape> {
    if !(1.0..1e15).contains(&interval.round()) || burst == 0 || interval * burst as f64 > 1e18 {
        return None;
    }
    Some(Shape::Rate { interval, burst, more: (delay.as_nanos() as f64 / interval) as u64 })
}

/// The time of the calendar at an instant. Both clocks are read together once a second: that is how soon a clock that was
/// set is believed.
fn wall(at: Instant) -> SystemTime {
    thread_local!(static READ: Cell<Option<(Instant, SystemTime)>> = const { Cell::new(None) });
    let near = |(read, _): &(Instant, SystemTime)| {
        at.checked_duration_since(*read).is_some_and(|since| since < Duration::from_secs(1))
    };
    let known = READ.with(Cell::get).filter(near);
    let (read, wall) = known.unwrap_or_else(|| {
        let both = (Instant::now(), SystemTime::now());
        READ.with(|kept| kept.set(Some(both)));
        both
    });
    match at.checked_duration_since(read) {
        Some(ahead) => wall + ahead,
        None => wall - read.duration_since(at),
    }
}
