//! Each timeout, configurable, and what it answers.

use std::time::Duration;

use portcullis_e2e::{
    Client, Endpoint, Gateway, RawClient, Script, Setup, Version,
    client::{Body, streamed},
    wait::{LONG, timed},
};

/// Long enough that a machine under load does not take a wait for a hang.
const SOON: Duration = Duration::from_secs(15);

async fn with_listener(timeouts: &str, endpoint: &str, service: &str) -> Gateway {
    let text = format!("\n[listeners.web.timeouts]\n{timeouts}\n{}", crate::one(service));
    Setup::new(&text).set("app", endpoint).start().await
}

async fn hanging() -> Script {
    Script::start(|mut conversation| async move {
        conversation.head().await;
        conversation.hang().await;
    })
    .await
}

/// A request head that does not become complete: 408, and the connection ends.
#[tokio::test]
async fn request_header() {
    let endpoint = Endpoint::named("a").await;
    let gateway = with_listener("request_header = \"300ms\"", &endpoint.url(), "").await;
    let mut client = RawClient::connect(gateway.addr()).await;
    client.write("GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ").await;
    let (seconds, reply) = timed(client.reply()).await;
    assert_eq!(reply.status, 408, "{}", reply.head);
    assert!((0.25..10.0).contains(&seconds), "{seconds}");
    assert!(client.closes_within(SOON).await);
    assert_eq!(endpoint.count(), 0);
}

/// Dripping bytes does not extend it: it is a total, not an idle time (slowloris).
#[tokio::test]
async fn request_header_is_a_total() {
    let endpoint = Endpoint::named("a").await;
    let gateway = with_listener("request_header = \"500ms\"", &endpoint.url(), "").await;
    let mut client = RawClient::connect(gateway.addr()).await;
    client.write("GET / HTTP/1.1\r\nHost: a\r\n").await;
    let dripping = async {
        for number in 0..1000 {
            use tokio::io::AsyncWriteExt;
            if client.stream.write_all(format!("X-{number}: 1\r\n").as_bytes()).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the gateway took a thousand fields");
    };
    portcullis_e2e::bounded(SOON, "the gateway to cut the drip", dripping).await;
}

/// A body that stops coming: 408, and the endpoint is left.
#[tokio::test]
async fn body_idle() {
    let endpoint = Endpoint::named("a").await;
    let gateway = with_listener("body_idle = \"300ms\"", &endpoint.url(), "").await;
    let mut client = RawClient::connect(gateway.addr()).await;
    client.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc").await;
    let reply = client.reply().await;
    assert_eq!(reply.status, 408, "{}", reply.head);
    assert!(client.closes_within(SOON).await);
    assert_eq!(endpoint.count(), 0, "an endpoint never takes half a body for a whole one");
}

/// A body slower than the minimum rate: 408 once the grace is over, though it never goes idle.
#[tokio::test]
async fn body_minimum_rate() {
    let endpoint = Endpoint::named("a").await;
    let timeouts = "body_min_rate = 1000\nbody_grace = \"400ms\"";
    let gateway = with_listener(timeouts, &endpoint.url(), "").await;
    let mut client = RawClient::connect(gateway.addr()).await;
    client.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n").await;
    let (mut read, mut write) = client.stream.into_split();
    let drip = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        while write.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    use tokio::io::AsyncReadExt;
    let mut start = [0; 12];
    portcullis_e2e::bounded(SOON, "an answer", read.read_exact(&mut start)).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 408");
    drip.abort();
}

/// An idle connection is closed after keep_alive, quietly.
#[tokio::test]
async fn keep_alive() {
    let endpoint = Endpoint::named("a").await;
    let gateway = with_listener("keep_alive = \"300ms\"", &endpoint.url(), "").await;
    let mut client = RawClient::connect(gateway.addr()).await;
    client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.reply().await.status, 200);
    let (seconds, closed) = timed(client.closes_within(SOON)).await;
    assert!(closed && seconds > 0.2, "{closed} after {seconds} s");
    let mut h2 = Client::h2(gateway.addr()).await;
    assert_eq!(h2.get("/").await.status, 200);
    portcullis_e2e::within(SOON, "the HTTP/2 connection to be closed", || {
        let closed = h2.is_closed();
        async move { closed }
    })
    .await;
}

/// A connection past its age is closed in an orderly way: the answer says so first.
#[tokio::test]
async fn max_age() {
    let endpoint = Endpoint::named("a").await;
    let gateway = with_listener("max_age = \"300ms\"", &endpoint.url(), "").await;
    let mut client = RawClient::connect(gateway.addr()).await;
    portcullis_e2e::bounded(SOON, "the connection to be closed in an orderly way", async {
        loop {
            client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            let reply = client.reply().await;
            assert_eq!(reply.status, 200);
            if reply.header("connection").eq_ignore_ascii_case("close") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(client.closes_within(SOON).await);
}

/// A client that does not read its answer is cut.
#[tokio::test]
async fn write_idle() {
    let (stopped, mut was_stopped) = tokio::sync::mpsc::channel(1);
    let endless = Endpoint::start(move |_| {
        let stopped = stopped.clone();
        async move {
            let (mut sender, body): (_, Body) = streamed();
            tokio::spawn(async move {
                while sender.send_data(vec![0; 64 * 1024].into()).await.is_ok() {}
                let _ = stopped.send(()).await;
            });
            Ok(http::Response::new(body))
        }
    })
    .await;
    let gateway = with_listener("write_idle = \"500ms\"", &endless.url(), "").await;
    let mut client = RawClient::connect(gateway.addr()).await;
    client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let reply = client.head().await;
    assert_eq!(reply.status, 200);
    // Nothing is read from here on: the endpoint is let go although the client is still connected.
    portcullis_e2e::bounded(LONG, "the endpoint to be let go", was_stopped.recv()).await.unwrap();
}

/// Connecting takes too long: 504 `connection_timeout`. (A listener whose queue is full accepts nobody.)
#[tokio::test]
async fn connect() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut filling = Vec::new();
    // Fill the queue until a connection does not come through any more.
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(300), tokio::net::TcpStream::connect(addr)).await
    {
        filling.push(stream);
        assert!(filling.len() < 64, "the queue never fills");
    }
    let service = "timeouts = { connect = \"300ms\" }";
    let gateway = with_listener("", &format!("http://{addr}"), service).await;
    let (seconds, reply) = timed(gateway.get("/")).await;
    assert_eq!(reply.status, 504, "{}", reply.text());
    assert!(reply.header("proxy-status").contains("connection_timeout"), "{:?}", reply.headers);
    assert!(seconds < 10.0, "{seconds}");
}

/// No answer: 504 `http_response_timeout`, from the service's setting, and from the route's, which wins.
#[tokio::test]
async fn response_header() {
    let hanging = hanging().await;
    let text = r#"
[[routes]]
name = "service"
path = "/service"
service = "app"

[[routes]]
name = "route"
path = "/route"
service = "patient"
timeouts = { response_header = "200ms" }

[services.app]
endpoints = [{ url = "{app}" }]
timeouts = { response_header = "200ms" }

[services.patient]
endpoints = [{ url = "{app}" }]
"#;
    let gateway = Setup::new(text).set("app", hanging.url()).start().await;
    for path in ["/service", "/route"] {
        for version in [Version::H1, Version::H2] {
            let (seconds, reply) =
                timed(async { Client::plain(version, gateway.addr()).await.get(path).await }).await;
            assert_eq!(reply.status, 504, "{path} {}", reply.text());
            assert!(reply.header("proxy-status").contains("http_response_timeout"), "{:?}", reply.headers);
            assert!((0.15..10.0).contains(&seconds), "{path}: {seconds}");
        }
    }
}

/// An answer whose body stops: the client's answer is cut, not finished.
#[tokio::test]
async fn response_body_idle() {
    let script = Script::start(|mut conversation| async move {
        conversation.head().await;
        conversation.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").await;
        conversation.hang().await;
    })
    .await;
    let gateway = with_listener("", &script.url(), "timeouts = { body_idle = \"300ms\" }").await;
    let mut client = RawClient::connect(gateway.addr()).await;
    client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let head = client.head().await;
    assert_eq!(head.status, 200);
    let rest = client.to_end().await;
    assert_eq!(rest, b"abc");
}

/// The total time of a route: 504, whatever the endpoint is doing.
#[tokio::test]
async fn total() {
    let hanging = hanging().await;
    let text = r#"
[[routes]]
name = "all"
path = "/*"
service = "app"
timeouts = { total = "300ms" }

[services.app]
endpoints = [{ url = "{app}" }]
"#;
    let gateway = Setup::new(text).set("app", hanging.url()).start().await;
    let (seconds, reply) = timed(gateway.get("/")).await;
    assert_eq!(reply.status, 504, "{}", reply.text());
    assert!((0.25..10.0).contains(&seconds), "{seconds}");
}

/// The seed's short form (AVX4): `timeout_ms` in `[server]` is the total of every route.
#[tokio::test]
async fn the_short_form() {
    let hanging = hanging().await;
    let text = format!(
        "[server]\nhost = \"127.0.0.1\"\nport = {{port}}\ntimeout_ms = 300\n[admin]\naddress = \"127.0.0.1:{{admin}}\"\n{}",
        crate::one("")
    );
    let gateway = Setup::whole("gateway.toml", &text).set("app", hanging.url()).start().await;
    assert_eq!(gateway.get("/").await.status, 504);
}

/// A TLS handshake that does not come: the connection is closed.
#[tokio::test]
async fn handshake() {
    let authority = portcullis_e2e::certs::Authority::new("test");
    let pair = authority.issue(&["a.example"]);
    let text = r#"
[listeners.web]
address = "127.0.0.1:{port}"
tls = { certificates = [{ cert = "{dir}/cert.pem", key = "{dir}/key.pem" }] }
timeouts = { handshake = "300ms" }

[admin]
address = "127.0.0.1:{admin}"

[[routes]]
name = "all"
path = "/*"
service = "@health"
"#;
    let setup = Setup::whole("gateway.toml", text).file("cert.pem", &pair.cert).file("key.pem", &pair.key);
    let gateway = setup.start().await;
    let mut client = RawClient::connect(gateway.addr()).await;
    assert!(client.closes_within(SOON).await);
}

/// A tunnel without a byte either way is closed.
#[tokio::test]
async fn tunnel_idle() {
    use futures_util::StreamExt;
    let echo = portcullis_e2e::websocket::Echo::start().await;
    let gateway = with_listener("", &echo.endpoint.url(), "timeouts = { tunnel_idle = \"300ms\" }").await;
    let mut socket = portcullis_e2e::websocket::connect(gateway.addr(), "/ws").await.unwrap();
    let end = portcullis_e2e::bounded(SOON, "the tunnel to be closed", socket.next()).await;
    assert!(!matches!(end, Some(Ok(_))), "{end:?}");
}

/// An idle connection to an endpoint is closed after the pool's idle timeout.
#[tokio::test]
async fn pool_idle() {
    let (left, mut was_left) = tokio::sync::mpsc::channel(1);
    let script = Script::start(move |mut conversation| {
        let left = left.clone();
        async move {
            while conversation.head().await.is_some() {
                conversation.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            }
            let _ = left.send(()).await;
        }
    })
    .await;
    let gateway = with_listener("", &script.url(), "pool = { idle_timeout = \"300ms\" }").await;
    assert_eq!(gateway.get("/").await.status, 200);
    portcullis_e2e::bounded(SOON, "the pooled connection to be closed", was_left.recv()).await.unwrap();
}

/// An idle HTTP/2 connection to an endpoint, too.
#[tokio::test]
async fn pool_idle_over_h2() {
    let endpoint = Endpoint::named("a").await;
    let extra = "pool = { idle_timeout = \"300ms\" }";
    let gateway = with_listener("", &endpoint.url_as("h2c"), extra).await;
    assert_eq!(gateway.get("/").await.status, 200);
    let open = || async {
        let services = gateway.admin_get("/api/services").await.json();
        services["services"]
            .as_array()
            .unwrap()
            .iter()
            .any(|service| service["endpoints"][0]["connections"] == 1)
    };
    assert!(open().await, "it is kept at first");
    portcullis_e2e::within(LONG, "the connection to be closed", || async { !open().await }).await;
    assert_eq!(gateway.get("/").await.status, 200, "and made anew when it is needed");
    assert_eq!(endpoint.accepted(), 2);
}

/// What is silent by nature has a time of its own: `body_idle` does not cut events, `stream_idle` does.
#[tokio::test]
async fn stream_idle() {
    let script = Script::start(|mut conversation| async move {
        conversation.head().await;
        conversation.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        conversation.write("data: 2\n\n").await;
        conversation.hang().await;
    })
    .await;
    let service = "timeouts = { body_idle = \"200ms\", stream_idle = \"200ms\" }";
    let route = "service = \"app\"\ntimeouts = { stream_idle = \"3s\" }\n";
    for (text, events) in
        [(crate::one(service), 1), (crate::one(service).replace("service = \"app\"\n", route), 2)]
    {
        let gateway = Setup::new(&text).set("app", script.url()).start().await;
        for version in [Version::H1, Version::H2] {
            let mut client = Client::plain(version, gateway.addr()).await;
            let request = http::Request::get("/").body(portcullis_e2e::client::empty()).unwrap();
            let mut answer = client.send(request).await;
            assert_eq!(answer.status(), 200);
            let mut got = String::new();
            while let Some(Ok(frame)) = http_body_util::BodyExt::frame(&mut answer).await {
                got.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
            }
            assert_eq!(got.matches("data:").count(), events, "{version:?} {got:?}");
        }
    }
}

/// A route may choose how long its tunnels are silent.
#[tokio::test]
async fn tunnel_idle_of_a_route() {
    use futures_util::StreamExt;
    let echo = portcullis_e2e::websocket::Echo::start().await;
    let route = "service = \"app\"\ntimeouts = { tunnel_idle = \"300ms\" }\n";
    let text = crate::one("").replace("service = \"app\"\n", route);
    let gateway = Setup::new(&text).set("app", echo.endpoint.url()).start().await;
    let mut socket = portcullis_e2e::websocket::connect(gateway.addr(), "/ws").await.unwrap();
    let end = portcullis_e2e::bounded(SOON, "the tunnel to be closed", socket.next()).await;
    assert!(!matches!(end, Some(Ok(_))), "{end:?}");
}
