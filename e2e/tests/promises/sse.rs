//! Server-sent events arrive as they are sent, not when a buffer is full, on every pair of versions.

use http::{Request, Response};
use http_body_util::BodyExt;
use portcullis_e2e::{
    Client, Endpoint, Setup, Version, bounded,
    client::{empty, streamed},
    wait::LONG,
};
use tokio::sync::Mutex;

#[tokio::test]
async fn events_come_one_by_one() {
    // The endpoint sends the next event only when the test says that the last has arrived: a gateway that waits for
    // more than one event would wait for ever.
    let (go, gone) = tokio::sync::mpsc::channel::<u32>(1);
    let gone = std::sync::Arc::new(Mutex::new(gone));
    let endpoint = Endpoint::start(move |_| {
        let gone = std::sync::Arc::clone(&gone);
        async move {
            let (mut sender, body) = streamed();
            tokio::spawn(async move {
                let mut gone = gone.lock().await;
                while let Some(number) = gone.recv().await {
                    if number == 0 || sender.send_data(format!("data: {number}\n\n").into()).await.is_err() {
                        return;
                    }
                }
            });
            Ok(Response::builder().header("content-type", "text/event-stream").body(body)?)
        }
    })
    .await;
    for scheme in ["http", "h2c"] {
        let compressed = r#"middlewares = ["squeeze"]"#;
        let text = format!(
            "{}\n[middlewares.squeeze.compress]\n",
            crate::one("").replace("service = \"app\"\n", &format!("service = \"app\"\n{compressed}\n"))
        );
        let gateway = Setup::new(&text).set("app", endpoint.url_as(scheme)).start().await;
        for version in [Version::H1, Version::H2] {
            let mut client = Client::plain(version, gateway.addr()).await;
            let request =
                Request::get("/events").header("accept-encoding", "gzip, br, zstd").body(empty()).unwrap();
            let mut answer = client.send(request).await;
            assert_eq!(answer.headers()["content-type"], "text/event-stream");
            assert!(!answer.headers().contains_key("content-encoding"), "events are not compressed");
            for number in 1..=20 {
                go.send(number).await.unwrap();
                let frame = bounded(LONG, "the event", answer.frame()).await.unwrap().unwrap();
                assert_eq!(frame.into_data().unwrap(), format!("data: {number}\n\n"), "{version:?} {scheme}");
            }
            go.send(0).await.unwrap();
            // The end may come with an empty piece of data.
            while let Some(frame) = bounded(LONG, "the end", answer.frame()).await {
                let data = frame.unwrap().into_data();
                assert!(data.as_ref().is_ok_and(|data| data.is_empty()), "{version:?} {scheme}: {data:?}");
            }
        }
    }
}
