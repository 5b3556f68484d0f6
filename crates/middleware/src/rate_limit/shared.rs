//! Counting together with other gateways, in a store; and from what was taken ahead of it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use portcullis_core::{
    Error, Exchange, Kind,
    meter::Counter,
    middleware::{Around, Problem},
    store::{CounterStore, Take, Taken},
};

use super::{
    By, Rule, Verdict,
    leases::{Ahead, Asked, Step},
    limit::Limit,
    settings::{Allowance, RateLimit, WhenAway},
};

/// A store where several gateways count together.
pub struct Shared {
    pub store: Arc<dyn CounterStore>,
    /// What happens while it does not answer.
    when_away: WhenAway,
    away: Arc<Counter>,
    /// Where something is taken ahead of it.
    pub allowance: Option<Allowed>,
}

/// What is taken ahead, of each limit.
pub struct Allowed {
    each: Vec<Ahead>,
    /// Requests decided from it.
    decided: Arc<Counter>,
}

/// What became of a request that the store must be asked about, limit by limit. What is asked, is asked as of one time:
/// that decides about the window of a quota, and from when on tokens count.
pub struct Steps {
    at: Instant,
    each: Vec<Step>,
}

impl Shared {
    /// The store that a rule names, if it names one.
    pub fn of(
        settings: &RateLimit,
        limits: &[Limit],
        around: &Around<'_>,
    ) -> Result<Option<Shared>, Problem> {
        let Some(name) = settings.store.as_deref() else {
            if settings.allowance.is_some() {
                let message = "what is counted in memory needs no allowance";
                let help = "name the store where gateways count together: store = \"main\"; or take it away";
                return Err(Problem::at("allowance", message).help(help));
            }
            if settings.when_away != WhenAway::Local {
                let message = "what is counted in memory is never away";
                let help = "name the store where gateways count together: store = \"main\"; or take it away";
                return Err(Problem::at("when_away", message).help(help));
            }
            return Ok(None);
        };
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
        let count = |metric, help| {
            around.meters.counter(metric, help, &[("middleware", around.name), ("store", name)])
        };
        let away = count(
            "gateway_rate_limit_store_away_total",
            "Requests that a limit decided without its store, since that did not answer.",
        );
        let allowed = |allowance: &Allowance| {
            let each = limits.iter().map(|limit| limit.ahead(allowance, name, around));
            let help = "Requests decided without asking the store, from what it had given and said.";
            let decided = count("gateway_rate_limit_allowance_requests_total", help);
            Ok(Allowed { each: each.collect::<Result<_, Problem>>()?, decided })
        };
        let allowance = settings.allowance.as_ref().map(allowed).transpose()?;
        Ok(Some(Shared { store, when_away: settings.when_away, away, allowance }))
    }
}

impl Rule {
    /// What a store is asked to take of all limits.
    fn wanted(&self, x: &Exchange, cost: u64) -> Vec<Take> {
        self.limits.iter().map(|limit| limit.wanted(x, cost, x.started)).collect()
    }

    /// Decides together with other gateways.
    pub(super) async fn together(&self, shared: &Shared, x: &mut Exchange, cost: u64) -> Verdict {
        let wanted = self.wanted(x, cost);
        match shared.store.take(&wanted, false).await {
            Ok(taken) => self.decided(x, taken, wanted, cost),
            Err(_) => self.without(shared, x, cost),
        }
    }

    /// Decides from what was taken ahead; else tells what each limit must be asked.
    pub(super) fn ahead(
        &self,
        shared: &Shared,
        allowed: &Allowed,
        x: &mut Exchange,
        cost: u64,
    ) -> Result<Verdict, Steps> {
        let now = tokio::time::Instant::now().into_std();
        let each = self.limits.iter().zip(&allowed.each);
        let decide =
            |(limit, ahead): (&Limit, &Ahead)| ahead.decide(limit.hash(x), limit.bound(now), cost, now);
        let mut steps: Vec<Step> = each.map(decide).collect();
        for (limit, step) in self.limits.iter().zip(&mut steps) {
            if let Step::Held { more, .. } = step
                && let Some(asked) = more.take()
            {
                fetch(shared, limit, x, asked, now);
            }
        }
        let refused = steps.iter().any(|step| matches!(step, Step::Refused(_)));
        if !refused && steps.iter().any(|step| matches!(step, Step::Ask(_))) {
            return Err(Steps { at: now, each: steps });
        }
        allowed.decided.inc();
        let each = self.limits.iter().zip(&allowed.each).zip(steps);
        let taken = each.map(|((limit, ahead), step)| match step {
            Step::Held { taken, key, of, .. } if refused => put_back(ahead, cost, (taken, key, of)),
            Step::Held { taken, .. } | Step::Refused(taken) => taken,
            Step::Ask(asked) => asked.unasked(limit.bound(now), now),
        });
        let taken = taken.collect();
        Ok(self.decided(x, taken, Vec::new(), cost))
    }

    /// Asks the store what must be asked: in one round trip for all limits, as ever.
    pub(super) async fn ask(
        &self,
        (shared, allowed): (&Shared, &Allowed),
        x: &mut Exchange,
        cost: u64,
        Steps { at, each: steps }: Steps,
    ) -> Verdict {
        let asked = self.limits.iter().zip(&steps).filter_map(|(limit, step)| match step {
            Step::Ask(Asked { ask, .. }) => {
                Some(Take { back: ask.back, extra: ask.extra, ..limit.wanted(x, cost, at) })
            }
            _ => None,
        });
        let asked: Vec<Take> = asked.collect();
        let said = shared.store.take(&asked, false).await;
        let granted = said.as_ref().is_ok_and(|said| said.iter().all(|taken| taken.enough));
        let mut heard = said.iter().flatten();
        let mut all = Vec::with_capacity(steps.len());
        for ((limit, ahead), step) in self.limits.iter().zip(&allowed.each).zip(steps) {
            match step {
                Step::Held { taken, key, of, .. } if !granted => {
                    all.push(put_back(ahead, cost, (taken, key, of)))
                }
                Step::Held { taken, .. } | Step::Refused(taken) => all.push(taken),
                Step::Ask(asked) => {
                    let bound = limit.bound(at);
                    all.extend(heard.next().map(|taken| asked.heard(bound, at, taken, granted)));
                }
            }
        }
        match said {
            Ok(_) => self.decided(x, all, Vec::new(), cost),
            Err(_) => self.without(shared, x, cost),
        }
    }

    fn decided(&self, x: &mut Exchange, taken: Vec<Taken>, mut wanted: Vec<Take>, cost: u64) -> Verdict {
        let verdict = self.judge(x, &taken);
        if self.follows() {
            if wanted.is_empty() && self.answer_cost.is_some() {
                wanted = self.wanted(x, cost);
            }
            self.remember(x, cost, By::Store(taken, wanted));
        }
        verdict
    }

    /// Decides without the store.
    fn without(&self, shared: &Shared, x: &mut Exchange, cost: u64) -> Verdict {
        shared.away.inc();
        match shared.when_away {
            WhenAway::Local => self.in_memory(x, cost),
            WhenAway::Open => {
                self.passed.inc();
                Verdict::Pass
            }
            WhenAway::Closed => {
                self.limited.inc();
                let error = Error::because(Kind::RateLimited, "the store of the limit does not answer");
                Verdict::Refused(error.retry_after(Duration::from_secs(1)))
            }
        }
    }
}

/// Gives back what was taken of what is held; what the client is told.
fn put_back(ahead: &Ahead, cost: u64, (taken, key, of): (Taken, u64, u64)) -> Taken {
    ahead.put_back(key, cost, of);
    Taken { left: taken.left.saturating_add(cost), ..taken }
}

/// Takes more ahead, while requests go on with what is left.
fn fetch(shared: &Shared, limit: &Limit, x: &Exchange, asked: Asked, at: Instant) {
    let take = Take { extra: asked.ask.extra, ..limit.wanted(x, 0, at) };
    let (store, bound) = (shared.store.clone(), limit.bound(at));
    tokio::spawn(async move {
        if let Ok(said) = store.take(&[take], false).await
            && let [taken] = said.as_slice()
        {
            asked.heard(bound, at, taken, taken.enough);
        }
    });
}

#[cfg(test)]
mod tests;
