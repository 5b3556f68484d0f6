//! Clients that hold what others need by being slow, hundreds at once (as many as `PORTCULLIS_FLOOD` says: 5000, with
//! `ulimit -n 20000`), and more connections than there may be: everybody else is served as before, memory stays bounded,
//! and each is counted.

use std::time::Duration;

use bytes::Bytes;
use portcullis_e2e::{
    Endpoint, Gateway, RawClient, Setup, bounded,
    client::full,
    good::Good,
    wait::{LONG, within},
};
use tokio::task::JoinSet;

/// How many attack at once.
fn crowd() -> usize {
    std::env::var("PORTCULLIS_FLOOD").ok().and_then(|count| count.parse().ok()).unwrap_or(400)
}

async fn with(tables: &str, endpoint: &Endpoint) -> Gateway {
    Setup::new(&format!("{tables}\n{}", crate::one(""))).set("app", endpoint.url()).start().await
}

/// Each of the crowd connects, says this, and then a byte from time to time, until it is cut; true when it was.
async fn dribble(addr: std::net::SocketAddr, begin: String) -> bool {
    let mut client = RawClient::connect(addr).await;
    client.write(begin).await;
    // The crowd is many, not fast: what its bytes cost the machine is not what this is about.
    let pause = Duration::from_millis(100).max(Duration::from_millis(crowd() as u64 / 4));
    for _ in 0..300 {
        client.write("x").await;
        if client.closes_or_speaks_within(pause).await {
            return true;
        }
    }
    false
}

/// Attacks with the whole crowd while good clients ask; memory, and what was counted.
async fn hold_against(gateway: &Gateway, begin: &str, kind: &str, most_kib_each: u64) {
    let good = Good::begin(gateway).await;
    let (before, _) = gateway.memory_kib();
    let mut attackers = JoinSet::new();
    for _ in 0..crowd() {
        attackers.spawn(dribble(gateway.addr(), begin.to_owned()));
    }
    let under_attack = good.under_attack().await;
    let cut = bounded(LONG * 4, "all of them cut", attackers.join_all()).await;
    assert!(
        cut.iter().all(|cut| *cut),
        "{kind}: {} of {} cut",
        cut.iter().filter(|cut| **cut).count(),
        cut.len()
    );
    under_attack.is_fine(kind);
    let (_, peak) = gateway.memory_kib();
    let most = before + 8 * 1024 + most_kib_each * crowd() as u64;
    assert!(peak < most, "{kind}: {before} KiB before, {peak} KiB at the most");
    counted(gateway, kind, crowd()).await;
}

async fn counted(gateway: &Gateway, kind: &str, least: usize) {
    within(LONG, &format!("{least} {kind} counted"), || async {
        gateway.metrics().await.sum("gateway_attacks_total", &[("kind", kind)]) >= least as f64
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_headers() {
    let endpoint = Endpoint::named("a").await;
    let gateway = with("[listeners.web.timeouts]\nrequest_header = \"3s\"", &endpoint).await;
    hold_against(&gateway, "GET / HTTP/1.1\r\nHost: a\r\nX: ", "slow-header", 24).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_bodies() {
    let endpoint = Endpoint::named("a").await;
    let timeouts = "[listeners.web.timeouts]\nbody_grace = \"3s\"\nbody_min_rate = 1000";
    let gateway = with(timeouts, &endpoint).await;
    let begin = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
    hold_against(&gateway, begin, "slow-body", 32).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers() {
    let large = Bytes::from(vec![b'x'; 16 << 20]);
    let endpoint = Endpoint::with(move |seen| {
        let body = if seen.target == "/large" { large.clone() } else { Bytes::from_static(b"ok") };
        http::Response::new(full(body))
    })
    .await;
    let gateway = with("[listeners.web.timeouts]\nwrite_idle = \"1s\"", &endpoint).await;
    let good = Good::begin(&gateway).await;
    let (before, _) = gateway.memory_kib();
    let mut readers = Vec::new();
    for _ in 0..crowd() {
        let mut client = RawClient::connect(gateway.addr()).await;
        client.write("GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
        readers.push(client);
    }
    good.under_attack().await.is_fine("slow readers");
    counted(&gateway, "slow-reader", crowd()).await;
    let (_, peak) = gateway.memory_kib();
    // What one write gathers, what one read brings, and room to grow in.
    let most = before + 8 * 1024 + 320 * crowd() as u64;
    assert!(peak < most, "{before} KiB before, {peak} KiB at the most");
    drop(readers);
}

/// Ten times as many connections as there may be: those within are served as before, those beyond are closed at once and
/// counted, and when they have left there is room again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_connections_than_allowed() {
    let endpoint = Endpoint::named("a").await;
    let most = crowd() / 10;
    let gateway = with(&format!("[listeners.web.limits]\nconnections = {most}"), &endpoint).await;
    let good = Good::begin(&gateway).await;
    let mut held = Vec::new();
    for _ in 0..crowd() {
        held.push(RawClient::connect(gateway.addr()).await);
    }
    good.under_attack().await.is_fine("a flood of connections");
    let refused = (crowd() - most) as f64;
    within(LONG, "refusals counted", || async {
        let page = gateway.metrics().await;
        page.sum("gateway_connections_refused_total", &[("reason", "connections")]) >= refused
    })
    .await;
    drop(held);
    let addr = gateway.addr();
    within(LONG, "room again", || async move {
        let Ok(mut client) = portcullis_e2e::Client::try_h1(addr).await else { return false };
        let request = http::Request::get("/").body(portcullis_e2e::client::empty()).expect("a request");
        client.try_fetch(request).await.is_ok_and(|reply| reply.status == 200)
    })
    .await;
}
