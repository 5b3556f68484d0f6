//! `rate_limit`: so many requests in so much time, from each client or whoever else is told apart; in this process's
//! memory, or in a store where several gateways count together.

mod buckets;
mod calendar;
mod fields;
mod key;
mod limit;
mod settings;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use portcullis_core::{
    Answer, Decision, Done, Error, Exchange, Flow, Kind, Middleware,
    exchange::Violated,
    meter::Counter,
    middleware::{Around, MiddlewareKind, Problem},
    store::{CounterStore, Take, Taken},
};

pub(crate) use key::Key;
use limit::Limit;
pub use settings::RateLimit;
use settings::WhenAway;
pub(crate) use settings::{KeyPart, Keys};

/// The rule, compiled.
struct Rule {
    limits: Vec<Limit>,
    /// `RateLimit-Policy`; `None` where clients are not told.
    policies: Option<String>,
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

/// A store where several gateways count together.
struct Shared {
    store: Arc<dyn CounterStore>,
    when_away: WhenAway,
    away: Arc<Counter>,
}

/// What a rule found of a request, for its answer.
struct Found {
    /// Which rule: its address.
    rule: usize,
    taken: Vec<Taken>,
    cost: u64,
    /// What a later debit is asked of: keys in memory, or in the store.
    memory: Vec<u64>,
    store: Vec<Take>,
}

/// What all rules found.
struct FoundAll(Vec<Found>);

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
        let policies: Vec<String> = limits.iter().map(Limit::policy).collect();
        Ok(Arc::new(Rule {
            policies: self.headers.then(|| policies.join(", ")),
            older: self.legacy_headers,
            cost: cost.transpose()?,
            answer_cost: answer_cost.transpose()?.map(|name| (name, most)),
            delays: self.max_delay.is_some_and(|time| !time.0.is_zero()),
            shared: self.store.as_deref().map(|name| shared(name, self.when_away, around)).transpose()?,
            passed: count("passed"),
            limited: count("limited"),
            delayed: count("delayed"),
            limits,
        }))
    }
}

fn shared(name: &str, when_away: WhenAway, around: &Around<'_>) -> Result<Shared, Problem> {
    let Some(store) = around.stores.get(name) else {
        let known: Vec<&str> = around.stores.names().collect();
        let help = match known.as_slice() {
            [] => format!("add [stores.{name}] with redis = \"redis://127.0.0.1:6379/0\""),
            known => format!("the stores are {}", known.join(", ")),
        };
        return Err(Problem::at("store", format!("there is no store `{name}`")).help(help));
    };
    let Some(store) = store.counters.clone() else {
        let help = "name a Redis store, or leave `store` away to count in memory";
        return Err(Problem::at("store", format!("the store `{name}` cannot count")).help(help));
    };
    let help = "Requests that a limit decided without its store, since that did not answer.";
    let away = around.meters.counter(
        "gateway_rate_limit_store_away_total",
        help,
        &[("middleware", around.name), ("store", name)],
    );
    Ok(Shared { store, when_away, away })
}

/// What becomes of a request.
enum Verdict {
    Pass,
    /// After so long.
    Later(Duration),
    Refused(Error),
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
        let said = x.request.fields.get_str(name).and_then(|value| value.trim().parse::<u64>().ok());
        said.unwrap_or(1).clamp(1, *most)
    }

    /// Decides in memory.
    fn in_memory(&self, x: &mut Exchange, cost: u64) -> Verdict {
        if let ([limit], false) = (self.limits.as_slice(), self.follows()) {
            let taken = limit.take(limit.hash(x), cost, x.started, false);
            return self.judge(x, &[taken]);
        }
        let keys: Vec<u64> = self.limits.iter().map(|limit| limit.hash(x)).collect();
        let (at, mut taken) = (x.started, Vec::with_capacity(keys.len()));
        for (limit, key) in self.limits.iter().zip(&keys) {
            taken.push(limit.take(*key, cost, at, false));
        }
        if taken.iter().any(|taken| !taken.enough) {
            for ((limit, key), taken) in self.limits.iter().zip(&keys).zip(&mut taken) {
                if taken.enough {
                    limit.give_back(*key, cost, at);
                    taken.left += cost;
                }
            }
        }
        let verdict = self.judge(x, &taken);
        self.remember(x, Found { rule: self.id(), taken, cost, memory: keys, store: Vec::new() });
        verdict
    }

    /// Decides together with other gateways.
    async fn together(&self, shared: &Shared, x: &mut Exchange, cost: u64) -> Verdict {
        let wanted: Vec<Take> = self.limits.iter().map(|limit| limit.wanted(x, cost)).collect();
        match shared.store.take(&wanted, false).await {
            Ok(taken) => {
                let verdict = self.judge(x, &taken);
                self.remember(x, Found { rule: self.id(), taken, cost, memory: Vec::new(), store: wanted });
                verdict
            }
            Err(_) => {
                shared.away.inc();
                match shared.when_away {
                    WhenAway::Local => self.in_memory(x, cost),
                    WhenAway::Open => {
                        self.passed.inc();
                        Verdict::Pass
                    }
                    WhenAway::Closed => {
                        self.limited.inc();
                        let error =
                            Error::because(Kind::RateLimited, "the store of the limit does not answer");
                        Verdict::Refused(error.retry_after(Duration::from_secs(1)))
                    }
                }
            }
        }
    }

    fn judge(&self, x: &mut Exchange, taken: &[Taken]) -> Verdict {
        let refused = || taken.iter().zip(&self.limits).filter(|(taken, _)| !taken.enough);
        if let Some(wait) = refused().map(|(taken, _)| taken.wait).max() {
            self.limited.inc();
            x.remember(Violated(refused().map(|(_, limit)| limit.name.clone()).collect()));
            return Verdict::Refused(Error::new(Kind::RateLimited).retry_after(wait));
        }
        let wait = taken.iter().map(|taken| taken.wait).max().unwrap_or_default();
        if self.delays && !wait.is_zero() {
            self.delayed.inc();
            return Verdict::Later(wait);
        }
        self.passed.inc();
        Verdict::Pass
    }

    fn remember(&self, x: &mut Exchange, found: Found) {
        if !self.follows() {
            return;
        }
        match x.recall_mut::<FoundAll>() {
            Some(all) => all.0.push(found),
            None => x.remember(FoundAll(vec![found])),
        }
    }

    /// Takes what an answer says that it cost beyond what was taken.
    fn debit(&self, x: &Exchange, answer: &Answer, found: Found) {
        let Some((name, most)) = &self.answer_cost else { return };
        let said = answer.fields.get_str(name).and_then(|value| value.trim().parse::<u64>().ok());
        let said = said.unwrap_or(0).min(*most);
        let more = said.saturating_sub(found.cost);
        if more == 0 || found.taken.iter().any(|taken| !taken.enough) {
            return;
        }
        for (limit, key) in self.limits.iter().zip(&found.memory) {
            limit.take(*key, more, x.started, true);
        }
        if let Some(shared) = self.shared.as_ref().filter(|_| !found.store.is_empty()) {
            let store = shared.store.clone();
            let takes: Vec<Take> = found.store.into_iter().map(|take| Take { cost: more, ..take }).collect();
            // Nobody waits for it; a store that went away meanwhile has counted that by itself.
            tokio::spawn(async move { store.take(&takes, true).await.map(drop) });
        }
    }
}

impl Middleware for Rule {
    fn on_request<'a>(&'a self, x: &'a mut Exchange) -> Result<Flow<'a>, Error> {
        let cost = self.cost(x);
        if let Some(shared) = &self.shared {
            return Ok(Flow::Wait(Box::pin(async move {
                match self.together(shared, x, cost).await {
                    Verdict::Pass => {}
                    Verdict::Later(wait) => tokio::time::sleep(wait).await,
                    Verdict::Refused(error) => return Err(error),
                }
                Ok(Decision::Next)
            })));
        }
        match self.in_memory(x, cost) {
            Verdict::Pass => Ok(Flow::Next),
            Verdict::Refused(error) => Err(error),
            Verdict::Later(wait) => Ok(Flow::Wait(Box::pin(async move {
                tokio::time::sleep(wait).await;
                Ok(Decision::Next)
            }))),
        }
    }

    fn on_response<'a>(&'a self, x: &'a mut Exchange, answer: &'a mut Answer) -> Result<Done<'a>, Error> {
        let rule = self.id();
        let found = x.recall_mut::<FoundAll>().and_then(|all| {
            let at = all.0.iter().position(|found| found.rule == rule)?;
            Some(all.0.swap_remove(at))
        });
        let Some(found) = found else { return Ok(Done::Now) };
        if let Some(policies) = &self.policies {
            let items = self.limits.iter().map(|limit| &*limit.name).zip(&found.taken);
            fields::write(answer, policies, items);
        }
        if self.older {
            fields::write_older(answer, self.limits.iter().map(Limit::most).zip(&found.taken));
        }
        if self.answer_cost.is_some() {
            self.debit(x, answer, found);
        }
        Ok(Done::Now)
    }
}
