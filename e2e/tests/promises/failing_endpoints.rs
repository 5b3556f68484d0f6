//! Endpoints that are killed, slow, reset, lie about their length or speak garbage: what the client sees, and that the
//! gateway goes on.

use std::time::Duration;

use portcullis_e2e::{Client, Endpoint, RawClient, Script, Setup, Version, client::empty, wait::timed};

async fn before(endpoint: &str, extra: &str) -> portcullis_e2e::Gateway {
    Setup::new(&crate::one(extra)).set("app", endpoint).start().await
}

fn error_of(reply: &portcullis_e2e::Reply) -> String {
    let status = reply.header("proxy-status");
    let error = status.split("error=").nth(1).unwrap_or_default();
    error.split([';', ',']).next().unwrap_or_default().trim().to_owned()
}

/// Nobody listens: 502, `connection_refused`.
#[tokio::test]
async fn refused_is_502() {
    let mut endpoint = Endpoint::named("a").await;
    let gateway = before(&endpoint.url(), "").await;
    assert_eq!(gateway.get("/").await.status, 200);
    endpoint.stop().await;
    let reply = gateway.get("/").await;
    assert_eq!((reply.status, error_of(&reply).as_str()), (502, "connection_refused"), "{}", reply.text());
    endpoint.restart().await;
    assert_eq!(gateway.get("/").await.status, 200);
}

/// Killed between two requests on a kept connection: the next request reaches the other endpoint's fresh connection,
/// or a new connection, without the client noticing (nothing was processed).
#[tokio::test]
async fn a_stale_pooled_connection_is_not_the_clients_problem() {
    let mut endpoint = Endpoint::named("a").await;
    let gateway = before(&endpoint.url(), "").await;
    let mut client = Client::h1(gateway.addr()).await;
    for round in 0..10 {
        assert_eq!(client.get("/").await.status, 200, "round {round}");
        endpoint.stop().await;
        endpoint.restart().await;
    }
}

/// Reset after the request was read: 502 `connection_terminated`; and never sent twice, since it may have been acted on.
#[tokio::test]
async fn a_reset_is_502_and_a_post_is_not_repeated() {
    let script = Script::start(|mut conversation| async move {
        conversation.head().await;
        conversation.reset();
    })
    .await;
    let gateway = before(&script.url(), "").await;
    let request = http::Request::post("/").body(empty()).unwrap();
    let reply = gateway.send(request).await;
    assert_eq!((reply.status, error_of(&reply).as_str()), (502, "connection_terminated"), "{}", reply.text());
    assert_eq!(script.heads().len(), 1);
}

/// An endpoint that closes without an answer: 502.
#[tokio::test]
async fn an_early_close_is_502() {
    let script = Script::start(|mut conversation| async move {
        conversation.head().await;
    })
    .await;
    let gateway = before(&script.url(), "").await;
    let reply = gateway.get("/").await;
    assert_eq!((reply.status, error_of(&reply).as_str()), (502, "connection_terminated"), "{}", reply.text());
}

/// Promised more than it sent: the client must not take the answer for whole.
#[tokio::test]
async fn too_short_a_body_is_not_passed_off_as_whole() {
    for framing in ["Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
        let script = Script::answering(format!("HTTP/1.1 200 OK\r\n{framing}")).await;
        let gateway = before(&script.url(), "").await;
        for version in [Version::H1, Version::H2] {
            let mut client = Client::plain(version, gateway.addr()).await;
            let request = http::Request::get("/").body(empty()).unwrap();
            let outcome = client.try_fetch(request).await;
            assert!(
                outcome.as_ref().is_err() || outcome.as_ref().is_ok_and(|reply| reply.status == 502),
                "{version:?} {framing:?}: {outcome:?}"
            );
        }
    }
}

/// A body that is broken from its first byte, known before anything has left: the client gets an honest 502, not a cut
/// connection.
#[tokio::test]
async fn a_body_broken_at_once_is_502() {
    let script =
        Script::answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_owned()).await;
    let gateway = before(&script.url(), "").await;
    for version in [Version::H1, Version::H2] {
        let reply = Client::plain(version, gateway.addr()).await.get("/").await;
        let error = error_of(&reply);
        assert_eq!(
            (reply.status, error.as_str()),
            (502, "http_protocol_error"),
            "{version:?} {}",
            reply.text()
        );
    }
}

/// Sent more than it promised: the rest is not the next answer of that connection (response splitting).
#[tokio::test]
async fn bytes_after_the_answer_are_never_the_next_answer() {
    let script = Script::start(|mut conversation| async move {
        while let Some(head) = conversation.head().await {
            if head.starts_with("GET /evil") {
                let extra = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
                conversation.write(format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{extra}")).await;
            } else {
                conversation.write("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhonest").await;
            }
        }
    })
    .await;
    let gateway = before(&script.url(), "").await;
    let mut client = Client::h1(gateway.addr()).await;
    for _ in 0..10 {
        assert_eq!(client.get("/evil").await.text(), "ok");
        assert_eq!(client.get("/").await.text(), "honest");
    }
}

/// Garbage instead of HTTP, and heads that break its rules: 502 `http_protocol_error`, and nothing of it reaches the
/// client.
#[tokio::test]
async fn garbage_is_502() {
    for garbage in [
        "SSH-2.0-OpenSSH_9.9\r\n\r\n",
        "HTTP/1.1 999999 OK\r\n\r\n",
        "HTTP/1.1 20x OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : spaced\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked, identity\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-Split: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
        "\x00\x01\x02\x03\x04\r\n\r\n",
    ] {
        let script = Script::answering(garbage).await;
        let gateway = before(&script.url(), "").await;
        let reply = gateway.get("/").await;
        assert_eq!(reply.status, 502, "{garbage:?} became {} {}", reply.status, reply.text());
        assert_eq!(error_of(&reply), "http_protocol_error", "{garbage:?}");
    }
}

/// A head larger than the gateway takes from an endpoint: 502.
#[tokio::test]
async fn an_endless_head_is_502() {
    let script = Script::start(|mut conversation| async move {
        conversation.head().await;
        conversation.write("HTTP/1.1 200 OK\r\n").await;
        for number in 0..20_000 {
            conversation.write(format!("X-Field-{number}: {}\r\n", "v".repeat(64))).await;
        }
        conversation.write("\r\n").await;
    })
    .await;
    let gateway = before(&script.url(), "").await;
    let reply = gateway.get("/").await;
    assert_eq!(reply.status, 502, "{}", reply.text());
}

/// A slow endpoint delays its own requests only.
#[tokio::test]
async fn a_slow_endpoint_does_not_hold_up_others() {
    let slow = Script::start(|mut conversation| async move {
        conversation.head().await;
        conversation.hang().await;
    })
    .await;
    let quick = Endpoint::named("quick").await;
    let text = r#"
[[routes]]
name = "slow"
path = "/slow"
upstream = { urls = ["{slow}"] }

[[routes]]
name = "quick"
path = "/quick"
upstream = { urls = ["{quick}"] }
"#;
    let gateway = Setup::new(text).set("slow", slow.url()).set("quick", quick.url()).start().await;
    let mut waiting = Vec::new();
    for _ in 0..32 {
        let mut client = RawClient::connect(gateway.addr()).await;
        client.write("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
        waiting.push(client);
    }
    let (seconds, ()) = timed(async {
        for _ in 0..20 {
            assert_eq!(gateway.get("/quick").await.status, 200);
        }
    })
    .await;
    assert!(seconds < 10.0, "{seconds} s for 20 requests");
    drop(waiting);
}

/// A client that leaves takes its request with it: the endpoint's connection closes, too.
#[tokio::test]
async fn a_client_that_leaves_cancels_its_request() {
    let (gone, mut was_gone) = tokio::sync::mpsc::channel(1);
    let script = Script::start(move |mut conversation| {
        let gone = gone.clone();
        async move {
            conversation.head().await;
            conversation.hang().await;
            let _ = gone.send(()).await;
        }
    })
    .await;
    let gateway = before(&script.url(), "").await;
    let mut client = RawClient::connect(gateway.addr()).await;
    client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    portcullis_e2e::within(Duration::from_secs(20), "the request to arrive", || async {
        script.heads().len() == 1
    })
    .await;
    drop(client);
    portcullis_e2e::bounded(Duration::from_secs(20), "the endpoint to be left", was_gone.recv())
        .await
        .unwrap();
}

/// Of two endpoints one is dead: requests that certainly were not processed go to the other; nobody sees an error.
#[tokio::test]
async fn a_refused_connection_goes_to_the_next_endpoint() {
    let [mut a, b] = [Endpoint::named("a").await, Endpoint::named("b").await];
    let text = r#"
[[routes]]
name = "all"
path = "/*"
upstream = { urls = ["{a}", "{b}"] }
"#;
    let gateway = Setup::new(text).set("a", a.url()).set("b", b.url()).start().await;
    a.stop().await;
    for _ in 0..10 {
        let reply = gateway.get("/").await;
        assert_eq!((reply.status, reply.endpoint()), (200, "b"), "{}", reply.text());
    }
}
