//! A circuit breaker: what fails is left alone for a time.
//!
//! ```text
//!            a condition holds                timeout
//!   closed ────────────────────► open ──────────────────► half-open
//!     ▲                           ▲                         │   │
//!     │                           └──── a trial fails ──────┘   │ success_threshold trials succeed
//!     └──────────────── ramp_up ◄───────────────────────────────┘
//! ```
//!
//! Whether a request may pass is one load while it is closed; what is counted then is counted by worker. Everything else
//! is rare, and behind a lock. Time and chance are passed in.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use portcullis_config::model::CircuitBreaker;
use portcullis_core::keep::Keep;

use super::statuses::Statuses;
use window::{Seen, Window};

pub mod latencies;
pub mod window;

/// How often an expression is judged.
const CHECK: Duration = Duration::from_millis(100);
/// How long trials may take before others are let through beside them.
const PATIENCE: Duration = Duration::from_secs(5);
/// When to ask again while trials are under way.
const SOON: Duration = Duration::from_secs(1);

/// In which state a breaker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// All requests pass.
    Closed = 0,
    /// None does.
    Open = 1,
    /// A few trials do.
    HalfOpen = 2,
    /// A growing share does.
    Ramp = 3,
}

impl Phase {
    /// As metrics tell it: 0 closed, 1 open, 2 half-open. Who lets only a part through is not closed yet.
    pub fn number(self) -> u8 {
        if self == Phase::Ramp { 2 } else { self as u8 }
    }

    /// `closed`, `open`, `half_open`.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Closed => "closed",
            Phase::Open => "open",
            Phase::HalfOpen | Phase::Ramp => "half_open",
        }
    }
}

/// A breaker as configured, over its state.
pub struct Breaker {
    settings: CircuitBreaker,
    failures: Statuses,
    window: Option<Arc<Window>>,
    /// What it watches, for the log.
    name: Box<str>,
    /// What survives a reload.
    pub state: Arc<State>,
}

/// The breakers of a service.
#[derive(Default)]
pub struct Breakers {
    /// One for all endpoints together.
    pub whole: Option<Breaker>,
    /// One for each endpoint, in their order; else none.
    pub each: Vec<Breaker>,
}

/// The state of a breaker. Kept over reloads.
#[derive(Debug)]
pub struct State {
    phase: AtomicU8,
    /// Counts changes of phase: an outcome is judged in the phase in which its request began. Written under the lock.
    epoch: AtomicU32,
    /// Failures in a row.
    in_row: AtomicU32,
    /// Failures, ever.
    failures: AtomicU64,
    /// Requests that it turned away, ever.
    rejected: AtomicU64,
    /// When an expression was judged last, milliseconds since `born`.
    judged: AtomicU64,
    born: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    since: Instant,
    opened_at: Option<SystemTime>,
    trials: u32,
    /// When the last trial began.
    tried_at: Instant,
    successes: u32,
}

/// What is known of a breaker, for people.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot {
    /// Where it stands.
    pub phase: Phase,
    /// Failures in a row.
    pub failure_count: u32,
    /// Trials that succeeded.
    pub success_count: u32,
    /// When it opened, unless it is closed.
    pub opened_at: Option<SystemTime>,
    /// Failures, ever.
    pub failures: u64,
    /// Requests turned away, ever.
    pub rejected: u64,
}

/// A request that may pass. Its outcome must be told; one that is dropped without says nothing, and lets the next trial
/// through.
#[derive(Debug)]
pub struct Permit {
    state: Option<Arc<State>>,
    epoch: u32,
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(state) = self.state.take() {
            let mut inner = state.lock();
            if state.epoch.load(Relaxed) == self.epoch {
                inner.trials = inner.trials.saturating_sub(1);
            }
        }
    }
}

/// How a request went.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// The status, if there was an answer.
    pub status: Option<u16>,
    /// Until the head of the answer, or the failure.
    pub latency: Duration,
}

impl State {
    fn new(now: Instant) -> State {
        State {
            phase: AtomicU8::new(Phase::Closed as u8),
            epoch: AtomicU32::new(0),
            in_row: AtomicU32::new(0),
            failures: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            judged: AtomicU64::new(0),
            born: now,
            inner: Mutex::new(Inner { since: now, opened_at: None, trials: 0, tried_at: now, successes: 0 }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Closed,
            1 => Phase::Open,
            2 => Phase::HalfOpen,
            _ => Phase::Ramp,
        }
    }

    /// What is known of it.
    pub fn snapshot(&self) -> Snapshot {
        let inner = self.lock();
        Snapshot {
            phase: self.phase(),
            failure_count: self.in_row.load(Relaxed),
            success_count: inner.successes,
            opened_at: inner.opened_at,
            failures: self.failures.load(Relaxed),
            rejected: self.rejected.load(Relaxed),
        }
    }

    fn enter(&self, inner: &mut Inner, phase: Phase, now: Instant) {
        self.epoch.fetch_add(1, Relaxed);
        inner.since = now;
        inner.trials = 0;
        match phase {
            Phase::Open => {
                inner.opened_at = Some(SystemTime::now());
                inner.successes = 0;
            }
            Phase::Closed => {
                inner.opened_at = None;
                inner.successes = 0;
            }
            Phase::HalfOpen | Phase::Ramp => {}
        }
        if phase != Phase::Open {
            self.in_row.store(0, Relaxed);
        }
        self.phase.store(phase as u8, Relaxed);
    }
}

impl Breaker {
    /// For what is called this, with the state that it has had so far.
    pub fn new(settings: &CircuitBreaker, name: &str, keep: &Keep, workers: usize, now: Instant) -> Breaker {
        let is_detailed = settings.expression.is_some();
        let has_window = is_detailed || settings.failure_ratio.is_some() || settings.slow_call.is_some();
        let window = has_window.then(|| {
            let identity = format!("{name} {:?} {is_detailed}", settings.window);
            let make = || Window::new(settings.window, workers, is_detailed, now);
            keep.get("breaker window", &identity, make)
        });
        Breaker {
            failures: Statuses::new(&settings.failures),
            window,
            name: name.into(),
            state: keep.get("breaker", name, || State::new(now)),
            settings: settings.clone(),
        }
    }

    /// May a request pass? `chance` is a random number from 0 to below 1.
    ///
    /// # Errors
    /// It may not; when to ask again.
    pub fn admit(&self, now: Instant, chance: f64) -> Result<Permit, Duration> {
        if self.state.phase.load(Relaxed) == Phase::Closed as u8 {
            return Ok(self.pass());
        }
        self.admit_some(now, chance).inspect_err(|_| {
            self.state.rejected.fetch_add(1, Relaxed);
        })
    }

    #[cold]
    fn admit_some(&self, now: Instant, chance: f64) -> Result<Permit, Duration> {
        let state = &self.state;
        let mut inner = state.lock();
        let passed = now.saturating_duration_since(inner.since);
        match state.phase() {
            Phase::Closed => return Ok(self.pass()),
            Phase::Open if passed < self.settings.timeout => return Err(self.settings.timeout - passed),
            Phase::Open => self.change(&mut inner, Phase::HalfOpen, now, "time for a trial"),
            Phase::HalfOpen => {}
            Phase::Ramp if passed >= self.settings.ramp_up => {
                self.change(&mut inner, Phase::Closed, now, "it has recovered");
                return Ok(self.pass());
            }
            Phase::Ramp => {
                let share = passed.as_secs_f64() / self.settings.ramp_up.as_secs_f64();
                return if chance < share { Ok(self.pass()) } else { Err(SOON) };
            }
        }
        let wanted = self.settings.success_threshold.saturating_sub(inner.successes);
        if inner.trials >= wanted.max(1) {
            // Whoever takes his time over a trial, a slow client for one, does not hold up everybody else.
            if now.saturating_duration_since(inner.tried_at) < PATIENCE.min(self.settings.timeout) {
                return Err(SOON);
            }
            state.epoch.fetch_add(1, Relaxed);
            inner.trials = 0;
        }
        inner.trials += 1;
        inner.tried_at = now;
        Ok(Permit { state: Some(state.clone()), epoch: state.epoch.load(Relaxed) })
    }

    /// One that is no trial.
    fn pass(&self) -> Permit {
        Permit { state: None, epoch: self.state.epoch.load(Relaxed) }
    }

    /// Told how a request went that it let pass.
    pub fn observe(&self, worker: usize, mut permit: Permit, outcome: &Outcome, now: Instant) {
        let slow = self.settings.slow_call.is_some_and(|limit| outcome.latency > limit);
        let failed = outcome.status.is_none_or(|status| self.failures.contain(status));
        if failed {
            self.state.failures.fetch_add(1, Relaxed);
        }
        if permit.state.take().is_some() {
            return self.tried(permit.epoch, failed || slow, now);
        }
        if permit.epoch != self.state.epoch.load(Relaxed) {
            // It began before, and says nothing new.
            return;
        }
        if let Some(window) = &self.window {
            let Outcome { status, latency } = *outcome;
            window.record(worker, &Seen { status, failed, slow, latency }, now);
        }
        if failed {
            self.state.in_row.fetch_add(1, Relaxed);
        } else if self.state.in_row.load(Relaxed) > 0 {
            self.state.in_row.store(0, Relaxed);
        }
        if let Some(why) = self.reason(failed, slow, now) {
            let mut inner = self.state.lock();
            if matches!(self.state.phase(), Phase::Closed | Phase::Ramp) {
                self.change(&mut inner, Phase::Open, now, &why);
            }
        }
    }

    /// How a trial went.
    fn tried(&self, epoch: u32, failed: bool, now: Instant) {
        let mut inner = self.state.lock();
        if self.state.epoch.load(Relaxed) != epoch {
            return;
        }
        inner.trials = inner.trials.saturating_sub(1);
        if failed {
            self.state.in_row.fetch_add(1, Relaxed);
            return self.change(&mut inner, Phase::Open, now, "a trial failed");
        }
        inner.successes += 1;
        if inner.successes >= self.settings.success_threshold {
            let next = if self.settings.ramp_up.is_zero() { Phase::Closed } else { Phase::Ramp };
            self.change(&mut inner, next, now, "the trials succeeded");
        }
    }

    /// Why it has to open now, if it has to. A success changes no share for the worse.
    fn reason(&self, failed: bool, slow: bool, now: Instant) -> Option<String> {
        let settings = &self.settings;
        let in_row = self.state.in_row.load(Relaxed);
        if failed && settings.failure_threshold.is_some_and(|threshold| in_row >= threshold) {
            return Some(format!("{in_row} failures in a row"));
        }
        let window = self.window.as_ref()?;
        if failed || slow {
            let sum = window.sum(now);
            let share = |part: u64| part as f64 / sum.total.max(1) as f64;
            if sum.total >= u64::from(settings.minimum_requests) {
                if settings.failure_ratio.is_some_and(|most| share(sum.failed) >= most) {
                    return Some(format!("{} of {} requests failed", sum.failed, sum.total));
                }
                if settings.slow_call.is_some() && share(sum.slow) >= settings.slow_ratio {
                    return Some(format!("{} of {} requests were slow", sum.slow, sum.total));
                }
            }
        }
        let expression = settings.expression.as_ref()?;
        let millis = now.saturating_duration_since(self.state.born).as_millis() as u64;
        let last = self.state.judged.load(Relaxed);
        if last != 0 && millis < last + CHECK.as_millis() as u64 {
            return None;
        }
        self.state.judged.store(millis.max(1), Relaxed);
        let sum = window.sum(now);
        expression.holds(&|measure| sum.measure(measure)).then(|| expression.to_string())
    }

    fn change(&self, inner: &mut Inner, phase: Phase, now: Instant, why: &str) {
        let from = self.state.phase().as_str();
        self.state.enter(inner, phase, now);
        if phase == Phase::Ramp || phase == Phase::Closed {
            // What was counted before it opened must not open it again.
            self.window.iter().for_each(|window| window.clear());
        }
        let (of, to) = (&*self.name, phase.as_str());
        match phase {
            Phase::Open => tracing::warn!(of, from, to, why, "circuit breaker"),
            _ => tracing::info!(of, from, to, why, "circuit breaker"),
        }
    }
}

#[cfg(test)]
mod tests;
