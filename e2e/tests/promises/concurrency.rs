//! So many requests at once: a place is held until the last byte of the answer has left or the client has, and those who
//! wait are served in their order.

use std::time::{Duration, Instant};

use http::Request;
use portcullis_e2e::{Client, Gateway, Setup, client::empty, wait::LONG, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// An endpoint whose answers end when the test says so: it hands over each connection with a request.
async fn held() -> (std::net::SocketAddr, mpsc::UnboundedReceiver<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("its address");
    let (hand, taken) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let hand = hand.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                if stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                    let _ = stream
                        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\na")
                        .await;
                    let _ = hand.send(stream);
                }
            });
        }
    });
    (addr, taken)
}

async fn gateway(endpoint: std::net::SocketAddr, settings: &str) -> Gateway {
    let middlewares = format!("service = \"app\"\nmiddlewares = [{{ concurrency = {{ {settings} }} }}]\n");
    let text = crate::one("").replace("service = \"app\"\n", &middlewares);
    Setup::new(&text).set("app", format!("http://{endpoint}")).start().await
}

async fn gauge(gateway: &Gateway, name: &str) -> f64 {
    gateway.metrics().await.sum(&format!("gateway_concurrency_{name}"), &[])
}

async fn reaches(gateway: &Gateway, name: &str, value: f64) {
    within(LONG, &format!("{name} is {value}"), || async { gauge(gateway, name).await == value }).await;
}

fn get(path: &str) -> Request<portcullis_e2e::client::Body> {
    Request::get(path).body(empty()).expect("a request")
}

#[tokio::test]
async fn a_place_is_held_until_the_answer_has_ended_or_the_client_has_left() {
    let (addr, mut taken) = held().await;
    let gateway = gateway(addr, "max = 2").await;
    let mut clients = Vec::new();
    let mut answers = Vec::new();
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut client = Client::h1(gateway.addr()).await;
        answers.push(client.send(get("/")).await);
        streams.push(taken.recv().await.expect("a request"));
        clients.push(client);
    }
    // Both heads are here, and half of each body.
    reaches(&gateway, "in_flight", 2.0).await;
    let refused = gateway.get("/").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
    assert!(
        refused.json()["type"].as_str().is_some_and(|kind| kind.ends_with("/overloaded")),
        "{}",
        refused.text()
    );
    // The first answer ends.
    streams[0].write_all(b"b").await.expect("the rest");
    let first = portcullis_e2e::Reply::read(answers.remove(0)).await.expect("an answer");
    assert_eq!(first.text(), "ab");
    reaches(&gateway, "in_flight", 1.0).await;
    // The second client leaves.
    drop((answers, clients));
    reaches(&gateway, "in_flight", 0.0).await;
    let page = gateway.metrics().await;
    let count = |result| page.sum("gateway_concurrency_requests_total", &[("result", result)]);
    assert_eq!((count("passed"), count("full")), (2.0, 1.0));
}

#[tokio::test]
async fn those_who_wait_are_served_in_their_order_and_who_leaves_is_forgotten() {
    let (addr, mut taken) = held().await;
    let gateway = gateway(addr, "max = 1, queue = 3, queue_timeout = \"20s\"").await;
    let ask = |path: &'static str| {
        let addr = gateway.addr();
        tokio::spawn(async move { Client::h1(addr).await.fetch(get(path)).await })
    };
    let mut waiting = vec![ask("/0")];
    let mut stream = taken.recv().await.expect("the first");
    for (place, path) in ["/1", "/2", "/3"].into_iter().enumerate() {
        waiting.push(ask(path));
        reaches(&gateway, "queued", place as f64 + 1.0).await;
    }
    assert_eq!(gateway.get("/4").await.status, 503, "the line is full");
    waiting.remove(2).abort();
    reaches(&gateway, "queued", 2.0).await;
    for left in [1.0, 0.0] {
        stream.write_all(b"b").await.expect("the rest");
        assert_eq!(waiting.remove(0).await.expect("an answer").status, 200);
        stream = taken.recv().await.expect("the next");
        reaches(&gateway, "queued", left).await;
    }
    stream.write_all(b"b").await.expect("the rest");
    assert_eq!(waiting.remove(0).await.expect("an answer").status, 200);
    reaches(&gateway, "in_flight", 0.0).await;
}

#[tokio::test]
async fn nobody_waits_longer_than_allowed() {
    let (addr, mut taken) = held().await;
    let gateway = gateway(addr, "max = 1, queue = 3, queue_timeout = \"300ms\", key = \"client\"").await;
    let mut client = Client::h1(gateway.addr()).await;
    let _answer = client.send(get("/")).await;
    let _stream = taken.recv().await.expect("a request");
    let asked = Instant::now();
    // By client: its own doing.
    assert_eq!(gateway.get("/").await.status, 429);
    assert!((300..3000).contains(&asked.elapsed().as_millis()), "{:?}", asked.elapsed());
    assert!(asked.elapsed() < Duration::from_secs(3));
}
