//! A real Redis in trouble, under load: killed and started again, frozen, full. Whatever `when_away` says, requests pass or
//! are refused with 429 and nothing else, nobody waits for long, the metrics tell, and it comes back by itself.

use std::time::Duration;

use portcullis_e2e::{Endpoint, Gateway, redis::Redis, wait::LONG, within};
use tokio::time::sleep;

use crate::rate_limits::{Load, away, limited, only_decisions, up};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Trouble {
    Killed,
    Frozen,
    Full,
}

impl Trouble {
    async fn begins(self, redis: &mut Redis) {
        match self {
            Trouble::Killed => redis.kill(),
            Trouble::Frozen => redis.freeze(true),
            Trouble::Full => {
                redis.say("CONFIG SET maxmemory-policy noeviction").await;
                redis.say("CONFIG SET maxmemory 1").await;
            }
        }
    }

    async fn ends(self, redis: &mut Redis) {
        match self {
            Trouble::Killed => redis.again().await,
            Trouble::Frozen => redis.freeze(false),
            Trouble::Full => drop(redis.say("CONFIG SET maxmemory 0").await),
        }
    }

    /// As the store's metrics call it.
    fn error(self) -> &'static str {
        match self {
            Trouble::Killed => "away",
            Trouble::Frozen => "timeout",
            Trouble::Full => "full",
        }
    }
}

/// Requests that passed and that were refused.
async fn decided(gateway: &Gateway) -> (f64, f64) {
    let page = gateway.metrics().await;
    let of = |result| page.sum("gateway_rate_limit_requests_total", &[("result", result)]);
    (of("passed"), of("limited"))
}

async fn store_decides(gateway: &Gateway) {
    within(LONG, "the store decides", || async {
        let before = away(gateway).await;
        let (_, limited) = decided(gateway).await;
        sleep(Duration::from_millis(300)).await;
        // Requests came, and none was decided without it.
        up(gateway).await > 0.5 && away(gateway).await <= before && decided(gateway).await.1 > limited
    })
    .await;
}

async fn through_all(when: &str, more: &str) {
    let (endpoint, mut redis) = (Endpoint::named("a").await, Redis::start().await);
    let limit =
        format!("requests_per_second = 40\nkey = \"all\"\nstore = \"main\"\nwhen_away = \"{when}\"\n{more}");
    let gateway = limited(&endpoint, &redis.url(), &limit).await;
    let load = Load::on(&[&gateway], 4);
    for trouble in [Trouble::Killed, Trouble::Frozen, Trouble::Full] {
        store_decides(&gateway).await;
        trouble.begins(&mut redis).await;
        let before = away(&gateway).await;
        within(LONG, "it is noticed", || async { away(&gateway).await > before + 20.0 }).await;
        let (passed, limited) = decided(&gateway).await;
        sleep(Duration::from_millis(700)).await;
        let (passed, limited) = {
            let now = decided(&gateway).await;
            (now.0 - passed, now.1 - limited)
        };
        match when {
            // Only what was on its way when the trouble began.
            "open" => assert!(passed > 0.0 && limited <= 4.0, "{trouble:?}: {passed} {limited}"),
            "closed" => assert!(passed <= 4.0 && limited > 0.0, "{trouble:?}: {passed} {limited}"),
            // 28 in 0.7 s.
            _ => assert!((5.0..=80.0).contains(&passed) && limited > 0.0, "{trouble:?}: {passed} {limited}"),
        }
        let page = gateway.metrics().await;
        let errors = page.sum("gateway_store_errors_total", &[("error", trouble.error())]);
        assert!(errors > 0.0, "{trouble:?}");
        trouble.ends(&mut redis).await;
    }
    store_decides(&gateway).await;
    let slowest = load.slowest();
    only_decisions(&load.end().await);
    // The store's timeout is 100 ms; the rest is for a machine that has much else to do.
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    for said in ["the store does not answer", "the store answers again", "the store refuses"] {
        gateway.says(said).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_in_trouble_and_gateways_that_count_by_themselves() {
    through_all("local", "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_in_trouble_and_gateways_that_let_all_pass() {
    through_all("open", "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_in_trouble_and_gateways_that_refuse_all() {
    through_all("closed", "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_in_trouble_and_gateways_that_take_ahead() {
    through_all("local", "allowance = { max_age = \"100ms\" }").await;
}
