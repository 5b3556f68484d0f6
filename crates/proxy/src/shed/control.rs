//! How much is refused: pure, with time and measurements passed in.
//!
//! ```text
//! late for all of 100 ms ─► begin                                      (as CoDel does)
//! later than before, or too late still ─► a smaller share of what comes is let in; less late ─► a larger one
//! that share, and what comes of each importance ─► level               (as DAGOR does)
//! memory of the process ─► share of the limit ─► 85 % … 100 % is a level of 0 … 1, and 5 % less before it falls
//! level 0 … ⅓ … ⅔ … 1   ─► a growing share of background, then of normal, then of critical requests
//! ```
//!
//! A probe waits where requests do ([`super::probe`]), so that its lateness is theirs. What is steered is the share of
//! requests that is let in, by factors: those mean the same at twice and at ten times of what a worker can do. The level is
//! where that share, counted from the most important request down, ends.

use std::time::Duration;

use super::probe::TICK;

/// One long pause is no shortage: it must last so long (RFC 8289 §4.2).
const INTERVAL: Duration = Duration::from_millis(100);
/// How fast requests of before are forgotten.
const MEMORY: Duration = Duration::from_secs(1);
/// How much a change of lateness by the limit changes what is let in. It is less where looks are far apart for the limit.
const CHANGE: f64 = 0.6;
/// What being once the limit too late changes in a second, at least.
const SLOWEST: f64 = 0.6;
/// No change counts as more than from nothing to so many times the limit.
const MOST: f64 = 6.0;
/// What is let in never becomes less than this share of all, or it could not become more again.
const FLOOR: f64 = 0.02;
/// From so many times the limit on, critical requests are refused as well, and all of them at twice that.
const VERY: f64 = 2.0;
/// A worker that stood still for long knows nothing of that time.
const LONGEST: Duration = Duration::from_millis(500);
/// How much a new measurement of lateness counts where it is shown.
const WEIGHT: f64 = 0.2;
/// The share of the memory's limit from which on something is refused.
const FROM: f64 = 0.85;
/// How much of the limit must be free again before the level falls.
const BACK: f64 = 0.05;

/// The level that follows from how late a worker's event loop is. All times are since the same moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lateness {
    /// 0 nothing, 1 all of the background, 2 all but what is critical, 3 all.
    level: f64,
    /// How late it was last, and of late, as a share of the limit.
    last: f64,
    smooth: f64,
    /// Requests of late, by importance.
    come: [f64; 3],
    /// When it was looked at last, and when the next probe is due.
    at: Duration,
    due: Duration,
    /// Since when it is late.
    since: Option<Duration>,
}

/// The level that follows from what the process takes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    level: f64,
}

impl Lateness {
    /// A probe had its turn so late, and since the last look so many requests of each importance did. The level, from 0 to 1.
    pub fn tick(&mut self, at: Duration, late: Duration, come: [u32; 3], limit: Duration) -> f64 {
        self.due = at + TICK;
        let of_limit = of(late, limit);
        self.smooth += (of_limit - self.smooth) * WEIGHT;
        self.step(at, (of_limit, of_limit), come, limit)
    }

    /// When to [`Lateness::look`], should the probe not have had its turn by then.
    pub fn overdue(&self, limit: Duration) -> Duration {
        (self.due + limit).max(self.at + TICK)
    }

    /// A request sees that the probe is still in line, although it is late already: to wait for it is to learn of a long line
    /// when it is over.
    pub fn look(&mut self, at: Duration, come: [u32; 3], limit: Duration) -> f64 {
        let of_limit = of(at.saturating_sub(self.due), limit);
        self.step(at, (of_limit, of_limit.max(self.last)), come, limit)
    }

    fn step(&mut self, at: Duration, (known, late): (f64, f64), come: [u32; 3], limit: Duration) -> f64 {
        let passed = at.saturating_sub(self.at).min(LONGEST);
        self.at = at;
        let stays = (-passed.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        self.come.iter_mut().zip(come).for_each(|(sum, new)| *sum = *sum * stays + f64::from(new));
        let before = std::mem::replace(&mut self.last, late);
        let since = if late > 1.0 { Some(*self.since.get_or_insert(at)) } else { None };
        self.since = since;
        let mut change = late.min(MOST) - before.min(MOST);
        if self.level == 0.0 {
            if since.is_none_or(|since| at.saturating_sub(since) < INTERVAL) {
                return 0.0;
            }
            change = late.min(MOST) - 1.0;
        }
        let limit = limit.as_secs_f64();
        let by_change = CHANGE * limit / (limit + TICK.as_secs_f64());
        let by_time = (by_change * by_change / (2.0 * limit.max(0.001))).max(SLOWEST);
        let push = by_change * change + by_time * (known.min(MOST) - 1.0) * passed.as_secs_f64();
        let share = (self.let_in() * (-push).exp()).max(FLOOR);
        // What is critical is refused only while the worker is very late, and no longer.
        let most = 2.0 + (late / VERY - 1.0).clamp(0.0, 1.0);
        self.level = self.level_of(share).min(most);
        self.level / 3.0
    }

    /// Which share of all requests each importance has.
    fn shares(&self) -> [f64; 3] {
        let all: f64 = self.come.iter().sum();
        if all > 0.0 { self.come.map(|one| one / all) } else { [1.0 / 3.0; 3] }
    }

    /// The share of all requests that is let in at this level.
    fn let_in(&self) -> f64 {
        (0..).zip(self.shares()).map(|(rank, of_all)| of_all * (1.0 - share(rank, self.level / 3.0))).sum()
    }

    /// The level at which this share is let in.
    fn level_of(&self, let_in: f64) -> f64 {
        let (mut level, mut refused) = (0.0, 1.0 - let_in);
        for of_all in self.shares() {
            if refused <= 1e-6 {
                break;
            }
            level += (refused / of_all).min(1.0);
            refused -= of_all;
        }
        level
    }

    /// The lateness of late, as a share of the limit.
    pub fn smooth(&self) -> f64 {
        self.smooth
    }
}

fn of(late: Duration, limit: Duration) -> f64 {
    late.as_secs_f64() / limit.as_secs_f64().max(0.001)
}

impl Memory {
    /// The process takes so much; the level, from 0 to 1.
    pub fn sample(&mut self, used: u64, limit: u64) -> f64 {
        let used = used as f64 / limit.max(1) as f64;
        let at = |used: f64| ((used - FROM) / (1.0 - FROM)).clamp(0.0, 1.0);
        self.level = self.level.clamp(at(used), at(used + BACK));
        self.level
    }
}

/// The share of requests that is refused at this level, of those whose importance is the `rank`th from below.
pub fn share(rank: u8, level: f64) -> f64 {
    level.mul_add(3.0, -f64::from(rank)).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests;
