//! Circuit breakers (PET1, PET2, PET4): open after failures, 503 at once and without a call, trials, closed again; kept over
//! a reload; one for each endpoint.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use portcullis_e2e::{Endpoint, Gateway, Setup, endpoint, wait::within};

const LONG: Duration = Duration::from_secs(10);

/// Fails while the switch is on.
async fn switched() -> (Endpoint, Arc<AtomicBool>) {
    let bad = Arc::new(AtomicBool::new(true));
    let is_bad = bad.clone();
    let endpoint = Endpoint::with(move |_| match is_bad.load(Relaxed) {
        true => endpoint::text(500, "broken"),
        false => endpoint::text(200, "well"),
    })
    .await;
    (endpoint, bad)
}

fn text(endpoints: &[&Endpoint], breaker: &str) -> String {
    let urls: Vec<String> = endpoints.iter().map(|at| format!("\"{}\"", at.url())).collect();
    format!(
        "[[routes]]\npath = \"/circuit-breakers\"\nservice = \"@circuit-breakers\"\n\
         [[routes]]\npath = \"/*\"\nservice = \"auth-svc\"\n\
         [services.auth-svc]\nendpoints = [{}]\ncircuit_breaker = {breaker}\n",
        urls.join(", ")
    )
}

async fn state(gateway: &Gateway) -> f64 {
    let page = gateway.metrics().await;
    page.sum("gateway_circuit_breaker_state", &[("service", "auth-svc@file")])
}

#[tokio::test]
async fn it_opens_tries_and_closes() {
    let (endpoint, bad) = switched().await;
    let breaker =
        "{ failure_threshold = \"${FAILURES:-5}\", timeout = \"${SECONDS:-60}s\", success_threshold = 2 }";
    let setup = Setup::new(&text(&[&endpoint], breaker)).env("SECONDS", "2");
    let gateway = setup.start().await;
    let expected = serde_json::json!({ "circuit_breakers": { "auth-svc": {
        "service": "auth-svc", "state": "closed", "failure_count": 0, "success_count": 0, "opened_at": null,
    } } });
    assert_eq!(gateway.get("/circuit-breakers").await.json(), expected);
    for _ in 0..5 {
        assert_eq!(gateway.get("/").await.status, 500);
    }
    let begun = Instant::now();
    let reply = gateway.get("/").await;
    assert_eq!((reply.status, endpoint.count()), (503, 5), "{}", reply.text());
    assert!(reply.json()["type"].as_str().unwrap().ends_with("/circuit-open"));
    assert!(matches!(reply.header("retry-after"), "1" | "2"), "{}", reply.header("retry-after"));
    assert_eq!(state(&gateway).await, 1.0);
    let told = gateway.get("/circuit-breakers").await.json()["circuit_breakers"]["auth-svc"].clone();
    assert_eq!((told["state"].as_str(), told["failure_count"].as_u64()), (Some("open"), Some(5)));
    assert!(told["opened_at"].as_str().unwrap().ends_with('Z'));
    // A trial that fails opens it again.
    within(LONG, "the first trial", async || gateway.get("/").await.status == 500).await;
    assert!(begun.elapsed() >= Duration::from_millis(1500), "{:?}", begun.elapsed());
    assert_eq!((gateway.get("/").await.status, endpoint.count()), (503, 6));
    bad.store(false, Relaxed);
    within(LONG, "it is well", async || gateway.get("/").await.status == 200).await;
    assert_eq!(state(&gateway).await, 2.0);
    assert_eq!(gateway.get("/").await.status, 200);
    assert_eq!(state(&gateway).await, 0.0);
    let page = gateway.metrics().await;
    let of = [("service", "auth-svc@file")];
    assert_eq!(page.sum("gateway_circuit_breaker_failures_total", &of), 6.0);
    assert!(page.sum("gateway_circuit_breaker_rejected_total", &of) >= 2.0);
    assert_eq!(gateway.get("/circuit-breakers").await.json(), expected);
}

#[tokio::test]
async fn it_is_open_after_a_reload_and_by_an_expression() {
    let (endpoint, _bad) = switched().await;
    let expression = "\"ResponseCodeRatio(500, 600, 0, 600) > 0.25 && RequestThreshold() > 2\"";
    let gateway = Setup::new(&text(&[&endpoint], expression)).start().await;
    within(LONG, "it is open", async || gateway.get("/").await.status == 503).await;
    let asked = endpoint.count();
    assert!(asked >= 3, "{asked}");
    let other = text(&[&endpoint], "{ failure_threshold = 7, timeout = \"5m\" }");
    std::fs::write(
        &gateway.config,
        std::fs::read_to_string(&gateway.config).unwrap().replace(&text(&[&endpoint], expression), &other),
    )
    .unwrap();
    assert_eq!(gateway.admin_post("/reload").await.status, 200);
    let reply = gateway.get("/").await;
    assert_eq!((reply.status, endpoint.count()), (503, asked));
    assert!(reply.header("retry-after").parse::<u32>().unwrap() > 200, "the new settings hold");
}

#[tokio::test]
async fn one_for_each_endpoint_sends_requests_to_the_others() {
    let ((bad, _), (good, is_bad)) = (switched().await, switched().await);
    is_bad.store(false, Relaxed);
    let breaker = "{ per = \"endpoint\", failure_threshold = 3, timeout = \"60s\" }";
    let gateway = Setup::new(&text(&[&bad, &good], breaker)).start().await;
    let mut failed = 0;
    for _ in 0..50 {
        failed += usize::from(gateway.get("/").await.status != 200);
    }
    assert_eq!((failed, bad.count(), good.count()), (3, 3, 47));
    is_bad.store(true, Relaxed);
    for _ in 0..3 {
        assert_eq!(gateway.get("/").await.status, 500);
    }
    assert_eq!((gateway.get("/").await.status, bad.count(), good.count()), (503, 3, 50));
    let page = gateway.metrics().await;
    let endpoint = bad.url();
    let of = [("service", "auth-svc@file"), ("endpoint", endpoint.as_str())];
    assert_eq!(page.sum("gateway_circuit_breaker_state", &of), 1.0);
    let told = gateway.get("/circuit-breakers").await.json();
    assert_eq!(told["circuit_breakers"].as_object().unwrap().len(), 2, "{told}");
}
