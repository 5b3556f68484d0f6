//! Load shedding: what is refused when the gateway itself is short of CPU or memory, the least important first.
//!
//! ```text
//! probes of a worker: how long each waits ─┐
//!                                          ├─► the larger level ─► one number per worker ◄─ each request looks
//! every 100 ms: what the process takes ────┘                                                 (and is counted)
//! ```
//!
//! How the levels follow is pure, in [`control`]; here they are measured, kept, counted, and asked.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use portcullis_config::model::{self, Importance, MemoryLimit};
use portcullis_core::{
    Error, Kind,
    meter::{Counter, Gauge, Meters},
};

use crate::{runtime::Route, worker::Worker};

pub mod control;
mod memory;
pub mod probe;

use control::{Lateness, Memory, share};

/// How often the memory is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Nothing was refused for so long: then the log says that it is over.
const QUIET: Duration = Duration::from_secs(10);
/// The level in a worker's number.
const LEVELS: u32 = 10_000;
/// Stands in a worker's number when it is the memory that is short.
const OF_MEMORY: u32 = 1 << 16;

/// What runs short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    Lateness,
    Memory,
}

/// What the whole process knows.
#[derive(Debug)]
pub struct Shedding {
    settings: model::Shedding,
    /// Bytes, where memory is looked at.
    limit: Option<u64>,
    memory: Mutex<(Memory, Option<Instant>)>,
    /// The bits of the level that memory has.
    memory_level: AtomicU64,
    /// By worker: the bits of how late it is, in seconds, and of its level.
    workers: Box<[(AtomicU64, AtomicU64)]>,
    meters: Figures,
}

#[derive(Debug)]
struct Figures {
    /// By importance, lateness and memory.
    shed: [[Arc<Counter>; 2]; 3],
    levels: [Arc<Gauge>; 2],
    lateness: Arc<Gauge>,
    limit: Arc<Gauge>,
}

impl Shedding {
    /// By these settings, for so many workers.
    pub fn new(settings: &model::Shedding, workers: usize, meters: &Meters) -> Shedding {
        let limit = match settings.memory {
            MemoryLimit::Bytes(bytes) => Some(bytes),
            MemoryLimit::Cgroup => memory::of_cgroup().map(|most| most / 10 * 9),
            MemoryLimit::Unlimited => None,
        };
        if limit.is_none() && settings.memory == MemoryLimit::Cgroup {
            tracing::info!("load shedding: no control group limits the memory, so that it is not looked at");
        }
        let meters = Figures::new(meters);
        meters.limit.set(limit.unwrap_or(0) as f64);
        Shedding {
            settings: settings.clone(),
            limit,
            memory: Mutex::default(),
            memory_level: AtomicU64::new(0),
            workers: (0..workers).map(|_| Default::default()).collect(),
            meters,
        }
    }

    /// The level that memory has, looked at anew when it is time.
    fn memory(&self, now: Instant) -> f64 {
        let Some(limit) = self.limit else { return 0.0 };
        let mut state = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let (memory, looked) = &mut *state;
        if looked.is_none_or(|at| now.saturating_duration_since(at) >= LOOK) {
            *looked = Some(now);
            if let Some(used) = memory::of_process() {
                self.memory_level.store(memory.sample(used, limit).to_bits(), Relaxed);
            }
        }
        self.memory_level()
    }

    fn memory_level(&self) -> f64 {
        f64::from_bits(self.memory_level.load(Relaxed))
    }

    /// A worker is so late, and has this level. The figures show the worst.
    fn tell(&self, worker: usize, late: f64, level: f64) {
        if let Some((own_late, own_level)) = self.workers.get(worker) {
            own_late.store(late.to_bits(), Relaxed);
            own_level.store(level.to_bits(), Relaxed);
        }
        let worst = |of: fn(&(AtomicU64, AtomicU64)) -> &AtomicU64| {
            self.workers.iter().map(|each| f64::from_bits(of(each).load(Relaxed))).fold(0.0, f64::max)
        };
        self.meters.lateness.set(worst(|each| &each.0));
        self.meters.level(Signal::Lateness).set(worst(|each| &each.1));
        self.meters.level(Signal::Memory).set(self.memory_level());
    }

    /// A request of this route comes to this worker: is it to be refused for the sake of others?
    ///
    /// # Errors
    /// `Shed`.
    #[inline(never)]
    pub fn enter(&self, worker: &Worker, route: &Route, now: Instant) -> Result<(), Error> {
        let Some(importance) = route.importance else { return Ok(()) };
        let gate = &worker.gate;
        gate.come(self, worker.index, importance, now);
        let refused = gate.is_shut().then(|| gate.refuses(importance, fastrand::f64())).flatten();
        let Some(signal) = refused else { return Ok(()) };
        self.meters.count(importance, signal);
        let why = match signal {
            Signal::Lateness => "short of CPU",
            Signal::Memory => "short of memory",
        };
        // Not all at once.
        let wait = self.settings.retry_after.mul_f64(1.0 + fastrand::f64());
        Err(Error::because(Kind::Shed, why).retry_after(wait))
    }
}

impl Figures {
    fn new(meters: &Meters) -> Figures {
        let of = |importance: Importance, signal: &str| {
            let labels = [("importance", importance.name()), ("signal", signal)];
            let help = "Requests refused since the gateway itself was short of something.";
            meters.counter("gateway_shed_total", help, &labels)
        };
        let level = |signal: &str| {
            let help = "How much is refused: 0 nothing, 1/3 all of the background, 2/3 all but what is critical, 1 all.";
            meters.gauge("gateway_shedding_level", help, &[("signal", signal)])
        };
        Figures {
            shed: Importance::ALL.map(|each| [of(each, "lateness"), of(each, "memory")]),
            levels: [level("lateness"), level("memory")],
            lateness: meters.gauge(
                "gateway_worker_lateness_seconds",
                "How late the event loop of the latest worker is, smoothed.",
                &[],
            ),
            limit: meters.gauge(
                "gateway_shedding_memory_limit_bytes",
                "What the process may take; 0 when its memory is not looked at.",
                &[],
            ),
        }
    }

    fn level(&self, signal: Signal) -> &Gauge {
        let [lateness, memory] = &self.levels;
        if signal == Signal::Memory { memory } else { lateness }
    }

    fn count(&self, importance: Importance, signal: Signal) {
        let counters = self.shed.get(importance as usize);
        if let Some(counter) = counters.and_then(|of| of.get(usize::from(signal == Signal::Memory))) {
            counter.inc();
        }
    }
}

/// What one worker knows: a number that each request looks at.
#[derive(Debug)]
pub struct Gate {
    born: Instant,
    /// 0 while nothing is refused; else the level in [`LEVELS`], perhaps with [`OF_MEMORY`].
    number: AtomicU32,
    /// From when on a request that comes shall look whether the probe is overdue: microseconds since `born`.
    look: AtomicU64,
    /// Requests since the last look, by importance.
    come: [AtomicU32; 3],
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    lateness: Lateness,
    /// The log was told that requests are refused; when that was so last.
    told: Option<Duration>,
}

impl Default for Gate {
    fn default() -> Gate {
        Gate {
            born: Instant::now(),
            number: AtomicU32::new(0),
            look: AtomicU64::new(u64::MAX),
            come: Default::default(),
            state: Mutex::default(),
        }
    }
}

impl Gate {
    /// May anything have to be refused?
    fn is_shut(&self) -> bool {
        self.number.load(Relaxed) != 0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A probe of this worker had to wait for so long.
    pub fn tick(&self, shedding: Option<&Shedding>, worker: usize, late: Duration, now: Instant) {
        let at = now.saturating_duration_since(self.born);
        let Some(shedding) = shedding else {
            if self.look.swap(u64::MAX, Relaxed) != u64::MAX || self.is_shut() {
                self.number.store(0, Relaxed);
                *self.state() = State::default();
            }
            return;
        };
        let mut state = self.state();
        let (mut level, mut smooth) = (0.0, 0.0);
        if let Some(limit) = shedding.settings.lateness {
            level = state.lateness.tick(at, late, self.take_come(), limit);
            smooth = state.lateness.smooth() * limit.as_secs_f64();
            self.look_from(state.lateness.overdue(limit));
        }
        shedding.tell(worker, smooth, level);
        let signal = self.set(level, shedding.memory(now));
        state.say(worker, signal, at);
    }

    /// A request of this importance came.
    fn come(&self, shedding: &Shedding, worker: usize, importance: Importance, now: Instant) {
        if let Some(come) = self.come.get(importance as usize) {
            come.fetch_add(1, Relaxed);
        }
        let at = now.saturating_duration_since(self.born);
        if at.as_micros() as u64 > self.look.load(Relaxed) {
            self.look(shedding, worker, at);
        }
    }

    /// The probe is overdue.
    #[cold]
    fn look(&self, shedding: &Shedding, worker: usize, at: Duration) {
        let Some(limit) = shedding.settings.lateness else { return };
        let mut state = self.state();
        let level = state.lateness.look(at, self.take_come(), limit);
        self.look_from(state.lateness.overdue(limit));
        let signal = self.set(level, shedding.memory_level());
        state.say(worker, signal, at);
    }

    fn look_from(&self, at: Duration) {
        self.look.store(at.as_micros() as u64, Relaxed);
    }

    fn take_come(&self) -> [u32; 3] {
        self.come.each_ref().map(|come| come.swap(0, Relaxed))
    }

    /// What is short now, if anything is.
    fn set(&self, of_lateness: f64, of_memory: f64) -> Option<Signal> {
        let is_memory = of_memory > of_lateness;
        let level = ((of_lateness.max(of_memory) * f64::from(LEVELS)) as u32).min(LEVELS);
        let mark = if is_memory { OF_MEMORY } else { 0 };
        self.number.store(if level == 0 { 0 } else { level | mark }, Relaxed);
        (level > 0).then_some(if is_memory { Signal::Memory } else { Signal::Lateness })
    }

    /// Is a request of this importance refused? `chance` is between 0 and 1.
    fn refuses(&self, importance: Importance, chance: f64) -> Option<Signal> {
        let number = self.number.load(Relaxed);
        let level = f64::from(number & (OF_MEMORY - 1)) / f64::from(LEVELS);
        let signal = if number & OF_MEMORY == 0 { Signal::Lateness } else { Signal::Memory };
        (chance < share(importance as u8, level)).then_some(signal)
    }
}

impl State {
    /// Tells the log, but not each time when it is a matter of a little more or less.
    fn say(&mut self, worker: usize, signal: Option<Signal>, at: Duration) {
        match (signal, self.told) {
            (Some(signal), told) => {
                self.told = Some(at);
                if told.is_none() {
                    let short_of = if signal == Signal::Memory { "memory" } else { "CPU" };
                    tracing::warn!(worker, short_of, "load shedding: requests are refused");
                }
            }
            (None, Some(last)) if at.saturating_sub(last) > QUIET => {
                self.told = None;
                tracing::info!(worker, "load shedding: nothing is refused any longer");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
