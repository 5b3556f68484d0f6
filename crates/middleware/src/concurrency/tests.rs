use std::{sync::Arc, time::Duration};

use http::StatusCode;
use portcullis_core::{Answer, Decision, Exchange, Flow, Kind, Middleware, keep::Keep};
use serde_json::json;

use crate::testing::{build, problem, request, told, try_build_keeping};

/// A request that was let in, or why not.
async fn enter(limit: &Arc<dyn Middleware>) -> Result<Exchange, Kind> {
    let mut x = request("/");
    enter_as(limit, &mut x).await.map(|()| x)
}

async fn enter_as(limit: &Arc<dyn Middleware>, x: &mut Exchange) -> Result<(), Kind> {
    match limit.on_request(x) {
        Ok(Flow::Next) => Ok(()),
        Ok(Flow::Answer(_)) => panic!("an answer"),
        Ok(Flow::Wait(waiting)) => match waiting.await {
            Ok(Decision::Next) => Ok(()),
            Ok(Decision::Answer(_)) => panic!("an answer"),
            Err(error) => Err(error.kind),
        },
        Err(error) => {
            assert!(error.retry_after.is_some());
            Err(error.kind)
        }
    }
}

#[tokio::test(start_paused = true)]
async fn so_many_at_once_and_the_others_wait_their_time() {
    let limit = build("concurrency", json!({"max": 2, "queue": 1, "queue_timeout": "100ms"}));
    let (a, _b) = (enter(&limit).await.unwrap(), enter(&limit).await.unwrap());
    let begun = tokio::time::Instant::now();
    assert_eq!(enter(&limit).await.err(), Some(Kind::Overloaded));
    assert_eq!(begun.elapsed().as_millis(), 100);
    let waits = tokio::spawn({
        let limit = limit.clone();
        async move { enter(&limit).await.map(drop) }
    });
    tokio::task::yield_now().await;
    assert_eq!(enter(&limit).await.err(), Some(Kind::Overloaded), "the line is full");
    assert_eq!(begun.elapsed().as_millis(), 100, "at once");
    drop(a);
    assert_eq!(waits.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn each_key_has_a_number_of_its_own_and_is_told_that_it_is_its_own_doing() {
    let limit = build("concurrency", json!({"max": 1, "key": {"header": "X-Api-Key"}}));
    let of = |key: &str| {
        let mut x = request("/");
        x.request.fields.append("x-api-key", key);
        x
    };
    let (mut a, mut b, mut again) = (of("a"), of("b"), of("a"));
    assert_eq!(enter_as(&limit, &mut a).await, Ok(()));
    assert_eq!(enter_as(&limit, &mut b).await, Ok(()));
    assert_eq!(enter_as(&limit, &mut again).await, Err(Kind::RateLimited));
    drop(a);
    assert_eq!(enter_as(&limit, &mut again).await, Ok(()));
}

#[tokio::test]
async fn a_reload_forgets_nobody_who_is_inside() {
    let keep = Keep::default();
    let of = |max| try_build_keeping("concurrency", json!({"max": max}), &keep).unwrap();
    let before = of(1);
    let held = enter(&before).await.unwrap();
    let (after, more) = (of(1), of(2));
    drop(before);
    assert!(enter(&after).await.is_err());
    assert!(enter(&more).await.is_ok());
    drop(held);
    assert!(enter(&after).await.is_ok());
}

#[tokio::test]
async fn an_adaptive_number_follows_the_answers() {
    let settings = json!({"adaptive": {"min": 2, "max": 50, "initial": 4}});
    let limit = build("concurrency", settings);
    let fill = async || {
        let mut inside = Vec::new();
        while let Ok(x) = enter(&limit).await {
            inside.push(x);
        }
        inside
    };
    // First the usual time is measured.
    assert_eq!(fill().await.len(), 2);
    // Steady answers under pressure: it grows.
    let begun = std::time::Instant::now();
    while fill().await.len() < 6 {
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not grow");
        let inside = fill().await;
        tokio::time::sleep(Duration::from_millis(10)).await;
        for mut x in inside {
            told(&limit, &mut x, &mut endpoints());
        }
    }
    // What we answer ourselves says nothing.
    for mut x in fill().await {
        told(&limit, &mut x, &mut Answer::new(StatusCode::OK, "test"));
    }
}

fn endpoints() -> Answer {
    let mut answer = Answer::new(StatusCode::OK, "test");
    answer.source = portcullis_core::Source::Endpoint;
    answer
}

#[test]
fn settings_are_judged() {
    let path = |settings| problem("concurrency", settings).path;
    assert!(problem("concurrency", json!({})).message.contains("missing field `max`"));
    assert_eq!(path(json!({"max": 0})), "max");
    assert_eq!(path(json!({"max": 1, "adaptive": {}})), "max");
    assert_eq!(path(json!({"adaptive": {}, "key": "client"})), "key");
    assert_eq!(path(json!({"adaptive": {"min": 30}})), "adaptive");
    assert_eq!(path(json!({"max": 1, "queue": 1, "queue_timeout": "0"})), "queue_timeout");
    assert_eq!(path(json!({"max": 1, "key": {"header": "a b"}})), "key.header");
}
