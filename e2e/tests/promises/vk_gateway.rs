//! The seed's gateway, from its variables (`examples/vk-gateway`): VK2, VK3, VK5 to VK8, as far as its settings go without
//! PostgreSQL, with a real Redis.

use std::path::PathBuf;

use http::{Request, Response};
use portcullis_e2e::{
    Client, Endpoint, Gateway, Setup,
    client::{Reply, empty, full},
    gateway,
    redis::Redis,
    wait::{LONG, within},
};

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/vk-gateway/gateway.toml")
}

/// The file itself; its settings come by the environment, as everywhere it runs. Only the listener is put onto the
/// loopback.
async fn start(one: &Endpoint, two: &Endpoint, redis: &Redis) -> Gateway {
    start_by("round-robin", one, two, redis).await
}

async fn start_by(strategy: &str, one: &Endpoint, two: &Endpoint, redis: &Redis) -> Gateway {
    let text = std::fs::read_to_string(file()).unwrap();
    let text = text.replace("0.0.0.0:", "127.0.0.1:").replace("${PORT:-3000}", "{port}");
    let text = format!("{text}\n[admin]\naddress = \"127.0.0.1:{{admin}}\"\n");
    let gateway = Setup::whole("gateway.toml", &text)
        .env("BACKEND_1_ID", "one")
        .env("BACKEND_1_URL", &one.url())
        .env("BACKEND_2_ID", "two")
        .env("BACKEND_2_URL", &two.url())
        .env("REDIS_URL", &redis.url())
        .env("VK_SECRET", "s3cret")
        .env("LOAD_BALANCER_STRATEGY", strategy)
        .env("HEALTH_CHECK_INTERVAL", "1")
        .start()
        .await;
    within(LONG, "the store", || async { gateway.metrics().await.sum("gateway_store_up", &[]) >= 1.0 }).await;
    within(LONG, "both backends", || async { gateway.get("/stats").await.json()["healthy_backends"] == 2 })
        .await;
    gateway
}

/// Says which it is, who asks and what for; probes need the secret.
async fn backend(name: &'static str) -> Endpoint {
    Endpoint::with(move |seen| {
        if seen.target.starts_with("/api/v1/health") {
            let status = if seen.header("x-kv-secret") == "s3cret" { 200 } else { 403 };
            return Response::builder().status(status).body(empty()).unwrap();
        }
        let body = format!("{name} {} {}", seen.header("authorization"), seen.target);
        Response::builder().header("Cache-Control", "max-age=60").body(full(body)).unwrap()
    })
    .await
}

async fn ask(gateway: &Gateway, path: &str, token: &str) -> Reply {
    let request = Request::get(path).header("host", "vk.example").header("authorization", token);
    Client::h1(gateway.addr()).await.fetch(request.body(empty()).unwrap()).await
}

#[tokio::test]
async fn it_checks_without_a_finding() {
    let dir = tempfile::tempdir().unwrap();
    let output = gateway::run(dir.path(), &["check", "-c", file().to_str().unwrap()]);
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{said}");
}

/// VK5: what one gateway fetched, the other has from Redis; each user his own.
#[tokio::test]
async fn its_cache_is_in_redis() {
    let (one, two, redis) = (backend("one").await, backend("two").await, Redis::start().await);
    let (first, second) = (start(&one, &two, &redis).await, start(&one, &two, &redis).await);
    let fetched = ask(&first, "/api/v1/files", "ana").await;
    assert_eq!(fetched.header("x-cache"), "MISS");
    let again = ask(&first, "/api/v1/files", "ana").await;
    assert_eq!((again.header("x-cache"), again.text()), ("HIT", fetched.text()));
    // It is put into the store behind the answer: the other gateway may ask a moment too early, and then asks for what
    // it does not have yet.
    within(LONG, "the other gateway has it from Redis", || async {
        let path = "/api/v1/files";
        let reply = ask(&second, path, "ana").await;
        assert!(reply.text().ends_with("ana /api/v1/files"));
        reply.header("cache-status").contains("detail=store") || reply.header("x-cache") == "HIT"
    })
    .await;
    let other = ask(&second, "/api/v1/files", "eva").await;
    assert!(other.text().ends_with("eva /api/v1/files") && other.header("x-cache") == "MISS");
}

/// Without Redis it answers as before, and keeps its own.
#[tokio::test]
async fn without_redis_it_answers_all_the_same() {
    let (one, two, mut redis) = (backend("one").await, backend("two").await, Redis::start().await);
    let gateway = start(&one, &two, &redis).await;
    redis.kill();
    let first = ask(&gateway, "/api/v1/files", "ana").await;
    assert_eq!((first.status, first.header("x-cache")), (200, "MISS"));
    let second = ask(&gateway, "/api/v1/files", "ana").await;
    assert_eq!((second.text(), second.header("x-cache")), (first.text(), "HIT"));
}

/// VK2: the variable chooses between turns and weights by the backend's provider.
#[tokio::test]
async fn its_strategies() {
    let (one, two, redis) = (backend("one").await, backend("two").await, Redis::start().await);
    for (strategy, name, share) in
        [("round-robin", "RoundRobin", 20), ("weighted-round-robin", "WeightedRoundRobin", 30)]
    {
        let gateway = start_by(strategy, &one, &two, &redis).await;
        assert_eq!(gateway.get("/stats").await.json()["load_balancer"], name);
        let mut first = 0;
        for number in 0..40 {
            let text = ask(&gateway, &format!("/api/v1/{strategy}/{number}"), "ana").await.text();
            first += usize::from(text.starts_with("one "));
        }
        assert!(first.abs_diff(share) <= 1, "{strategy}: {first} of 40 to the first");
    }
}

/// VK6, VK7 and VK8; and in turn (VK2).
#[tokio::test]
async fn its_paths() {
    let (one, two, redis) = (backend("one").await, backend("two").await, Redis::start().await);
    let gateway = start(&one, &two, &redis).await;
    assert_eq!(gateway.get("/health").await.text(), "Gateway is healthy");
    let stats = gateway.get("/stats").await.json();
    assert_eq!((&stats["total_backends"], &stats["backends"][0]["server_id"]), (&2.into(), &"one".into()));
    for (id, name) in [("one", "one"), ("two", "two"), ("two", "two")] {
        let reply = ask(&gateway, &format!("/backend/{id}/api/v1/users"), "ana").await;
        assert_eq!(reply.text(), format!("{name} ana /api/v1/users"));
        assert_eq!(reply.header("cache-status"), "", "past the cache");
    }
    let mut seen = std::collections::BTreeSet::new();
    for number in 0..8 {
        let text = ask(&gateway, &format!("/api/v1/{number}"), "ana").await.text();
        seen.insert(text.split(' ').next().unwrap_or_default().to_owned());
    }
    assert_eq!(seen.len(), 2, "both take part");
}
