//! The cache's shared store: a real redis-server between two gateways, killed and started again under them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use http::{Request, Response};
use portcullis_e2e::{
    Client, Endpoint, Gateway, Setup,
    client::{empty, full},
    redis::Redis,
    wait::{LONG, within},
};

/// Behind memory, a store that gateways share.
fn shared() -> String {
    crate::CACHED.to_owned()
        + r#"
[cache]
store = "main"

[stores.main.redis]
url = "{redis}"
"#
}

/// A gateway that has found its store.
async fn gateway(app: &Endpoint, redis: &Redis) -> Gateway {
    gateway_of(&shared(), app, redis).await
}

async fn gateway_of(text: &str, app: &Endpoint, redis: &Redis) -> Gateway {
    let gateway = Setup::new(text).set("app", app.url()).set("redis", redis.url()).start().await;
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

/// What is purged or changed at one gateway while another fetches it is put back neither for all nor for himself when it
/// comes; what is asked for afterwards is kept.
#[tokio::test]
async fn a_purge_reaches_what_others_are_fetching() {
    let redis = Redis::start().await;
    let (gate, opened) = tokio::sync::watch::channel(true);
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    let app = Endpoint::start(move |request| {
        let (mut opened, number) = (opened.clone(), count.fetch_add(1, SeqCst) + 1);
        async move {
            let reply = Response::builder().header("Cache-Control", "max-age=600").header("Cache-Tag", "all");
            if request.method() != "POST" {
                opened.wait_for(|open| *open).await.unwrap();
            }
            Ok(reply.body(full(format!("answer {number}"))).unwrap())
        }
    })
    .await;
    let (one, two) = (gateway(&app, &redis).await, gateway(&app, &redis).await);
    let ways = ["tag=all", "url=http://shop.example/url", "prefix=http://shop.example/pre", "all=true", ""];
    for (path, way) in ["/tag", "/url", "/prefix", "/all", "/change"].into_iter().zip(ways) {
        gate.send_replace(false);
        let before = asked.load(SeqCst);
        let change = async {
            within(LONG, "the service to be asked", || async { asked.load(SeqCst) > before }).await;
            if way.is_empty() {
                let post = Request::post(path).header("host", "shop.example").body(full("x")).unwrap();
                assert_eq!(one.send(post).await.status, 200);
            } else {
                assert_eq!(one.admin_post(&format!("/api/cache/purge?{way}")).await.status, 200);
            }
            gate.send_replace(true);
        };
        let (old, ()) = tokio::join!(get(&two, path), change);
        // He is told when he puts it into the store, behind the answer.
        within(LONG, "the other to know", || async { get(&two, path).await.text() != old.text() }).await;
        assert_ne!(get(&one, path).await.text(), old.text(), "{way}");
        let (again, after) = (get(&two, path).await, get(&two, path).await);
        assert!(again.text() == after.text() && after.header("cache-status").contains("hit"), "{way}");
    }
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

/// The same where the answer does not say that it may be used, but the configuration does (`fallback.stale`): whole, a part
/// of it, or only its head, also where nobody asked for it here before.
#[tokio::test]
async fn what_others_fetched_is_a_fallback() {
    let redis = Redis::start().await;
    let app = Endpoint::with(move |_| {
        let reply = Response::builder().header("Cache-Control", "max-age=1, must-revalidate");
        reply.body(full("good")).unwrap()
    })
    .await;
    let text = shared().replace("cache = true", "cache = true\nfallback = { stale = \"1h\" }");
    let (one, two) = (gateway_of(&text, &app, &redis).await, gateway_of(&text, &app, &redis).await);
    for path in ["/whole", "/part", "/head"] {
        assert_eq!(get(&one, path).await.text(), "good");
    }
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    drop(app);
    let ask = async |method: &str, path: &str, range: &str| {
        let request = Request::builder().method(method).uri(path).header("host", "shop.example");
        let mut request = request.header("accept-encoding", "gzip");
        if !range.is_empty() {
            request = request.header("range", range);
        }
        let reply = Client::h1(two.addr()).await.fetch(request.body(empty()).unwrap()).await;
        assert!(reply.header("cache-status").contains("detail=stale-if-error"), "{path} {:?}", reply.headers);
        (reply.status, reply.text())
    };
    assert_eq!(ask("GET", "/part", "bytes=1-2").await, (206, "oo".into()));
    assert_eq!(ask("HEAD", "/head", "").await, (200, String::new()));
    for _ in 0..2 {
        assert_eq!(ask("GET", "/whole", "").await, (200, "good".into()));
    }
    assert_eq!(get(&two, "/other").await.status, 502);
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
