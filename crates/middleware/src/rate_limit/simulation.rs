//! Seeded simulations of whole rules: several limits, keys and costs, over minutes to months of simulated time, beside a
//! model that is as plain as can be.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use http::StatusCode;
use portcullis_core::{Answer, Exchange, Flow, Middleware, exchange::Violated};
use serde_json::{Value, json};

use crate::testing::{build, request, told};

const SECOND: u64 = 1_000_000_000;

/// A limit, as it is written and as the model knows it.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Bucket { requests: u64, seconds: u64, burst: u64 },
    Quota { requests: u64, unit: &'static str },
}

#[derive(Debug, Clone, Copy)]
struct Limit {
    shape: Shape,
    by_client: bool,
}

impl Limit {
    fn random(random: &mut fastrand::Rng) -> Limit {
        let requests = random.u64(1..40);
        let shape = if random.bool() {
            Shape::Bucket { requests, seconds: random.u64(1..60), burst: random.u64(1..40) }
        } else {
            Shape::Quota { requests, unit: ["minute", "hour", "day", "month"][random.usize(..4)] }
        };
        Limit { shape, by_client: random.bool() }
    }

    fn written(&self, name: usize) -> Value {
        let key = if self.by_client { "client" } else { "all" };
        let name = name.to_string();
        match self.shape {
            Shape::Bucket { requests, seconds, burst } => {
                json!({"name": name, "requests": requests, "per": format!("{seconds}s"), "burst": burst, "key": key})
            }
            Shape::Quota { requests, unit } => {
                json!({"name": name, "requests": requests, "per": unit, "key": key})
            }
        }
    }
}

/// What was taken of one limit by one client.
#[derive(Debug, Clone, Copy)]
enum Count {
    /// Nanoseconds of refilling that are in the bucket, and when that was so.
    Level(u64, u64),
    /// The window, and what was taken in it.
    Used(u64, u64),
}

/// A time: since the simulation began, and in seconds and nanoseconds since 1970.
#[derive(Debug, Clone, Copy)]
struct Now {
    since: u64,
    wall: Duration,
}

/// What one limit says: is there enough, how much is left, and how long until there is enough.
struct Says {
    enough: bool,
    left: u64,
    wait: u64,
}

#[derive(Default)]
struct Model {
    counts: HashMap<(usize, Option<u8>), Count>,
}

/// The first day of a month and the first of the next, in days since 1970: counted one by one, from 2020 on.
fn month(day: u64) -> (u64, u64) {
    let mut first = 18_262;
    for year in 2020_u64.. {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        for days in [31, 28 + u64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
            if day < first + days {
                return (first, first + days);
            }
            first += days;
        }
    }
    unreachable!()
}

/// The beginning and the end of the window that holds a second.
fn window(unit: &str, second: u64) -> (u64, u64) {
    let length = match unit {
        "minute" => 60,
        "hour" => 3600,
        "day" => 86_400,
        _ => {
            let (first, end) = month(second / 86_400);
            return (first * 86_400, end * 86_400);
        }
    };
    (second / length * length, second / length * length + length)
}

impl Model {
    /// Looks at a limit, and brings its count up to the time.
    fn look(&mut self, at: usize, limit: Limit, client: u8, cost: u64, now: Now) -> (Says, &mut Count) {
        let key = (at, limit.by_client.then_some(client));
        match limit.shape {
            Shape::Bucket { requests, seconds, burst } => {
                let interval = seconds * SECOND / requests;
                let full = interval * burst;
                let count = self.counts.entry(key).or_insert(Count::Level(full, now.since));
                let Count::Level(level, then) = count else { unreachable!() };
                (*level, *then) = ((*level + (now.since - *then)).min(full), now.since);
                let (left, wait) = (*level / interval, (interval * cost).saturating_sub(*level));
                (Says { enough: wait == 0, left, wait }, count)
            }
            Shape::Quota { requests, unit } => {
                let (starts, ends) = window(unit, now.wall.as_secs());
                let count = self.counts.entry(key).or_insert(Count::Used(starts, 0));
                let Count::Used(of, used) = count else { unreachable!() };
                if *of != starts {
                    (*of, *used) = (starts, 0);
                }
                let enough = *used + cost <= requests;
                let rest = Duration::from_secs(ends).saturating_sub(now.wall);
                let wait = if enough { 0 } else { rest.as_nanos() as u64 };
                (Says { enough, left: requests - *used, wait }, count)
            }
        }
    }

    /// Takes from all limits, or from none; what each says then.
    fn take(&mut self, limits: &[Limit], client: u8, cost: u64, now: Now) -> Vec<Says> {
        let look = |model: &mut Model, at: usize| model.look(at, limits[at], client, cost, now).0;
        let all = (0..limits.len()).map(|at| look(self, at)).collect::<Vec<_>>();
        if all.iter().all(|says| says.enough) {
            for (at, limit) in limits.iter().enumerate() {
                match (self.look(at, *limit, client, cost, now).1, limit.shape) {
                    (Count::Level(level, _), Shape::Bucket { requests, seconds, .. }) => {
                        *level -= seconds * SECOND / requests * cost;
                    }
                    (Count::Used(_, used), _) => *used += cost,
                    _ => unreachable!(),
                }
            }
            let mut after = |at: usize, says: Says| Says { left: look(self, at).left, ..says };
            return all.into_iter().enumerate().map(|(at, says)| after(at, says)).collect();
        }
        all
    }
}

/// How far the next request is from this one: mostly near, now and then days away.
fn pause(random: &mut fastrand::Rng) -> u64 {
    let most = match random.u8(..100) {
        0..60 => SECOND / 2,
        60..85 => 20 * SECOND,
        85..95 => 3600 * SECOND,
        95..99 => 86_400 * SECOND,
        _ => 20 * 86_400 * SECOND,
    };
    random.u64(..most)
}

/// What `RateLimit` says is left of each.
fn left(limit: &Arc<dyn Middleware>, x: &mut Exchange) -> Vec<u64> {
    let mut answer = Answer::new(StatusCode::OK, "test");
    told(limit, x, &mut answer);
    let said = answer.fields.get_str("ratelimit").unwrap_or("").to_owned();
    let number = |item: &str| item.split(";r=").nth(1)?.split(';').next()?.parse().ok();
    said.split(", ").map(|item| number(item).unwrap_or_else(|| panic!("{said}"))).collect()
}

fn history(seed: u64, steps: usize) -> (u32, u32) {
    let mut random = fastrand::Rng::with_seed(seed);
    let limits: Vec<Limit> = (0..random.usize(1..4)).map(|_| Limit::random(&mut random)).collect();
    let written: Vec<Value> = limits.iter().enumerate().map(|(at, limit)| limit.written(at)).collect();
    let limit = build("rate_limit", json!({"limits": written, "cost": {"header": "X-Cost", "max": 9}}));
    let (begun, wall) = (Instant::now(), SystemTime::now());
    let wall = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let (mut model, mut since, mut counts) = (Model::default(), SECOND, (0, 0));
    for step in 0..steps {
        since += pause(&mut random);
        // The two clocks are read one after the other: near the end of a window nobody knows which it is.
        let minute = |at: u64| (wall + Duration::from_nanos(at)).as_secs() / 60;
        while minute(since + SECOND / 4) != minute(since - SECOND / 4) {
            since += SECOND / 2;
        }
        let now = Now { since, wall: wall + Duration::from_nanos(since) };
        let (client, cost) = (random.u8(..3), if random.u8(..4) == 0 { random.u64(1..6) } else { 1 });
        let mut x = request("/");
        x.client = std::net::IpAddr::from([192, 0, 2, client]);
        x.started = begun + Duration::from_nanos(since);
        x.request.fields.append("x-cost", cost.to_string());
        let says = model.take(&limits, client, cost, now);
        let expected = says.iter().all(|says| says.enough);
        let place = || format!("seed {seed}, step {step}: {limits:?}, client {client}, cost {cost}, {now:?}");
        let decided = limit.on_request(&mut x).map(|flow| matches!(flow, Flow::Next));
        match decided {
            Ok(at_once) => {
                assert!(at_once && expected, "{}: it passed", place());
                counts.0 += 1;
            }
            Err(error) => {
                assert!(!expected, "{}: it was refused", place());
                let wait = error.retry_after.unwrap().as_nanos() as u64;
                let longest = says.iter().map(|says| says.wait).max().unwrap();
                assert!(wait.abs_diff(longest) < SECOND / 4, "{}: {wait} {longest}", place());
                let refused = says.iter().enumerate().filter(|(_, says)| !says.enough);
                let refused: Vec<String> = refused.map(|(at, _)| at.to_string()).collect();
                let violated = &x.recall::<Violated>().unwrap().policies;
                assert!(
                    violated.iter().map(AsRef::as_ref).eq(refused.iter().map(String::as_str)),
                    "{}",
                    place()
                );
                counts.1 += 1;
            }
        }
        let expected: Vec<u64> = says.iter().map(|says| says.left).collect();
        assert_eq!(left(&limit, &mut x), expected, "{}", place());
    }
    counts
}

#[test]
fn rules_decide_as_the_plain_model_does_over_days_and_months() {
    let (mut passed, mut refused) = (0, 0);
    for seed in 0..2000 {
        let counts = history(seed, 50);
        (passed, refused) = (passed + counts.0, refused + counts.1);
    }
    assert!(passed > 15_000 && refused > 5_000, "{passed} {refused}");
}
