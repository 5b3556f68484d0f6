//! Fallbacks (PLU7) and statuses of errors (PLU6): another service or a fixed answer in place of an error.

use portcullis_e2e::{Endpoint, Setup, client::full, endpoint};

/// Where nobody listens: a port that was somebody's a moment ago.
async fn nobody() -> String {
    let mut endpoint = Endpoint::named("gone").await;
    let url = endpoint.url();
    endpoint.stop().await;
    url
}

#[tokio::test]
async fn a_fixed_answer_or_another_service() {
    let (shaky, old) = (Endpoint::with(|_| endpoint::text(503, "no")).await, Endpoint::named("old").await);
    let text = r#"
        [[routes]]
        path = "/fixed"
        service = "gone"
        fallback = { body = '{"items":[]}', headers = { X-Fallback = "yes" } }
        [[routes]]
        path = "/status"
        service = "shaky"
        fallback = { on = ["5xx"], service = "old" }
        [[routes]]
        path = "/passed"
        service = "shaky"
        [[routes]]
        path = "/named"
        service = "gone"
        fallback = { on = "circuit_open", status = 204 }
        [[routes]]
        path = "/again"
        service = "gone"
        retry = { attempts = 3, on = ["503", "connect_error"] }
        fallback = { service = "shaky" }
        [[routes]]
        path = "/cached"
        service = "gone"
        cache = true
        [[routes]]
        path = "/*"
        service = "gone"
        errors = { connection_refused = 503 }
        [services.gone]
        endpoints = ["{gone}"]
        fallback = { service = "old" }
        [services.shaky]
        endpoints = ["{shaky}"]
        fallback = { service = "old" }
        [services.old]
        endpoints = ["{old}"]
    "#;
    let setup = Setup::new(text).set("gone", nobody().await).set("shaky", shaky.url()).set("old", old.url());
    let gateway = setup.start().await;
    let reply = gateway.get("/fixed").await;
    assert_eq!((reply.status, reply.text().as_str()), (200, r#"{"items":[]}"#));
    assert_eq!((reply.header("content-type"), reply.header("x-fallback")), ("application/json", "yes"));
    assert_eq!(old.count(), 0);

    // A body that arrives is sent to the second as it was to the first, which had read it.
    let request = http::Request::post("/status").body(full("x".repeat(50_000))).unwrap();
    let reply = gateway.send(request).await;
    assert_eq!((reply.status, reply.endpoint()), (200, "old"));
    assert_eq!((shaky.last().body.len(), old.last().body.len()), (50_000, 50_000));
    assert_eq!(old.last().all("x-forwarded-for").len(), 1, "written once");
    assert_eq!(old.last().header("via"), shaky.last().header("via"));
    // One that is too long to be kept is not sent in part.
    let request = http::Request::post("/status").body(full("x".repeat(500_000))).unwrap();
    assert_eq!((gateway.send(request).await.status, old.count()), (503, 1));

    assert_eq!(gateway.get("/passed").await.status, 503, "by default only what was not answered");
    assert_eq!(gateway.get("/named").await.status, 502, "only what is named");
    assert_eq!(gateway.get("/else").await.endpoint(), "old", "the service's own");
    let before = shaky.count();
    assert_eq!(gateway.get("/again").await.status, 503);
    assert_eq!(shaky.count(), before + 1, "the route's retries are not for another service");
    let reply = gateway.get("/cached").await;
    assert_eq!((reply.endpoint(), old.last().all("x-forwarded-for").len()), ("old", 1), "{}", reply.text());
    let page = gateway.metrics().await;
    assert_eq!(page.sum("gateway_fallbacks_total", &[("service", "gone@file")]), 4.0);
    assert_eq!(page.sum("gateway_fallbacks_total", &[("service", "shaky@file")]), 1.0);
}

#[tokio::test]
async fn errors_by_other_statuses() {
    let text = r#"
        [[routes]]
        path = "/a"
        service = "gone"
        errors = { connection_refused = 418, no_endpoints = 500 }
        [[routes]]
        path = "/b"
        service = "gone"
        [services.gone]
        endpoints = ["{gone}"]
    "#;
    let gateway = Setup::new(text).set("gone", nobody().await).start().await;
    let reply = gateway.get("/a").await;
    assert_eq!((reply.status, reply.json()["status"].as_u64()), (418, Some(418)), "{}", reply.text());
    assert!(reply.json()["type"].as_str().unwrap().ends_with("/connection-refused"));
    assert_eq!(gateway.get("/b").await.status, 502);
}

/// What the cache has stands in for errors of all kinds, longer than the answer itself allows, and no longer than configured.
#[tokio::test]
async fn a_stale_answer() {
    use std::sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    };
    let mood: Arc<AtomicU8> = Arc::default();
    let (asked, waits) = (mood.clone(), std::time::Duration::from_secs(600));
    let endpoint = Endpoint::start(move |_| {
        let mood = asked.load(Relaxed);
        async move {
            if mood == 1 {
                tokio::time::sleep(waits).await;
            }
            let mut answer = endpoint::text(if mood == 2 { 503 } else { 200 }, "said");
            // Nothing of it may be used past its time, it says.
            answer.headers_mut().insert("cache-control", "max-age=1, must-revalidate".parse().unwrap());
            Ok(answer)
        }
    })
    .await;
    let text = r#"
        [[routes]]
        path = "/plain"
        service = "shop"
        cache = true
        [[routes]]
        path = "/stale"
        service = "shop"
        cache = true
        timeouts = { total = "800ms" }
        fallback = { stale = "1h" }
        [[routes]]
        path = "/short"
        service = "shop"
        cache = true
        fallback = { stale = "1s", status = 203, body = "fixed" }
        [[routes]]
        path = "/broken"
        service = "broken"
        cache = true
        fallback = { stale = "1h", body = "fixed" }
        [services.shop]
        endpoints = ["{shop}"]
        timeouts = { response_header = "300ms" }
        [services.broken]
        endpoints = ["{shop}"]
        timeouts = { response_header = "300ms" }
        circuit_breaker = { failure_threshold = 1 }
    "#;
    let gateway = Setup::new(text).set("shop", endpoint.url()).start().await;
    for path in ["/plain", "/stale", "/short", "/broken"] {
        assert_eq!(gateway.get(path).await.text(), "said");
    }
    tokio::time::sleep(std::time::Duration::from_millis(2200)).await;
    for (now, status) in [(1, 504), (2, 503)] {
        mood.store(now, Relaxed);
        assert_eq!(
            gateway.get("/plain").await.status,
            status,
            "must-revalidate counts where nothing else is said"
        );
        for path in ["/stale", "/broken"] {
            // The second time its circuit is open.
            for _ in 0..2 {
                let reply = gateway.get(path).await;
                assert_eq!((reply.status, reply.text().as_str()), (200, "said"), "{path} {now}");
                let said = reply.header("cache-status");
                assert!(said.contains("detail=stale-if-error"), "{said}");
            }
        }
    }
    let page = gateway.metrics().await;
    assert!(page.sum("gateway_circuit_breaker_rejected_total", &[("service", "broken@file")]) > 0.0);
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    mood.store(1, Relaxed);
    let reply = gateway.get("/short").await;
    assert_eq!((reply.status, reply.text().as_str()), (203, "fixed"), "too old");
    let fresh = http::Request::get("/stale").header("cache-control", "no-cache").body(full("")).unwrap();
    assert_eq!(gateway.send(fresh).await.status, 504, "who wants none gets none");
}
