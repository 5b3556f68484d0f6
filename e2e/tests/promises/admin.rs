//! The admin API: what runs, read-only but for `POST /reload`, and closed to pages of somebody else's.

use http::Request;
use portcullis_e2e::{
    Client, Endpoint, Gateway, Lineage, Reply, Setup,
    client::{empty, full},
    wait::LONG,
    within,
};
use serde_json::Value;

const TEXT: &str = r#"
[[routes]]
name = "users"
path = "/users/*"
middlewares = ["tag"]
service = "app"

[services.app]
endpoints = [{ url = "{a}", metadata = { zone = "east", password = "hunter2" } }, { url = "{b}", weight = 2 }]
strategy = "p2c"
health_check = { path = "/health", interval = "50ms", unhealthy_after = 1 }

[middlewares.tag.headers]
request.set.Authorization = "Bearer hunter2"
"#;

async fn start() -> (Gateway, [Endpoint; 2]) {
    let a = Endpoint::named("a").await;
    let b = Endpoint::with(|seen| {
        if seen.target == "/health" {
            portcullis_e2e::endpoint::text(500, "no")
        } else {
            portcullis_e2e::endpoint::named("b")
        }
    })
    .await;
    (Setup::new(TEXT).set("a", a.url()).set("b", b.url()).start().await, [a, b])
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let found = list
        .as_array()
        .expect("a list")
        .iter()
        .find(|item| item["name"].as_str().is_some_and(|n| n.starts_with(name)));
    found.unwrap_or_else(|| panic!("no {name} in {list:#}"))
}

/// Overview, listeners, routes, services with each endpoint's health, middlewares, findings.
#[tokio::test]
async fn what_runs_is_shown() {
    let (gateway, [a, b]) = start().await;
    within(LONG, "a to be in", || async { gateway.get("/users/1").await.status == 200 }).await;
    within(LONG, "b to be out", || async {
        let services = gateway.admin_get("/api/services").await.json();
        let endpoints = &named(&services["services"], "app")["endpoints"];
        endpoints[1]["url"] == b.url()
            && endpoints[1]["health"] == "unhealthy"
            && endpoints[0]["requests"].as_u64() > Some(0)
    })
    .await;
    let services = gateway.admin_get("/api/services").await.json();
    let app = named(&services["services"], "app");
    assert_eq!((app["strategy"].as_str(), app["state"].as_str()), (Some("p2c"), Some("degraded")));
    let first = &app["endpoints"][0];
    assert_eq!(
        (first["url"].as_str(), first["health"].as_str()),
        (Some(a.url().as_str()), Some("healthy")),
        "{first}"
    );
    assert_eq!(first["metadata"]["zone"], "east");
    assert!(first["connections"].is_u64() && first["latency_ms"].is_number(), "{first}");

    let overview = gateway.admin_get("/api/overview").await.json();
    assert_eq!(
        (overview["state"].as_str(), overview["generation"].as_u64()),
        (Some("ready"), Some(1)),
        "{overview}"
    );
    assert_eq!(overview["endpoints"]["available"], 1);
    let listeners = gateway.admin_get("/api/listeners").await.json();
    assert_eq!(named(&listeners["listeners"], "web")["address"], gateway.addr().to_string());
    let routes = gateway.admin_get("/api/routes").await.json();
    let users = named(&routes["routes"], "users");
    assert!(users["rule"].as_str().is_some_and(|rule| rule.contains("/users/")), "{users}");
    assert!(users["origin"]["line"].as_u64() > Some(1), "{users}");
    let middlewares = gateway.admin_get("/api/middlewares").await.json();
    assert_eq!(named(&middlewares["middlewares"], "tag")["kind"], "headers");
    let findings = gateway.admin_get("/api/findings").await.json();
    assert_eq!(findings["last_reload"]["ok"], true, "{findings}");
}

/// A refused reload is shown with its findings.
#[tokio::test]
async fn refused_reloads_are_shown() {
    let (mut gateway, _endpoints) = start().await;
    gateway.rewrite("[[routes]]\npath = \"/*\"\nservice = \"nowhere\"\n");
    let refused = gateway.admin_post("/reload").await;
    assert_eq!(refused.status, 422);
    let findings = gateway.admin_get("/api/findings").await.json();
    let last = &findings["last_reload"];
    assert_eq!(last["ok"], false, "{findings}");
    let finding = &last["findings"][0];
    assert_eq!(
        (finding["code"].as_str(), finding["path"].as_str()),
        (Some("unknown-service"), Some("routes[0].service"))
    );
    assert_eq!(gateway.admin_get("/api/overview").await.json()["generation"], 1);
}

/// Secrets of the configuration are not shown.
#[tokio::test]
async fn secrets_are_not_shown() {
    let (gateway, _endpoints) = start().await;
    for path in ["/api/overview", "/api/routes", "/api/services", "/api/middlewares", "/api/listeners"] {
        let text = gateway.admin_get(path).await.text();
        assert!(!text.contains("hunter2"), "{path}: {text}");
    }
}

/// Described by OpenAPI: every path there answers, and the index lists them.
#[tokio::test]
async fn it_is_described_by_openapi() {
    let (gateway, _endpoints) = start().await;
    let described = gateway.admin_get("/api/openapi.json").await.json();
    assert!(described["openapi"].as_str().is_some_and(|version| version.starts_with("3.")));
    let paths = described["paths"].as_object().expect("paths");
    assert!(paths.len() >= 10);
    // One of them puts another process in the gateway's place.
    let mut lineage = Lineage::default();
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().expect("methods") {
            let reply = match method.as_str() {
                "get" => gateway.admin_get(path).await,
                "post" => gateway.admin_post(path).await,
                other => panic!("{other} {path} is not read-only"),
            };
            if path == "/upgrade" {
                lineage.follow_reply(&reply);
            }
            // Whatever it says, not all being well or something missing in the question, is described.
            let responses = operation["responses"].as_object().expect("responses");
            let is_described = responses.contains_key(&reply.status.to_string());
            assert!(is_described, "{method} {path}: {} {}", reply.status, reply.text());
        }
    }
    let index = gateway.admin_get("/").await.text();
    assert!(paths.keys().all(|path| index.contains(path.as_str())), "{index}");
}

async fn ask(gateway: &Gateway, method: &str, path: &str, fields: &[(&str, &str)]) -> Reply {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let body = if method == "GET" { empty() } else { full("") };
    Client::h1(gateway.admin()).await.fetch(request.body(body).unwrap()).await
}

/// DNS rebinding and requests across sites are refused; other methods are 405, other paths 404.
#[tokio::test]
async fn it_is_closed_to_strangers() {
    let (gateway, _endpoints) = start().await;
    let [local, evil] = [format!("localhost:{}", gateway.admin().port()), "evil.example".to_owned()];
    assert_eq!(ask(&gateway, "GET", "/api/routes", &[("host", &local)]).await.status, 200);
    assert_eq!(ask(&gateway, "GET", "/api/routes", &[("host", &evil)]).await.status, 421);
    assert_eq!(ask(&gateway, "POST", "/reload", &[("host", &evil)]).await.status, 421);
    assert_eq!(ask(&gateway, "POST", "/reload", &[("origin", "https://evil.example")]).await.status, 403);
    assert_eq!(ask(&gateway, "POST", "/reload", &[("sec-fetch-site", "cross-site")]).await.status, 403);
    assert_eq!(
        ask(&gateway, "GET", "/ready", &[("host", "10-0-0-1.pod.cluster.local")]).await.status,
        200,
        "a probe"
    );
    let wrong = ask(&gateway, "DELETE", "/api/routes", &[]).await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, "GET, HEAD"));
    assert_eq!(ask(&gateway, "GET", "/reload", &[]).await.status, 405);
    assert_eq!(ask(&gateway, "GET", "/nothing", &[]).await.status, 404);
}

/// It can be switched off, and may be anywhere.
#[tokio::test]
async fn it_can_be_switched_off() {
    let text = "admin = false\n[listeners.web]\naddress = \"127.0.0.1:{port}\"\n[[routes]]\npath = \"/*\"\nservice = \"@health\"\n";
    let gateway = Setup::whole("gateway.toml", text).without_waiting().start().await;
    let addr = gateway.addr();
    within(LONG, "it to listen", || async { Client::try_h1(addr).await.is_ok() }).await;
    assert_eq!(gateway.get("/").await.text(), "Gateway is healthy");
    assert!(!gateway.stderr().contains("9090"), "{}", gateway.stderr());
}

/// Latency and failures of endpoints are shown whatever the strategy; what passive health counts is a failure.
#[tokio::test]
async fn latency_and_failures_with_every_strategy() {
    for strategy in ["round_robin", "least_connections", "random", "p2c", "ip_hash"] {
        let failing = Endpoint::with(|_| portcullis_e2e::endpoint::text(503, "no")).await;
        let extra =
            format!("strategy = \"{strategy}\"\npassive_health = {{ failures = 100, statuses = [\"503\"] }}");
        let gateway = Setup::new(&crate::one(&extra)).set("app", failing.url()).start().await;
        let endpoint = || async {
            let services = gateway.admin_get("/api/services").await.json();
            named(&services["services"], "app")["endpoints"][0].clone()
        };
        assert!(endpoint().await["latency_ms"].is_null());
        for _ in 0..3 {
            assert_eq!(gateway.get("/").await.status, 503);
        }
        let seen = endpoint().await;
        assert!(seen["latency_ms"].as_f64().is_some_and(|millis| millis > 0.0), "{strategy}: {seen}");
        assert_eq!(
            (seen["requests"].as_u64(), seen["failures"].as_u64()),
            (Some(3), Some(3)),
            "{strategy}: {seen}"
        );
    }
}
