//! The seed's gateway, from its variables (`examples/mi-mascota`): PET1 to PET6 and PET8, with a real Redis and a real
//! Prometheus.

use std::{path::PathBuf, process::Command};

use http::{Request, Response};
use portcullis_e2e::{
    Client, Endpoint, Gateway, Peer, Setup,
    client::{Reply, empty, full},
    gateway,
    redis::Redis,
    token,
    wait::{LONG, within},
};
use serde_json::{Value, json};

/// As in `.env.example`.
const SECRET: &str = "change-me-in-dev";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/mi-mascota")
}

fn text(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap()
}

/// The file itself; its settings come by the environment, as everywhere it runs. Only the listener is put onto the
/// loopback.
async fn start(auth: &Endpoint, redis: &Redis, breaker_seconds: u32) -> Gateway {
    let file =
        text("gateway.toml").replace("0.0.0.0:", "127.0.0.1:").replace("${GATEWAY_PORT:-8080}", "{port}");
    let file = format!("{file}\n[admin]\naddress = \"127.0.0.1:{{admin}}\"\n");
    Setup::whole("gateway.toml", &file)
        .env("AUTH_SERVICE_URL", &auth.url())
        .env("REDIS_URL", &redis.url())
        .env("JWT_SECRET", SECRET)
        .env("JWT_ISSUER", "mimascota.auth")
        .env("JWT_AUDIENCE", "mimascota.front")
        .env("CORS_ORIGINS", "http://localhost:3000,http://localhost:5173")
        .env("CIRCUIT_BREAKER_FAILURE_THRESHOLD", "5")
        .env("CIRCUIT_BREAKER_TIMEOUT_SECONDS", &breaker_seconds.to_string())
        .env("CIRCUIT_BREAKER_SUCCESS_THRESHOLD", "2")
        .env("CACHE_DEFAULT_TTL", "60")
        .start()
        .await
}

/// Says who asks, and how often it was asked.
async fn auth_service() -> Endpoint {
    Endpoint::with(|seen| {
        let status = if seen.target.contains("broken") { 500 } else { 200 };
        let body = format!("{} {}", seen.header("authorization"), seen.target);
        Response::builder().status(status).header("content-type", "text/plain").body(full(body)).unwrap()
    })
    .await
}

/// A token as the service signs it, never the same twice.
fn token(user: &str) -> String {
    let id = fastrand::u64(..);
    let claims =
        json!({ "iss": "mimascota.auth", "aud": "mimascota.front", "sub": user, "jti": id.to_string() });
    token::hs256(SECRET, claims)
}

async fn ask(gateway: &Gateway, method: &str, path: &str, user: &str) -> Reply {
    ask_with(gateway, method, path, &token(user)).await
}

async fn ask_with(gateway: &Gateway, method: &str, path: &str, token: &str) -> Reply {
    let request = Request::builder().method(method).uri(path).header("host", "api.mimascota.example");
    let request = request.header("authorization", format!("Bearer {token}"));
    gateway.send(request.body(empty()).unwrap()).await
}

#[tokio::test]
async fn it_checks_without_a_finding() {
    let dir = tempfile::tempdir().unwrap();
    let file = folder().join("gateway.toml");
    let check = || {
        let mut command = gateway::command(dir.path());
        command.args(["check", "-c", file.to_str().unwrap()]).env_remove("JWT_SECRET");
        command
    };
    let output = check().env("JWT_SECRET", SECRET).output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{said}");
    // Nobody is let in by a secret that everybody knows.
    let output = check().output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("JWT_SECRET"), "{output:?}");
}

/// PET5, and what operators ask.
#[tokio::test]
async fn what_it_says_of_itself() {
    let (auth, redis) = (auth_service().await, Redis::start().await);
    let gateway = start(&auth, &redis, 60).await;
    let about: Value = serde_json::from_str(&gateway.get("/").await.text()).unwrap();
    let expected = json!({
        "service": "API Gateway - Mi Mascota", "version": "1.0.0", "docs": "/docs", "health": "/health",
        "metrics": "/metrics", "circuit_breakers": "/circuit-breakers",
    });
    assert_eq!(about, expected);
    for path in ["/health", "/ready", "/metrics"] {
        assert_eq!(gateway.get(path).await.status, 200, "{path}");
    }
    let breakers: Value = serde_json::from_str(&gateway.get("/circuit-breakers").await.text()).unwrap();
    let closed = json!({
        "service": "auth-svc", "state": "closed", "failure_count": 0, "success_count": 0, "opened_at": null,
    });
    assert_eq!(breakers, json!({ "circuit_breakers": { "auth-svc": closed } }));
    let request = Request::get("/api/v1/auth/me").header("origin", "http://localhost:5173");
    let reply = gateway.send(request.body(empty()).unwrap()).await;
    assert_eq!(reply.header("access-control-allow-origin"), "http://localhost:5173");
}

/// PET1, PET2: five failures open it, then nobody is asked; after a time two that succeed close it.
#[tokio::test]
async fn the_breaker_opens_and_closes() {
    let (auth, redis) = (auth_service().await, Redis::start().await);
    let gateway = start(&auth, &redis, 1).await;
    for _ in 0..5 {
        assert_eq!(ask(&gateway, "POST", "/api/v1/auth/broken", "a").await.status, 500);
    }
    let asked = auth.count();
    let refused = ask(&gateway, "POST", "/api/v1/auth/login", "a").await;
    assert_eq!((refused.status, auth.count()), (503, asked));
    assert!(!refused.header("retry-after").is_empty());
    let state = || async {
        let page: Value = serde_json::from_str(&gateway.get("/circuit-breakers").await.text()).unwrap();
        page["circuit_breakers"]["auth-svc"].clone()
    };
    let open = state().await;
    assert_eq!(open["state"], "open", "{open}");
    assert!(!open["opened_at"].is_null(), "{open}");
    assert_eq!(
        gateway.metrics().await.sum("gateway_circuit_breaker_state", &[("service", "auth-svc@file")]),
        1.0
    );
    within(LONG, "a trial", || async {
        ask(&gateway, "POST", "/api/v1/auth/login", "a").await.status == 200
    })
    .await;
    within(LONG, "the breaker to close", || async {
        ask(&gateway, "POST", "/api/v1/auth/login", "a").await;
        state().await["state"] == "closed"
    })
    .await;
}

/// PET7: the gateway checks tokens, and pages of the origins that may can read that it refused one.
#[tokio::test]
async fn only_those_who_are_signed_in() {
    let (auth, redis) = (auth_service().await, Redis::start().await);
    let gateway = start(&auth, &redis, 60).await;
    let claims = |audience: &str, more: Value| {
        let mut claims = json!({ "iss": "mimascota.auth", "aud": audience, "sub": "ana" });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims
    };
    let front = "mimascota.front";
    for (token, expected) in [
        ("nonsense".to_owned(), 401),
        (token::hs256("another secret", claims(front, json!({}))), 401),
        (token::hs256(SECRET, claims("another", json!({}))), 401),
        (token::hs256(SECRET, claims(front, json!({ "iss": "another" }))), 401),
        (token::hs256(SECRET, claims(front, json!({ "exp": 1_000_000_000 }))), 401),
        (token::hs256(SECRET, claims(front, json!({}))), 200),
    ] {
        let reply = ask_with(&gateway, "GET", "/api/v1/auth/me", &token).await;
        assert_eq!(reply.status, expected, "{token}: {}", reply.text());
    }
    assert_eq!(auth.count(), 1);
    let request = Request::get("/api/v1/auth/me").header("origin", "http://localhost:5173");
    let reply = gateway.send(request.body(empty()).unwrap()).await;
    assert_eq!(reply.status, 401);
    assert_eq!(reply.header("www-authenticate"), "Bearer realm=\"portcullis\"");
    assert_eq!(reply.header("access-control-allow-origin"), "http://localhost:5173");
    // Who is not signed in yet comes here, whatever he still has of a token.
    assert_eq!(ask_with(&gateway, "POST", "/api/v1/auth/login", "nonsense").await.status, 200);
}

/// PET3: GET answers come from Redis, for each user alone; the login is never cached; without Redis all still works.
#[tokio::test]
async fn answers_are_cached_in_redis() {
    let (auth, mut redis) = (auth_service().await, Redis::start().await);
    let gateway = start(&auth, &redis, 60).await;
    let seen = |reply: &Reply| (reply.status, reply.header("x-cache").to_owned(), reply.text());
    let anas = token("ana");
    let first = ask_with(&gateway, "GET", "/api/v1/auth/me", &anas).await;
    assert_eq!(seen(&first), (200, "MISS".into(), format!("Bearer {anas} /api/v1/auth/me")));
    // The store is written behind the answer. It is the user who counts, not the token.
    within(LONG, "a hit", || async {
        let reply = ask(&gateway, "GET", "/api/v1/auth/me", "ana").await;
        seen(&reply) == (200, "HIT".into(), first.text())
    })
    .await;
    let betos = token("beto");
    let other = ask_with(&gateway, "GET", "/api/v1/auth/me", &betos).await;
    assert_eq!(seen(&other), (200, "MISS".into(), format!("Bearer {betos} /api/v1/auth/me")));
    for _ in 0..3 {
        let login = ask(&gateway, "GET", "/api/v1/auth/login", "ana").await;
        assert_eq!((login.status, login.header("x-cache")), (200, "MISS"));
    }
    let page = gateway.metrics().await;
    assert!(page.sum("gateway_cache_hits_total", &[]) >= 1.0);
    assert!(page.sum("gateway_cache_misses_total", &[]) >= 2.0);
    // Another gateway on the same Redis has it already.
    let second = start(&auth, &redis, 60).await;
    // A store that is not connected yet is a miss; so each round asks for something else, once.
    let mut round = 0;
    within(LONG, "the other gateway to have it", || {
        round += 1;
        let path = format!("/api/v1/auth/me?round={round}");
        let (gateway, second, seen) = (&gateway, &second, &seen);
        async move {
            let first = ask(gateway, "GET", &path, "ana").await;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            seen(&ask(second, "GET", &path, "ana").await) == (200, "HIT".into(), first.text())
        }
    })
    .await;
    redis.kill();
    assert_eq!(ask(&gateway, "GET", "/api/v1/auth/profile", "ana").await.status, 200);
}

/// PET4, PET8: the scrape file and the five queries of the dashboard, asked of a real Prometheus.
#[tokio::test]
async fn a_real_prometheus_answers_the_dashboard() {
    let (auth, redis) = (auth_service().await, Redis::start().await);
    let gateway = start(&auth, &redis, 60).await;
    let checked =
        Command::new("promtool").arg("check").arg("config").arg(folder().join("prometheus.yml")).output();
    let checked = checked.expect("promtool is installed (scripts/test sees to it)");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let file = text("prometheus.yml");
    let address = gateway.addr().to_string();
    let prometheus = Peer::prometheus(
        &file.replace("localhost:8080", &address).replace("15s", "1s").replace("[5m]", "[10s]"),
    );
    let dashboard: Value = serde_json::from_str(&text("grafana-dashboard.json")).unwrap();
    let queries: Vec<&str> = dashboard["panels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|panel| panel["targets"][0]["expr"].as_str().unwrap())
        .collect();
    assert_eq!(queries.len(), 5);
    for query in queries {
        within(LONG * 2, query, || async {
            for path in ["/api/v1/auth/me", "/api/v1/auth/me", "/api/v1/auth/none/broken"] {
                ask(&gateway, "GET", path, "ana").await;
            }
            has_values(&prometheus, query).await
        })
        .await;
    }
}

/// Does the query give at least one series, and numbers that are numbers?
async fn has_values(prometheus: &Peer, query: &str) -> bool {
    let query: String = form_urlencoded(query);
    let mut client = Client::h1(prometheus.addr()).await;
    let reply = client.get(&format!("/api/v1/query?query={query}")).await;
    let Ok(said) = serde_json::from_str::<Value>(&reply.text()) else { return false };
    assert_eq!(said["status"], "success", "{said}");
    let series = said["data"]["result"].as_array().cloned().unwrap_or_default();
    let number = |one: &Value| one["value"][1].as_str().and_then(|text| text.parse::<f64>().ok());
    !series.is_empty() && series.iter().filter_map(number).any(f64::is_finite)
}

fn form_urlencoded(text: &str) -> String {
    text.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            },
        )
        .collect()
}
