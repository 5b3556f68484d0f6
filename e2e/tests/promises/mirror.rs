//! Copies of a route's requests for another service.

use std::time::Duration;

use portcullis_e2e::{Client, Endpoint, Setup, Version, client::full, wait::within};

const SERVICES: &str = "[services.old]\nendpoints = [\"{old}\"]\n[services.new]\nendpoints = [\"{new}\"]\n";
const LONG: Duration = Duration::from_secs(10);

async fn two() -> (Endpoint, Endpoint) {
    (Endpoint::named("old").await, Endpoint::named("new").await)
}

async fn start(old: &Endpoint, new: &Endpoint, route: &str) -> portcullis_e2e::Gateway {
    let text = format!("[[routes]]\npath = \"/*\"\nservice = \"old\"\n{route}\n{SERVICES}");
    Setup::new(&text).set("old", old.url()).set("new", new.url()).start().await
}

#[tokio::test]
async fn copies_reach_the_other_service_and_nobody_waits() {
    let (old, new) = two().await;
    let gateway = start(&old, &new, "mirror = { service = \"new\", body = \"1 KiB\" }").await;
    assert_eq!(gateway.get("/a?b=c").await.endpoint(), "old");
    within(LONG, "a copy", async || new.count() == 1).await;
    assert_eq!(new.last().target, "/a?b=c");
    assert_eq!(new.last().header("via"), old.last().header("via"));
    let post = |size: usize| http::Request::post("/p").body(full("x".repeat(size))).unwrap();
    assert_eq!(gateway.send(post(1000)).await.endpoint(), "old");
    within(LONG, "a copy with a body", async || new.count() == 2).await;
    assert_eq!((new.last().body.len(), old.last().body.len()), (1000, 1000));
    assert_eq!(gateway.send(post(2000)).await.endpoint(), "old");
    let result = async |result: &str| {
        let of = [("route", "root@file"), ("result", result)];
        let page = gateway.metrics().await;
        assert_eq!(page.find("gateway_mirrored_requests_total", &of).len(), 1);
        page.sum("gateway_mirrored_requests_total", &of)
    };
    assert_eq!((result("sent").await, result("dropped").await, new.count()), (2.0, 1.0, 2));
}

#[tokio::test]
async fn a_mirror_that_hangs_or_is_gone_costs_nothing() {
    let old = Endpoint::named("old").await;
    let deaf = Endpoint::start(|_| std::future::pending()).await;
    let gateway = start(&old, &deaf, "mirror = { service = \"new\", most = 5, timeout = \"60s\" }").await;
    let mut client = Client::plain(Version::H1, gateway.addr()).await;
    let begun = std::time::Instant::now();
    for _ in 0..200 {
        assert_eq!(client.get("/").await.endpoint(), "old");
    }
    assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
    let page = gateway.metrics().await;
    let sum = |result: &str| page.sum("gateway_mirrored_requests_total", &[("result", result)]);
    assert_eq!(sum("sent") + sum("dropped"), 200.0);
    assert!(sum("dropped") > 0.0, "only some are under way at once");
}
