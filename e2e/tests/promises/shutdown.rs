//! SIGTERM drains: open requests end, idle connections are closed, new ones are refused; after the deadline it leaves
//! anyhow.

use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use portcullis_e2e::{
    Client, Endpoint, Gateway, RawClient, Setup, Version, bounded,
    client::empty,
    wait::{LONG, timed},
    within,
};
use rustix::process::Signal;

async fn start(top: &str, endpoint: &Endpoint) -> Gateway {
    Setup::new(&crate::one("")).top(top).set("app", endpoint.url()).start().await
}

/// Requests in flight end well, over both versions; then the process ends with 0.
#[tokio::test]
async fn requests_in_flight_end_well() {
    for signal in [Signal::TERM, Signal::INT] {
        let (open, endpoint) = Endpoint::gated().await;
        let mut gateway = start("", &endpoint).await;
        let mut answers = Vec::new();
        let mut clients = Vec::new();
        for version in [Version::H1, Version::H2] {
            let mut client = Client::plain(version, gateway.addr()).await;
            answers.push(client.send(Request::get("/").body(empty()).unwrap()).await);
            clients.push(client);
        }
        let mut idle = RawClient::connect(gateway.addr()).await;
        gateway.signal(signal);
        assert!(idle.closes_within(LONG).await, "an idle connection is closed");
        let addr = gateway.addr();
        within(LONG, "new connections to be refused", || async { Client::try_h1(addr).await.is_err() }).await;
        assert!(gateway.runs());
        open.send(true).unwrap();
        for answer in answers {
            let body = bounded(LONG, "the rest", answer.into_body().collect()).await.unwrap();
            assert_eq!(body.to_bytes(), "begin end");
        }
        drop(clients);
        let status = gateway.ended(LONG).await;
        assert_eq!(status.code(), Some(0), "{}", gateway.stderr());
    }
}

/// The last answer on a connection says that it is the last.
#[tokio::test]
async fn the_last_answer_says_close() {
    let (gate_open, gate) = tokio::sync::watch::channel(false);
    let endpoint = Endpoint::start(move |_| {
        let mut gate = gate.clone();
        async move {
            gate.wait_for(|open| *open).await?;
            Ok(portcullis_e2e::endpoint::named("a"))
        }
    })
    .await;
    let gateway = start("", &endpoint).await;
    let mut client = RawClient::connect(gateway.addr()).await;
    client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    within(LONG, "the request to arrive", || async { endpoint.accepted() == 1 }).await;
    gateway.signal(Signal::TERM);
    let addr = gateway.addr();
    within(LONG, "the drain to begin", || async { Client::try_h1(addr).await.is_err() }).await;
    gate_open.send(true).unwrap();
    let reply = client.reply().await;
    assert_eq!(reply.status, 200);
    assert!(reply.header("connection").eq_ignore_ascii_case("close"), "{}", reply.head);
    assert!(client.closes_within(LONG).await);
}

/// While it drains, `/ready` says so, that a load balancer may look elsewhere.
#[tokio::test]
async fn ready_says_no_while_draining() {
    let (open, endpoint) = Endpoint::gated().await;
    let mut gateway = start("", &endpoint).await;
    let mut client = Client::h1(gateway.addr()).await;
    let answer = client.send(Request::get("/").body(empty()).unwrap()).await;
    assert_eq!(gateway.admin_get("/ready").await.status, 200);
    gateway.signal(Signal::TERM);
    let admin = gateway.admin();
    within(LONG, "/ready to say no", || async {
        match Client::try_h1(admin).await {
            Ok(mut client) => {
                let request = Request::get("/ready").body(empty()).unwrap();
                client.try_fetch(request).await.is_ok_and(|reply| reply.status == 503)
            }
            Err(_) => false,
        }
    })
    .await;
    open.send(true).unwrap();
    drop((answer, client));
    gateway.ended(LONG).await;
}

/// The deadline ends it, whatever is still open.
#[tokio::test]
async fn the_deadline_ends_it() {
    let (_open, endpoint) = Endpoint::gated().await;
    let mut gateway = start("drain_timeout = \"500ms\"", &endpoint).await;
    let mut client = Client::h1(gateway.addr()).await;
    let _answer = client.send(Request::get("/").body(empty()).unwrap()).await;
    gateway.signal(Signal::TERM);
    let (seconds, _) = timed(gateway.ended(Duration::from_secs(15))).await;
    assert!(seconds > 0.3, "not at once: {seconds}");
}

/// A second signal ends it at once.
#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (_open, endpoint) = Endpoint::gated().await;
    let mut gateway = start("drain_timeout = \"10m\"", &endpoint).await;
    let mut client = Client::h1(gateway.addr()).await;
    let _answer = client.send(Request::get("/").body(empty()).unwrap()).await;
    gateway.signal(Signal::TERM);
    let addr = gateway.addr();
    within(LONG, "the drain to begin", || async { Client::try_h1(addr).await.is_err() }).await;
    gateway.signal(Signal::TERM);
    gateway.ended(Duration::from_secs(15)).await;
}

/// Clients that keep connections open for later, and have nothing under way, hold nobody up.
#[tokio::test]
async fn idle_connections_do_not_hold_it_up() {
    let endpoint = Endpoint::named("a").await;
    let mut gateway = start("", &endpoint).await;
    let mut idle = Vec::new();
    for n in 0..50 {
        let mut client = RawClient::connect(gateway.addr()).await;
        // Most have asked before; some never have.
        if n % 5 > 0 {
            client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            assert_eq!(client.reply().await.status, 200);
        }
        idle.push(client);
    }
    gateway.signal(Signal::TERM);
    let (seconds, status) = timed(gateway.ended(LONG)).await;
    assert_eq!(status.code(), Some(0), "{}", gateway.stderr());
    assert!(seconds < 1.0, "{seconds} s, although nothing was under way");
    // They find the end, and not a reset.
    for mut client in idle {
        assert_eq!(bounded(LONG, "the end", client.to_end()).await, b"");
    }
}
