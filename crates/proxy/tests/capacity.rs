//! What services and endpoints bear, against real sockets: who is passed over, who waits and who is refused.

#![allow(missing_docs)]

mod stage;

use std::{
    future::Future,
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use http::Method;
use portcullis_core::{Answer, Error, Exchange, Kind};
use portcullis_proxy::forward::capacity::Level;
use stage::{Endpoint, Stage, request, say};

const LONG: Duration = Duration::from_secs(20);

fn text(endpoints: &[String], capacity: &str) -> String {
    let list = endpoints.join(", ");
    format!("[[routes]]\npath = \"/*\"\nservice = \"a\"\n[services.a]\nendpoints = [{list}]\n{capacity}")
}

fn urls(endpoints: &[&Endpoint]) -> Vec<String> {
    endpoints.iter().map(|at| format!("\"http://{}\"", at.addr)).collect()
}

async fn quick() -> Endpoint {
    Endpoint::start(|_| async { say(200, "yes") }).await
}

fn get() -> Exchange {
    request(Method::GET, "/")
}

/// A request that passes and holds its places for as long as the exchange lives.
async fn held(stage: &Stage) -> Exchange {
    let mut x = get();
    stage.forward(&mut x).await.0.expect("an answer");
    x
}

async fn refused(stage: &Stage) -> Error {
    stage.forward(&mut get()).await.0.map(|answer| answer.status).expect_err("no room")
}

fn is_waiting(
    future: std::pin::Pin<&mut impl Future<Output = (Result<Answer, Error>, portcullis_proxy::forward::Way)>>,
) -> bool {
    matches!(future.poll(&mut Context::from_waker(Waker::noop())), Poll::Pending)
}

fn queued(stage: &Stage) -> usize {
    stage.service().policies.as_ref().unwrap().capacity.as_ref().unwrap().queued().0
}

#[tokio::test]
async fn an_endpoint_that_is_full_is_passed_over_and_when_all_are_nobody_waits_unless_told() {
    let (a, b) = (quick().await, quick().await);
    let stage = Stage::new(&text(&urls(&[&a, &b]), "capacity = { endpoint_concurrency = 1 }"));
    let (one, _two) = (held(&stage).await, held(&stage).await);
    assert_eq!((a.count(), b.count()), (1, 1));
    let error = refused(&stage).await;
    assert_eq!((error.kind, error.retry_after), (Kind::Overloaded, Some(Duration::from_secs(1))));
    assert_eq!(stage.service().metrics.totals().errors().collect::<Vec<_>>(), [("overloaded", 1)]);
    drop(one);
    let _again = held(&stage).await;
    assert_eq!((a.count(), b.count()), (2, 1), "the one with room");
}

#[tokio::test]
async fn an_endpoint_says_what_it_bears_itself() {
    let (a, b) = (quick().await, quick().await);
    let list =
        [format!("{{ url = \"http://{}\", concurrency = 3 }}", a.addr), format!("\"http://{}\"", b.addr)];
    let stage = Stage::new(&text(&list, "capacity = { endpoint_concurrency = 1 }"));
    let mut all = Vec::new();
    for _ in 0..4 {
        all.push(held(&stage).await);
    }
    assert_eq!((a.count(), b.count()), (3, 1));
    refused(&stage).await;
    let capacity = stage.service().policies.as_ref().unwrap().capacity.as_ref().unwrap();
    let level = |limit, in_flight| Some(Level { limit, adaptive: false, in_flight });
    assert_eq!((capacity.endpoint_level(0), capacity.endpoint_level(1)), (level(3, 3), level(1, 1)));
    drop(all);
    assert_eq!(capacity.endpoint_level(0), level(3, 0));
}

#[tokio::test]
async fn those_who_wait_are_served_in_their_order_and_nobody_overtakes() {
    let a = quick().await;
    let settings = "capacity = { concurrency = 1, queue = 2, queue_timeout = \"10s\" }";
    let stage = Stage::new(&text(&urls(&[&a]), settings));
    let first = held(&stage).await;
    let (mut x, mut y) = (get(), get());
    let (mut second, mut third) = (Box::pin(stage.forward(&mut x)), Box::pin(stage.forward(&mut y)));
    assert!(is_waiting(second.as_mut()) && is_waiting(third.as_mut()));
    assert_eq!(queued(&stage), 2);
    assert_eq!(refused(&stage).await.kind, Kind::Overloaded, "the line is full");
    drop(first);
    // The place is free, but somebody waits for it.
    assert!(is_waiting(third.as_mut()));
    tokio::time::timeout(LONG, second).await.expect("its turn").0.expect("an answer");
    assert!(is_waiting(third.as_mut()));
    drop(x);
    tokio::time::timeout(LONG, third).await.expect("its turn").0.expect("an answer");
    assert_eq!((a.count(), queued(&stage)), (3, 0));
}

#[tokio::test]
async fn who_waits_too_long_is_refused_and_who_leaves_the_line_is_gone() {
    let a = quick().await;
    let settings = "capacity = { concurrency = 1, queue = 5, queue_timeout = \"60ms\" }";
    let stage = Stage::new(&text(&urls(&[&a]), settings));
    let first = held(&stage).await;
    let begun = Instant::now();
    assert_eq!(refused(&stage).await.kind, Kind::Overloaded);
    assert!(begun.elapsed() >= Duration::from_millis(60));
    let mut x = get();
    {
        let mut left = pin!(stage.forward(&mut x));
        assert!(is_waiting(left.as_mut()));
    }
    assert_eq!(queued(&stage), 0);
    let capacity = stage.service().policies.as_ref().unwrap().capacity.as_ref().unwrap();
    assert_eq!(capacity.refused(), (0, 1));
    drop(first);
    held(&stage).await;
}

#[tokio::test]
async fn an_endpoint_at_its_rate_is_passed_over_and_who_waits_goes_when_it_refills() {
    let (a, b) = (quick().await, quick().await);
    let stage = Stage::new(&text(&urls(&[&a, &b]), "capacity = { endpoint_rate = \"1/h\" }"));
    for _ in 0..2 {
        held(&stage).await;
    }
    assert_eq!((a.count(), b.count()), (1, 1));
    let wait = refused(&stage).await.retry_after.unwrap();
    assert!(wait > Duration::from_secs(3500) && wait <= Duration::from_secs(3600), "{wait:?}");

    let settings =
        "capacity = { endpoint_rate = { requests = 10, burst = 1 }, queue = 9, queue_timeout = \"5s\" }";
    let stage = Stage::new(&text(&urls(&[&a]), settings));
    let begun = Instant::now();
    for _ in 0..4 {
        held(&stage).await;
    }
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_millis(290) && took < Duration::from_secs(3),
        "{took:?} for three refills"
    );
}

#[tokio::test]
async fn a_reload_lets_nobody_in_twice() {
    let a = quick().await;
    let mut stage = Stage::new(&text(
        &urls(&[&a]),
        "capacity = { concurrency = 2, endpoint_rate = { requests = 3, per = \"1h\", burst = 3 } }",
    ));
    let before = (stage.service().clone(), held(&stage).await, held(&stage).await);
    stage.reload(&text(
        &urls(&[&a]),
        "capacity = { concurrency = 3, endpoint_rate = { requests = 3, per = \"1h\", burst = 3 } }",
    ));
    let _third = held(&stage).await;
    refused(&stage).await;
    drop(before);
    assert_eq!(refused(&stage).await.kind, Kind::Overloaded, "there is room, but the rate is used up");
    stage.reload(&text(&urls(&[&a]), "capacity = 3"));
    held(&stage).await;
}

#[tokio::test]
async fn a_retry_gives_its_places_back_first() {
    let bad = Endpoint::start(|n| async move { if n == 0 { say(503, "no") } else { say(200, "yes") } }).await;
    let settings = "capacity = { concurrency = 1, endpoint_concurrency = 1 }\nretry = { attempts = 2, backoff = \"1ms\" }";
    let stage = Stage::new(&text(&urls(&[&bad]), settings));
    let (result, way) = stage.forward(&mut get()).await;
    assert_eq!((result.unwrap().status.as_u16(), way.attempts), (200, 2));
}

/// Clients come, wait, leave and give up at random: never are more inside than the service bears, and in the end nobody is
/// inside or in line.
#[tokio::test]
async fn nobody_is_lost_whatever_happens() {
    for seed in 0..5 {
        let mut random = fastrand::Rng::with_seed(seed);
        let a = Endpoint::start(|n| async move {
            tokio::time::sleep(Duration::from_millis(n as u64 % 7)).await;
            say(200, "yes")
        })
        .await;
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let settings = "capacity = { concurrency = 3, endpoint_rate = \"2000/s\", queue = 20, queue_timeout = \"40ms\" }";
        let stage = Stage::new(&text(&urls(&[&a]), settings));
        let plans: Vec<_> = (0..200)
            .map(|_| (random.u64(0..300), random.u64(0..10), random.u64(1..80)))
            .map(|(come, stay, give_up)| (come, stay, if give_up < 40 { give_up } else { 10_000 }))
            .collect();
        let one = async |(come, stay, give_up): (u64, u64, u64)| {
            tokio::time::sleep(Duration::from_millis(come)).await;
            let mut x = get();
            let asked = tokio::time::timeout(Duration::from_millis(give_up), stage.forward(&mut x)).await;
            if asked.is_ok_and(|(result, _)| result.is_ok()) {
                most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                tokio::time::sleep(Duration::from_millis(stay)).await;
                inside.fetch_sub(1, SeqCst);
            }
        };
        let all: Vec<_> = plans.into_iter().map(|plan| Box::pin(one(plan))).collect();
        together(all).await;
        let capacity = stage.service().policies.as_ref().unwrap().capacity.as_ref().unwrap();
        let level = capacity.level().unwrap();
        assert_eq!((level.in_flight, capacity.queued().0), (0, 0), "seed {seed}");
        assert!(most.load(SeqCst) <= 3, "seed {seed}: {}", most.load(SeqCst));
        assert!(a.count() > 50, "seed {seed}: {}", a.count());
        tokio::time::timeout(LONG, held(&stage)).await.expect("room again");
    }
}

/// Runs them all in this task.
async fn together<F: Future<Output = ()> + Unpin>(mut all: Vec<F>) {
    std::future::poll_fn(|cx| {
        all.retain_mut(|one| std::pin::Pin::new(one).poll(cx).is_pending());
        if all.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
