//! Names of endpoints: looked up in the background by their time to live, kept when that fails, every address used, the
//! next tried when one does not answer.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use portcullis_e2e::{
    Client, Gateway, Setup, bounded,
    dns::{NameServer, Says},
    endpoint::{named, text},
    wait::LONG,
    within,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
};

const NAME: &str = "app.portcullis.test";

/// An endpoint on one of this machine's loopback addresses; they all have the same port.
struct At {
    port: u16,
    task: JoinHandle<()>,
}

impl Drop for At {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers with its address, and keeps connections open.
async fn at(ip: &str, port: u16) -> At {
    let listener = TcpListener::bind(format!("{ip}:{port}")).await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let ip = ip.to_owned();
    let task = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{ip}", ip.len());
            connections.spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(1..) = stream.read(&mut buffer).await {
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    At { port, task }
}

/// A gateway that asks this name server, before the name's endpoint at a port.
async fn before(server: &NameServer, port: u16, extra: &str) -> Gateway {
    let dns = format!("dns = {{ servers = [\"{}\"], timeout = \"300ms\" }}", server.addr());
    let setup = Setup::new(&crate::one(extra)).top(&dns);
    setup.set("app", format!("http://{NAME}:{port}")).start().await
}

async fn count(gateway: &Gateway, result: &str) -> f64 {
    gateway.metrics().await.sum("gateway_dns_lookups_total", &[("name", NAME), ("result", result)])
}

async fn addresses(gateway: &Gateway) -> f64 {
    gateway.metrics().await.sum("gateway_dns_addresses", &[("name", NAME)])
}

/// The gateway starts, and says why it cannot serve, until the name resolves.
#[tokio::test]
async fn it_starts_when_a_name_does_not_resolve() {
    let server = NameServer::start().await;
    let endpoint = at("127.0.0.1", 0).await;
    let gateway = before(&server, endpoint.port, "").await;
    let reply = gateway.get("/").await;
    assert_eq!(reply.status, 502, "{}", reply.text());
    assert!(reply.header("proxy-status").contains("dns_error"), "{:?}", reply.headers);
    assert!(count(&gateway, "nxdomain").await >= 1.0);
    gateway.says("no such name").await;
    server.has(NAME, &["127.0.0.1"], 60);
    within(LONG, "the name to resolve", || async { gateway.get("/").await.status == 200 }).await;
    assert!(count(&gateway, "success").await >= 1.0);
}

/// Every address gets connections, and answers are asked for again when they expire, not before.
#[tokio::test]
async fn all_addresses_are_used_and_times_to_live_followed() {
    let server = NameServer::start().await;
    let one = at("127.0.0.61", 0).await;
    let (_two, _three) = (at("127.0.0.62", one.port).await, at("127.0.0.63", one.port).await);
    server.has(NAME, &["127.0.0.61", "127.0.0.62"], 2);
    let gateway = before(&server, one.port, "pool = { max_idle = 0 }").await;
    let both = || async {
        let mut seen = BTreeSet::new();
        for _ in 0..6 {
            seen.insert(gateway.get("/").await.text());
        }
        seen.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(both().await, ["127.0.0.61", "127.0.0.62"]);
    let (asked, begun) = (server.asked(NAME), Instant::now());
    server.has(NAME, &["127.0.0.63"], 3600);
    within(LONG, "the new address", || async { gateway.get("/").await.text() == "127.0.0.63" }).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(both().await, ["127.0.0.63"]);
    // Both families, once per time to live: now for an hour, bounded by five minutes.
    let now = server.asked(NAME);
    assert!((2..=4).contains(&(now - asked)), "{asked} → {now}");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(server.asked(NAME), now);
}

/// A connection kept to an address that the name no longer has is not used any longer.
#[tokio::test]
async fn kept_connections_to_addresses_of_old_are_closed() {
    let server = NameServer::start().await;
    let old = at("127.0.0.71", 0).await;
    let _new = at("127.0.0.72", old.port).await;
    server.has(NAME, &["127.0.0.71"], 1);
    let gateway = before(&server, old.port, "").await;
    let mut client = Client::h1(gateway.addr()).await;
    assert_eq!(client.get("/").await.text(), "127.0.0.71");
    server.has(NAME, &["127.0.0.72"], 60);
    let end = Instant::now() + LONG;
    while client.get("/").await.text() != "127.0.0.72" {
        assert!(Instant::now() < end);
        // A connection that is in use all the time is not idle when somebody looks.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// NXDOMAIN, SERVFAIL, silence: the last good addresses stay, without a request that waits; it is said, and counted.
#[tokio::test]
async fn the_last_good_addresses_stay() {
    let server = NameServer::start().await;
    let endpoint = at("127.0.0.1", 0).await;
    server.has(NAME, &["127.0.0.1"], 1);
    let mut gateway = before(&server, endpoint.port, "pool = { max_idle = 0 }").await;
    assert_eq!(gateway.get("/").await.status, 200);
    for (says, result, reason) in [
        (Says::NxDomain, "nxdomain", "no such name"),
        (Says::ServFail, "error", "the name server answered"),
        (Says::Silence, "timeout", "in time"),
        (Says::Has(Vec::new(), 1), "no_address", "it has no address"),
    ] {
        server.say(NAME, says);
        within(LONG, result, || async { count(&gateway, result).await >= 1.0 }).await;
        gateway.says(reason).await;
        let begun = Instant::now();
        assert_eq!(gateway.get("/").await.status, 200, "{result}");
        assert!(begun.elapsed() < Duration::from_millis(250), "{result}: {:?}", begun.elapsed());
        assert_eq!(addresses(&gateway).await, 1.0);
        // Good once more, so that the next failure comes soon.
        server.has(NAME, &["127.0.0.1"], 1);
        let good = count(&gateway, "success").await;
        within(LONG, "a good answer", || async { count(&gateway, "success").await > good }).await;
    }
    // A reload keeps what is known.
    server.say(NAME, Says::Silence);
    within(LONG, "silence", || async { count(&gateway, "timeout").await >= 2.0 }).await;
    let dns = format!("dns = {{ servers = [\"{}\"], timeout = \"300ms\" }}", server.addr());
    let text = crate::one("pool = { max_idle = 1 }");
    let rendered = gateway.render(&text);
    std::fs::write(&gateway.config, format!("{dns}\n{rendered}")).unwrap();
    let reply = gateway.admin_post("/reload").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(gateway.get("/").await.status, 200);
    let ages = gateway.metrics().await;
    assert!(ages.sum("gateway_dns_age_seconds", &[("name", NAME)]) > 0.5);
}

/// Happy eyeballs: an address that never answers costs a quarter of a second, one that refuses nothing; no failed
/// request, and no attempt that is not the endpoint's.
#[tokio::test]
async fn the_next_address_is_tried() {
    // A backlog of one that is full: connecting gets no answer.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.81:0".parse().unwrap()).unwrap();
    let silent = socket.listen(1).unwrap();
    let address: SocketAddr = silent.local_addr().unwrap();
    let mut held = Vec::new();
    let connect = || tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address));
    while let Ok(Ok(stream)) = connect().await {
        held.push(stream);
        assert!(held.len() < 100);
    }
    let _good = at("127.0.0.82", address.port()).await;
    let server = NameServer::start().await;
    // IPv6 comes first, and may refuse (nobody listens at ::1) or be impossible here.
    server.has(NAME, &["127.0.0.81", "127.0.0.82", "::1"], 60);
    let gateway = before(&server, address.port(), "pool = { max_idle = 0 }").await;
    let mut times = Vec::new();
    for _ in 0..4 {
        let begun = Instant::now();
        let reply = bounded(LONG, "an answer", gateway.get("/")).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "127.0.0.82"));
        times.push(begun.elapsed());
    }
    times.sort();
    assert!(times[0] < Duration::from_millis(250), "{times:?}");
    assert!(times[3] >= Duration::from_millis(250) && times[3] < Duration::from_secs(2), "{times:?}");
    assert_eq!(gateway.metrics().await.sum("gateway_endpoint_failures_total", &[]), 0.0);
}

/// Health checks go by the same addresses; `/etc/hosts` comes before any server.
#[tokio::test]
async fn checks_and_hosts() {
    let server = NameServer::start().await;
    let endpoint = at("127.0.0.91", 0).await;
    server.has(NAME, &["127.0.0.91"], 60);
    let gateway = before(&server, endpoint.port, "health_check = \"/\"").await;
    within(LONG, "a healthy endpoint", || async { gateway.get("/").await.status == 200 }).await;
    let local = portcullis_e2e::Endpoint::with(|seen| match seen.target.as_str() {
        "/" => named("local"),
        _ => text(404, "?"),
    })
    .await;
    let dns = format!("dns = {{ servers = [\"{}\"], timeout = \"300ms\" }}", server.addr());
    let url = format!("http://localhost:{}", local.addr().port());
    let gateway = Setup::new(&crate::one("")).top(&dns).set("app", url).start().await;
    assert_eq!(gateway.get("/").await.endpoint(), "local");
    assert_eq!(server.asked("localhost"), 0);
}
