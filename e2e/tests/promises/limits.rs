//! Each limit: head bytes and fields, target, body by length and by chunks, connections in all and per client.

use std::time::Duration;

use http::Request;
use portcullis_e2e::{
    Client, Endpoint, Gateway, RawClient, Setup, Version,
    client::{empty, full, streamed},
    wait::LONG,
    within,
};

async fn with(limits: &str, endpoint: &Endpoint) -> Gateway {
    let text = format!("\n[listeners.web.limits]\n{limits}\n{}", crate::one(""));
    Setup::new(&text).set("app", endpoint.url()).start().await
}

/// What a client of either version is told: the status, or 0 when the stream or connection was ended instead.
async fn status(version: Version, gateway: &Gateway, request: Request<portcullis_e2e::client::Body>) -> u16 {
    let mut client = Client::plain(version, gateway.addr()).await;
    portcullis_e2e::bounded(LONG, "an answer", client.try_fetch(request))
        .await
        .map_or(0, |reply| reply.status)
}

/// A head larger than allowed: 431; up to the limit: forwarded. The defaults hold without being written.
#[tokio::test]
async fn head_bytes() {
    let endpoint = Endpoint::named("a").await;
    for (limits, small, large) in [("header_bytes = 2048", 1000, 3000), ("", 20_000, 40_000)] {
        let gateway = with(limits, &endpoint).await;
        for version in [Version::H1, Version::H2] {
            let sized = |bytes| Request::get("/").header("x-large", "v".repeat(bytes)).body(empty()).unwrap();
            assert_eq!(status(version, &gateway, sized(small)).await, 200, "{version:?} {limits:?}");
            assert_eq!(status(version, &gateway, sized(large)).await, 431, "{version:?} {limits:?}");
        }
    }
    assert!(endpoint.seen().iter().all(|seen| seen.header("x-large").len() <= 20_000));
}

/// Heads that HTTP/2's library answers by itself are counted, each once; those it takes are not.
#[tokio::test]
async fn what_the_library_refuses_is_counted() {
    let endpoint = Endpoint::named("a").await;
    let gateway = with("", &endpoint).await;
    let mut client = Client::h2(gateway.addr()).await;
    let sized = |bytes| Request::get("/").header("x-large", "v".repeat(bytes)).body(empty()).unwrap();
    for (bytes, expected) in [(10, 200), (40_000, 431), (20_000, 200), (60_000, 431), (10, 200)] {
        assert_eq!(client.fetch(sized(bytes)).await.status, expected, "{bytes} bytes");
    }
    let refused =
        async || gateway.metrics().await.sum("gateway_connections_refused_total", &[("reason", "http2")]);
    within(LONG, "both to be counted", || async { refused().await == 2.0 }).await;
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(refused().await, 2.0);
}

/// More fields than allowed: 431.
#[tokio::test]
async fn head_fields() {
    let endpoint = Endpoint::named("a").await;
    for (limits, few, many) in [("header_count = 20", 10, 30), ("", 90, 110)] {
        let gateway = with(limits, &endpoint).await;
        for version in [Version::H1, Version::H2] {
            let counted = |fields| {
                let builder = Request::get("/");
                (0..fields)
                    .fold(builder, |builder, number| builder.header(format!("x-{number}"), "1"))
                    .body(empty())
                    .unwrap()
            };
            assert_eq!(status(version, &gateway, counted(few)).await, 200, "{version:?} {limits:?}");
            assert_eq!(status(version, &gateway, counted(many)).await, 431, "{version:?} {limits:?}");
        }
    }
}

/// A target longer than allowed: 414.
#[tokio::test]
async fn target_bytes() {
    let endpoint = Endpoint::named("a").await;
    for (limits, short, long) in [("uri_bytes = 100", 80, 200), ("", 8000, 9000)] {
        let gateway = with(limits, &endpoint).await;
        for version in [Version::H1, Version::H2] {
            let sized =
                |bytes: usize| Request::get(format!("/{}", "p".repeat(bytes - 1))).body(empty()).unwrap();
            assert_eq!(status(version, &gateway, sized(short)).await, 200, "{version:?} {limits:?}");
            assert_eq!(status(version, &gateway, sized(long)).await, 414, "{version:?} {limits:?}");
        }
    }
}

/// A body longer than allowed: 413; at once when its length is announced, while it comes when it is not.
#[tokio::test]
async fn body_bytes() {
    let endpoint = Endpoint::named("a").await;
    let gateway = with("body_bytes = \"1 KiB\"", &endpoint).await;
    for version in [Version::H1, Version::H2] {
        let sized = |bytes| Request::post("/").body(full(vec![b'x'; bytes])).unwrap();
        assert_eq!(status(version, &gateway, sized(1024)).await, 200, "{version:?}");
        assert_eq!(endpoint.last().body.len(), 1024);
        assert_eq!(status(version, &gateway, sized(1025)).await, 413, "{version:?}");
        for (bytes, expected) in [(1000, 200), (5000, 413)] {
            let (mut sender, body) = streamed();
            tokio::spawn(async move {
                for _ in 0..bytes / 100 {
                    if sender.send_data(vec![b'x'; 100].into()).await.is_err() {
                        return;
                    }
                }
            });
            let answer = status(version, &gateway, Request::post("/").body(body).unwrap()).await;
            assert_eq!(answer, expected, "{version:?} {bytes}");
        }
    }
    assert!(
        endpoint.seen().iter().all(|seen| seen.body.len() <= 1024),
        "never more than allowed, never taken for whole"
    );
}

/// A route may allow more than its listener, or less, or anything.
#[tokio::test]
async fn body_bytes_per_route() {
    let endpoint = Endpoint::named("a").await;
    let text = r#"
[listeners.web.limits]
body_bytes = "1 KiB"

[[routes]]
name = "less"
path = "/less"
service = "app"
limits = { body_bytes = "10 B" }

[[routes]]
name = "upload"
path = "/upload"
service = "app"
limits = { body_bytes = "unlimited" }

[services.app]
endpoints = [{ url = "{app}" }]
"#;
    let gateway = Setup::new(text).set("app", endpoint.url()).start().await;
    for (path, bytes, expected) in [("/less", 10, 200), ("/less", 11, 413), ("/upload", 100_000, 200)] {
        let request = Request::post(path).body(full(vec![0; bytes])).unwrap();
        assert_eq!(gateway.send(request).await.status, expected, "{path} {bytes}");
    }
}

async fn is_served(client: &mut RawClient) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut start = [0; 12];
    let _ = client.stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let read = tokio::time::timeout(Duration::from_secs(2), client.stream.read_exact(&mut start)).await;
    matches!(read, Ok(Ok(_))) && &start == b"HTTP/1.1 200"
}

/// Connections of a listener, of one client, of the process: those beyond are not served; when one leaves, the next is.
#[tokio::test]
async fn connections() {
    let endpoint = Endpoint::named("a").await;
    for (limits, top) in
        [("connections = 4", ""), ("connections_per_client = 4", ""), ("", "max_connections = 4")]
    {
        let text = format!("\n[listeners.web.limits]\n{limits}\n{}", crate::one(""));
        let setup = if top.is_empty() { Setup::new(&text) } else { Setup::new(&text).top(top) };
        let gateway = setup.set("app", endpoint.url()).start().await;
        let mut served = Vec::new();
        for _ in 0..4 {
            let mut client = RawClient::connect(gateway.addr()).await;
            if is_served(&mut client).await {
                served.push(client);
            }
        }
        assert!(served.len() >= 3, "{limits}{top}: {} served", served.len());
        let mut refused = 0;
        for _ in 0..4 {
            let mut client = RawClient::connect(gateway.addr()).await;
            refused += usize::from(!is_served(&mut client).await);
        }
        assert!(refused >= 3, "{limits}{top}: {refused} of 4 refused");
        drop(served);
        let addr = gateway.addr();
        within(LONG, "room again", || async move { is_served(&mut RawClient::connect(addr).await).await })
            .await;
    }
}

/// After so many requests a connection is closed in an orderly way.
#[tokio::test]
async fn requests_per_connection() {
    let endpoint = Endpoint::named("a").await;
    let gateway = with("requests_per_connection = 3", &endpoint).await;
    let mut client = RawClient::connect(gateway.addr()).await;
    for number in 1..=3 {
        client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let reply = client.reply().await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("connection").eq_ignore_ascii_case("close"), number == 3, "{}", reply.head);
    }
    assert!(client.closes_within(LONG).await);
}

/// Connections to one endpoint, all workers together, are never more than its cap.
#[tokio::test]
async fn connections_to_an_endpoint() {
    let open = std::sync::Arc::new(std::sync::Mutex::new((0_usize, 0_usize)));
    let counting = std::sync::Arc::clone(&open);
    let script = portcullis_e2e::Script::start(move |mut conversation| {
        let counting = std::sync::Arc::clone(&counting);
        async move {
            {
                let mut counts = counting.lock().unwrap();
                counts.0 += 1;
                counts.1 = counts.1.max(counts.0);
            }
            while conversation.head().await.is_some() {
                tokio::time::sleep(Duration::from_millis(20)).await;
                conversation.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            }
            counting.lock().unwrap().0 -= 1;
        }
    })
    .await;
    let text = crate::one("pool = { max_connections = 3 }");
    let gateway = Setup::new(&text).set("app", script.url()).start().await;
    let mut asking = Vec::new();
    for _ in 0..12 {
        let addr = gateway.addr();
        asking.push(tokio::spawn(async move { Client::h1(addr).await.get("/").await.status }));
    }
    for asked in asking {
        let status = asked.await.unwrap();
        assert!(status == 200 || status == 503, "{status}");
    }
    let most = open.lock().unwrap().1;
    assert!(most <= 3, "{most} connections at once");
}
