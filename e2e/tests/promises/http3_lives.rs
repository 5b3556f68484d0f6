//! Lives of HTTP/3 connections: reloads, drains, upgrades of the binary, clients that move, and requests that come early.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::{Buf, Bytes};
use http::Request;
use portcullis_e2e::{
    Client, Endpoint, Gateway, H3, Lineage, bounded,
    certs::Authority,
    gateway::{binary, install},
    h3, lineage,
    wait::LONG,
    within,
};
use rustix::process::Signal;

use crate::http3::{NAME, connect, setup, start};

/// A request whose answer has begun.
async fn begun(client: &H3) -> h3::Asked {
    let mut asked = client.ask(Request::get("/slow").body(()).unwrap()).await.unwrap();
    asked.finish().await.unwrap();
    assert_eq!(bounded(LONG, "a head", asked.recv_response()).await.unwrap().status(), 200);
    asked
}

async fn rest(mut asked: h3::Asked) -> String {
    let mut text = Vec::new();
    while let Some(mut data) = asked.recv_data().await.unwrap() {
        text.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    String::from_utf8(text).unwrap()
}

/// Gives it another configuration, which is the whole of it.
fn write(gateway: &Gateway, text: &str) {
    std::fs::write(&gateway.config, text).unwrap();
}

/// SIGTERM: what is under way ends, nothing new begins, idle connections are closed in an orderly way.
#[tokio::test]
async fn a_drain() {
    let (open, endpoint) = Endpoint::gated().await;
    let (mut gateway, authority) = start("http3 = true", &endpoint.url()).await;
    let (busy, idle) = (connect(&gateway, &authority).await, connect(&gateway, &authority).await);
    let asked = begun(&busy).await;
    gateway.signal(Signal::TERM);
    let closed = bounded(LONG, "the idle connection to be closed", idle.conn.closed()).await;
    let quinn::ConnectionError::ApplicationClosed(close) = closed else { panic!("{closed}") };
    assert_eq!(close.error_code.into_inner(), 0x100, "H3_NO_ERROR");
    let config = authority.client(&["h3"]);
    let late = bounded(LONG, "a refusal", H3::try_connect(gateway.addr(), NAME, config)).await;
    assert!(late.is_err());
    open.send_replace(true);
    assert_eq!(bounded(LONG, "the rest", rest(asked)).await, "begin end");
    assert!(gateway.ended(LONG).await.success());
}

/// HTTP/3 is switched off and on, the certificate and the number of workers change, all under load: no request fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_under_load() {
    let endpoint = Endpoint::named("a").await;
    let (gateway, authority) = start("http3 = true", &endpoint.url()).await;
    let text = std::fs::read_to_string(&gateway.config).unwrap();
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut load = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (stop, done, addr) = (stop.clone(), done.clone(), gateway.addr());
        let config = authority.client(&["h3"]);
        load.spawn(async move {
            let mut client = H3::connect(addr, NAME, config.clone()).await;
            while !stop.load(SeqCst) {
                // One that was told to leave begins nothing more.
                if client.is_closed() {
                    client = H3::connect(addr, NAME, config.clone()).await;
                }
                match client.try_fetch(Request::post("/").body(()).unwrap(), "abc").await {
                    Ok(reply) => assert_eq!(reply.status, 200),
                    // Told to leave between our looking and our asking: it was not sent, or not processed.
                    Err(error) if client.is_closed() || error.to_string().contains("closing") => {
                        client = H3::connect(addr, NAME, config.clone()).await;
                        continue;
                    }
                    Err(error) => panic!("{error:#}"),
                }
                done.fetch_add(1, SeqCst);
            }
        });
    }
    for round in 0..20 {
        let pair = authority.issue(&[NAME]);
        std::fs::write(gateway.dir.path().join("cert.pem"), &pair.cert).unwrap();
        std::fs::write(gateway.dir.path().join("cert.key"), &pair.key).unwrap();
        let workers = format!("workers = {}", 1 + round % 3);
        write(
            &gateway,
            &text
                .replace("workers = 2", &workers)
                .replace("path = \"/*\"", &format!("path = \"/*\"\npriority = {round}")),
        );
        let seen = done.load(SeqCst);
        within(LONG, "requests after the reload", || async { done.load(SeqCst) > seen + 20 }).await;
    }
    stop.store(true, SeqCst);
    while let Some(ended) = load.join_next().await {
        ended.unwrap();
    }
    // Off: TCP stays; who comes by QUIC finds nobody. And on again.
    write(&gateway, &text.replace("http3 = true", "http3 = false"));
    within(LONG, "HTTP/3 to be off", || async {
        let mut client = Client::tls(gateway.addr(), NAME, authority.client(&["h2"])).await.unwrap();
        client.get("/").await.header("alt-svc").is_empty()
    })
    .await;
    write(&gateway, &text);
    within(LONG, "HTTP/3 to be on", || async {
        let config = authority.client(&["h3"]);
        let client =
            tokio::time::timeout(Duration::from_secs(1), H3::try_connect(gateway.addr(), NAME, config)).await;
        matches!(client, Ok(Ok(client)) if client.get("/").await.status == 200)
    })
    .await;
}

/// A client that gets another address keeps its connection, whichever worker the kernel now gives its datagrams to.
#[tokio::test]
async fn a_client_that_moves() {
    let endpoint = Endpoint::named("a").await;
    let (gateway, authority) = start("http3 = true", &endpoint.url()).await;
    let client = connect(&gateway, &authority).await;
    for _ in 0..12 {
        assert_eq!(client.get("/").await.status, 200);
        client.move_elsewhere();
    }
    assert_eq!(client.get("/").await.status, 200);
    let accepted = gateway.metrics().await.sum("gateway_connections_accepted_total", &[("listener", "web")]);
    assert_eq!(accepted, 1.0, "it is the same connection all the time");
}

/// An upgrade of the binary: what is under way over HTTP/3 ends well in the old process, and as soon as that has let go of
/// the port, clients that come anew reach the new one.
#[tokio::test]
async fn an_upgrade() {
    let (open, endpoint) = Endpoint::gated().await;
    let (setup, authority) = setup("http3 = true", &endpoint.url());
    let program = setup.dir().join("portcullis-installed");
    install(&binary(), &program);
    let gateway = setup.set("client_ca", "").called(&program).start().await;
    let client = connect(&gateway, &authority).await;
    let asked = begun(&client).await;
    let mut lineage = Lineage::default();
    lineage.follow_reply(&gateway.admin_post("/upgrade").await);
    let old = gateway.pid();
    // Over TCP the new process serves already, while the old one still has the UDP port: a client that comes is sent away
    // at once, and takes TCP.
    let config = || authority.client(&["h3"]);
    let refused = bounded(LONG, "a refusal", H3::try_connect(gateway.addr(), NAME, config())).await;
    assert!(refused.is_err() && lineage::runs(old));
    open.send_replace(true);
    assert_eq!(bounded(LONG, "the rest", rest(asked)).await, "begin end");
    within(LONG, "the client to be told to leave", || async { client.is_closed() }).await;
    within(LONG, "the old process to end", || async { !lineage::runs(old) }).await;
    within(LONG, "HTTP/3 of the new process", || async {
        let attempt = H3::try_connect(gateway.addr(), NAME, config());
        match tokio::time::timeout(Duration::from_secs(1), attempt).await {
            Ok(Ok(client)) => client.get("/").await.status == 200,
            _ => false,
        }
    })
    .await;
}

/// What comes before the handshake is complete (RFC 8470): safe requests are served, and whoever is behind us is told;
/// others are to come again.
#[tokio::test]
async fn early_requests() {
    let endpoint = Endpoint::named("a").await;
    let (gateway, authority) = start("http3 = { early_data = true }", &endpoint.url()).await;
    let mut config = authority.client(&["h3"]);
    config.enable_early_data = true;
    let from = h3::endpoint(config, None).unwrap();
    for (method, expected) in [("GET", 200), ("POST", 425), ("DELETE", 425)] {
        let first = from.connect(gateway.addr(), NAME).unwrap();
        let first =
            H3::over(from.clone(), bounded(LONG, "a connection", first).await.unwrap(), NAME).await.unwrap();
        assert_eq!(first.get("/").await.status, 200, "its ticket comes with it");
        assert_eq!(endpoint.last().header("early-data"), "");
        let connecting = from.connect(gateway.addr(), NAME).unwrap();
        let Ok((conn, accepted)) = connecting.into_0rtt() else { panic!("no ticket") };
        let early = H3::over(from.clone(), conn, NAME).await.unwrap();
        let request = || Request::builder().method(method).uri("/early").body(()).unwrap();
        let before = endpoint.count();
        let reply = early.fetch(request(), Bytes::new()).await;
        assert!(bounded(LONG, "the handshake", accepted).await, "{method}: it was early");
        assert_eq!(reply.status, expected, "{method}: {}", reply.text());
        if expected == 200 {
            assert_eq!(endpoint.last().header("early-data"), "1");
        } else {
            assert_eq!(endpoint.count(), before, "nobody has seen it");
            assert_eq!(early.fetch(request(), Bytes::new()).await.status, 200, "now it is not early");
        }
    }
}

/// Early requests are off unless asked for; a listener that asks for certificates of clients never takes them.
#[tokio::test]
async fn early_requests_where_there_are_none() {
    let endpoint = Endpoint::named("a").await;
    let (gateway, authority) = start("http3 = true", &endpoint.url()).await;
    let mut config = authority.client(&["h3"]);
    config.enable_early_data = true;
    let from = h3::endpoint(config, None).unwrap();
    for _ in 0..2 {
        let connecting = from.connect(gateway.addr(), NAME).unwrap();
        let conn = match connecting.into_0rtt() {
            Ok((_, accepted)) => panic!("a ticket for early data: {}", accepted.await),
            Err(connecting) => bounded(LONG, "a connection", connecting).await.unwrap(),
        };
        let client = H3::over(from.clone(), conn, NAME).await.unwrap();
        assert_eq!(client.get("/").await.status, 200);
    }
}

/// Client certificates are asked for as over TCP.
#[tokio::test]
async fn certificates_of_clients() {
    let endpoint = Endpoint::named("a").await;
    let clients = Authority::new("clients");
    let (setup, authority) = setup("http3 = true", &endpoint.url());
    let gateway = setup.set("client_ca", ", client_ca = \"clients.pem\"").file("clients.pem", clients.pem());
    let gateway = gateway.start().await;
    let own = clients.issue(&["somebody"]);
    let known = H3::connect(gateway.addr(), NAME, authority.client_with(&["h3"], &own)).await;
    assert_eq!(known.get("/").await.status, 200);
    let unknown = H3::try_connect(gateway.addr(), NAME, authority.client(&["h3"]));
    let asked = async {
        match unknown.await {
            Ok(client) => client.try_fetch(Request::get("/").body(()).unwrap(), Bytes::new()).await.is_err(),
            Err(_) => true,
        }
    };
    assert!(bounded(LONG, "a refusal", asked).await);
    assert_eq!(endpoint.count(), 1);
}
