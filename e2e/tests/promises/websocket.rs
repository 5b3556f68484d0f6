//! WebSocket (PLU8, VK11, AVX12, MUS2): over HTTP/1.1 and over HTTP/2 (RFC 8441), in both directions, with its close
//! codes; the tunnel opens only after a verified 101.

use futures_util::{SinkExt, StreamExt};
use portcullis_e2e::{
    Gateway, RawClient, Script, Setup, bounded,
    wait::LONG,
    websocket::{self, CloseCode, CloseFrame, Echo, Message},
    within,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Error};

async fn before(endpoint: &str, extra: &str) -> Gateway {
    Setup::new(&crate::one(extra)).set("app", endpoint).start().await
}

async fn talk<S>(socket: &mut WebSocketStream<S>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    for message in [Message::text("hello"), Message::binary(vec![7; 200_000]), Message::text("")] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(bounded(LONG, "the echo", socket.next()).await.unwrap().unwrap(), message);
    }
    socket.send(Message::Ping(b"are you there"[..].into())).await.unwrap();
    let pong = bounded(LONG, "the pong", socket.next()).await.unwrap().unwrap();
    assert_eq!(pong, Message::Pong(b"are you there"[..].into()));
}

#[tokio::test]
async fn over_http_1() {
    let echo = Echo::start().await;
    for scheme in ["http", "ws"] {
        let gateway = before(&echo.endpoint.url_as(scheme), "").await;
        let mut socket = websocket::connect(gateway.addr(), "/ws?room=1").await.unwrap();
        talk(&mut socket).await;
    }
}

#[tokio::test]
async fn over_http_2() {
    let echo = Echo::start().await;
    let gateway = before(&echo.endpoint.url(), "").await;
    let mut socket = websocket::connect_h2(gateway.addr(), "/ws?room=1").await.unwrap();
    talk(&mut socket).await;
}

/// Close codes pass, from the client and from the endpoint.
#[tokio::test]
async fn close_codes_pass() {
    let echo = Echo::start().await;
    let gateway = before(&echo.endpoint.url(), "").await;
    let mut socket = websocket::connect(gateway.addr(), "/").await.unwrap();
    let frame = CloseFrame { code: CloseCode::Library(4321), reason: "enough".into() };
    socket.close(Some(frame)).await.unwrap();
    within(LONG, "the endpoint to hear it", || async { *echo.closed.lock().unwrap() == [4321] }).await;

    let mut socket = websocket::connect(gateway.addr(), "/").await.unwrap();
    socket.send(Message::text("close 4002")).await.unwrap();
    match bounded(LONG, "the close", socket.next()).await {
        Some(Ok(Message::Close(Some(frame)))) => assert_eq!(frame.code, CloseCode::Library(4002)),
        other => panic!("{other:?}"),
    }
}

/// An endpoint that does not want the upgrade: its answer is the client's.
#[tokio::test]
async fn a_refused_upgrade_is_passed_on() {
    let script =
        Script::answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nX-Why: no\r\n\r\nno").await;
    let gateway = before(&script.url(), "").await;
    match *websocket::connect(gateway.addr(), "/").await.unwrap_err() {
        Error::Http(answer) => {
            assert_eq!((answer.status().as_u16(), answer.headers()["x-why"].to_str().unwrap()), (403, "no"));
        }
        other => panic!("{other:?}"),
    }
    let refused = websocket::connect_h2(gateway.addr(), "/").await.expect_err("refused over HTTP/2, too");
    assert!(refused.to_string().contains("403"), "{refused}");
}

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// A 101 whose `Sec-WebSocket-Accept` or `Upgrade` is wrong opens no tunnel: 502, and nothing of the endpoint's bytes
/// reaches the client.
#[tokio::test]
async fn an_unverified_101_opens_no_tunnel() {
    for fields in [
        "Upgrade: websocket\r\nSec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n",
        "Upgrade: websocket\r\n",
        "Upgrade: other\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
    ] {
        let answer = format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n{fields}\r\nleaked");
        let script = Script::answering(answer).await;
        let gateway = before(&script.url(), "").await;
        let reply = RawClient::ask(gateway.addr(), UPGRADE).await;
        assert_eq!(reply.status, 502, "{fields:?}");
        assert!(!reply.text().contains("leaked"));
    }
}

/// CVE-2026-2833: bytes sent ahead with the upgrade are not forwarded before the endpoint switched; when it does not
/// switch, they are the client's next request and not the endpoint's.
#[tokio::test]
async fn bytes_sent_ahead_are_not_smuggled() {
    let script = Script::start(|mut conversation| async move {
        while let Some(head) = conversation.head().await {
            let name = head.split(' ').nth(1).unwrap_or_default().to_owned();
            conversation
                .write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len()))
                .await;
        }
    })
    .await;
    let text = r#"
[[routes]]
name = "public"
path = "/ws"
service = "app"

[services.app]
endpoints = [{ url = "{app}" }]
"#;
    let gateway = Setup::new(text).set("app", script.url()).start().await;
    let mut client = RawClient::connect(gateway.addr()).await;
    client.write(format!("{UPGRADE}GET /admin HTTP/1.1\r\nHost: a.example\r\n\r\n")).await;
    assert_eq!(client.reply().await.text(), "/ws");
    // `/admin` has no route: it is the client's next request, and the gateway's to answer.
    assert_eq!(client.reply().await.status, 404);
    assert!(script.heads().iter().all(|head| !head.starts_with("GET /admin")), "{:?}", script.heads());
}

/// The connection of a tunnel never returns to the pool.
#[tokio::test]
async fn a_tunnels_connection_is_not_used_again() {
    let echo = Echo::start().await;
    let gateway = before(&echo.endpoint.url(), "").await;
    for number in 1..=5 {
        let mut socket = websocket::connect(gateway.addr(), "/").await.unwrap();
        talk(&mut socket).await;
        assert_eq!(echo.endpoint.accepted(), number);
        socket.close(None).await.unwrap();
    }
    assert_eq!(gateway.get("/").await.status, 426);
    assert_eq!(echo.endpoint.accepted(), 6);
}

/// `Upgrade: h2c` is never passed on, and WebSocket can be switched off per service (PLU1).
#[tokio::test]
async fn upgrades_can_be_refused() {
    let echo = Echo::start().await;
    let gateway = before(&echo.endpoint.url(), "upgrade = false").await;
    assert!(websocket::connect(gateway.addr(), "/").await.is_err());
    assert!(websocket::connect_h2(gateway.addr(), "/").await.is_err());

    let script = Script::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let gateway = before(&script.url(), "").await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    assert_eq!(RawClient::ask(gateway.addr(), request).await.status, 200);
    let head = script.last_head().to_lowercase();
    assert!(!head.contains("upgrade") && !head.contains("http2-settings"), "{head}");
}

/// A subprotocol is negotiated through.
#[tokio::test]
async fn subprotocols_pass() {
    let echo = Echo::start().await;
    let gateway = before(&echo.endpoint.url(), "").await;
    let request = UPGRADE.replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: chat.v2\r\n\r\n");
    let mut client = RawClient::connect(gateway.addr()).await;
    client.write(request).await;
    let reply = client.head().await;
    assert_eq!((reply.status, reply.header("sec-websocket-protocol")), (101, "chat.v2"));
    assert_eq!(reply.header("sec-websocket-accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

/// Over TLS on both sides (`wss`).
#[tokio::test]
async fn over_tls_on_both_sides() {
    let authority = portcullis_e2e::certs::Authority::new("test");
    let pair = authority.issue(&["ws.example", "127.0.0.1"]);
    let echo = Echo::tls(pair.server(&["http/1.1"], None)).await;
    let text = r#"
[listeners.web]
address = "127.0.0.1:{port}"
tls = { cert = "cert.pem", key = "key.pem" }

[admin]
address = "127.0.0.1:{admin}"

[[routes]]
name = "all"
path = "/*"
service = "app"

[services.app]
endpoints = [{ url = "{app}" }]
tls = { ca = "ca.pem" }
"#;
    let setup = Setup::whole("gateway.toml", text).set("app", echo.endpoint.url_as("wss"));
    let setup = setup.file("cert.pem", &pair.cert).file("key.pem", &pair.key).file("ca.pem", authority.pem());
    let gateway = setup.start().await;
    let config = authority.client(&["http/1.1"]);
    let stream = portcullis_e2e::client::tls_stream(gateway.addr(), "ws.example", config).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async("wss://ws.example/ws", stream).await.unwrap();
    talk(&mut socket).await;
}
