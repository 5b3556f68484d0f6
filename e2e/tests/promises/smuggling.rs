//! Request smuggling and other abuse of the protocol: refused with 400, the connection closed, and not a byte of it
//! forwarded.

use portcullis_e2e::{Gateway, RawClient, Script, Setup, wait::LONG};

async fn setup() -> (Gateway, Script) {
    let script = Script::start(|mut conversation| async move {
        while conversation.head().await.is_some() {
            conversation.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let gateway = Setup::new(&crate::one("")).set("app", script.url()).start().await;
    (gateway, script)
}

/// Framing about which two servers could disagree.
#[tokio::test]
async fn ambiguous_framing_is_400_and_forwarded_nowhere() {
    let (gateway, script) = setup().await;
    for request in [
        // Both lengths (CL.TE and TE.CL).
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\nGPOST",
        // Several lengths.
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 6\r\n\r\nhello!",
        // Lengths that are none.
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nhello",
        // Encodings that are not exactly `chunked`, once, last.
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        // Line ends and names that some servers read differently.
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nX-Fold: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\nX-A: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\rX-B: c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n: empty\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX\u{e4}: y\r\n\r\n",
        // Hosts about which two servers could disagree.
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET http://b/ HTTP/1.1\r\nHost: a/\r\n\r\n",
        // Request lines.
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET foo HTTP/1.1\r\nHost: a\r\n\r\n",
        "G\u{0}T / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.x\r\nHost: a\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let mut client = RawClient::connect(gateway.addr()).await;
        client.write(request).await;
        let reply = client.reply().await;
        // A request line whose last word is no version we know may be answered as such.
        let status = if reply.status == 505 { 400 } else { reply.status };
        assert_eq!(status, 400, "{request:?} was answered {}", reply.head);
        assert!(client.closes_within(LONG).await, "{request:?} leaves the connection open");
        assert!(script.heads().is_empty(), "{request:?} was forwarded: {:?}", script.heads());
    }
}

/// Bodies whose chunks are broken: never taken for whole by the endpoint, and the client is told or cut.
#[tokio::test]
async fn broken_chunks_are_never_a_whole_body() {
    let script = Script::start(|mut conversation| async move {
        while conversation.head().await.is_some() {
            if conversation.until(b"0\r\n\r\n").await.is_none() {
                return;
            }
            conversation.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let gateway = Setup::new(&crate::one("")).set("app", script.url()).start().await;
    for body in [
        "x\r\nabc\r\n0\r\n\r\n",
        "-1\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "3 \r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "\r\nabc\r\n0\r\n\r\n",
        "3;a=\x00\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\nBad Trailer: x\r\n\r\n",
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        let mut client = RawClient::connect(gateway.addr()).await;
        client.write(&request).await;
        let answer = client.to_end().await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{body:?} was answered {answer:?}");
    }
}

/// Chunked bodies that are fine stay fine: extensions are dropped, trailers kept, sizes in any case.
#[tokio::test]
async fn whole_chunks_pass() {
    let (gateway, _script) = setup().await;
    for body in
        ["A\r\n0123456789\r\n0\r\n\r\n", "00000003;ext=1;b=\"c\"\r\nabc\r\n0\r\n\r\n", "0\r\nX-T: 1\r\n\r\n"]
    {
        let (gateway, script) = {
            let script = Script::start(|mut conversation| async move {
                conversation.head().await;
                conversation.until(b"0\r\n").await;
                conversation
                    .write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
                    .await;
            })
            .await;
            (Setup::new(&crate::one("")).set("app", script.url()).start().await, script)
        };
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        assert_eq!(RawClient::ask(gateway.addr(), request).await.status, 200, "{body:?}");
        assert!(script.last_head().to_lowercase().contains("transfer-encoding: chunked"));
    }
    drop(gateway);
}

/// Two requests on one connection are two requests; what is behind a body is the next head, and is judged as one.
#[tokio::test]
async fn what_follows_a_body_is_the_next_request() {
    let script = Script::start(|mut conversation| async move {
        while let Some(head) = conversation.head().await {
            if head.to_lowercase().contains("content-length: 5") {
                conversation.body(5).await;
            }
            let name = head.split(' ').nth(1).unwrap_or_default().to_owned();
            conversation
                .write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len()))
                .await;
        }
    })
    .await;
    let gateway = Setup::new(&crate::one("")).set("app", script.url()).start().await;
    let mut client = RawClient::connect(gateway.addr()).await;
    client.write("POST /one HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET /two HTTP/1.1\r\nHost: a\r\n\r\nGARBAGE\r\n\r\n").await;
    assert_eq!(client.reply().await.text(), "/one");
    assert_eq!(client.reply().await.text(), "/two");
    assert_eq!(client.reply().await.status, 400);
}

/// HTTP/2 fields that would break HTTP/1.1 behind it are refused (CR, LF and NUL cannot even be built by this client;
/// connection-specific fields can).
#[tokio::test]
async fn connection_fields_of_http_2_are_refused_or_dropped() {
    let (gateway, script) = setup().await;
    for (name, value) in
        [("connection", "close"), ("transfer-encoding", "chunked"), ("upgrade", "h2c"), ("te", "gzip")]
    {
        let stream = tokio::net::TcpStream::connect(gateway.addr()).await.unwrap();
        let (send, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request =
            http::Request::get(format!("http://{}/", gateway.addr())).header(name, value).body(()).unwrap();
        let mut send = send.ready().await.unwrap();
        // The h2 client itself may refuse to send it; then there is nothing to hold the gateway to.
        let Ok((answer, _)) = send.send_request(request, true) else { continue };
        let _ = portcullis_e2e::bounded(LONG, "an answer", answer).await;
        for head in script.heads() {
            let head = head.to_lowercase();
            assert!(!head.contains(&format!("{name}: {value}")), "{head}");
        }
    }
}

/// CONNECT is not served, TRACE shows nobody's secrets, HTTP/2's preface to a listener without it is refused.
#[tokio::test]
async fn methods_and_versions_that_are_not_served() {
    let (gateway, script) = setup().await;
    for (request, status) in [
        ("CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n", 501),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("GET / HTTP/3.7\r\nHost: a\r\n\r\n", 505),
    ] {
        let reply = RawClient::ask(gateway.addr(), request).await;
        assert!(
            reply.status == status || reply.status == 400 || reply.status == 405,
            "{request:?}: {}",
            reply.head
        );
    }
    assert!(script.heads().is_empty());
}
