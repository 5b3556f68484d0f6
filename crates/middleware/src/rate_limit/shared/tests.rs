use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use http::StatusCode;
use portcullis_core::{
    Answer, BoxFuture, Decision, Flow, Middleware,
    keep::Keep,
    limit::Bound,
    meter::Meters,
    store::{self, Failure, FailureKind, Store, Stores},
};
use serde_json::{Value, json};

use super::*;
use crate::testing::{request, told};

/// A store that does as it is told.
struct Told(Mutex<Result<Vec<Taken>, Failure>>);

impl CounterStore for Told {
    fn take<'a>(&'a self, _: &'a [Take], _: bool) -> BoxFuture<'a, Result<Vec<Taken>, Failure>> {
        let says = self.0.lock().unwrap().clone();
        Box::pin(std::future::ready(says))
    }
}

fn stored(settings: Value, store: &Arc<impl CounterStore>, meters: &Meters) -> Arc<dyn Middleware> {
    let mut stores = Stores::default();
    stores.insert("main".into(), Store { counters: Some(store.clone()), blobs: None });
    let keep = Keep::default();
    let around = Around { name: "limit@file", folder: Path::new("."), keep: &keep, stores: &stores, meters };
    (crate::find("rate_limit").unwrap().build)(&settings, &around).unwrap()
}

async fn decides(limit: &Arc<dyn Middleware>) -> bool {
    let mut x = request("/");
    let Ok(Flow::Wait(waiting)) = limit.on_request(&mut x) else { panic!("it asks a store") };
    match waiting.await {
        Ok(Decision::Next) => true,
        Ok(Decision::Answer(_)) => panic!("an answer"),
        Err(error) => {
            assert_eq!(error.kind, Kind::RateLimited);
            false
        }
    }
}

#[tokio::test]
async fn a_store_decides_and_when_it_is_away_the_setting_does() {
    let (meters, store) = (Meters::default(), Arc::new(Told(Mutex::new(Ok(Vec::new())))));
    let say = |says| *store.0.lock().unwrap() = says;
    let away = || Err(Failure::new(FailureKind::Away, ""));
    let taken = |enough| Taken {
        enough,
        extra: 0,
        left: 0,
        wait: Duration::from_secs(1),
        reset: Duration::from_secs(2),
    };
    let of = |when| json!({"requests_per_second": 0.01, "burst": 2, "store": "main", "when_away": when});
    for (when, expected) in [("local", [true, true, false]), ("open", [true; 3]), ("closed", [false; 3])] {
        let limit = stored(of(when), &store, &meters);
        say(Ok(vec![taken(true)]));
        assert!(decides(&limit).await);
        say(Ok(vec![taken(false)]));
        assert!(!decides(&limit).await);
        say(away());
        for expected in expected {
            assert_eq!(decides(&limit).await, expected, "{when}");
        }
    }
    let limit = stored(of("local"), &store, &meters);
    let counted = meters.counter(
        "gateway_rate_limit_store_away_total",
        "",
        &[("middleware", "limit@file"), ("store", "main")],
    );
    let before = counted.get();
    assert!(decides(&limit).await);
    assert_eq!(counted.get(), before + 1);
}

/// Nobody waits for the store to hear of it.
#[tokio::test]
async fn what_an_answer_cost_is_told_before_the_store_knows() {
    let (enough, wait, reset) = (true, Duration::ZERO, Duration::from_secs(2));
    let taken = Taken { enough, extra: 0, left: 50, wait, reset };
    let store = Arc::new(Told(Mutex::new(Ok(vec![taken]))));
    let settings = json!({"requests_per_second": 60, "store": "main", "answer_cost": {"header": "X-Cost"}});
    let limit = stored(settings, &store, &Meters::default());
    for (cost, expected) in [("1", "r=50"), ("21", "r=30"), ("99", "r=0")] {
        let mut x = request("/");
        let Ok(Flow::Wait(waiting)) = limit.on_request(&mut x) else { panic!("it asks a store") };
        assert!(matches!(waiting.await, Ok(Decision::Next)));
        let mut answer = Answer::new(StatusCode::OK, "test");
        answer.fields.append("x-cost", cost);
        told(&limit, &mut x, &mut answer);
        assert_eq!(answer.fields.get_str("ratelimit"), Some(&*format!("\"default\";{expected};t=2")));
    }
}

/// A store that counts as one does, and how often it was asked.
#[derive(Default)]
struct Counting {
    asked: Mutex<Vec<Vec<Take>>>,
    states: Mutex<HashMap<String, u64>>,
    away: AtomicBool,
}

impl Counting {
    fn take_one(&self, take: &Take, commit: bool) -> Taken {
        let now = tokio::time::Instant::now().duration_since(*BEGUN.get_or_init(tokio::time::Instant::now));
        let bound = match take.bound {
            store::Bound::Rate { interval, burst, more } => {
                Bound::Rate { interval: interval as u64, burst, more }
            }
            store::Bound::Quota { quota, .. } => Bound::Quota { quota, ends: 1, left: 1_000_000_000 },
        };
        let mut states = self.states.lock().unwrap();
        let (mut state, now) = (states.get(&take.key).copied().unwrap_or(0), now.as_nanos() as u64);
        bound.give_back(&mut state, take.back);
        let mut taken = bound.told(bound.take(&mut state, take.cost, now, false));
        if taken.enough {
            taken.extra = taken.left.min(take.extra.into()) as u32;
            let extra = taken.extra;
            taken = Taken { extra, ..bound.told(bound.take(&mut state, extra.into(), now, false)) };
        }
        if commit {
            states.insert(take.key.clone(), state);
        }
        taken
    }
}

static BEGUN: OnceLock<tokio::time::Instant> = OnceLock::new();

impl CounterStore for Counting {
    fn take<'a>(&'a self, takes: &'a [Take], _: bool) -> BoxFuture<'a, Result<Vec<Taken>, Failure>> {
        self.asked.lock().unwrap().push(takes.to_vec());
        if self.away.load(Relaxed) {
            return Box::pin(std::future::ready(Err(Failure::new(FailureKind::Away, ""))));
        }
        let all = takes.iter().all(|take| self.take_one(take, false).enough);
        let taken = takes.iter().map(|take| self.take_one(take, all)).collect();
        Box::pin(std::future::ready(Ok(taken)))
    }
}

/// Did it pass, and what was the client told?
async fn asks(limit: &Arc<dyn Middleware>) -> (bool, String) {
    let mut x = request("/");
    let passed = match limit.on_request(&mut x) {
        Ok(Flow::Next) => true,
        Ok(Flow::Wait(waiting)) => matches!(waiting.await, Ok(Decision::Next)),
        Ok(Flow::Answer(_)) => panic!("an answer"),
        Err(_) => false,
    };
    let mut answer = Answer::new(StatusCode::OK, "test");
    told(limit, &mut x, &mut answer);
    tokio::task::yield_now().await;
    (passed, answer.fields.get_str("ratelimit").unwrap_or("").to_owned())
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_ahead_is_not_asked_for() {
    let (meters, store) = (Meters::default(), Arc::new(Counting::default()));
    let limits = json!([{"requests": 1000, "per": "100s"}, {"requests": 500, "per": "month", "name": "m"}]);
    let settings = json!({"limits": limits, "key": "all", "store": "main", "allowance": {"share": 0.1}});
    let limit = stored(settings, &store, &meters);
    for n in 1..=500 {
        let (passed, said) = asks(&limit).await;
        assert!(passed, "{n}");
        assert!(said.starts_with(&format!("\"100s\";r={};", 1000 - n)), "{n}: {said}");
        assert!(said.contains(&format!("\"m\";r={};", 500 - n)), "{n}: {said}");
    }
    let asked = store.asked.lock().unwrap().len();
    assert!((10..=60).contains(&asked), "asked {asked} times");
    for _ in 0..100 {
        let (passed, said) = asks(&limit).await;
        assert!(!passed && said.contains("\"m\";r=0;"), "{said}");
        assert!(said.starts_with("\"100s\";r=500;"), "the other lost nothing: {said}");
    }
    let after = store.asked.lock().unwrap().len() - asked;
    assert!(after <= 2, "asked {after} times for what was refused before");
    let decided = meters.counter(
        "gateway_rate_limit_allowance_requests_total",
        "",
        &[("middleware", "limit@file"), ("store", "main")],
    );
    assert!(decided.get() > 500, "{}", decided.get());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_goes_away_is_missed_only_when_what_was_taken_ahead_is_used_up() {
    let (meters, store) = (Meters::default(), Arc::new(Counting::default()));
    let limits = json!([{"requests": 1000, "per": "100s"}]);
    let settings = json!({"limits": limits, "store": "main", "allowance": {}, "when_away": "closed"});
    let limit = stored(settings, &store, &meters);
    for _ in 0..200 {
        assert!(asks(&limit).await.0);
    }
    store.away.store(true, Relaxed);
    let mut passed = 0;
    while asks(&limit).await.0 {
        passed += 1;
    }
    assert!((10..=63).contains(&passed), "{passed}");
    assert!(!asks(&limit).await.0);
    store.away.store(false, Relaxed);
    assert!(asks(&limit).await.0);
}

#[test]
fn allowances_are_judged() {
    let (store, meters) = (Arc::new(Counting::default()), Meters::default());
    let mut stores = Stores::default();
    stores.insert("main".into(), Store { counters: Some(store), blobs: None });
    let keep = Keep::default();
    let around =
        Around { name: "l@file", folder: Path::new("."), keep: &keep, stores: &stores, meters: &meters };
    let problem = |requests: u32, allowance: Value| {
        let limits = json!([{"requests": requests, "per": "1s"}]);
        let settings = json!({"limits": limits, "store": "main", "allowance": allowance});
        match (crate::find("rate_limit").unwrap().build)(&settings, &around) {
            Ok(_) => String::new(),
            Err(problem) => problem.path,
        }
    };
    assert_eq!(problem(40, json!({})), "");
    for (requests, allowance, path) in [
        (39, json!({}), "allowance.share"),
        (100, json!({"share": 0.0}), "allowance.share"),
        (100, json!({"share": 0.51}), "allowance.share"),
        (3, json!({"share": 0.5}), "allowance.share"),
        (100, json!({"max_age": "9ms"}), "allowance.max_age"),
        (100, json!({"max_age": "2m"}), "allowance.max_age"),
        (100, json!({"shares": 0.1}), "allowance.shares"),
    ] {
        assert_eq!(problem(requests, allowance.clone()), path, "{requests} {allowance}");
    }
}
