//! A limit that finds by itself what a service bears, from how long its answers take: the gradient of Netflix's
//! concurrency-limits, against a usual time that is measured as Envoy measures it.
//!
//! While answers take about as long as they do when hardly anybody asks, the limit grows a little with each window. When they
//! take longer, requests queue somewhere behind us, and the limit shrinks by as much as they take longer. How long they take
//! when hardly anybody asks is measured at the start, now and then, and when they have been far slower for a while: then the
//! limit is at its least for a moment.

use std::time::{Duration, Instant};

/// A window ends after so long and so many samples.
const WINDOW: Duration = Duration::from_millis(250);
const SAMPLES: u32 = 10;
/// The usual time is measured again after so long.
const MEASURE: Duration = Duration::from_secs(60);
/// After so many windows in a row that were far slower, it is measured at once.
const SLOW_WINDOWS: u32 = 8;
/// Answers may take so much longer than usual, and so many seconds beyond, before that counts as queueing.
const TOLERANCE: f64 = 1.5;
const NOISE: f64 = 0.0005;
/// How much of a new limit is taken over at once.
const SMOOTHING: f64 = 0.2;

/// Bounds of the limit, and where it begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Never less at once.
    pub min: f64,
    /// Never more at once.
    pub max: f64,
    /// At the start.
    pub initial: f64,
}

/// A limit that finds itself.
#[derive(Debug)]
pub struct Gradient {
    limit: f64,
    least: f64,
    /// How long answers take when hardly anybody asks, in seconds; 0 before that is known.
    usual: f64,
    /// Since when that is being measured.
    measuring: Option<Instant>,
    /// When it was measured last.
    measured: Option<Instant>,
    slow: u32,
    window: Window,
}

#[derive(Debug)]
struct Window {
    began: Option<Instant>,
    count: u32,
    sum: f64,
    inside: usize,
}

const EMPTY: Window = Window { began: None, count: 0, sum: 0.0, inside: 0 };

impl Gradient {
    /// One that knows nothing yet.
    pub fn new(bounds: Bounds) -> Gradient {
        Gradient {
            limit: bounds.initial,
            least: bounds.min,
            usual: 0.0,
            measuring: None,
            measured: None,
            slow: 0,
            window: EMPTY,
        }
    }

    /// The limit.
    pub fn limit(&self) -> usize {
        let measuring = self.measuring.is_some() || self.usual == 0.0;
        if measuring { self.least as usize } else { self.limit as usize }
    }

    /// An answer came at a time, after so long, while so many were inside.
    pub fn sample(&mut self, at: Instant, took: Duration, inside: usize, bounds: Bounds) {
        self.least = bounds.min;
        // Who came before the measuring began may have stood in a queue.
        if self.measuring.is_some_and(|since| at.checked_sub(took).is_some_and(|came| came < since)) {
            return;
        }
        let window = &mut self.window;
        let began = *window.began.get_or_insert(at);
        window.count += 1;
        window.sum += took.as_secs_f64();
        window.inside = window.inside.max(inside);
        if window.count < SAMPLES || at.saturating_duration_since(began) < WINDOW {
            return;
        }
        let (took, inside) = ((window.sum / f64::from(window.count)).max(1e-6), window.inside);
        self.window = EMPTY;
        if self.measuring.take().is_some() || self.usual == 0.0 {
            (self.usual, self.measured, self.slow) = (took, Some(at), 0);
            return;
        }
        self.close(took, inside, bounds);
        let long_ago =
            self.measured.is_some_and(|measured| at.saturating_duration_since(measured) >= MEASURE);
        if long_ago || self.slow >= SLOW_WINDOWS {
            self.measuring = Some(at);
        }
    }

    fn close(&mut self, took: f64, inside: usize, bounds: Bounds) {
        self.usual = self.usual.min(took);
        let gradient = ((TOLERANCE * self.usual + NOISE) / took).clamp(0.5, 1.0);
        self.slow = if gradient > 0.5 { 0 } else { self.slow + 1 };
        // Nobody needs more: growing now would only mean to be caught unawares later.
        if gradient == 1.0 && (inside as f64) < self.limit / 2.0 {
            return;
        }
        // Room to grow: the square root, as a queue that is still no harm.
        let wanted = self.limit * gradient + self.limit.sqrt().max(1.0);
        self.limit = (self.limit * (1.0 - SMOOTHING) + wanted * SMOOTHING).clamp(bounds.min, bounds.max);
    }
}

#[cfg(test)]
mod tests {
    use std::{cmp::Reverse, collections::BinaryHeap};

    use super::*;

    const BOUNDS: Bounds = Bounds { min: 1.0, max: 2000.0, initial: 10.0 };

    /// A service that works on so many at once, each for a time of about `work`; others queue in it. Clients come in a
    /// Poisson process, and those over the limit are turned away.
    struct World {
        random: fastrand::Rng,
        gradient: Gradient,
        workers: usize,
        work: f64,
        /// When each worker is free again, in nanoseconds.
        free: BinaryHeap<Reverse<u64>>,
        /// When each request inside is answered, and when it came.
        inside: BinaryHeap<Reverse<(u64, u64)>>,
        now: u64,
    }

    impl World {
        fn new(seed: u64, workers: usize, work: f64) -> World {
            World {
                random: fastrand::Rng::with_seed(seed),
                gradient: Gradient::new(BOUNDS),
                workers,
                work,
                free: (0..workers).map(|_| Reverse(0)).collect(),
                inside: BinaryHeap::new(),
                now: 0,
            }
        }

        /// Lets time pass with so many requests a second; answers per second, and their mean time in units of `work`.
        fn run(&mut self, seconds: f64, per_second: f64, epoch: Instant) -> (f64, f64) {
            let end = self.now + (seconds * 1e9) as u64;
            let (mut answers, mut took) = (0_u64, 0.0);
            while self.now < end {
                let gap = -self.random.f64().max(1e-12).ln() / per_second;
                self.now += (gap * 1e9) as u64;
                while let Some(&Reverse((done, came))) =
                    self.inside.peek().filter(|next| next.0.0 <= self.now)
                {
                    let time = Duration::from_nanos(done - came);
                    let inside = self.inside.len();
                    self.gradient.sample(epoch + Duration::from_nanos(done), time, inside, BOUNDS);
                    self.inside.pop();
                    answers += 1;
                    took += time.as_secs_f64();
                }
                if self.inside.len() < self.gradient.limit() {
                    let Reverse(free) = self.free.pop().unwrap();
                    let work = self.work * (0.75 + self.random.f64() / 2.0);
                    let done = free.max(self.now) + (work * 1e9) as u64;
                    self.free.push(Reverse(done));
                    self.inside.push(Reverse((done, self.now)));
                }
            }
            assert_eq!(self.free.len(), self.workers);
            (answers as f64 / seconds, took / answers.max(1) as f64 / self.work)
        }
    }

    #[test]
    fn it_finds_what_a_service_bears_and_keeps_it_quick() {
        for (seed, workers, work) in [(1, 8, 0.01), (2, 50, 0.02), (3, 200, 0.05)] {
            let epoch = Instant::now();
            let mut world = World::new(seed, workers, work);
            let capacity = workers as f64 / work;
            world.run(60.0, capacity * 0.5, epoch);
            world.run(60.0, capacity * 3.0, epoch);
            let (answers, took) = world.run(60.0, capacity * 3.0, epoch);
            assert!(
                answers > capacity * 0.9,
                "seed {seed}: {answers} of {capacity}, limit {}",
                world.gradient.limit
            );
            assert!(took < 4.0, "seed {seed}: {took} times the work, limit {}", world.gradient.limit);
        }
    }

    #[test]
    fn it_shrinks_when_the_service_bears_less_and_grows_again() {
        let epoch = Instant::now();
        let mut world = World::new(7, 50, 0.02);
        world.run(60.0, 5000.0, epoch);
        let before = world.gradient.limit;
        // Four of five workers fail.
        world.workers = 10;
        world.free = (0..10).map(|_| Reverse(world.now)).collect();
        let (few, took) = world.run(30.0, 5000.0, epoch);
        let during = world.gradient.limit;
        world.workers = 50;
        world.free.extend((0..40).map(|_| Reverse(world.now)));
        let (answers, _) = world.run(60.0, 5000.0, epoch);
        assert!(few > 500.0 * 0.85 && took < 6.0, "{few}, {took} times the work");
        assert!(during < before * 0.6, "{before} → {during}");
        assert!(answers > 2500.0 * 0.85, "{answers}");
    }

    /// What is usual changes: far slower for good is measured at once, somewhat slower with the next measuring, and quicker is
    /// believed at once.
    #[test]
    fn it_learns_anew_what_is_usual() {
        // The work before and after, seconds until it must have been learnt.
        for (before, after, seconds) in [(0.01, 0.05, 15.0), (0.02, 0.05, 75.0), (0.1, 0.02, 15.0)] {
            let epoch = Instant::now();
            let mut world = World::new(11, 50, before);
            world.run(20.0, 25.0 / before, epoch);
            world.work = after;
            let capacity = 50.0 / after;
            world.run(seconds, capacity * 2.0, epoch);
            let (answers, took) = world.run(20.0, capacity * 2.0, epoch);
            assert!(answers > capacity * 0.85, "{before} → {after}: {answers} of {capacity}");
            assert!(took < 4.0, "{before} → {after}: {took} times the work");
        }
    }

    #[test]
    fn without_pressure_it_stays_where_it_is() {
        let epoch = Instant::now();
        let mut world = World::new(5, 50, 0.02);
        world.run(60.0, 50.0, epoch);
        assert!(world.gradient.limit() <= 12, "{}", world.gradient.limit);
    }
}
