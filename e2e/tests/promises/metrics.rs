//! Prometheus text under the names of PET4 (AVX8, PLU10): right numbers, and labels only from configured names.

use http::Request;
use portcullis_e2e::{
    Client, Endpoint, Gateway, Setup,
    client::{empty, full},
    wait::LONG,
    within,
};

async fn start() -> (Gateway, Endpoint) {
    let endpoint = Endpoint::with(|seen| {
        let status = if seen.target.contains("teapot") { 418 } else { 200 };
        portcullis_e2e::endpoint::text(status, "0123456789")
    })
    .await;
    let mut dead = Endpoint::named("dead").await;
    dead.stop().await;
    let text = r#"
[[routes]]
name = "users"
path = "/users/{id}"
service = "app"

[[routes]]
name = "dead"
path = "/dead"
upstream = { urls = ["{dead}"] }

[[routes]]
name = "metrics"
path = "/metrics"
service = "@metrics"

[services.app]
endpoints = [{ url = "{app}" }]
"#;
    (Setup::new(text).set("app", endpoint.url()).set("dead", dead.url()).start().await, endpoint)
}

/// Numbers are right: requests by method, route and status; times; bytes; backends; errors.
#[tokio::test]
async fn numbers_are_right() {
    let (gateway, _endpoint) = start().await;
    let mut client = Client::h1(gateway.addr()).await;
    for number in 0..20 {
        assert_eq!(client.get(&format!("/users/{number}")).await.status, 200);
    }
    for _ in 0..3 {
        let request = Request::post("/users/teapot").body(full(vec![b'x'; 1000])).unwrap();
        assert_eq!(client.fetch(request).await.status, 418);
    }
    for _ in 0..4 {
        assert_eq!(client.get("/dead").await.status, 502);
    }
    // What has ended is counted a moment after the client has its last byte.
    within(LONG, "all to be counted", || async {
        gateway.metrics().await.sum("gateway_http_requests_total", &[]) >= 27.0
    })
    .await;
    let page = gateway.metrics().await;
    let count = |name: &str, labels: &[(&str, &str)]| page.sum(name, labels);
    let path = page.samples.iter().find(|sample| {
        sample.name == "gateway_http_requests_total"
            && sample.labels.get("status_code").is_some_and(|code| code == "418")
    });
    let path = path.expect("the teapots").labels["path"].clone();
    assert_eq!(
        count("gateway_http_requests_total", &[("method", "GET"), ("path", &path), ("status_code", "200")]),
        20.0
    );
    assert_eq!(
        count("gateway_http_requests_total", &[("method", "POST"), ("path", &path), ("status_code", "418")]),
        3.0
    );
    assert_eq!(count("gateway_http_requests_total", &[("status_code", "502")]), 4.0);
    assert_eq!(
        count("gateway_http_request_duration_seconds_count", &[("method", "GET"), ("path", &path)]),
        20.0
    );
    let infinity = [("le", "+Inf"), ("method", "GET"), ("path", path.as_str())];
    assert_eq!(count("gateway_http_request_duration_seconds_bucket", &infinity), 20.0);
    assert!(count("gateway_http_request_duration_seconds_sum", &[("path", &path)]) > 0.0);
    assert_eq!(count("gateway_http_requests_in_progress", &[("path", &path)]), 0.0);
    assert_eq!(count("gateway_http_received_bytes_total", &[("path", &path)]), 3000.0);
    assert_eq!(count("gateway_http_sent_bytes_total", &[("path", &path)]), 230.0);
    assert_eq!(count("gateway_http_errors_total", &[("type", "connection-refused")]), 4.0);
    let of_app = page.samples.iter().filter(|sample| sample.name == "gateway_backend_requests_total");
    let of_app: f64 =
        of_app.filter(|s| s.labels["service"].starts_with("app")).map(|sample| sample.value).sum();
    assert_eq!(of_app, 23.0);
    assert!(count("gateway_backend_errors_total", &[]) >= 4.0);
    assert_eq!(count("gateway_config_reloads_total", &[("result", "failure")]), 0.0);
    for (name, kind) in [
        ("gateway_http_requests_total", "counter"),
        ("gateway_http_request_duration_seconds", "histogram"),
        ("gateway_http_requests_in_progress", "gauge"),
        ("gateway_http_errors_total", "counter"),
        ("gateway_backend_requests_total", "counter"),
        ("gateway_backend_request_duration_seconds", "histogram"),
        ("gateway_backend_errors_total", "counter"),
    ] {
        assert_eq!(page.types.get(name).map(String::as_str), Some(kind), "{name}");
    }
}

/// The same page as a route of one's own.
#[tokio::test]
async fn as_a_route() {
    let (gateway, _endpoint) = start().await;
    let reply = gateway.get("/metrics").await;
    assert_eq!(reply.status, 200);
    assert!(reply.header("content-type").starts_with("text/plain; version=0.0.4"), "{:?}", reply.headers);
    assert!(
        portcullis_e2e::metrics::Page::parse(&reply.text()).types.contains_key("gateway_http_requests_total")
    );
}

/// Strangers cannot make series: paths, hosts and methods of their choice end up in those that are there.
#[tokio::test]
async fn strangers_make_no_series() {
    let (gateway, _endpoint) = start().await;
    let mut client = Client::h1(gateway.addr()).await;
    let ask = |method: &str, target: String, host: String| {
        Request::builder().method(method).uri(target).header("host", host).body(empty()).unwrap()
    };
    for method in ["GET", "STRANGE0"] {
        client.fetch(ask(method, "/users/1".into(), "a".into())).await;
        client.fetch(ask(method, "/nowhere".into(), "a".into())).await;
    }
    within(LONG, "the first four to be counted", || async {
        gateway.metrics().await.sum("gateway_http_requests_total", &[]) >= 4.0
    })
    .await;
    let before = gateway.metrics().await.samples.len();
    for number in 1..200 {
        for method in [format!("STRANGE{number}"), "GET".to_owned()] {
            client.fetch(ask(&method, format!("/users/{number}"), format!("h{number}.example"))).await;
            client.fetch(ask(&method, format!("/nowhere/{number}"), format!("h{number}.example"))).await;
        }
    }
    let page = gateway.metrics().await;
    assert!(page.samples.len() <= before + 2, "{} series before, {} after", before, page.samples.len());
    let told = page.samples.iter().flat_map(|sample| sample.labels.values());
    assert!(told.clone().all(|value| !value.contains("STRANGE")
        && !value.contains("nowhere")
        && !value.contains(".example")));
}

/// Buckets by choice (MUS9).
#[tokio::test]
async fn buckets_are_configurable() {
    let endpoint = Endpoint::named("a").await;
    let text = format!("[metrics]\nbuckets = [0.1, 0.3, 1.2, 5.0]\n{}", crate::one(""));
    let gateway = Setup::new(&text).set("app", endpoint.url()).start().await;
    gateway.get("/").await;
    within(LONG, "the request to be counted", || async {
        gateway.metrics().await.sum("gateway_http_requests_total", &[]) > 0.0
    })
    .await;
    let page = gateway.metrics().await;
    let mut bounds: Vec<&str> = page
        .find("gateway_http_request_duration_seconds_bucket", &[])
        .into_iter()
        .map(|sample| sample.labels["le"].as_str())
        .collect();
    bounds.sort_unstable();
    bounds.dedup();
    assert_eq!(bounds.len(), 5, "{bounds:?}");
    for bound in ["0.1", "0.3", "1.2", "+Inf"] {
        assert!(bounds.contains(&bound), "{bound} in {bounds:?}");
    }
}
