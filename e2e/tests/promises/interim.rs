//! Interim answers: `Expect: 100-continue`, 103 Early Hints and other 1xx pass through.

use portcullis_e2e::{Endpoint, RawClient, Script, Setup, wait::LONG, within};

/// The endpoint's 100 reaches the client before it sends its body; nothing is answered in the endpoint's name.
#[tokio::test]
async fn expect_continue_is_the_endpoints_to_answer() {
    let script = Script::start(|mut conversation| async move {
        if let Some(head) = conversation.head().await {
            assert!(head.to_lowercase().contains("expect: 100-continue"), "{head}");
            conversation.write("HTTP/1.1 100 Continue\r\n\r\n").await;
            let body = conversation.body(5).await.unwrap_or_default();
            let answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{}", String::from_utf8_lossy(&body));
            conversation.write(answer).await;
        }
    })
    .await;
    let gateway = Setup::new(&crate::one("")).set("app", script.url()).start().await;
    let mut client = RawClient::connect(gateway.addr()).await;
    client.write("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
    assert_eq!(client.head().await.status, 100);
    client.write("hello").await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "hello"));
}

/// An endpoint that refuses at once: the client hears it without having sent its body, and the connection is not left
/// in the middle of a body that never comes.
#[tokio::test]
async fn a_refusal_comes_before_the_body() {
    let script =
        Script::answering("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    let gateway = Setup::new(&crate::one("")).set("app", script.url()).start().await;
    let mut client = RawClient::connect(gateway.addr()).await;
    client
        .write("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5000000\r\n\r\n")
        .await;
    let reply = client.reply().await;
    assert_eq!(reply.status, 413);
    assert!(client.closes_within(LONG).await || reply.header("connection").eq_ignore_ascii_case("close"));
}

/// An expectation that nobody knows: 417.
#[tokio::test]
async fn other_expectations_are_417() {
    let endpoint = Endpoint::named("a").await;
    let gateway = Setup::new(&crate::one("")).set("app", endpoint.url()).start().await;
    let request =
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(RawClient::ask(gateway.addr(), request).await.status, 417);
    assert_eq!(endpoint.count(), 0);
}

/// 103 with its fields, several of them, then the final answer.
#[tokio::test]
async fn early_hints_pass() {
    let script = Script::answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n\
         HTTP/1.1 103 Early Hints\r\nLink: </b.css>; rel=preload\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let gateway = Setup::new(&crate::one("")).set("app", script.url()).start().await;
    let mut client = RawClient::connect(gateway.addr()).await;
    client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    for link in ["</a.css>; rel=preload", "</b.css>; rel=preload"] {
        let hint = client.head().await;
        assert_eq!((hint.status, hint.header("link")), (103, link));
    }
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "ok"));
}

/// The same to HTTP/2 clients.
#[tokio::test]
async fn early_hints_pass_to_http_2() {
    let script = Script::answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let gateway = Setup::new(&crate::one("")).set("app", script.url()).start().await;
    let stream = tokio::net::TcpStream::connect(gateway.addr()).await.unwrap();
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut send = send.ready().await.unwrap();
    let request = http::Request::get(format!("http://{}/", gateway.addr())).body(()).unwrap();
    let (mut answer, _) = send.send_request(request, true).unwrap();
    let hint = std::future::poll_fn(|cx| answer.poll_informational(cx));
    let hint = portcullis_e2e::bounded(LONG, "the hint", hint).await.expect("a hint").unwrap();
    assert_eq!(
        (hint.status().as_u16(), &hint.headers()["link"]),
        (103, &"</a.css>; rel=preload".parse().unwrap())
    );
    let answer = portcullis_e2e::bounded(LONG, "the answer", answer).await.unwrap();
    assert_eq!(answer.status(), 200);
}

/// An early 103 is early: it is passed on while the final answer is still being thought about.
#[tokio::test]
async fn early_hints_are_not_held_back() {
    let script = Script::start(|mut conversation| async move {
        conversation.head().await;
        conversation.write("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n").await;
        conversation.hang().await;
    })
    .await;
    let gateway = Setup::new(&crate::one("")).set("app", script.url()).start().await;
    let mut client = RawClient::connect(gateway.addr()).await;
    client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.head().await.status, 103);
}

/// HTTP/1.0 clients do not know 1xx and get none.
#[tokio::test]
async fn http_1_0_gets_no_interim_answers() {
    let script = Script::answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let gateway = Setup::new(&crate::one("")).set("app", script.url()).start().await;
    let reply = RawClient::ask(gateway.addr(), "GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "ok"));
    within(LONG, "one request", || async { script.heads().len() == 1 }).await;
}
