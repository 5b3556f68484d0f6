//! Built-in services as routes (VK6, VK7, AVX7): `@health`, `@healthz`, `@ready`, `@stats`, `@info`, `@echo`, `@metrics`.

use portcullis_e2e::{Client, Endpoint, Setup, wait::LONG, within};

const TEXT: &str = r#"
[[routes]]
path = "/health"
service = "@health"

[[routes]]
path = "/healthz"
service = "@healthz"

[[routes]]
path = "/ready"
service = "@ready"

[[routes]]
path = "/stats"
service = "@stats"

[[routes]]
path = "/info"
service = "@info"

[[routes]]
path = "/echo/{word}"
service = "@echo"

[[routes]]
name = "app"
path = "/*"
service = "app"

[services.app]
endpoints = [
    { url = "{a}", metadata = { server_id = "backend-1-uuid", server_name = "Backend Supabase 1", provider = "supabase" } },
    { url = "{b}", metadata = { server_id = "backend-2-uuid", server_name = "Backend GDrive 2", provider = "gdrive" } },
]
health_check = { path = "/api/v1/health", interval = "40ms", unhealthy_after = 2 }
"#;

/// `GET /health` answers the text of seed 000; all out, it says so; `/healthz` and `/ready` are about the gateway alone.
#[tokio::test]
async fn health() {
    let [mut a, mut b] = [Endpoint::named("a").await, Endpoint::named("b").await];
    let gateway = Setup::new(TEXT).set("a", a.url()).set("b", b.url()).start().await;
    within(LONG, "it to be healthy", || async { gateway.get("/health").await.status == 200 }).await;
    assert_eq!(gateway.get("/health").await.text(), "Gateway is healthy");
    for path in ["/healthz", "/ready"] {
        assert_eq!(gateway.get(path).await.status, 200, "{path}");
    }
    a.stop().await;
    b.stop().await;
    within(LONG, "it to be unhealthy", || async { gateway.get("/health").await.status == 503 }).await;
    for path in ["/healthz", "/ready"] {
        assert_eq!(gateway.get(path).await.status, 200, "{path}: the gateway itself is well");
    }
}

/// `GET /stats` answers the seed's JSON, with the right numbers.
#[tokio::test]
async fn stats() {
    let a = Endpoint::named("a").await;
    let mut b = Endpoint::named("b").await;
    let gateway = Setup::new(TEXT).set("a", a.url()).set("b", b.url()).start().await;
    within(LONG, "both to be in", || async { gateway.get("/stats").await.json()["healthy_backends"] == 2 })
        .await;
    b.stop().await;
    within(LONG, "b to be out", || async { gateway.get("/stats").await.json()["healthy_backends"] == 1 })
        .await;
    let stats = gateway.get("/stats").await.json();
    assert_eq!(
        (stats["load_balancer"].as_str(), stats["total_backends"].as_u64()),
        (Some("RoundRobin"), Some(2))
    );
    let backends = stats["backends"].as_array().unwrap();
    let of = |id: &str| backends.iter().find(|backend| backend["server_id"] == id).unwrap();
    let one = of("backend-1-uuid");
    assert_eq!(one["server_name"], "Backend Supabase 1");
    assert_eq!(
        (one["server_url"].as_str(), one["provider"].as_str()),
        (Some(a.url().as_str()), Some("supabase"))
    );
    assert_eq!((one["is_healthy"].as_bool(), one["consecutive_failures"].as_u64()), (Some(true), Some(0)));
    let two = of("backend-2-uuid");
    assert_eq!(two["is_healthy"], false);
    assert!(two["consecutive_failures"].as_u64() >= Some(2), "{two}");
    assert_eq!(two.as_object().unwrap().len(), 6, "the seed's fields and no others: {two}");
}

/// `@echo` shows what arrived, without secrets; `@info` says who answers.
#[tokio::test]
async fn echo_and_info() {
    let a = Endpoint::named("a").await;
    let gateway = Setup::new(TEXT).set("a", a.url()).set("b", a.url()).start().await;
    let request =
        http::Request::get("/echo/hello?x=1").header("authorization", "Bearer secret").header("x-mine", "1");
    let reply = gateway.send(request.body(portcullis_e2e::client::empty()).unwrap()).await;
    let seen = reply.json();
    assert_eq!(
        (seen["method"].as_str(), seen["path"].as_str(), seen["query"].as_str()),
        (Some("GET"), Some("/echo/hello"), Some("x=1"))
    );
    assert_eq!(
        (seen["parameters"]["word"].as_str(), seen["client"].as_str()),
        (Some("hello"), Some("127.0.0.1"))
    );
    assert_eq!(seen["headers"]["x-mine"][0], "1");
    assert!(!reply.text().contains("secret"));
    let info = gateway.get("/info").await.json();
    assert_eq!(info["service"], "portcullis");
    assert!(info["version"].is_string());
}

/// They answer HEAD and HTTP/2 as any service does, and middlewares stand before them.
#[tokio::test]
async fn they_are_services_like_others() {
    let text = r#"
[[routes]]
path = "/health"
service = "@health"
middlewares = [{ ip_deny = { ranges = ["127.0.0.1"] } }]

[[routes]]
path = "/metrics"
service = "@metrics"
"#;
    let gateway = Setup::new(text).start().await;
    assert_eq!(gateway.get("/health").await.status, 403);
    let mut client = Client::h2(gateway.addr()).await;
    assert_eq!(client.get("/metrics").await.status, 200);
    let head =
        client.fetch(http::Request::head("/metrics").body(portcullis_e2e::client::empty()).unwrap()).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
}
