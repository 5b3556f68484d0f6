//! What a gateway has taken ahead from a counter that it shares with others, so that it need not ask for each request.
//!
//! A token of a bucket that refills is a place in time: that at which the bucket will have refilled it. Once it has passed,
//! the bucket is as full as if the token had never been taken; so the token is worth nothing from then on. That is why all
//! gateways together let no more pass than the bucket alone would, however many of them hold tokens, and why what nobody
//! used needs not be given back. Of a quota it is given back with the next question.
//!
//! How much is taken ahead follows what is asked for: nothing for who comes now and then.

use crate::store::Taken;

use super::Bound;

/// Who is refused is never told to come back at once.
const SHORTEST: u64 = 1_000_000;

/// What leases of a limit go by. Times are in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// So much is held at most.
    pub most: u64,
    /// As much is taken ahead as is asked for in this time.
    pub horizon: u64,
    /// What was taken before is not relied upon for longer.
    pub max_age: u64,
    /// After a refusal the store is asked again at the earliest. Not above the age.
    pub pause: u64,
}

/// What one gateway holds of one counter.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lease {
    older: Held,
    newer: Held,
    /// When tokens were last taken ahead, how many then, and how many were asked for since.
    since: u64,
    got: u64,
    wanted: u64,
    /// Somebody is about to take ahead.
    asking: bool,
    /// The end of the window of a quota; 0 for a bucket.
    window: u64,
    /// What the store last said: when the bucket is full, or what is left of the quota.
    said: u64,
    refused: Refused,
    unused: u64,
}

/// Tokens, the last of which refers to this time.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    left: u64,
    until: u64,
}

/// Who asks for so much need not ask the store.
#[derive(Debug, Clone, Copy, Default)]
struct Refused {
    /// Nothing was refused while this is 0.
    cost: u64,
    enough_at: u64,
    again: u64,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decided {
    /// It was taken from what is held, of the tokens of this time. And it is time to take more ahead.
    Held(Taken, u64, Option<Ask>),
    /// There was not enough a moment ago.
    Refused(Taken),
    /// The store must be asked.
    Ask(Ask),
}

/// What the store must be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// For the request.
    pub cost: u64,
    /// Given back.
    pub back: u64,
    /// Taken ahead, if it is there.
    pub extra: u32,
    /// Nobody else takes ahead until this one has been answered.
    pub leads: bool,
    window: u64,
}

impl Lease {
    /// Decides about a request.
    pub fn decide(&mut self, terms: &Terms, bound: Bound, cost: u64, now: u64) -> Decided {
        self.lapse(bound, now);
        let old = now.saturating_sub(self.since) >= terms.max_age;
        if cost <= self.held() && !old {
            let of = self.spend(cost);
            self.wanted = self.wanted.saturating_add(cost);
            let more = self.more(terms, bound, now);
            return Decided::Held(self.told(bound, true, cost, now), of, more);
        }
        self.wanted = self.wanted.saturating_add(cost);
        // While somebody asks again, what was said last still holds.
        if (1..=cost).contains(&self.refused.cost) && (now < self.refused.again || self.asking) {
            return Decided::Refused(self.told(bound, false, cost, now));
        }
        let mut ask = Ask { cost, back: 0, extra: 0, leads: !self.asking, window: self.window };
        if ask.leads {
            self.asking = true;
            if old && matches!(bound, Bound::Quota { .. }) {
                ask.back = self.held();
                (self.older.left, self.newer.left) = (0, 0);
            }
            ask.extra = self.ahead(terms, bound, cost, now);
        }
        Decided::Ask(ask)
    }

    /// Takes in what the store said to something asked at a time. `granted`: all limits had enough.
    pub fn heard(
        &mut self,
        terms: &Terms,
        bound: Bound,
        ask: &Ask,
        sent: u64,
        (taken, granted): (&Taken, bool),
    ) {
        self.asking &= !ask.leads;
        self.unused = self.unused.saturating_add(ask.back);
        if ask.window != self.window {
            // It was asked about a window that has ended.
            self.unused = self.unused.saturating_add(taken.extra.into());
            return;
        }
        if self.window == 0 {
            self.lapse(bound, sent);
        }
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        // The store rounds up to microseconds.
        let until = sent.saturating_add(nanos(taken.reset).saturating_sub(1000));
        self.said = if self.window == 0 { self.said.max(until) } else { taken.left };
        let wait = match granted {
            true => {
                self.keep(Held {
                    left: taken.extra.into(),
                    until: if self.window == 0 { until } else { self.window },
                });
                self.refused = Refused::default();
                // Where there was less than asked for, nothing is left behind it, but what may be waited for.
                let all = matches!(bound, Bound::Quota { .. } | Bound::Rate { more: 0, .. });
                (all && taken.extra < ask.extra).then_some((1, 0))
            }
            false => (!taken.enough).then(|| (ask.cost, nanos(taken.wait))),
        };
        if let Some((cost, wait)) = wait {
            let again = sent.saturating_add(wait.clamp(terms.pause.min(terms.max_age), terms.max_age));
            self.refused = Refused { cost, enough_at: sent.saturating_add(wait).max(again), again };
        }
        if granted && ask.leads {
            let got = ask.cost.saturating_add(taken.extra.into());
            // That says nothing of what is needed.
            self.got = if taken.extra < ask.extra { got.max(self.got) } else { got };
            (self.since, self.wanted) = (sent, 0);
        }
    }

    /// There was no answer: nobody knows what became of what was to be given back.
    pub fn unheard(&mut self, ask: &Ask) {
        self.asking &= !ask.leads;
        self.unused = self.unused.saturating_add(ask.back);
    }

    /// It was not asked after all.
    pub fn unasked(&mut self, ask: &Ask) {
        self.asking &= !ask.leads;
        if ask.window == self.window {
            self.keep(Held { left: ask.back, until: self.window });
        }
    }

    /// Gives back what was taken of the tokens of a time, since another limit had not enough.
    pub fn put_back(&mut self, cost: u64, of: u64) {
        match [&mut self.older, &mut self.newer].into_iter().find(|held| held.until == of) {
            Some(held) => held.left = held.left.saturating_add(cost),
            None if self.window == 0 => {}
            None => self.unused = self.unused.saturating_add(cost),
        }
    }

    /// Is nothing lost with it?
    pub fn is_idle(&mut self, terms: &Terms, bound: Bound, now: u64) -> bool {
        self.lapse(bound, now);
        let recent = now.saturating_sub(self.since) < terms.max_age || now < self.refused.again;
        !(self.asking || recent || self.held() > 0)
    }

    /// What was taken ahead of quotas and not used, since this was last asked.
    pub fn unused(&mut self) -> u64 {
        std::mem::take(&mut self.unused)
    }

    /// What is held.
    pub fn held(&self) -> u64 {
        self.older.left.saturating_add(self.newer.left)
    }

    /// What a client is told, as far as it is known here.
    pub fn told(&self, bound: Bound, enough: bool, cost: u64, now: u64) -> Taken {
        let (left, wait, reset) = match bound {
            Bound::Rate { interval, burst, .. } => {
                let held = self.held().saturating_mul(interval);
                let missing = self.said.saturating_sub(now).saturating_sub(held);
                let left = interval.saturating_mul(burst).saturating_sub(missing).checked_div(interval);
                (left.unwrap_or(0), self.refused.enough_at.saturating_sub(now).max(SHORTEST), missing)
            }
            Bound::Quota { left, .. } => (self.said.saturating_add(self.held()), left, left),
        };
        Taken {
            enough,
            extra: 0,
            left: if enough { left } else { left.min(cost.saturating_sub(1)) },
            wait: std::time::Duration::from_nanos(if enough { 0 } else { wait }),
            reset: std::time::Duration::from_nanos(reset),
        }
    }

    /// Tokens whose time has passed are none; nothing is left of a window that has ended.
    fn lapse(&mut self, bound: Bound, now: u64) {
        match bound {
            Bound::Rate { interval, .. } => {
                for held in [&mut self.older, &mut self.newer] {
                    // Rounded up: the store knows fractions.
                    let worth = held.until.saturating_sub(now) / interval.saturating_add(1);
                    held.left = held.left.min(worth);
                }
            }
            Bound::Quota { ends, .. } if self.window != ends => {
                let unused = self.unused.saturating_add(self.held());
                let Lease { since, got, wanted, asking, .. } = *self;
                *self = Lease { window: ends, since, got, wanted, asking, unused, ..Lease::default() };
            }
            Bound::Quota { .. } => {}
        }
    }

    /// Takes from what is held, the older first; the time of what was taken.
    fn spend(&mut self, cost: u64) -> u64 {
        let of = if self.older.left > 0 { self.older.until } else { self.newer.until };
        let older = cost.min(self.older.left);
        self.older.left -= older;
        self.newer.left = self.newer.left.saturating_sub(cost - older);
        of
    }

    fn keep(&mut self, new: Held) {
        if new.left == 0 {
            return;
        }
        if self.older.left == 0 {
            self.older = self.newer;
        } else {
            // Those of the newer are told to lapse with the older: too early, never too late.
            self.older.left = self.older.left.saturating_add(self.newer.left);
        }
        self.newer = new;
    }

    /// When little is held, it is time to take more ahead; unless there was no more a moment ago.
    fn more(&mut self, terms: &Terms, bound: Bound, now: u64) -> Option<Ask> {
        if self.asking || now < self.refused.again || self.held() >= self.got / 4 {
            return None;
        }
        let extra = self.ahead(terms, bound, 0, now);
        self.asking = extra > 0;
        self.asking.then_some(Ask { cost: 0, back: 0, extra, leads: true, window: self.window })
    }

    /// How much to take beyond the cost: what is asked for in the time to look ahead, and of a bucket that is nearly full as
    /// much as refills in it, since the first would lapse at once. At most twice what it was last.
    fn ahead(&self, terms: &Terms, bound: Bound, cost: u64, now: u64) -> u32 {
        let age = now.saturating_sub(self.since).max(1);
        let asked = u128::from(self.wanted) * u128::from(terms.horizon) / u128::from(age);
        let mut goal = u64::try_from(asked).unwrap_or(u64::MAX);
        if goal >= 2
            && let Bound::Rate { interval, .. } = bound
        {
            let refills = terms.horizon.saturating_sub(self.said.saturating_sub(now));
            goal = goal.max(refills.checked_div(interval).unwrap_or(0));
        }
        let goal = goal.min(self.got.saturating_mul(2)).min(terms.most);
        let extra = goal.saturating_sub(cost).saturating_sub(self.held());
        u32::try_from(extra).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests;
