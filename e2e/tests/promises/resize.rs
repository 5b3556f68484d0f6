//! The number of workers and the buckets of the histograms change while requests run: no request fails, nobody who waits
//! to be let in is lost, threads come and go, WebSockets stay, and what was counted goes on.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use http::Request;
use portcullis_e2e::{
    Client, Endpoint, Gateway, RawClient, Setup, Version, bounded,
    client::full,
    metrics::Page,
    wait::LONG,
    websocket::{self, Echo, Message},
    within,
};
use tokio::task::JoinHandle;

const RELOADS: usize = 20;
const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

fn workers(round: usize) -> usize {
    [4, 2, 1][round % 3]
}

fn configuration(round: usize) -> String {
    let buckets = if round.is_multiple_of(2) { "0.1, 1.0" } else { "0.001, 0.02, 3.0" };
    let socket = "[[routes]]\nname = \"ws\"\npath = \"/ws\"\nservice = \"echo\"\n\
                  [services.echo]\nendpoints = [{ url = \"{echo}\" }]\n";
    format!("[metrics]\nbuckets = [{buckets}]\n{socket}{}", crate::one(""))
}

async fn reload(gateway: &mut Gateway, workers: usize, text: &str) {
    let text = gateway.render(text);
    std::fs::write(&gateway.config, format!("workers = {workers}\n{text}")).unwrap();
    let reply = gateway.admin_post("/reload").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

/// Connections that stay open, of both versions, and some that ask once.
fn load(addr: SocketAddr, stop: &Arc<AtomicBool>, served: &Arc<AtomicUsize>) -> Vec<JoinHandle<()>> {
    let start = |kind: usize| {
        let (stop, served) = (Arc::clone(stop), Arc::clone(served));
        tokio::spawn(async move {
            let version = if kind == 0 { Version::H1 } else { Version::H2 };
            let mut client = Client::plain(version, addr).await;
            while !stop.load(SeqCst) {
                if kind == 2 {
                    assert_eq!(RawClient::ask(addr, REQUEST).await.status, 200);
                } else {
                    // An orderly close between two requests is every server's right.
                    if client.is_closed() {
                        client = Client::plain(version, addr).await;
                    }
                    let request = Request::post("/work").body(full(vec![b'x'; 2000])).unwrap();
                    let reply = client.fetch(request).await;
                    assert_eq!(reply.status, 200, "{}", reply.text());
                }
                served.fetch_add(1, SeqCst);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
    };
    (0..9).map(|n| start(n % 3)).collect()
}

/// The bounds that a histogram shows, and how many durations it has counted.
fn histogram(page: &Page, name: &str) -> (Vec<String>, f64) {
    let buckets = page.find(&format!("{name}_bucket"), &[]);
    let mut bounds: Vec<_> = buckets.iter().filter_map(|sample| sample.labels.get("le").cloned()).collect();
    bounds.sort();
    bounds.dedup();
    (bounds, page.sum(&format!("{name}_count"), &[]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_and_buckets_change_under_load() {
    let (app, echo) = (Endpoint::named("a").await, Echo::start().await);
    let setup = Setup::new(&configuration(0)).top("workers = 1");
    let mut gateway = setup.set("app", app.url()).set("echo", echo.endpoint.url()).start().await;
    within(LONG, "one thread", || async { gateway.threads("worker-") == 1 }).await;
    let (stop, served) = (Arc::default(), Arc::default());
    let load = load(gateway.addr(), &stop, &served);
    let mut before = 0.0;
    for round in 0..RELOADS {
        reload(&mut gateway, workers(round), &configuration(round)).await;
        // New ones are there at once (a thread names itself); those that leave end when their connections have.
        within(LONG, "the threads", || async { gateway.threads("worker-") >= workers(round) }).await;
        let so_far = served.load(SeqCst);
        within(LONG, "more requests", || async { served.load(SeqCst) > so_far + 30 }).await;
        let page = gateway.metrics().await;
        let (bounds, count) = histogram(&page, "gateway_http_request_duration_seconds");
        let wanted: &[&str] =
            if round.is_multiple_of(2) { &["+Inf", "0.1", "1"] } else { &["+Inf", "0.001", "0.02", "3"] };
        assert_eq!(bounds, wanted, "round {round}");
        assert_eq!(histogram(&page, "gateway_backend_request_duration_seconds").0, wanted);
        let total = page.sum("gateway_http_requests_total", &[("path", "/*")]);
        assert!(total >= before + 30.0, "counts go on: {before}, {total}");
        assert!(count > 0.0 && (round == 0 || count < total), "histograms begin again: {count}, {total}");
        before = total;
    }
    stop.store(true, SeqCst);
    for task in load {
        bounded(LONG, "the load to end", task).await.expect("no request failed");
    }
    let last = workers(RELOADS - 1);
    within(LONG, "the threads to be gone", || async { gateway.threads("worker-") == last }).await;
    assert!(gateway.runs());
}

/// A WebSocket on a worker that leaves stays, and so does its thread; an idle connection does not keep it.
#[tokio::test]
async fn a_worker_leaves_after_its_connections() {
    let (app, echo) = (Endpoint::named("a").await, Echo::start().await);
    let setup = Setup::new(&configuration(0)).top("workers = 4");
    let mut gateway = setup.set("app", app.url()).set("echo", echo.endpoint.url()).start().await;
    let mut sockets = Vec::new();
    for _ in 0..24 {
        sockets.push(websocket::connect(gateway.addr(), "/ws").await.unwrap());
    }
    let mut idle = Vec::new();
    for _ in 0..24 {
        idle.push(RawClient::connect(gateway.addr()).await);
    }
    reload(&mut gateway, 1, &configuration(0)).await;
    for socket in &mut sockets {
        socket.send(Message::text("still here")).await.unwrap();
        let back = bounded(LONG, "the echo", socket.next()).await.unwrap().unwrap();
        assert_eq!(back, Message::text("still here"));
    }
    assert!(gateway.threads("worker-") > 1, "somebody serves them");
    // Idle clients may ask once more: those of the worker that stays go on, the others are told that it was the last time.
    let mut told = 0;
    for client in &mut idle {
        client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let reply = client.reply().await;
        assert_eq!(reply.status, 200);
        told += usize::from(reply.header("connection") == "close");
    }
    assert!(told > 0 && told < idle.len(), "{told} of {}", idle.len());
    drop(sockets);
    within(LONG, "the threads to be gone", || async { gateway.threads("worker-") == 1 }).await;
    // All sockets are still there, and somebody accepts on each of them.
    for _ in 0..40 {
        assert_eq!(RawClient::ask(gateway.addr(), REQUEST).await.status, 200);
    }
    // New workers take the sockets over.
    reload(&mut gateway, 4, &configuration(0)).await;
    within(LONG, "four threads", || async { gateway.threads("worker-") == 4 }).await;
    for _ in 0..40 {
        assert_eq!(RawClient::ask(gateway.addr(), REQUEST).await.status, 200);
    }
}
