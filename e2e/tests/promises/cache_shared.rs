//! The cache's shared store: a real redis-server between two gateways, killed and started again under them.

use std::time::{Duration, Instant};

use http::{Request, Response};
use portcullis_e2e::{
    Client, Endpoint, Gateway, Setup,
    client::{empty, full},
    redis::Redis,
    wait::{LONG, within},
};

const SHARED: &str = r#"
[[routes]]
path = "/*"
service = "app"

[services.app]
endpoints = ["{app}"]
cache = true

[cache]
store = "main"

[stores.main.redis]
url = "{redis}"
"#;

/// A gateway that has found its store.
async fn gateway(app: &Endpoint, redis: &Redis) -> Gateway {
    let gateway = Setup::new(SHARED).set("app", app.url()).set("redis", redis.url()).start().await;
    within(LONG, "the store", || async { gateway.metrics().await.sum("gateway_store_up", &[]) >= 1.0 }).await;
    gateway
}

/// All ask for one host, as they would behind a balancer.
async fn get(gateway: &Gateway, path: &str) -> portcullis_e2e::Reply {
    let request = Request::get(path).header("host", "shop.example").header("accept-encoding", "gzip");
    Client::h1(gateway.addr()).await.fetch(request.body(empty()).unwrap()).await
}

async fn counting(vary: bool) -> Endpoint {
    let count = std::sync::atomic::AtomicU32::new(0);
    Endpoint::with(move |seen| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
        let mut reply = Response::builder().header("Cache-Control", "max-age=600").header("Cache-Tag", "all");
        if vary {
            reply = reply.header("Vary", "Accept-Encoding");
        }
        let filling =
            if seen.target.starts_with("/large") { "x\0\u{e9}".repeat(50_000) } else { String::new() };
        reply.body(full(format!("answer {number}{filling}"))).unwrap()
    })
    .await
}

/// What one has fetched, the other need not; what is large comes back as it was, byte by byte.
#[tokio::test]
async fn gateways_share_what_they_fetched() {
    let redis = Redis::start().await;
    let app = counting(true).await;
    let (one, two) = (gateway(&app, &redis).await, gateway(&app, &redis).await);
    for (path, count) in [("/a", 1), ("/large", 2)] {
        let first = get(&one, path).await;
        // It is put into the store behind the answer.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let other = get(&two, path).await;
        assert!(other.body == first.body, "another answer, or a damaged one");
        assert!(other.header("cache-status").contains("detail=store"), "{:?}", other.headers);
        assert_eq!(app.count(), count);
    }
    // A change by one takes it away from the store for all.
    let post = Request::post("/a").header("host", "shop.example").body(full("x")).unwrap();
    one.send(post).await;
    let before = app.count();
    get(&one, "/a").await;
    assert_eq!(app.count(), before + 1, "not from the store either");
    assert_eq!(one.admin_post("/api/cache/purge?tag=all").await.status, 200);
    let before = app.count();
    get(&one, "/large").await;
    assert_eq!(app.count(), before + 1, "purged from the store too");
}

/// What another gateway fetched is stale, and the service fails: it is better than nothing here too.
#[tokio::test]
async fn what_others_fetched_is_used_in_need() {
    let redis = Redis::start().await;
    let fields = "max-age=1, stale-if-error=600";
    let app = Endpoint::with(move |_| {
        Response::builder().header("Cache-Control", fields).body(full("good")).unwrap()
    })
    .await;
    let (one, two) = (gateway(&app, &redis).await, gateway(&app, &redis).await);
    assert_eq!(get(&one, "/a").await.text(), "good");
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    drop(app);
    for _ in 0..2 {
        let reply = get(&two, "/a").await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "good"));
        assert!(reply.header("cache-status").contains("detail=stale-if-error"), "{:?}", reply.headers);
    }
    assert_eq!(get(&two, "/b").await.status, 502);
}

/// The store goes away and comes back: misses and a count, never an error.
#[tokio::test]
async fn a_store_that_fails_is_a_miss() {
    let mut redis = Redis::start().await;
    let app = counting(false).await;
    let gateway = gateway(&app, &redis).await;
    assert_eq!(get(&gateway, "/a").await.status, 200);
    redis.kill();
    for number in 0..20 {
        let (begun, reply) = (Instant::now(), get(&gateway, &format!("/b{number}")).await);
        assert_eq!(reply.status, 200);
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    }
    let page = gateway.metrics().await;
    assert!(page.sum("gateway_cache_store_requests_total", &[("result", "failure")]) > 0.0);
    redis.again().await;
    assert_eq!(get(&gateway, "/c").await.status, 200);
}
