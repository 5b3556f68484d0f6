//! Retries: a storm stays within its budget, clients that leave end their attempts, and the page of the metrics tells.

use std::{
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use portcullis_e2e::{
    Client, Endpoint, Script, Setup, Version,
    client::empty,
    endpoint,
    wait::{bounded, within},
};

const LONG: Duration = Duration::from_secs(10);
const SERVICE: &str =
    "[[routes]]\npath = \"/*\"\nservice = \"app\"\n[services.app]\nendpoints = [\"{app}\"]\n";

/// An endpoint that fails half of the time.
async fn shaky() -> Endpoint {
    let count = AtomicUsize::new(0);
    Endpoint::with(move |_| {
        // In an order that no retry can learn.
        let number = count.fetch_add(1, Relaxed);
        let fails = number.wrapping_mul(0x9E37_79B9) >> 7 & 1 == 0;
        endpoint::text(if fails { 503 } else { 200 }, "said")
    })
    .await
}

/// 3,000 requests over 30 connections at an endpoint that fails half of the time: its load is at most 1 + ratio times
/// what clients asked for, although every request may be tried five times; and the retries were of use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_stays_within_the_budget() {
    let endpoint = shaky().await;
    let retry =
        "retry = { attempts = 5, backoff = \"1ms\", budget = { ratio = \"20%\", min_per_second = 0 } }\n";
    let gateway =
        Setup::new(&format!("{SERVICE}{retry}")).top("workers = 2").set("app", endpoint.url()).start().await;
    let mut clients = Vec::new();
    for _ in 0..30 {
        let mut client = Client::plain(Version::H1, gateway.addr()).await;
        clients.push(tokio::spawn(async move {
            let mut good = 0;
            for _ in 0..100 {
                good += usize::from(client.get("/").await.status == 200);
            }
            good
        }));
    }
    let mut good = 0;
    for client in clients {
        good += client.await.unwrap();
    }
    let asked = endpoint.count();
    assert!(asked <= 3600, "{asked} requests for 3000");
    assert!(asked > 3500, "the budget is there to be used: {asked}");
    assert!(good > 1600, "{good} of 3000, where half would be 1500");
    let page = gateway.metrics().await;
    let of = [("service", "app@file")];
    assert_eq!(page.sum("gateway_backend_retries_total", &of), (asked - 3000) as f64);
    assert!(page.sum("gateway_retry_budget_exhausted_total", &of) > 0.0);
}

/// A client that goes away while the gateway waits for the next attempt ends them.
#[tokio::test]
async fn a_client_that_leaves_ends_its_attempts() {
    let endpoint = Endpoint::with(|_| endpoint::text(503, "no")).await;
    let retry = "retry = { attempts = 10, backoff = { base = \"400ms\", max = \"400ms\" } }\n";
    let gateway = Setup::new(&format!("{SERVICE}{retry}")).set("app", endpoint.url()).start().await;
    let mut client = Client::plain(Version::H1, gateway.addr()).await;
    let asking = tokio::spawn(async move { client.get("/").await });
    within(LONG, "the first attempt", async || endpoint.count() > 0).await;
    asking.abort();
    let page = async || gateway.metrics().await.sum("gateway_http_requests_in_progress", &[("path", "/*")]);
    within(LONG, "the request has ended", async || page().await == 0.0).await;
    let after = endpoint.count();
    assert!(after < 10, "{after}");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(endpoint.count(), after);
}

/// 502 `retries-exhausted`, or 504 when the last attempt took too long; a `POST` is sent once.
#[tokio::test]
async fn exhausted_is_told() {
    let count = Arc::new(AtomicUsize::new(0));
    let asked = count.clone();
    let endpoint = Endpoint::start(move |_| {
        asked.fetch_add(1, Relaxed);
        std::future::pending()
    })
    .await;
    let retry = "retry = { attempts = 3, try_timeout = \"100ms\", backoff = \"1ms\" }\n";
    let gateway = Setup::new(&format!("{SERVICE}{retry}")).set("app", endpoint.url()).start().await;
    let reply = bounded(LONG, "three attempts", gateway.get("/")).await;
    assert_eq!(reply.status, 504, "{}", reply.text());
    assert!(reply.json()["type"].as_str().unwrap().ends_with("/response-timeout"), "{}", reply.text());
    assert_eq!(count.load(Relaxed), 3);
    let request = http::Request::post("/").body(empty()).unwrap();
    assert_eq!(bounded(LONG, "one attempt", gateway.send(request)).await.status, 504);
    assert_eq!(count.load(Relaxed), 4);
    let closes = Script::start(|mut talk| async move { drop(talk.head().await) }).await;
    let gateway = Setup::new(&format!("{SERVICE}{retry}")).set("app", closes.url()).start().await;
    let reply = bounded(LONG, "three attempts", gateway.get("/")).await;
    assert_eq!(reply.status, 502, "{}", reply.text());
    assert!(reply.json()["type"].as_str().unwrap().ends_with("/retries-exhausted"), "{}", reply.text());
}

/// gRPC fails with 200 and a status of its own: those that are named are tried again, over HTTP/2, with the message.
#[tokio::test]
async fn grpc_statuses_are_tried_again() {
    let count = Arc::new(AtomicUsize::new(0));
    let asked = count.clone();
    let endpoint = Endpoint::with(move |request| {
        assert_eq!(&request.body[..], b"\0\0\0\0\x01a");
        let status = if asked.fetch_add(1, Relaxed) == 0 { "14" } else { "5" };
        let mut answer = endpoint::text(200, "");
        answer.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        answer.headers_mut().insert("grpc-status", status.parse().unwrap());
        answer
    })
    .await;
    let retry = "retry = { on = [\"unavailable\"], methods = [\"POST\"], backoff = \"1ms\" }\n";
    let setup = Setup::new(&format!("{SERVICE}{retry}")).set("app", endpoint.url_as("h2c"));
    let gateway = setup.start().await;
    let mut client = Client::plain(Version::H2, gateway.addr()).await;
    let call = http::Request::post("/notes.Notes/Say").header("content-type", "application/grpc");
    let reply = client.fetch(call.body(portcullis_e2e::client::full("\0\0\0\0\x01a")).unwrap()).await;
    assert_eq!((reply.status, reply.header("grpc-status")), (200, "5"), "not found is not tried again");
    assert_eq!(count.load(Relaxed), 2);
}
