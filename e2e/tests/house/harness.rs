//! The harness itself, without a gateway between: what fails here is not the gateway's fault.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt, stream};
use http::Request;
use portcullis_e2e::{
    Client, Endpoint, RawClient, Script, Version,
    certs::Authority,
    client::full,
    endpoint,
    grpc::{self, Caller, Note},
    metrics::Page,
    websocket::{self, Message},
    within,
};
use tonic::Code;

#[tokio::test]
async fn clients_of_both_versions_reach_an_endpoint() {
    let endpoint = Endpoint::named("a").await;
    for version in [Version::H1, Version::H2] {
        let mut client = Client::plain(version, endpoint.addr()).await;
        let reply = client
            .fetch(Request::post("/x?y=1").header("host", "a.example").body(full("hello")).unwrap())
            .await;
        assert_eq!((reply.status, reply.endpoint(), reply.text().as_str()), (200, "a", "a"));
        let seen = endpoint.last();
        assert_eq!(
            (seen.target.as_str(), seen.host.as_str(), &seen.body[..]),
            ("/x?y=1", "a.example", &b"hello"[..])
        );
    }
}

#[tokio::test]
async fn an_endpoint_stops_and_comes_back() {
    let mut endpoint = Endpoint::named("a").await;
    assert_eq!(Client::h1(endpoint.addr()).await.get("/").await.status, 200);
    endpoint.stop().await;
    assert!(Client::try_h1(endpoint.addr()).await.is_err());
    endpoint.restart().await;
    assert_eq!(Client::h1(endpoint.addr()).await.get("/").await.status, 200);
    assert_eq!(endpoint.accepted(), 2);
}

#[tokio::test]
async fn tls_chooses_the_version_and_verifies() {
    let authority = Authority::new("test");
    let pair = authority.issue(&["a.example"]);
    let endpoint =
        Endpoint::tls_with(pair.server(&["h2", "http/1.1"], None), |_| endpoint::named("tls")).await;
    for (alpn, version) in [("h2", Version::H2), ("http/1.1", Version::H1)] {
        let mut client = Client::tls(endpoint.addr(), "a.example", authority.client(&[alpn])).await.unwrap();
        assert_eq!(client.version(), version);
        assert_eq!(client.get("/").await.endpoint(), "tls");
    }
    let stranger = Authority::new("stranger");
    assert!(Client::tls(endpoint.addr(), "a.example", stranger.client(&["h2"])).await.is_err());
}

#[tokio::test]
async fn scripts_answer_and_reset() {
    let script = Script::start(|mut conversation| async move {
        while let Some(head) = conversation.head().await {
            if head.starts_with("GET /reset") {
                return conversation.reset();
            }
            conversation
                .write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
                .await;
        }
    })
    .await;
    let mut client = RawClient::connect(script.addr()).await;
    client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.reply().await.text(), "abc");
    client.write("GET /reset HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(client.closes_within(Duration::from_secs(5)).await);
    assert_eq!(script.last_head(), "GET /reset HTTP/1.1\r\nHost: a\r\n\r\n");
}

#[tokio::test]
async fn websockets_over_both_versions() {
    let echo = websocket::Echo::start().await;
    let mut socket = websocket::connect(echo.endpoint.addr(), "/ws").await.unwrap();
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
    socket.close(None).await.unwrap();
    within(Duration::from_secs(5), "the close to arrive", || async {
        echo.closed.lock().unwrap().len() == 1
    })
    .await;
}

#[tokio::test]
async fn grpc_in_all_shapes() {
    let endpoint = grpc::endpoint().await;
    let mut caller = Caller::connect(endpoint.addr()).await;
    let said = caller.say("/notes.Notes/Say", Note::new("a", 1)).await.unwrap();
    assert_eq!(said.into_inner().text, "you said a");
    let failed = caller.say("/notes.Notes/Say", Note::new("fail", 1)).await.unwrap_err();
    assert_eq!((failed.code(), failed.message()), (Code::FailedPrecondition, "told to fail"));
    let mut counted = Vec::new();
    let mut notes = caller.count(3).await.unwrap();
    while let Some(note) = notes.message().await.unwrap() {
        counted.push(note.number);
    }
    assert_eq!(counted, [3, 2, 1]);
    assert_eq!(caller.sum(vec![1, 2, 3]).await.unwrap().number, 6);
    let mut chat = caller.chat(stream::iter([Note::new("x", 1)])).await.unwrap();
    assert_eq!(chat.message().await.unwrap().unwrap().number, 2);
}

#[test]
fn metrics_are_read() {
    let page = Page::parse(
        "# TYPE a_total counter\na_total{x=\"1\",y=\"q\\\"uo\"} 3\na_total{x=\"2\",y=\"\"} 4\nb 1.5e3\n",
    );
    assert_eq!(page.sum("a_total", &[]), 7.0);
    assert_eq!(page.sum("a_total", &[("y", "q\"uo")]), 3.0);
    assert_eq!(page.sum("b", &[]), 1500.0);
}
