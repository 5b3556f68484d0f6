//! The matrix: HTTP/1.1 and HTTP/2 in, HTTP/1.1 and HTTP/2 out (VK1, VK10), and every kind of body and answer.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::BodyExt;
use portcullis_e2e::{
    Client, Endpoint, Gateway, RawClient, Script, Setup, Version,
    client::{Body, empty, full, streamed},
    endpoint::Seen,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Each pair of a client's version and an endpoint's scheme, over an endpoint with this behaviour.
async fn pairs<F>(answer: F) -> Vec<(Version, &'static str, Gateway, std::sync::Arc<Endpoint>)>
where
    F: Fn(&Seen) -> Response<Body> + Send + Sync + 'static,
{
    let endpoint = std::sync::Arc::new(Endpoint::with(answer).await);
    let mut pairs = Vec::new();
    for scheme in ["http", "h2c"] {
        for version in [Version::H1, Version::H2] {
            let gateway = Setup::new(&crate::one("")).set("app", endpoint.url_as(scheme)).start().await;
            pairs.push((version, scheme, gateway, std::sync::Arc::clone(&endpoint)));
        }
    }
    pairs
}

/// Every method, with and without a body, small and large: what was sent arrives, what was answered comes back.
#[tokio::test]
async fn methods_and_bodies() {
    let echo = |seen: &Seen| {
        let builder = Response::builder().status(201).header("x-method", seen.method.as_str());
        builder.body(full(seen.body.clone())).unwrap()
    };
    for (version, scheme, gateway, endpoint) in pairs(echo).await {
        let mut client = Client::plain(version, gateway.addr()).await;
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
            for size in [0, 1, 5000, 3_000_000] {
                if method == "GET" && size > 0 {
                    continue;
                }
                let body: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
                let request =
                    Request::builder().method(method).uri("/p/q?x=%20y&z").body(full(body.clone())).unwrap();
                let reply = client.fetch(request).await;
                let what = format!("{version:?} {scheme} {method} {size}");
                assert_eq!((reply.status, reply.header("x-method")), (201, method), "{what}");
                assert!(reply.body == body, "{what}: {} bytes back", reply.body.len());
                let seen = endpoint.last();
                assert_eq!(seen.target, "/p/q?x=%20y&z", "{what}");
                let h2 = seen.version == http::Version::HTTP_2;
                assert_eq!(h2, scheme == "h2c", "{what}");
                endpoint.forget();
            }
        }
    }
}

/// A body of unknown length arrives whole, both ways.
#[tokio::test]
async fn bodies_of_unknown_length() {
    let answer = |seen: &Seen| {
        let (mut sender, body) = streamed();
        let data = seen.body.clone();
        tokio::spawn(async move {
            for piece in data.chunks(1000) {
                let _ = sender.send_data(piece.to_vec().into()).await;
            }
        });
        Response::new(body)
    };
    for (version, scheme, gateway, _) in pairs(answer).await {
        let mut client = Client::plain(version, gateway.addr()).await;
        let (mut sender, body) = streamed();
        tokio::spawn(async move {
            for number in 0..100_u8 {
                let _ = sender.send_data(vec![number; 777].into()).await;
            }
        });
        let reply = client.fetch(Request::post("/").body(body).unwrap()).await;
        let expected: Vec<u8> = (0..100_u8).flat_map(|number| vec![number; 777]).collect();
        assert!(reply.body == expected, "{version:?} {scheme}: {} bytes", reply.body.len());
    }
}

/// Trailers pass both ways.
#[tokio::test]
async fn trailers_pass() {
    let answer = |seen: &Seen| {
        let (mut sender, body) = streamed();
        let sum = seen.trailers.as_ref().and_then(|trailers| trailers.get("x-sum").cloned());
        tokio::spawn(async move {
            let _ = sender.send_data("body".into()).await;
            let mut trailers = HeaderMap::new();
            trailers.insert("x-answer-sum", sum.unwrap_or(HeaderValue::from_static("none")));
            let _ = sender.send_trailers(trailers).await;
        });
        Response::builder().header("trailer", "x-answer-sum").body(body).unwrap()
    };
    for (version, scheme, gateway, _) in pairs(answer).await {
        let mut client = Client::plain(version, gateway.addr()).await;
        let (mut sender, body) = streamed();
        tokio::spawn(async move {
            let _ = sender.send_data("request".into()).await;
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", HeaderValue::from_static("42"));
            let _ = sender.send_trailers(trailers).await;
        });
        let request =
            Request::post("/").header("te", "trailers").header("trailer", "x-sum").body(body).unwrap();
        let reply = client.fetch(request).await;
        assert_eq!(reply.text(), "body", "{version:?} {scheme}");
        let trailers = reply.trailers.unwrap_or_default();
        assert_eq!(trailers.get("x-answer-sum").unwrap(), "42", "{version:?} {scheme}");
    }
}

/// HEAD has the length and no body, 204 and 304 neither; and the connection is fit for the next request.
#[tokio::test]
async fn answers_without_a_body() {
    let answer = |seen: &Seen| match seen.target.as_str() {
        "/204" => Response::builder().status(204).body(empty()).unwrap(),
        "/304" => Response::builder().status(304).header("etag", "\"x\"").body(empty()).unwrap(),
        _ if seen.method == Method::HEAD => {
            Response::builder().header("content-length", 1234).body(empty()).unwrap()
        }
        _ => Response::new(full("text")),
    };
    for (version, scheme, gateway, _) in pairs(answer).await {
        let mut client = Client::plain(version, gateway.addr()).await;
        for _ in 0..3 {
            let head = client.fetch(Request::head("/").body(empty()).unwrap()).await;
            assert_eq!(
                (head.status, head.header("content-length"), head.body.len()),
                (200, "1234", 0),
                "{version:?} {scheme}"
            );
            let none = client.get("/204").await;
            assert_eq!((none.status, none.body.len(), none.header("transfer-encoding")), (204, 0, ""));
            assert_eq!(none.header("content-length"), "", "RFC 9110 §8.6");
            let same = client.get("/304").await;
            assert_eq!((same.status, same.header("etag"), same.body.len()), (304, "\"x\"", 0));
            assert_eq!(client.get("/").await.text(), "text");
        }
    }
}

/// All framings of HTTP/1.1 answers: by length, chunked, and ended by closing; to clients of both versions.
#[tokio::test]
async fn framings_of_answers() {
    for (framing, body) in [
        ("Content-Length: 5\r\n", "hello"),
        ("Transfer-Encoding: chunked\r\n", "2;ext=\"x\"\r\nhe\r\n3\r\nllo\r\n0\r\nX-Trailer: 1\r\n\r\n"),
        ("transfer-encoding: Chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("Connection: close\r\n", "hello"),
        ("", "hello"),
    ] {
        let script = Script::answering(format!("HTTP/1.1 200 OK\r\n{framing}\r\n{body}")).await;
        let gateway = Setup::new(&crate::one("")).set("app", script.url()).start().await;
        for version in [Version::H1, Version::H2] {
            let reply = Client::plain(version, gateway.addr()).await.get("/").await;
            assert_eq!(reply.text(), "hello", "{version:?} {framing:?}");
        }
    }
}

/// A client's last request: the connection ends with the answer, whole, however slowly it is read, and also when the
/// client sends more than it said.
#[tokio::test]
async fn last_requests() {
    const LARGE: usize = 4 << 20;
    let endpoint = Endpoint::with(|_| Response::new(full(vec![b'x'; LARGE]))).await;
    let gateway = Setup::new(&crate::one("")).set("app", endpoint.url()).start().await;
    for more in ["", "\r\n", "GET /more HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut stream = TcpStream::connect(gateway.addr()).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n{more}");
        stream.write_all(request.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(answer.len() - head, LARGE, "{more:?}");
    }
    assert!(endpoint.seen().iter().all(|seen| seen.target == "/"));
}

/// An HTTP/1.0 client gets an answer it can read: no chunks, and its connection closed or kept as it asked.
#[tokio::test]
async fn http_1_0_clients() {
    let answer = |_: &Seen| {
        let (mut sender, body) = streamed();
        tokio::spawn(async move {
            let _ = sender.send_data("hello ".into()).await;
            let _ = sender.send_data("world".into()).await;
        });
        Response::new(body)
    };
    let endpoint = Endpoint::with(answer).await;
    let gateway = Setup::new(&crate::one("")).set("app", endpoint.url()).start().await;
    let reply = RawClient::ask(gateway.addr(), "GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
    assert_eq!(
        (reply.status, reply.header("transfer-encoding"), reply.text().as_str()),
        (200, "", "hello world")
    );
    let fixed = Endpoint::named("a").await;
    let gateway = Setup::new(&crate::one("")).set("app", fixed.url()).start().await;
    let mut client = RawClient::connect(gateway.addr()).await;
    for _ in 0..2 {
        client.write("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").await;
        let reply = client.reply().await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "a"));
        assert!(reply.header("connection").eq_ignore_ascii_case("keep-alive"), "{}", reply.head);
    }
    // RFC 9110 §7.6.3: by which version it was received.
    assert_eq!(fixed.last().header("via"), "1.0 portcullis");
}

/// Requests sent ahead without waiting (pipelining) are answered in order.
#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let endpoint = Endpoint::with(|seen| Response::new(full(seen.target.clone()))).await;
    let gateway = Setup::new(&crate::one("")).set("app", endpoint.url()).start().await;
    let mut client = RawClient::connect(gateway.addr()).await;
    let requests: String =
        (0..20).map(|number| format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    client.write(requests).await;
    for number in 0..20 {
        assert_eq!(client.reply().await.text(), format!("/{number}"));
    }
}

/// Many streams of one HTTP/2 connection at once.
#[tokio::test]
async fn many_streams_at_once() {
    let endpoint = Endpoint::with(|seen| Response::new(full(seen.target.clone()))).await;
    for scheme in ["http", "h2c"] {
        let gateway = Setup::new(&crate::one("")).set("app", endpoint.url_as(scheme)).start().await;
        let mut client = Client::h2(gateway.addr()).await;
        let mut answers = Vec::new();
        for number in 0..90 {
            answers.push(client.send(Request::get(format!("/{number}")).body(empty()).unwrap()).await);
        }
        for (number, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), format!("/{number}"));
        }
    }
}

/// A pooled connection is used again, whatever the version of the client.
#[tokio::test]
async fn connections_to_endpoints_are_used_again() {
    for (scheme, version) in
        [("http", Version::H1), ("http", Version::H2), ("h2c", Version::H1), ("h2c", Version::H2)]
    {
        let endpoint = Endpoint::named("a").await;
        let setup = Setup::new(&crate::one("")).top("workers = 1");
        let gateway = setup.set("app", endpoint.url_as(scheme)).start().await;
        let mut client = Client::plain(version, gateway.addr()).await;
        for _ in 0..20 {
            assert_eq!(client.get("/").await.status, 200);
        }
        assert_eq!(endpoint.accepted(), 1, "{version:?} {scheme}");
    }
}

/// `max_idle = 0` switches keep-alive to the endpoint off (PLU5).
#[tokio::test]
async fn keep_alive_can_be_switched_off() {
    let endpoint = Endpoint::named("a").await;
    let gateway = Setup::new(&crate::one("pool = { max_idle = 0 }")).set("app", endpoint.url()).start().await;
    let mut client = Client::h1(gateway.addr()).await;
    for _ in 0..5 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!(endpoint.accepted(), 5);
}

/// A unix-domain endpoint.
#[tokio::test]
async fn unix_sockets() {
    let text = crate::one("").replace("{app}", "unix:{dir}/app.sock");
    let setup = Setup::new(&text);
    let listener = tokio::net::UnixListener::bind(setup.dir().join("app.sock")).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nunix")
                .await;
        }
    });
    let gateway = setup.start().await;
    assert_eq!(gateway.get("/").await.text(), "unix");
}

/// A base path in an endpoint's URL stands before every forwarded path.
#[tokio::test]
async fn base_paths() {
    let endpoint = Endpoint::named("a").await;
    let text = crate::one("").replace("{app}", "{app}/base");
    let gateway = Setup::new(&text).set("app", endpoint.url()).start().await;
    for (path, forwarded) in [("/x?y=1", "/base/x?y=1"), ("/", "/base/")] {
        assert_eq!(gateway.get(path).await.status, 200);
        assert_eq!(endpoint.last().target, forwarded);
    }
}
