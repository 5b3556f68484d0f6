//! Limits that take ahead from Redis: together the gateways keep them all the same, and ask seldom.

use std::time::{Duration, Instant};

use portcullis_e2e::{Endpoint, Gateway, redis::Redis, wait::LONG, within};

use crate::rate_limits::{self, Load, under_load};

async fn two(endpoint: &Endpoint, redis: &Redis, limit: &str) -> [Gateway; 2] {
    let gateways = rate_limits::two(endpoint, &redis.url(), limit).await;
    for gateway in &gateways {
        within(LONG, "it counts", || async {
            gateway.metrics().await.sum("gateway_store_up", &[("store", "main")]) > 0.5
        })
        .await;
    }
    gateways
}

async fn asked(redis: &Redis) -> u64 {
    redis.calls("evalsha").await + redis.calls("eval").await
}

/// Under more than the limit bears: not one request too many passes, hardly one too few, and Redis is asked for a small
/// part of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_that_take_ahead_keep_the_limit_and_seldom_ask() {
    let (endpoint, redis) = (Endpoint::named("a").await, Redis::start().await);
    let limit = "requests_per_second = 300\nkey = \"all\"\nstore = \"main\"\nallowance = {}";
    let gateways = two(&endpoint, &redis, limit).await;
    let statuses = under_load(&gateways, (300.0, 300.0), 1.0).await;
    let (asked, requests) = (asked(&redis).await, statuses.values().sum::<usize>() as f64);
    assert!(asked as f64 * 4.0 < requests, "asked {asked} times for {requests} requests");
    let mut decided = 0.0;
    for gateway in &gateways {
        let page = gateway.metrics().await;
        decided += page.sum("gateway_rate_limit_allowance_requests_total", &[("store", "main")]);
        assert_eq!(page.sum("gateway_rate_limit_store_away_total", &[]), 0.0);
    }
    assert!(decided >= requests * 0.75 && decided < requests, "{decided} of {requests}");
}

/// Below the limit nobody is refused, and the more is asked for, the more is taken at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn below_the_limit_nobody_is_refused() {
    let (endpoint, redis) = (Endpoint::named("a").await, Redis::start().await);
    let limit = "limits = [{ requests = 1_000_000, per = \"month\" }, { requests = 1_000_000, per = \"10s\" }]\nstore = \"main\"\nallowance = {}";
    let gateways = two(&endpoint, &redis, limit).await;
    let before = asked(&redis).await;
    let load = Load::on(&[&gateways[0], &gateways[1]], 8);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let statuses = load.end().await;
    let (asked, passed) = (asked(&redis).await - before, statuses[&200]);
    assert_eq!(statuses.len(), 1, "{statuses:?}");
    assert!(asked as usize * 5 < passed, "asked {asked} times for {passed} requests");
}

/// What one gateway holds and does not use, the other gets; and a quota is used up to the last, and not beyond.
#[tokio::test]
async fn what_is_not_used_of_a_quota_is_given_back() {
    let (endpoint, redis) = (Endpoint::named("a").await, Redis::start().await);
    let limit = "limits = [{ requests = 100, per = \"month\" }]\nkey = \"all\"\nstore = \"main\"\nallowance = { share = 0.2, max_age = \"300ms\" }";
    let gateways = two(&endpoint, &redis, limit).await;
    let mut passed = 0;
    // The first asks much at once and then rarely, so that it holds more than it needs.
    for _ in 0..40 {
        passed += u32::from(gateways[0].get("/").await.status == 200);
    }
    assert_eq!(passed, 40);
    let begun = Instant::now();
    while passed < 100 {
        assert!(begun.elapsed() < LONG, "only {passed} passed");
        for gateway in [&gateways[1], &gateways[1], &gateways[0]] {
            let reply = gateway.get("/").await;
            passed += u32::from(reply.status == 200);
            assert!(reply.header("ratelimit").starts_with("\"month\";r="), "{}", reply.header("ratelimit"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        for gateway in &gateways {
            let reply = gateway.get("/").await;
            assert_eq!(reply.status, 429);
            assert!(
                reply.header("ratelimit").starts_with("\"month\";r=0;t="),
                "{}",
                reply.header("ratelimit")
            );
        }
    }
    assert_eq!(passed, 100);
}

/// A gateway that is gone takes along what it held, and no more.
#[tokio::test]
async fn a_gateway_that_dies_takes_little_along() {
    let (endpoint, redis) = (Endpoint::named("a").await, Redis::start().await);
    let limit = "limits = [{ requests = 100, per = \"month\" }]\nkey = \"all\"\nstore = \"main\"\nallowance = { share = 0.1 }";
    let [one, two] = two(&endpoint, &redis, limit).await;
    let mut passed = 0;
    for _ in 0..30 {
        passed += u32::from(one.get("/").await.status == 200);
    }
    drop(one);
    for _ in 0..100 {
        passed += u32::from(two.get("/").await.status == 200);
    }
    assert!((90..=100).contains(&passed), "{passed}");
}
