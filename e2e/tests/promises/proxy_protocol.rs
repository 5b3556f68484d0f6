//! The PROXY protocol, versions 1 and 2, in and out: with HAProxy and nginx as peers, and byte by byte.

use std::{net::SocketAddr, time::Duration};

use portcullis_e2e::{
    Client, Endpoint, Gateway, Peer, RawClient, Script, Setup, Version, bounded, certs::Authority,
    client::empty, wait::LONG, within,
};
use tokio::net::{TcpSocket, TcpStream};

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n";

/// A gateway whose listener `web` has these settings.
async fn told(endpoint: &Endpoint, settings: &str) -> Gateway {
    setup(endpoint, settings).start().await
}

fn setup(endpoint: &Endpoint, settings: &str) -> Setup {
    let text = format!(
        r#"
[access_log]
format = "json"

[listeners.web]
address = "127.0.0.1:{{port}}"
{settings}

[admin]
address = "127.0.0.1:{{admin}}"
{}"#,
        crate::one("")
    );
    Setup::whole("gateway.toml", &text).set("app", endpoint.url())
}

const FROM_US: &str = "proxy_protocol = { from = [\"127.0.0.0/8\"] }";

/// Version 2 of this client.
fn binary(client: [u8; 4], port: u16) -> Vec<u8> {
    let mut header = [V2, &[0x21, 0x11, 0, 12], &client, &[198, 51, 100, 9]].concat();
    header.extend(port.to_be_bytes());
    header.extend(443_u16.to_be_bytes());
    header
}

async fn refusals(gateway: &Gateway, reason: &str) -> f64 {
    let labels = [("listener", "web"), ("reason", reason)];
    gateway.metrics().await.sum("gateway_connections_refused_total", &labels)
}

/// A socket that connects from an address of this machine's own choosing.
async fn from(source: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(format!("{source}:0").parse().expect("an address")).expect("bound");
    bounded(LONG, "connecting", socket.connect(to)).await.expect("a connection")
}

/// What is told is the client everywhere: for endpoints, in the log; however the header is cut; both versions; before
/// HTTP/2 and before TLS. What says nothing leaves the connection's own address.
#[tokio::test]
async fn what_a_trusted_proxy_tells_is_the_client() {
    let endpoint = Endpoint::named("a").await;
    let gateway = told(&endpoint, FROM_US).await;
    let unix = [V2, &[0x21, 0x31, 0, 216], &[b'x'; 216][..]].concat();
    let large = [
        V2,
        &[0x21, 0x11, 0x10, 0x0f],
        &[203, 0, 113, 4, 1, 1, 1, 1, 0, 1, 0, 2],
        &[0xe0, 0x10, 0],
        &[7; 4096],
    ]
    .concat();
    let cases: [(&[u8], &str); 7] = [
        (b"PROXY TCP4 203.0.113.1 198.51.100.9 1000 443\r\n", "203.0.113.1"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 1000 443\r\n", "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (&binary([203, 0, 113, 2], 1), "203.0.113.2"),
        (&[V2, &[0x20, 0, 0, 0]].concat(), "127.0.0.1"),
        (&unix, "127.0.0.1"),
        (&large, "203.0.113.4"),
    ];
    for (header, client) in cases {
        let reply = RawClient::ask(gateway.addr(), [header, GET].concat()).await;
        assert_eq!((reply.status, endpoint.last().header("x-forwarded-for")), (200, client));
    }
    gateway.says("\"client\":\"203.0.113.1\"").await;
    // In pieces, each of which has arrived before the next is sent.
    let mut client = RawClient::connect(gateway.addr()).await;
    for piece in [binary([203, 0, 113, 3], 1), GET.to_vec()].concat().chunks(9) {
        client.write(piece).await;
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    assert_eq!(
        (client.reply().await.status, endpoint.last().header("x-forwarded-for")),
        (200, "203.0.113.3")
    );
    // Before HTTP/2.
    let mut stream = TcpStream::connect(gateway.addr()).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, &binary([203, 0, 113, 5], 1)).await.unwrap();
    let mut client = Client::over(Version::H2, stream, "shop.example".into(), "http").await.unwrap();
    assert_eq!(
        (client.get("/").await.status, endpoint.last().header("x-forwarded-for")),
        (200, "203.0.113.5")
    );
}

/// Before TLS, by HAProxy in front of the gateway, in both versions.
#[tokio::test]
async fn haproxy_in_front() {
    let endpoint = Endpoint::named("a").await;
    let authority = Authority::new("own");
    let pair = authority.issue(&["shop.example"]);
    let tls = "tls = { cert = \"cert.pem\", key = \"key.pem\" }";
    let gateway = setup(&endpoint, &format!("{tls}\n{FROM_US}"))
        .file("cert.pem", &pair.cert)
        .file("key.pem", &pair.key)
        .start()
        .await;
    for (sending, source) in
        [("send-proxy", "127.0.0.41"), ("send-proxy-v2 proxy-v2-options crc32c,unique-id", "127.0.0.42")]
    {
        let haproxy = Peer::haproxy(
            &format!(
                "listen front\n  mode tcp\n  bind 127.0.0.1:{{port}}\n  unique-id-format %pid\n  server gateway {} {sending}",
                gateway.addr()
            ),
            &[],
        );
        let stream = from(source, haproxy.addr()).await;
        let config = std::sync::Arc::new(authority.client(&["h2"]));
        let name = "shop.example".try_into().unwrap();
        let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.unwrap();
        let mut client = Client::over(Version::H2, stream, "shop.example".into(), "https").await.unwrap();
        assert_eq!(client.get("/").await.status, 200, "{}", haproxy.said());
        assert_eq!(endpoint.last().header("x-forwarded-for"), source);
    }
}

/// A header from a stranger, none from a trusted peer, a broken one, one that never ends: the connection is closed
/// without a word, and counted.
#[tokio::test]
async fn who_must_not_is_refused() {
    let endpoint = Endpoint::named("a").await;
    let header = binary([203, 0, 113, 1], 1);
    let soon = "timeouts = { request_header = \"300ms\" }";
    let strangers = told(&endpoint, "proxy_protocol = { from = [\"192.0.2.0/24\"] }").await;
    let trusted = told(&endpoint, &format!("{FROM_US}\n{soon}")).await;
    let cases: [(&Gateway, Vec<u8>, &str); 7] = [
        (&strangers, [&header, GET].concat(), "proxy-protocol-untrusted"),
        (&strangers, [b"PROXY UNKNOWN\r\n", GET].concat(), "proxy-protocol-untrusted"),
        (&trusted, GET.to_vec(), "proxy-protocol-missing"),
        (&trusted, [b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", GET].concat(), "proxy-protocol-invalid"),
        (&trusted, [V2, &[0x21, 0x11, 0, 2, 1, 2], GET].concat(), "proxy-protocol-invalid"),
        (&trusted, header[..20].to_vec(), "proxy-protocol-timeout"),
        (&trusted, Vec::new(), "proxy-protocol-timeout"),
    ];
    for (gateway, bytes, reason) in cases {
        let before = refusals(gateway, reason).await;
        let mut client = RawClient::connect(gateway.addr()).await;
        client.write(&bytes).await;
        assert!(client.closes_within(Duration::from_secs(10)).await, "{reason}");
        within(LONG, reason, || async { refusals(gateway, reason).await == before + 1.0 }).await;
    }
    assert_eq!(endpoint.count(), 0);
    // A stranger without a header is a client like any other.
    assert_eq!(strangers.get("/").await.status, 200);
    assert_eq!(endpoint.last().header("x-forwarded-for"), "127.0.0.1");
}

/// `required = false`: with or without.
#[tokio::test]
async fn a_header_may_be_optional() {
    let endpoint = Endpoint::named("a").await;
    let gateway = told(&endpoint, "proxy_protocol = { from = [\"127.0.0.1\"], required = false }").await;
    assert_eq!(gateway.get("/").await.status, 200);
    assert_eq!(endpoint.last().header("x-forwarded-for"), "127.0.0.1");
    // What begins as a header does, and turns out to be none, is not lost.
    let mut client = RawClient::connect(gateway.addr()).await;
    client.write("PR").await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    client.write("OPFIND / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!((client.reply().await.status, endpoint.last().method.as_str()), (200, "PROPFIND"));
    RawClient::ask(gateway.addr(), [&binary([203, 0, 113, 1], 1), GET].concat()).await;
    assert_eq!(endpoint.last().header("x-forwarded-for"), "203.0.113.1");
}

/// Bounds and trust are about the client that was told, not about the proxy.
#[tokio::test]
async fn bounds_and_trust_follow_the_told_client() {
    let endpoint = Endpoint::named("a").await;
    let more = "limits = { connections_per_client = 1 }\ntrusted_proxies = [\"203.0.113.1\"]";
    let gateway = told(&endpoint, &format!("{FROM_US}\n{more}")).await;
    let ask = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n".as_bytes();
    let mut open = Vec::new();
    for (client, chain) in [(1, "9.9.9.9, 203.0.113.1"), (2, "203.0.113.2")] {
        let mut connection = RawClient::connect(gateway.addr()).await;
        connection.write([&binary([203, 0, 113, client], 1), ask].concat()).await;
        assert_eq!(
            (connection.reply().await.status, endpoint.last().header("x-forwarded-for")),
            (200, chain)
        );
        open.push(connection);
    }
    let mut again = RawClient::connect(gateway.addr()).await;
    again.write([&binary([203, 0, 113, 2], 2), GET].concat()).await;
    assert!(again.closes_within(Duration::from_secs(10)).await);
    assert_eq!(refusals(&gateway, "connections_per_client").await, 1.0);
}

/// The endpoint is told once per connection, and a connection serves one client only, but all requests of that one.
#[tokio::test]
async fn endpoints_are_told_and_connections_not_shared() {
    let script = Script::start(|mut conversation| async move {
        let Some(header) = conversation.until(b"\r\n\r\n").await else { return };
        let header = String::from_utf8_lossy(&header).lines().next().unwrap_or_default().to_owned();
        let answer = || {
            let body = format!("{} {header}", conversation.number);
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        };
        let answer = answer();
        conversation.write(&answer).await;
        while conversation.until(b"\r\n\r\n").await.is_some() {
            conversation.write(&answer).await;
        }
    })
    .await;
    let gateway = Setup::new(&crate::one("proxy_protocol = \"v1\"")).set("app", script.url()).start().await;
    let mut clients = Vec::new();
    for (number, source) in ["127.0.0.31", "127.0.0.32"].into_iter().enumerate() {
        let stream = from(source, gateway.addr()).await;
        let port = stream.local_addr().unwrap().port();
        let wanted = format!("{number} PROXY TCP4 {source} 127.0.0.1 {port} {}", gateway.addr().port());
        clients.push((Client::over(Version::H1, stream, "a".into(), "http").await.unwrap(), wanted));
    }
    for _ in 0..3 {
        for (client, wanted) in &mut clients {
            assert_eq!(client.get("/").await.text(), *wanted);
        }
    }
    // What was kept for a client goes when the client does.
    let idle = || async { gateway.metrics().await.sum("gateway_pool_connections_idle", &[]) };
    within(LONG, "two idle connections", || async { idle().await == 2.0 }).await;
    clients.clear();
    within(LONG, "no idle connection", || async { idle().await == 0.0 }).await;
}

/// HAProxy and nginx behind: HTTP/1.1 and HTTP/2, in plain text and over TLS, with health checks.
#[tokio::test]
async fn peers_behind() {
    let authority = Authority::new("own");
    let pair = authority.issue(&["127.0.0.1"]);
    let (ca, both) = (authority.pem(), format!("{}{}", pair.cert, pair.key));
    let haproxy = |bind: &str| {
        let answer = "http-request return status 200 hdr x-told %[src]";
        Peer::haproxy(
            &format!("frontend behind\n  bind 127.0.0.1:{{port}} accept-proxy {bind}\n  {answer}"),
            &[("both.pem", &both)],
        )
    };
    let nginx = Peer::nginx(
        "server { listen 127.0.0.1:{port} proxy_protocol; \
         location / { add_header x-told $proxy_protocol_addr; return 200; } }",
    );
    let cases = [
        (haproxy(""), "http", "v1", ""),
        (haproxy(""), "http", "v2", ""),
        (nginx, "http", "v2", ""),
        (haproxy("proto h2"), "h2c", "v2", ""),
        (haproxy("ssl crt {dir}/both.pem alpn h2,http/1.1"), "https", "v2", "tls = { ca = \"ca.pem\" }"),
    ];
    for (peer, scheme, version, more) in cases {
        let extra = format!("proxy_protocol = \"{version}\"\nhealth_check = \"/\"\n{more}");
        let url = format!("{scheme}://{}", peer.addr());
        let gateway = Setup::new(&crate::one(&extra)).set("app", &url).file("ca.pem", &ca).start().await;
        let served = || async { gateway.get("/").await.status == 200 };
        within(LONG, "the endpoint to pass its check", served).await;
        for (client, source) in [(Version::H1, "127.0.0.51"), (Version::H2, "127.0.0.52")] {
            let stream = from(source, gateway.addr()).await;
            let mut client = Client::over(client, stream, "a".into(), "http").await.unwrap();
            for _ in 0..2 {
                let request = http::Request::get("/").body(empty()).unwrap();
                let reply = client.fetch(request).await;
                assert_eq!(
                    (reply.status, reply.header("x-told")),
                    (200, source),
                    "{url} {version} {}",
                    peer.said()
                );
            }
        }
    }
}
