//! Clients of HTTP/3 whose bytes are made by hand over QUIC: floods, slow ones, and a WebSocket. Single requests that are
//! hostile are in the corpus (`hostile`).

use http::Request;
use portcullis_e2e::{
    Endpoint, Gateway, bounded,
    certs::Authority,
    corpus::http3::{frame, head, status},
    h3,
    wait::LONG,
    websocket::Echo,
    within,
};
use quinn::{Connection, SendStream};

use crate::http3::{NAME, connect, start};

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":authority", NAME), (":path", "/")];

struct Raw {
    conn: Connection,
    _control: SendStream,
    _endpoint: quinn::Endpoint,
}

async fn raw(gateway: &Gateway, authority: &Authority) -> Raw {
    let endpoint = h3::endpoint(authority.client(&["h3"]), None).unwrap();
    let connecting = endpoint.connect(gateway.addr(), NAME).unwrap();
    let conn = bounded(LONG, "a connection", connecting).await.unwrap();
    let mut control = conn.open_uni().await.unwrap();
    control.write_all(&[0, 4, 0]).await.unwrap();
    Raw { conn, _control: control, _endpoint: endpoint }
}

/// Floods end the connection and are counted; others are served meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods() {
    let endpoint = Endpoint::named("a").await;
    let (gateway, authority) = start("http3 = true", &endpoint.url()).await;
    let good = connect(&gateway, &authority).await;
    let attacks = async || gateway.metrics().await.sum("gateway_attacks_total", &[("kind", "http3-flood")]);

    // Rapid reset (CVE-2023-44487).
    let rapid = raw(&gateway, &authority).await;
    let flood = async {
        let bytes = head(&GET);
        while let Ok((mut send, mut receive)) = rapid.conn.open_bi().await {
            let _ = send.write_all(&bytes).await;
            let _ = send.reset(0x10c_u32.into());
            let _ = receive.stop(0x10c_u32.into());
        }
    };
    bounded(LONG, "the end of rapid resets", flood).await;
    assert_eq!(attacks().await, 1.0);

    // Control frames.
    let talker = raw(&gateway, &authority).await;
    let mut control = talker._control;
    let flood = async { while control.write_all(&frame(0x21, b"x").repeat(200)).await.is_ok() {} };
    bounded(LONG, "the end of control frames", flood).await;
    assert_eq!(attacks().await, 2.0);

    // Heads of which no request comes.
    let bomber = raw(&gateway, &authority).await;
    let flood = async {
        let bytes = head(&[("x", "1")]);
        while let Ok((mut send, mut receive)) = bomber.conn.open_bi().await {
            let _ = send.write_all(&bytes).await;
            let _ = send.finish();
            let _ = receive.read_to_end(1 << 20).await;
        }
    };
    bounded(LONG, "the end of bad heads", flood).await;
    assert_eq!(attacks().await, 3.0);
    assert_eq!(good.get("/").await.status, 200);
}

/// A head that does not come to its end, and one that never begins.
#[tokio::test]
async fn slow_heads() {
    let endpoint = Endpoint::named("a").await;
    let listener = "http3 = true\ntimeouts = { request_header = \"300ms\" }";
    let (gateway, authority) = start(listener, &endpoint.url()).await;
    let raw = raw(&gateway, &authority).await;
    let (mut send, mut receive) = raw.conn.open_bi().await.unwrap();
    send.write_all(&head(&GET)[..10]).await.unwrap();
    let answer = bounded(LONG, "an answer", receive.read_to_end(1 << 20)).await.unwrap();
    assert_eq!(status(&answer), Some(408));
    within(LONG, "the attack to be counted", || async {
        gateway.metrics().await.sum("gateway_attacks_total", &[("kind", "slow-header")]) == 1.0
    })
    .await;
}

/// A client that gives its request up is noticed while the endpoint still thinks.
#[tokio::test]
async fn a_client_that_gives_up() {
    let (arrived, mut seen) = tokio::sync::watch::channel(false);
    let endpoint = Endpoint::start(move |_| {
        arrived.send_replace(true);
        std::future::pending::<
            Result<http::Response<portcullis_e2e::client::Body>, portcullis_e2e::client::Problem>,
        >()
    })
    .await;
    let (gateway, authority) = start("http3 = true", &endpoint.url()).await;
    let client = connect(&gateway, &authority).await;
    let mut asked = client.ask(Request::get("/").body(()).unwrap()).await.unwrap();
    asked.finish().await.unwrap();
    bounded(LONG, "the request to arrive", seen.wait_for(|seen| *seen)).await.unwrap();
    asked.stop_sending(::h3::error::Code::H3_REQUEST_CANCELLED);
    within(LONG, "the log", || async {
        gateway.stdout().lines().any(|line| line.contains("\"status\":499"))
    })
    .await;
}

/// Connections in all, and of one client.
#[tokio::test]
async fn bounds_on_connections() {
    let endpoint = Endpoint::named("a").await;
    for (limits, reason) in
        [("connections = 2", "connections"), ("connections_per_client = 2", "connections_per_client")]
    {
        let listener = format!("http3 = true\nlimits = {{ {limits} }}");
        let (gateway, authority) = start(&listener, &endpoint.url()).await;
        let held = [connect(&gateway, &authority).await, connect(&gateway, &authority).await];
        let config = authority.client(&["h3"]);
        let third = portcullis_e2e::H3::try_connect(gateway.addr(), NAME, config);
        let refused = bounded(LONG, "a refusal", third).await;
        let text = refused.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains("refused"), "{limits}: {text}");
        let counted = gateway.metrics().await.sum("gateway_connections_refused_total", &[("reason", reason)]);
        assert_eq!(counted, 1.0, "{limits}");
        for client in &held {
            assert_eq!(client.get("/").await.status, 200);
        }
    }
}

/// A WebSocket (RFC 9220): opened by an extended CONNECT, its bytes in DATA frames.
#[tokio::test]
async fn a_websocket() {
    let echo = Echo::start().await;
    let (gateway, authority) = start("http3 = true", &echo.endpoint.url()).await;
    let raw = raw(&gateway, &authority).await;
    let (mut send, mut receive) = raw.conn.open_bi().await.unwrap();
    let connect = [(":method", "CONNECT"), (":protocol", "websocket"), GET[1], GET[2], (":path", "/ws")];
    let hello = head(&[&connect[..], &[("sec-websocket-version", "13")]].concat());
    send.write_all(&hello).await.unwrap();
    // A text message, masked with zeros.
    let message = frame(0, b"\x81\x82\0\0\0\0hi");
    send.write_all(&message).await.unwrap();
    let mut seen = Vec::new();
    let answered = async {
        while !seen.ends_with(b"\x81\x02hi") {
            let chunk = receive.read_chunk(1000, true).await.unwrap().expect("an open stream");
            seen.extend_from_slice(&chunk.bytes);
        }
    };
    bounded(LONG, "the echo", answered).await;
    assert_eq!(status(&seen), Some(200));
    // The client's close, and the stream's end.
    send.write_all(&frame(0, b"\x88\x82\0\0\0\0\x03\xe8")).await.unwrap();
    send.finish().unwrap();
    bounded(LONG, "the end", receive.read_to_end(1000)).await.unwrap();
}
