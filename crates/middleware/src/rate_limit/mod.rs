//! `rate_limit`: so many requests in so much time, from each client or whoever else is told apart; in this process's
//! memory, or in a store where several gateways count together.

mod buckets;
mod calendar;
mod few;
mod fields;
mod key;
mod leases;
mod limit;
mod settings;
mod shared;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use portcullis_core::{
    Answer, Decision, Done, Error, Exchange, Fields, Flow, Kind, Middleware,
    exchange::Violated,
    meter::Counter,
    middleware::{Around, MiddlewareKind, Problem},
    store::{Take, Taken},
};
use ring::hmac;

use few::Few;
pub(crate) use key::{Key, Random};
use limit::Limit;
use settings::Counted;
pub use settings::RateLimit;
pub(crate) use settings::{KeyPart, Keys};
use shared::Shared;

/// The rule, compiled.
struct Rule {
    limits: Vec<Limit>,
    /// `RateLimit-Policy`; `None` where clients are not told.
    policies: Option<String>,
    /// Where clients are told which counter is theirs.
    partitions: Option<Partitions>,
    older: bool,
    cost: Option<(String, u64)>,
    /// The header that says it, and the most that is believed.
    answer_cost: Option<(String, u64)>,
    delays: bool,
    shared: Option<Shared>,
    passed: Arc<Counter>,
    limited: Arc<Counter>,
    delayed: Arc<Counter>,
}

/// What names counters to clients.
struct Partitions {
    secret: hmac::Key,
    /// `RateLimit-Policy`, limit by limit.
    policies: Vec<String>,
}

/// What a rule found of a request, for its answer.
struct Found {
    /// Which rule: its address.
    rule: usize,
    cost: u64,
    by: By,
    /// Whom each limit counted; none where clients are not told.
    partitions: Vec<Option<String>>,
}

/// Where it was found, and what a later debit is asked of, for each limit.
enum By {
    Memory(Few<(u64, Taken)>),
    Store(Vec<Taken>, Vec<Take>),
}

/// What all rules found.
struct FoundAll(Few<Found>);

impl By {
    fn taken(&self) -> impl Iterator<Item = &Taken> {
        let (memory, store) = match self {
            By::Memory(each) => (Some(each.iter()), None),
            By::Store(taken, _) => (None, Some(taken.iter())),
        };
        memory.into_iter().flatten().map(|(_, taken)| taken).chain(store.into_iter().flatten())
    }
}

impl FoundAll {
    fn of(&self, rule: usize) -> Option<&Found> {
        self.0.iter().find(|found| found.rule == rule)
    }
}

impl MiddlewareKind for RateLimit {
    const NAME: &'static str = "rate_limit";
    const SUMMARY: &'static str =
        "Lets so many requests pass in so much time, from each client or all together.";
    const EXAMPLE: &'static str = "requests_per_second = 100\nburst = 200";

    fn build(self, around: &Around<'_>) -> Result<Arc<dyn Middleware>, Problem> {
        let limits = Limit::all(&self, around)?;
        let header = |path: &str, name: &str| crate::settings::name(path, name).map(|()| name.to_owned());
        let cost = self
            .cost
            .as_ref()
            .map(|cost| header("cost.header", &cost.header).map(|name| (name, u64::from(cost.max.get()))));
        let most = self.answer_cost.as_ref().map_or(0, |cost| u64::from(cost.max.get()));
        let answer_cost = self.answer_cost.as_ref().map(|cost| header("answer_cost.header", &cost.header));
        let count = |result: &str| {
            let help = "Requests that met a limit: passed, limited (refused) or delayed.";
            let labels = [("middleware", around.name), ("result", result)];
            around.meters.counter("gateway_rate_limit_requests_total", help, &labels)
        };
        let counted = counted(&self)?;
        let policies: Vec<String> = limits.iter().map(|limit| limit.policy(counted)).collect();
        Ok(Arc::new(Rule {
            policies: self.headers.then(|| policies.join(", ")),
            partitions: Partitions::of(&self, policies)?,
            older: self.legacy_headers,
            cost: cost.transpose()?,
            answer_cost: answer_cost.transpose()?.map(|name| (name, most)),
            delays: self.max_delay.is_some_and(|time| !time.0.is_zero()),
            shared: Shared::of(&self, &limits, around)?,
            passed: count("passed"),
            limited: count("limited"),
            delayed: count("delayed"),
            limits,
        }))
    }
}

/// What is counted; that cannot be bytes where nothing says how many.
fn counted(settings: &RateLimit) -> Result<Counted, Problem> {
    if settings.unit == Counted::Requests {
        return Ok(Counted::Requests);
    }
    let mosts = [
        ("cost.max", settings.cost.as_ref().map(|cost| cost.max)),
        ("answer_cost.max", settings.answer_cost.as_ref().map(|cost| cost.max)),
    ];
    if mosts.iter().all(|(_, most)| most.is_none()) {
        let help = "say which header does: answer_cost = { header = \"X-Bytes\", max = 100_000_000 }";
        return Err(Problem::at("unit", "nothing says how many bytes a request costs").help(help));
    }
    for (path, most) in mosts {
        // What stands there when nobody says anything is made for requests.
        if let Some(most) = most.filter(|most| *most <= settings::much()) {
            let message = format!("of the bytes of a request, {most} would be counted at most");
            let help = "say how large one may be: max = 100_000_000";
            return Err(Problem::at(path, message).help(help));
        }
    }
    Ok(settings.unit)
}

impl Partitions {
    /// Where a secret is set.
    fn of(settings: &RateLimit, policies: Vec<String>) -> Result<Option<Partitions>, Problem> {
        let Some(secret) = settings.partition_secret.as_deref() else { return Ok(None) };
        let at = |message: &str, help: &str| Err(Problem::at("partition_secret", message).help(help));
        if secret.len() < 16 {
            return at(
                "this is no secret: it is shorter than 16 characters",
                "make one: openssl rand -hex 16",
            );
        }
        if !settings.headers {
            return at("`headers = false` keeps the fields away that would tell", "take one of the two away");
        }
        Ok(Some(Partitions { secret: hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), policies }))
    }
}

/// What becomes of a request.
enum Verdict {
    Pass,
    /// After so long.
    Later(Duration),
    Refused(Error),
}

impl Verdict {
    fn flow(self) -> Result<Flow<'static>, Error> {
        match self {
            Verdict::Pass => Ok(Flow::Next),
            Verdict::Refused(error) => Err(error),
            later => Ok(Flow::Wait(Box::pin(later.carried_out()))),
        }
    }

    async fn carried_out(self) -> Result<Decision, Error> {
        match self {
            Verdict::Pass => {}
            Verdict::Later(wait) => tokio::time::sleep(wait).await,
            Verdict::Refused(error) => return Err(error),
        }
        Ok(Decision::Next)
    }
}

impl Rule {
    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Is there anything to be done when the answer comes by?
    fn follows(&self) -> bool {
        self.policies.is_some() || self.older || self.answer_cost.is_some()
    }

    fn cost(&self, x: &Exchange) -> u64 {
        let Some((name, most)) = &self.cost else { return 1 };
        number(&x.request.fields, name).unwrap_or(1).clamp(1, *most)
    }

    /// Decides in memory.
    fn in_memory(&self, x: &mut Exchange, cost: u64) -> Verdict {
        let at = x.started;
        if let [limit] = self.limits.as_slice() {
            let key = limit.hash(x);
            let grant = limit.take(key, cost, at, false);
            if self.follows() {
                let each = Few::One((key, limit.told(grant, at)));
                self.remember(x, cost, By::Memory(each));
            }
            return match grant.enough {
                true => self.granted(grant.wait),
                false => self.refused(x, &[limit.told(grant, at)]),
            };
        }
        self.in_memory_all(x, cost, at)
    }

    /// The same for several limits: what one refuses costs none.
    fn in_memory_all(&self, x: &mut Exchange, cost: u64, at: Instant) -> Verdict {
        let keys: Vec<u64> = self.limits.iter().map(|limit| limit.hash(x)).collect();
        let take = |(limit, key): (&Limit, &u64)| limit.told(limit.take(*key, cost, at, false), at);
        let mut taken: Vec<Taken> = self.limits.iter().zip(&keys).map(take).collect();
        if taken.iter().any(|taken| !taken.enough) {
            for ((limit, key), taken) in self.limits.iter().zip(&keys).zip(&mut taken) {
                if taken.enough {
                    limit.give_back(*key, cost, at);
                    taken.left += cost;
                }
            }
        }
        let verdict = self.judge(x, &taken);
        if self.follows() {
            let each = Few::Many(keys.into_iter().zip(taken).collect());
            self.remember(x, cost, By::Memory(each));
        }
        verdict
    }

    fn judge(&self, x: &mut Exchange, taken: &[Taken]) -> Verdict {
        if taken.iter().any(|taken| !taken.enough) {
            return self.refused(x, taken);
        }
        let wait = taken.iter().map(|taken| taken.wait).max().unwrap_or_default();
        self.granted(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX))
    }

    fn refused(&self, x: &mut Exchange, taken: &[Taken]) -> Verdict {
        let refused = || taken.iter().zip(&self.limits).filter(|(taken, _)| !taken.enough);
        self.limited.inc();
        let abnormal = refused().any(|(_, limit)| limit.abnormal);
        x.remember(Violated { policies: refused().map(|(_, limit)| limit.name.clone()).collect(), abnormal });
        let wait = refused().map(|(taken, _)| taken.wait).max().unwrap_or_default();
        Verdict::Refused(Error::new(Kind::RateLimited).retry_after(wait))
    }

    /// There was enough, once so many nanoseconds have been waited for.
    fn granted(&self, wait: u64) -> Verdict {
        if self.delays && wait > 0 {
            self.delayed.inc();
            return Verdict::Later(Duration::from_nanos(wait));
        }
        self.passed.inc();
        Verdict::Pass
    }

    fn remember(&self, x: &mut Exchange, cost: u64, by: By) {
        // Now, since whoever comes later may change what the key is made of.
        let each = |of: &Partitions| self.limits.iter().map(|limit| limit.partition(x, &of.secret)).collect();
        let partitions = self.partitions.as_ref().map(each).unwrap_or_default();
        let found = Found { rule: self.id(), cost, by, partitions };
        match x.recall_mut::<FoundAll>() {
            Some(FoundAll(Few::Many(all))) => all.push(found),
            Some(FoundAll(few)) => {
                let first = std::mem::replace(few, Few::Many(Vec::new()));
                if let (Few::One(first), Few::Many(all)) = (first, few) {
                    all.extend([first, found]);
                }
            }
            None => x.remember(FoundAll(Few::One(found))),
        }
    }

    /// Takes what an answer says that it cost beyond what was taken; what is left then, if that is not what was found.
    fn debit(&self, x: &Exchange, answer: &Answer, found: &Found) -> Option<Vec<Taken>> {
        let (name, most) = self.answer_cost.as_ref()?;
        let said = number(&answer.fields, name).unwrap_or(0).min(*most);
        let more = said.saturating_sub(found.cost);
        if more == 0 || found.by.taken().any(|taken| !taken.enough) {
            return None;
        }
        match (&found.by, &self.shared) {
            (By::Memory(each), _) => {
                let debit = |(limit, (key, _)): (&Limit, &(u64, Taken))| {
                    limit.told(limit.take(*key, more, x.started, true), x.started)
                };
                return Some(self.limits.iter().zip(each.iter()).map(debit).collect());
            }
            (By::Store(_, wanted), Some(shared)) => {
                let store = shared.store.clone();
                let takes: Vec<Take> =
                    wanted.iter().map(|take| Take { cost: more, ..take.clone() }).collect();
                // Nobody waits for it; a store that went away meanwhile has counted that by itself.
                tokio::spawn(async move { store.take(&takes, true).await.map(drop) });
            }
            (By::Store(..), None) => {}
        }
        let less = |taken: &Taken| Taken { left: taken.left.saturating_sub(more), ..*taken };
        Some(found.by.taken().map(less).collect())
    }
}

/// The whole number that a field says.
fn number(fields: &Fields, name: &str) -> Option<u64> {
    fields.get_str(name)?.trim().parse().ok()
}

impl Middleware for Rule {
    fn on_request<'a>(&'a self, x: &'a mut Exchange) -> Result<Flow<'a>, Error> {
        let cost = self.cost(x);
        let Some(shared) = &self.shared else { return self.in_memory(x, cost).flow() };
        let steps = match &shared.allowance {
            None => None,
            Some(allowed) => match self.ahead(shared, allowed, x, cost) {
                Ok(verdict) => return verdict.flow(),
                Err(steps) => Some((allowed, steps)),
            },
        };
        Ok(Flow::Wait(Box::pin(async move {
            let verdict = match steps {
                Some((allowed, steps)) => self.ask((shared, allowed), x, cost, steps).await,
                None => self.together(shared, x, cost).await,
            };
            verdict.carried_out().await
        })))
    }

    fn on_response<'a>(&'a self, x: &'a mut Exchange, answer: &'a mut Answer) -> Result<Done<'a>, Error> {
        let rule = self.id();
        let Some(found) = x.recall::<FoundAll>().and_then(|all| all.of(rule)) else { return Ok(Done::Now) };
        let debited = self.debit(x, answer, found);
        let taken = || {
            let (now, before) = (debited.iter().flatten(), debited.is_none().then(|| found.by.taken()));
            now.chain(before.into_iter().flatten())
        };
        if let Some(policies) = &self.policies {
            let items = self.limits.iter().map(|limit| &*limit.name).zip(taken());
            let named = self.partitions.as_ref().map(|of| fields::named(&of.policies, &found.partitions));
            fields::write(answer, named.as_deref().unwrap_or(policies), items, &found.partitions);
        }
        if self.older {
            fields::write_older(answer, self.limits.iter().map(Limit::most).zip(taken()));
        }
        Ok(Done::Now)
    }
}
