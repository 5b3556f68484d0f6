//! VK1: bodies stream both ways without copies of ours; 1 GiB up and down in constant memory.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use portcullis_e2e::{
    Client, Endpoint, Setup, Version,
    client::{empty, full, streamed},
};

const GIB: u64 = 1 << 30;
const CHUNK: usize = 1 << 20;
/// What the gateway may grow by while a gibibyte passes through it.
const GROWTH_KIB: u64 = 24 * 1024;
/// A debug build on two shared cores.
const LIMIT: Duration = Duration::from_secs(180);

fn zeros(bytes: u64) -> portcullis_e2e::client::Body {
    let (mut sender, body) = streamed();
    tokio::spawn(async move {
        let chunk = Bytes::from(vec![0; CHUNK]);
        for _ in 0..bytes / CHUNK as u64 {
            if sender.send_data(chunk.clone()).await.is_err() {
                return;
            }
        }
    });
    body
}

/// Takes whatever comes and says how much it was; gives as much as `/down/<bytes>` asks for.
async fn heavy() -> Endpoint {
    Endpoint::start(|request| async move {
        if let Some(bytes) = request.uri().path().strip_prefix("/down/") {
            return Ok(Response::new(zeros(bytes.parse()?)));
        }
        let mut body = request.into_body();
        let mut total = 0;
        while let Some(frame) = body.frame().await {
            total += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok(Response::new(full(total.to_string())))
    })
    .await
}

async fn down(client: &mut Client, path: &str) -> u64 {
    let mut answer = client.send(Request::get(path).body(empty()).unwrap()).await;
    assert_eq!(answer.status(), 200);
    let mut total = 0;
    while let Some(frame) = answer.frame().await {
        total += frame.unwrap().data_ref().map_or(0, |data| data.len() as u64);
    }
    total
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_each_way_in_constant_memory() {
    let endpoint = heavy().await;
    for (version, scheme) in [(Version::H1, "http"), (Version::H2, "h2c")] {
        let gateway = Setup::new(&crate::one("")).set("app", endpoint.url_as(scheme)).start().await;
        let mut client = Client::plain(version, gateway.addr()).await;
        // Warm: buffers and pools are there before the measure.
        assert_eq!(down(&mut client, &format!("/down/{}", 16 * CHUNK)).await, 16 * CHUNK as u64);
        let (before, _) = gateway.memory_kib();
        let downward =
            portcullis_e2e::bounded(LIMIT, "1 GiB down", down(&mut client, &format!("/down/{GIB}"))).await;
        assert_eq!(downward, GIB);
        let upward = client.try_fetch(Request::post("/up").body(zeros(GIB)).unwrap());
        let reply = portcullis_e2e::bounded(LIMIT, "1 GiB up", upward).await.unwrap();
        assert_eq!(reply.text(), GIB.to_string());
        let (_, peak) = gateway.memory_kib();
        assert!(peak < before + GROWTH_KIB, "{version:?}: {before} KiB before, {peak} KiB at the most");
    }
}

/// Back-pressure: a client that stops reading stops the endpoint; the gateway does not hoard what it cannot hand on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_stops_the_endpoint() {
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counting = std::sync::Arc::clone(&sent);
    let endpoint = Endpoint::start(move |_| {
        let counting = std::sync::Arc::clone(&counting);
        async move {
            let (mut sender, body) = streamed();
            tokio::spawn(async move {
                while sender.send_data(vec![0; 64 * 1024].into()).await.is_ok() {
                    counting.fetch_add(64 * 1024, std::sync::atomic::Ordering::SeqCst);
                }
            });
            Ok(Response::new(body))
        }
    })
    .await;
    let gateway = Setup::new(&crate::one("")).set("app", endpoint.url()).start().await;
    let mut client = portcullis_e2e::RawClient::connect(gateway.addr()).await;
    client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.head().await.status, 200);
    // What fits into the sockets' buffers flows; then it must come to rest, far below what an hour would bring.
    let mut last = 0;
    let mut still = 0;
    portcullis_e2e::within(Duration::from_secs(60), "the endpoint to come to rest", || {
        let now = sent.load(std::sync::atomic::Ordering::SeqCst);
        still = if now == last { still + 1 } else { 0 };
        last = now;
        let rests = still > 50;
        async move { rests }
    })
    .await;
    assert!(last < 64 << 20, "{last} bytes were taken for a client that reads none");
}
