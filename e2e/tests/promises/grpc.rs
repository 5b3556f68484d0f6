//! gRPC with a real client and server (AVX12, MUS11, PLU13): the four shapes, status in trailers, and the gateway's own
//! errors as gRPC status.

use std::time::Duration;

use futures_util::stream;
use portcullis_e2e::{
    Endpoint, Gateway, Setup, bounded,
    grpc::{self, Caller, Note},
    wait::LONG,
};
use tonic::Code;

const SAY: &str = "/notes.Notes/Say";

async fn notes() -> (Gateway, Endpoint) {
    let endpoint = grpc::endpoint().await;
    (Setup::new(&crate::one("")).set("app", endpoint.url_as("h2c")).start().await, endpoint)
}

#[tokio::test]
async fn unary() {
    let (gateway, _endpoint) = notes().await;
    let mut caller = Caller::connect(gateway.addr()).await;
    let note = caller.say(SAY, Note::new("hello", 7)).await.unwrap().into_inner();
    assert_eq!(note, Note::new("you said hello", 7));
}

/// The service's own status and message arrive as they were sent.
#[tokio::test]
async fn status_in_trailers() {
    let (gateway, _endpoint) = notes().await;
    let mut caller = Caller::connect(gateway.addr()).await;
    let failed = caller.say(SAY, Note::new("fail", 0)).await.unwrap_err();
    assert_eq!((failed.code(), failed.message()), (Code::FailedPrecondition, "told to fail"));
    let unknown = caller.say("/notes.Notes/Nothing", Note::new("", 0)).await.unwrap_err();
    assert_eq!((unknown.code(), unknown.message()), (Code::Unimplemented, "no such method"));
}

#[tokio::test]
async fn server_streaming() {
    let (gateway, _endpoint) = notes().await;
    let mut caller = Caller::connect(gateway.addr()).await;
    let mut notes = caller.count(500).await.unwrap();
    for expected in (1..=500).rev() {
        assert_eq!(notes.message().await.unwrap().unwrap().number, expected);
    }
    assert!(notes.message().await.unwrap().is_none(), "and then the status, OK");
}

#[tokio::test]
async fn client_streaming() {
    let (gateway, _endpoint) = notes().await;
    let mut caller = Caller::connect(gateway.addr()).await;
    assert_eq!(caller.sum((1..=1000).collect()).await.unwrap().number, 500_500);
}

/// Both ways at once: each answer comes before the next question is asked.
#[tokio::test]
async fn bidirectional_streaming() {
    let (gateway, _endpoint) = notes().await;
    let mut caller = Caller::connect(gateway.addr()).await;
    let (ask, asked) = tokio::sync::mpsc::channel(1);
    ask.send(Note::new("ping", 0)).await.unwrap();
    let mut answers = caller
        .chat(stream::unfold(asked, |mut asked| async { Some((asked.recv().await?, asked)) }))
        .await
        .unwrap();
    for number in 0..50 {
        let answer = bounded(LONG, "an answer", answers.message()).await.unwrap().unwrap();
        assert_eq!(answer, Note::new("ping", number + 1));
        if number < 49 {
            ask.send(Note::new("ping", number + 1)).await.unwrap();
        }
    }
    drop(ask);
    assert!(answers.message().await.unwrap().is_none());
}

/// What the gateway itself refuses is a gRPC status, with HTTP 200, by cause.
#[tokio::test]
async fn errors_of_the_gateway_are_grpc_status() {
    let mut dead = Endpoint::named("dead").await;
    dead.stop().await;
    let hanging =
        portcullis_e2e::Script::start(|mut conversation| async move { conversation.hang().await }).await;
    let text = r#"
[[routes]]
name = "dead"
path = "/notes.Dead/*"
upstream = { urls = ["{dead}"] }

[[routes]]
name = "slow"
path = "/notes.Slow/*"
service = "slow"

[[routes]]
name = "none"
path = "/notes.None/*"
service = "none"

[services.slow]
endpoints = [{ url = "{slow}" }]
timeouts = { response_header = "200ms" }

[services.none]
endpoints = [{ url = "{dead}" }]
health_check = { kind = "tcp" }
"#;
    let setup =
        Setup::new(text).set("dead", dead.url_as("h2c")).set("slow", hanging.url().replace("http", "h2c"));
    let gateway = setup.start().await;
    let mut caller = Caller::connect(gateway.addr()).await;
    for (method, code) in [
        ("/notes.Dead/Say", Code::Unavailable),
        ("/notes.None/Say", Code::Unavailable),
        ("/notes.Slow/Say", Code::DeadlineExceeded),
        ("/notes.Unknown/Say", Code::Unimplemented),
    ] {
        let call = caller.say(method, Note::new("x", 0));
        let failed = bounded(Duration::from_secs(20), method, call).await.unwrap_err();
        assert_eq!(failed.code(), code, "{method}: {failed:?}");
        assert!(!failed.message().is_empty(), "{method} says why");
        assert!(failed.metadata().get("grpc-status").is_none() || failed.code() == code);
    }
}
