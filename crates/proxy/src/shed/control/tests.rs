//! A worker simulated: requests come at random, its event loop works them off in order, and its ticks wait in the same line.
//! What a request costs is paid half when it comes (or is refused), and half when its endpoint has answered.

use std::collections::VecDeque;

use super::*;

const LIMIT: Duration = Duration::from_millis(100);
/// What a request costs, what refusing one does, and how long endpoints take, in seconds.
const COST: f64 = 0.000_5;
const REFUSAL: f64 = 0.000_05;
const LATENCY: f64 = 0.005;

/// What became of the requests of each importance.
#[derive(Debug, Default, Clone)]
struct Told {
    come: [f64; 3],
    refused: [f64; 3],
    /// Answered within a second.
    good: [f64; 3],
    /// The longest time in the gateway.
    worst: f64,
    /// Answers by tenths of a second, and the level there.
    answered: Vec<f64>,
    levels: Vec<f64>,
}

impl Told {
    fn refused(&self, rank: usize) -> f64 {
        self.refused[rank] / self.come[rank].max(1.0)
    }

    fn good(&self, rank: usize) -> f64 {
        self.good[rank] / self.come[rank].max(1.0)
    }

    /// Which part of what the worker could do became answers.
    fn used(&self) -> f64 {
        self.good.iter().sum::<f64>() * COST / (self.levels.len() as f64 / 10.0)
    }

    /// The lowest and the highest of the levels.
    fn span(&self) -> (f64, f64) {
        self.levels.iter().fold((f64::MAX, 0.0), |(low, high), one| (one.min(low), one.max(high)))
    }
}

#[derive(Debug, Clone, Copy)]
enum Item {
    Request(u8),
    Answer(u8),
    Tick,
}

struct Worker {
    random: fastrand::Rng,
    lateness: Lateness,
    limit: Duration,
    level: f64,
    now: f64,
    /// What waits, and since when it is there.
    line: VecDeque<(Item, f64, f64)>,
    answers: VecDeque<(u8, f64, f64)>,
    arrival: f64,
    tick: Option<f64>,
    come: [u32; 3],
    /// Turns from nothing being refused to something.
    starts: u32,
}

impl Worker {
    fn new(seed: u64) -> Worker {
        Worker::with(seed, LIMIT)
    }

    fn with(seed: u64, limit: Duration) -> Worker {
        Worker {
            random: fastrand::Rng::with_seed(seed),
            lateness: Lateness::default(),
            limit,
            level: 0.0,
            now: 0.0,
            line: VecDeque::new(),
            answers: VecDeque::new(),
            arrival: 0.0,
            tick: Some(0.0),
            come: [0; 3],
            starts: 0,
        }
    }

    /// So many seconds of this multiple of what it can do, with these shares of background, normal and critical requests.
    fn run(&mut self, seconds: f64, load: f64, mix: [f64; 3]) -> Told {
        let mut told = Told::default();
        let begin = self.now;
        while self.now < begin + seconds {
            self.take_what_came(load, mix, &mut told);
            if told.levels.len() <= ((self.now - begin) * 10.0) as usize {
                told.levels.push(self.level);
                told.answered.push(0.0);
            }
            match self.line.pop_front() {
                Some((item, came, since)) => self.work(item, came, since, &mut told),
                None => {
                    let answer = self.answers.front().map_or(f64::MAX, |(.., at)| *at);
                    self.now = self.arrival.min(answer).min(self.tick.unwrap_or(f64::MAX));
                }
            }
        }
        told
    }

    /// What came until now gets in line, in order.
    fn take_what_came(&mut self, load: f64, mix: [f64; 3], told: &mut Told) {
        loop {
            let answer = self.answers.front().map_or(f64::MAX, |(.., at)| *at);
            let tick = self.tick.unwrap_or(f64::MAX);
            let first = self.arrival.min(answer).min(tick);
            if first > self.now {
                return;
            }
            if first == tick {
                self.line.push_back((Item::Tick, tick, tick));
                self.tick = None;
            } else if first == answer {
                let Some((rank, came, at)) = self.answers.pop_front() else { return };
                self.line.push_back((Item::Answer(rank), came, at));
            } else {
                let kind = self.random.f64() * mix.iter().sum::<f64>();
                let rank = u8::from(kind >= mix[0]) + u8::from(kind >= mix[0] + mix[1]);
                told.come[usize::from(rank)] += 1.0;
                self.line.push_back((Item::Request(rank), first, first));
                self.arrival = first - (1.0 - self.random.f64()).ln() * COST / load;
            }
        }
    }

    fn work(&mut self, item: Item, came: f64, since: f64, told: &mut Told) {
        match item {
            Item::Request(rank) => {
                self.come[usize::from(rank)] += 1;
                let at = Duration::from_secs_f64(self.now);
                if at > self.lateness.overdue(self.limit) {
                    let level = self.lateness.look(at, std::mem::take(&mut self.come), self.limit);
                    self.set(level);
                }
                if self.random.f64() < share(rank, self.level) {
                    told.refused[usize::from(rank)] += 1.0;
                    self.now += REFUSAL;
                } else {
                    self.now += COST / 2.0;
                    self.answers.push_back((rank, came, self.now + LATENCY));
                }
            }
            Item::Answer(rank) => {
                self.now += COST / 2.0;
                let took = self.now - came;
                told.worst = told.worst.max(took);
                told.good[usize::from(rank)] += f64::from(took < 1.0);
                if let Some(answered) = told.answered.last_mut() {
                    *answered += 1.0;
                }
            }
            Item::Tick => {
                let (at, late) =
                    (Duration::from_secs_f64(self.now), Duration::from_secs_f64(self.now - since));
                let level = self.lateness.tick(at, late, std::mem::take(&mut self.come), self.limit);
                self.set(level);
                self.tick = Some(self.now + TICK.as_secs_f64());
            }
        }
    }

    fn set(&mut self, level: f64) {
        self.starts += u32::from(self.level == 0.0 && level > 0.0);
        self.level = level;
    }
}

#[test]
fn what_can_be_done_is_done() {
    for seed in 0..4 {
        let mut worker = Worker::new(seed);
        let told = worker.run(30.0, 0.9, [0.3, 0.4, 0.3]);
        assert_eq!((told.refused, worker.starts), ([0.0; 3], 0), "seed {seed}");
        assert!(told.used() > 0.85, "seed {seed}: {}", told.used());
    }
}

/// More than a worker can do, from one moment to the next: within some seconds it has found what to refuse, and keeps to that.
#[test]
fn it_finds_its_level_and_stays_there() {
    for (load, mix) in
        [(1.5, [0.5, 0.3, 0.2]), (3.0, [0.46, 0.4, 0.14]), (3.0, [0.0, 0.8, 0.2]), (6.0, [0.9, 0.05, 0.05])]
    {
        for seed in 0..4 {
            let what = format!("{load} times of {mix:?}, seed {seed}");
            let mut worker = Worker::new(seed);
            let begin = worker.run(if load > 3.0 { 4.0 } else { 2.0 }, load, mix);
            assert!(begin.worst < 1.3, "{what}: {} s in line", begin.worst);
            let told = worker.run(30.0, load, mix);
            assert!(told.worst < 0.5, "{what}: {} s in line", told.worst);
            assert!(told.good(2) > 0.99 && told.refused[2] == 0.0, "{what}: {told:?}");
            // Refusing what is too much costs something as well.
            let possible = 1.0 - (load - 1.0) * REFUSAL / COST / (1.0 - REFUSAL / COST);
            assert!(told.used() > 0.95 * possible, "{what}: {} of {possible}", told.used());
            let (low, high) = told.span();
            assert!(high - low < 0.2, "{what}: between {low} and {high}");
            assert_eq!(worker.starts, 1, "{what}");
        }
    }
}

#[test]
fn all_of_one_importance_goes_before_any_of_the_next() {
    for seed in 0..4 {
        let mut worker = Worker::new(seed);
        worker.run(2.0, 1.4, [0.5, 0.3, 0.2]);
        let told = worker.run(30.0, 1.4, [0.5, 0.3, 0.2]);
        assert!(told.refused(0) > 0.5 && told.refused(1) < 0.01, "seed {seed}: {told:?}");
    }
}

/// Nothing less important is there to be refused, so it is some of the critical.
#[test]
fn what_is_critical_goes_when_nothing_else_is_left() {
    for seed in 0..4 {
        let mut worker = Worker::new(seed);
        worker.run(3.0, 2.0, [0.0, 0.0, 1.0]);
        let told = worker.run(30.0, 2.0, [0.0, 0.0, 1.0]);
        assert!(told.worst < 0.9, "seed {seed}: {} s in line", told.worst);
        assert!(told.used() > 0.8, "seed {seed}: {}", told.used());
        let (low, high) = told.span();
        assert!(low > 0.67 && high < 0.98, "seed {seed}: between {low} and {high}");
    }
}

/// Whatever comes, and whatever the limit: what is critical is answered, and the worker is not idle.
#[test]
fn any_load_of_any_mix() {
    let mut random = fastrand::Rng::with_seed(4);
    for seed in 0..12 {
        let limit = Duration::from_millis(*[20, 50, 100, 200].get(random.usize(..4)).unwrap());
        let mut worker = Worker::with(seed, limit);
        for turn in 0..5 {
            let load = 0.5 + random.f64() * 4.0;
            let critical = 0.6 / load.max(1.0) * random.f64();
            let background = random.f64() * (1.0 - critical);
            let mix = [background, 1.0 - critical - background, critical];
            worker.run(2.0, load, mix);
            let told = worker.run(10.0, load, mix);
            let what = format!("seed {seed}, turn {turn}: {load:.2} times of {mix:.2?}, limit {limit:?}");
            assert!(told.good(2) > 0.9 || told.come[2] < 10.0, "{what}: {}", told.good(2));
            let possible = load.min(1.0 - (load - 1.0) * REFUSAL / COST / (1.0 - REFUSAL / COST));
            assert!(told.used() > 0.8 * possible, "{what}: {} of {possible}", told.used());
        }
    }
}

#[test]
fn it_ends_when_the_shortage_does() {
    for seed in 0..4 {
        let mut worker = Worker::new(seed);
        worker.run(20.0, 2.5, [0.4, 0.4, 0.2]);
        worker.run(10.0, 0.6, [0.4, 0.4, 0.2]);
        let told = worker.run(20.0, 0.6, [0.4, 0.4, 0.2]);
        assert_eq!((told.refused, worker.level, worker.starts), ([0.0; 3], 0.0, 1), "seed {seed}");
    }
}

#[test]
fn one_long_pause_is_no_shortage() {
    let millis = Duration::from_millis;
    let mut lateness = Lateness::default();
    let mut now = millis(1000);
    let mut tick = |late: u64| {
        now += TICK + millis(late);
        lateness.tick(now, millis(late), [10, 10, 10], LIMIT)
    };
    assert_eq!(tick(30_000), 0.0);
    (0..100).for_each(|_| assert_eq!(tick(0), 0.0));
    assert_eq!((tick(150), tick(10), tick(150), tick(10)), (0.0, 0.0, 0.0, 0.0));
    // One that stays late is.
    assert_eq!(tick(150), 0.0);
    assert!(tick(150) > 0.0);
}

/// A line so long that the tick is still in it: who is served meanwhile sees that.
#[test]
fn a_tick_that_is_overdue_is_not_waited_for() {
    let millis = Duration::from_millis;
    let mut lateness = Lateness::default();
    lateness.tick(millis(0), millis(0), [1; 3], LIMIT);
    assert_eq!(lateness.overdue(LIMIT), TICK + LIMIT);
    assert_eq!(lateness.look(millis(130), [1; 3], LIMIT), 0.0);
    assert_eq!(lateness.overdue(LIMIT), millis(155), "not at every request");
    let mut level = 0.0;
    for at in [160, 190, 220, 250, 280] {
        let now = lateness.look(millis(at), [1; 3], LIMIT);
        assert!(now >= level, "{now} after {level} at {at} ms");
        level = now;
    }
    assert!(level > 0.0);
}

#[test]
fn the_same_seed_is_the_same_story() {
    let story = |seed| Worker::new(seed).run(20.0, 2.0, [0.4, 0.4, 0.2]).levels;
    assert_eq!(story(5), story(5));
    assert_ne!(story(5), story(6));
}

#[test]
fn memory_is_a_matter_of_how_much_is_left() {
    let mut memory = Memory::default();
    let mut at = |percent| memory.sample(percent, 100);
    assert_eq!((at(10), at(85)), (0.0, 0.0));
    let third = at(90);
    assert!((third - 1.0 / 3.0).abs() < 1e-9);
    // A little less is not yet better.
    assert_eq!((at(88), at(86), at(85)), (third, third, third));
    assert!(at(83) < third);
    assert_eq!((at(79), at(100), at(500)), (0.0, 1.0, 1.0));
    assert!(at(95) > 0.99, "5 % must be free again");
    assert_eq!(at(0), 0.0);
    assert_eq!(Memory::default().sample(1, 0), 1.0, "no limit of nothing divides by it");
}

#[test]
fn each_importance_has_its_third_of_the_level() {
    let all = |level| [share(0, level), share(1, level), share(2, level)];
    assert_eq!(all(0.0), [0.0, 0.0, 0.0]);
    assert_eq!(all(1.0), [1.0, 1.0, 1.0]);
    let mut before = all(0.0);
    for step in 0..=300 {
        let now = all(f64::from(step) / 300.0);
        assert!(now.iter().zip(before).all(|(now, before)| *now >= before), "never less at a higher level");
        assert!(now[1] == 0.0 || now[0] > 0.999, "all of one before any of the next");
        assert!(now[2] == 0.0 || now[1] > 0.999, "all of one before any of the next");
        before = now;
    }
}

#[test]
fn what_is_critical_is_refused_only_while_a_worker_is_very_late() {
    let millis = Duration::from_millis;
    let mut lateness = Lateness::default();
    let mut now = millis(1000);
    let mut stays = |late: u64| {
        let mut level = 0.0;
        for _ in 0..50 {
            now += TICK + millis(late);
            level = lateness.tick(now, millis(late), [0, 0, 10], LIMIT);
        }
        level
    };
    assert!((stays(190) - 2.0 / 3.0).abs() < 1e-9);
    let very = stays(300);
    assert!(very > 0.7 && very < 0.9, "{very}");
    assert!((stays(150) - 2.0 / 3.0).abs() < 1e-9);
}
