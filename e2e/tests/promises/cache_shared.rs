//! The cache's shared store: a real redis-server between two gateways, killed and started again under them.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use http::{Request, Response};
use portcullis_e2e::{
    Client, Endpoint, Gateway, Setup,
    client::{empty, full},
};

const SHARED: &str = r#"
[[routes]]
path = "/*"
service = "app"

[services.app]
endpoints = ["{app}"]
cache = true

[cache]
store = "main"

[stores.main.redis]
url = "redis://127.0.0.1:{redis}"
"#;

struct Server(Child, u16);

impl Server {
    fn start(port: u16) -> Server {
        let arguments =
            ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", "/tmp", "--port"];
        let mut command = Command::new("redis-server");
        command.args(arguments).arg(port.to_string()).stdout(Stdio::null());
        let child = command.spawn().expect("redis-server, which scripts/test installs");
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10), "redis-server does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        Server(child, port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn gateway(app: &Endpoint, port: u16) -> Gateway {
    Setup::new(SHARED).set("app", app.url()).set("redis", port).start().await
}

/// All ask for one host, as they would behind a balancer.
async fn get(gateway: &Gateway, path: &str) -> portcullis_e2e::Reply {
    let request = Request::get(path).header("host", "shop.example").header("accept-encoding", "gzip");
    Client::h1(gateway.addr()).await.fetch(request.body(empty()).unwrap()).await
}

async fn counting(vary: bool) -> Endpoint {
    let count = std::sync::atomic::AtomicU32::new(0);
    Endpoint::with(move |seen| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
        let mut reply = Response::builder().header("Cache-Control", "max-age=600").header("Cache-Tag", "all");
        if vary {
            reply = reply.header("Vary", "Accept-Encoding");
        }
        let filling =
            if seen.target.starts_with("/large") { "x\0\u{e9}".repeat(50_000) } else { String::new() };
        reply.body(full(format!("answer {number}{filling}"))).unwrap()
    })
    .await
}

/// What one has fetched, the other need not; what is large comes back as it was, byte by byte.
#[tokio::test]
async fn gateways_share_what_they_fetched() {
    let server = Server::start(free_port());
    let app = counting(true).await;
    let (one, two) = (gateway(&app, server.1).await, gateway(&app, server.1).await);
    for (path, count) in [("/a", 1), ("/large", 2)] {
        let first = get(&one, path).await;
        // It is put into the store behind the answer.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let other = get(&two, path).await;
        assert!(other.body == first.body, "another answer, or a damaged one");
        assert!(other.header("cache-status").contains("detail=store"), "{:?}", other.headers);
        assert_eq!(app.count(), count);
    }
    // A change by one takes it away from the store for all.
    let post = Request::post("/a").header("host", "shop.example").body(full("x")).unwrap();
    one.send(post).await;
    let before = app.count();
    get(&one, "/a").await;
    assert_eq!(app.count(), before + 1, "not from the store either");
    assert_eq!(one.admin_post("/api/cache/purge?tag=all").await.status, 200);
    let before = app.count();
    get(&one, "/large").await;
    assert_eq!(app.count(), before + 1, "purged from the store too");
}

/// The store goes away and comes back: misses and a count, never an error.
#[tokio::test]
async fn a_store_that_fails_is_a_miss() {
    let port = free_port();
    let server = Server::start(port);
    let app = counting(false).await;
    let gateway = gateway(&app, port).await;
    assert_eq!(get(&gateway, "/a").await.status, 200);
    drop(server);
    for number in 0..20 {
        let (begun, reply) = (Instant::now(), get(&gateway, &format!("/b{number}")).await);
        assert_eq!(reply.status, 200);
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    }
    let page = gateway.metrics().await;
    assert!(page.sum("gateway_cache_store_requests_total", &[("result", "failure")]) > 0.0);
    let _again = Server::start(port);
    assert_eq!(get(&gateway, "/c").await.status, 200);
}
