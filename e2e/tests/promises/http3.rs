//! HTTP/3 for clients (the `h3` crate's, which is not the gateway's own): requests and answers as over HTTP/1.1 and 2.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use portcullis_e2e::{
    Client, Endpoint, Gateway, H3, Setup, bounded,
    certs::Authority,
    client::{Body, full, streamed},
    gateway, h3,
    ports::free_port,
    wait::LONG,
    within,
};

pub const NAME: &str = "shop.example";

const CONFIG: &str = r#"
workers = 2
[access_log]
format = "json"

[listeners.web]
address = "127.0.0.1:{port}"
tls = { cert = "cert.pem", key = "cert.key"{client_ca} }
{listener}

[admin]
address = "127.0.0.1:{admin}"

[[routes]]
name = "all"
path = "/*"
service = "app"

[services.app]
endpoints = [{ url = "{app}" }]
"#;

/// A gateway that speaks HTTP/3, and who signed its certificate. `listener`: more lines of its listener.
pub fn setup(listener: &str, app: &str) -> (Setup, Authority) {
    let authority = Authority::new("http3");
    let pair = authority.issue(&[NAME]);
    let setup = Setup::whole("gateway.toml", CONFIG)
        .set("listener", listener)
        .set("app", app)
        .file("cert.pem", &pair.cert)
        .file("cert.key", &pair.key);
    (setup, authority)
}

pub async fn start(listener: &str, app: &str) -> (Gateway, Authority) {
    let (setup, authority) = setup(listener, app);
    (setup.set("client_ca", "").start().await, authority)
}

pub async fn connect(gateway: &Gateway, authority: &Authority) -> H3 {
    H3::connect(gateway.addr(), NAME, authority.client(&["h3"])).await
}

/// Tells method, path and body length, and gives trailers back with one more.
async fn echo() -> Endpoint {
    Endpoint::start(|request| async move {
        let target = request.uri().path_and_query().map_or("", |target| target.as_str());
        let what = format!("{} {target}", request.method());
        let body = request.into_body().collect().await?;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-end", "1".parse()?);
        trailers.extend(body.trailers().cloned().unwrap_or_default());
        let text = format!("{what} {}", body.to_bytes().len());
        let whole = Full::new(Bytes::from(text)).map_err(|never| match never {});
        let body: Body = whole.with_trailers(async { Some(Ok(trailers)) }).boxed_unsync();
        Ok(Response::builder().header("trailer", "x-end").body(body)?)
    })
    .await
}

/// Requests as they are: what arrives at the endpoint, what the log and the metrics tell.
#[tokio::test]
async fn requests_and_answers() {
    let endpoint = Endpoint::named("a").await;
    let (gateway, authority) = start("http3 = true", &endpoint.url()).await;
    let client = connect(&gateway, &authority).await;
    let reply = client.get("/a?b=c").await;
    assert_eq!((reply.status, reply.endpoint()), (200, "a"));
    let seen = endpoint.last();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/a?b=c"));
    assert_eq!(seen.header("host"), NAME);
    assert_eq!(seen.header("x-forwarded-proto"), "https");
    assert_eq!(seen.header("via"), "3 portcullis");
    // A request without a body stays one.
    assert_eq!((seen.header("transfer-encoding"), seen.header("content-length")), ("", ""));
    let reply = client.fetch(Request::post("/up").body(()).unwrap(), "x".repeat(100_000)).await;
    assert_eq!((reply.status, endpoint.last().body.len()), (200, 100_000));
    let sized = Request::put("/up").header("content-length", "3").body(()).unwrap();
    assert_eq!(client.fetch(sized, "abc").await.status, 200);
    assert_eq!(endpoint.last().body, "abc");
    assert_eq!(endpoint.last().header("content-length"), "3");
    let reply = client.fetch(Request::head("/h").body(()).unwrap(), "").await;
    assert_eq!((reply.status, reply.body.len()), (200, 0));
    let crumbs = Request::get("/").header("cookie", "a=1").header("cookie", "b=2").body(()).unwrap();
    client.fetch(crumbs, "").await;
    assert_eq!(endpoint.last().header("cookie"), "a=1; b=2");
    within(LONG, "the log", || async {
        gateway.stdout().lines().any(|line| line.contains("HTTP/3") && line.contains("/a"))
    })
    .await;
    let listeners = gateway.admin_get("/api/listeners").await.json();
    let web = listeners["listeners"].as_array().unwrap().iter().find(|one| one["name"] == "web").unwrap();
    assert_eq!(web["http3"]["max_age"], "24h", "{web}");
}

/// Trailers both ways, and interim answers.
#[tokio::test]
async fn trailers_and_interim_answers() {
    let endpoint = echo().await;
    let (gateway, authority) = start("http3 = true", &endpoint.url_as("h2c")).await;
    let client = connect(&gateway, &authority).await;
    let mut asked = client.ask(Request::post("/t").body(()).unwrap()).await.unwrap();
    asked.send_data(Bytes::from_static(b"body")).await.unwrap();
    let trailers: HeaderMap = [("x-sum".parse().unwrap(), "9".parse().unwrap())].into_iter().collect();
    asked.send_trailers(trailers).await.unwrap();
    asked.finish().await.unwrap();
    let reply = bounded(LONG, "an answer", h3::whole(asked)).await.unwrap();
    assert_eq!(reply.text(), "POST /t 4");
    let trailers = reply.trailers.unwrap();
    assert_eq!((trailers["x-sum"].to_str().unwrap(), trailers["x-end"].to_str().unwrap()), ("9", "1"));

    // 100-continue: the gateway asks for the body when somebody wants it.
    let expecting = Request::post("/e").header("expect", "100-continue").body(()).unwrap();
    let mut asked = client.ask(expecting).await.unwrap();
    let interim = bounded(LONG, "100 Continue", asked.recv_response()).await.unwrap();
    assert_eq!(interim.status(), 100);
    asked.send_data(Bytes::from_static(b"abc")).await.unwrap();
    asked.finish().await.unwrap();
    assert_eq!(bounded(LONG, "an answer", h3::whole(asked)).await.unwrap().text(), "POST /e 3");
    let odd = Request::post("/e").header("expect", "miracles").body(()).unwrap();
    assert_eq!(client.fetch(odd, "").await.status, 417);
}

/// Clients over TCP are told, where there is HTTP/3 and not elsewhere.
#[tokio::test]
async fn alt_svc() {
    let endpoint = Endpoint::named("a").await;
    for (listener, expected) in [
        ("http3 = true", Some("; ma=86400")),
        ("http3 = { max_age = \"60s\", advertised_port = 443 }", Some("h3=\":443\"; ma=60")),
        ("http3 = { max_age = 0 }", None),
        ("http3 = false", None),
        ("", None),
    ] {
        let (gateway, authority) = start(listener, &endpoint.url()).await;
        for alpn in ["h2", "http/1.1"] {
            let config = authority.client(&[alpn]);
            let mut client = Client::tls(gateway.addr(), NAME, config).await.unwrap();
            let reply = client.get("/").await;
            match expected {
                Some(text) => assert!(reply.header("alt-svc").ends_with(text), "{listener}: {reply:?}"),
                None => assert_eq!(reply.header("alt-svc"), "", "{listener}"),
            }
        }
        if expected.is_some() {
            let reply = connect(&gateway, &authority).await.get("/").await;
            assert_eq!((reply.status, reply.header("alt-svc")), (200, ""), "who is there need not be told");
        }
    }
}

/// Many streams at once, more than may be open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams() {
    let endpoint = echo().await;
    let (gateway, authority) = start("http3 = true\nlimits = { h2_streams = 20 }", &endpoint.url()).await;
    let client = Arc::new(connect(&gateway, &authority).await);
    let mut all = tokio::task::JoinSet::new();
    for number in 0..300 {
        let client = client.clone();
        all.spawn(async move {
            let reply = client.fetch(Request::post(format!("/{number}")).body(()).unwrap(), "abc").await;
            assert_eq!(reply.text(), format!("POST /{number} 3"));
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
    let accepted = gateway.metrics().await.sum("gateway_connections_accepted_total", &[("listener", "web")]);
    assert_eq!(accepted, 1.0);
}

const CHUNK: usize = 256 * 1024;
const MUCH: usize = 100 * 1024 * 1024;
/// What the gateway may grow by meanwhile.
const GROWTH_KIB: u64 = 24 * 1024;

fn zeros(bytes: usize) -> Body {
    let (mut sender, body) = streamed();
    tokio::spawn(async move {
        let chunk = Bytes::from(vec![0; CHUNK]);
        for _ in 0..bytes / CHUNK {
            if sender.send_data(chunk.clone()).await.is_err() {
                return;
            }
        }
    });
    body
}

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

/// 100 MiB each way in constant memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies() {
    let endpoint = heavy().await;
    let (gateway, authority) = start("http3 = true", &endpoint.url()).await;
    let client = connect(&gateway, &authority).await;
    client.get("/down/1048576").await;
    let (before, _) = gateway.memory_kib();
    let limit = std::time::Duration::from_secs(180);
    let down = async {
        let mut asked = client.ask(Request::get(format!("/down/{MUCH}")).body(()).unwrap()).await.unwrap();
        asked.finish().await.unwrap();
        asked.recv_response().await.unwrap();
        let mut total = 0;
        while let Some(data) = asked.recv_data().await.unwrap() {
            total += data.remaining();
        }
        total
    };
    assert_eq!(bounded(limit, "100 MiB down", down).await, MUCH);
    let up = async {
        let mut asked = client.ask(Request::post("/up").body(()).unwrap()).await.unwrap();
        let chunk = Bytes::from(vec![0; CHUNK]);
        for _ in 0..MUCH / CHUNK {
            asked.send_data(chunk.clone()).await.unwrap();
        }
        asked.finish().await.unwrap();
        h3::whole(asked).await.unwrap()
    };
    assert_eq!(bounded(limit, "100 MiB up", up).await.text(), MUCH.to_string());
    let (_, peak) = gateway.memory_kib();
    assert!(peak < before + GROWTH_KIB, "{before} KiB before, {peak} KiB at the most");
}

/// Back-pressure: a client that reads nothing stops the endpoint, and holds up no other stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_holds_nothing_up() {
    let endpoint = heavy().await;
    let (gateway, authority) = start("http3 = true", &endpoint.url()).await;
    let client = connect(&gateway, &authority).await;
    client.get("/down/1048576").await;
    let (before, _) = gateway.memory_kib();
    let mut lazy = Vec::new();
    for _ in 0..8 {
        let mut asked = client.ask(Request::get(format!("/down/{MUCH}")).body(()).unwrap()).await.unwrap();
        asked.finish().await.unwrap();
        lazy.push(asked);
    }
    for asked in &mut lazy {
        assert_eq!(bounded(LONG, "a head", asked.recv_response()).await.unwrap().status(), 200);
    }
    let other = connect(&gateway, &authority).await;
    for _ in 0..20 {
        assert_eq!(other.get("/down/262144").await.body.len(), CHUNK);
    }
    let (_, peak) = gateway.memory_kib();
    assert!(peak < before + GROWTH_KIB, "{before} KiB before, {peak} KiB at the most");
}

/// What cannot be is said when the configuration is read, and where the port is taken when it is opened.
#[tokio::test]
async fn mistakes_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[listeners.web]\naddress = \"127.0.0.1:8443\"\nhttp3 = true\n\
                  [[routes]]\nname = \"a\"\npath = \"/*\"\nupstream = { urls = [\"http://127.0.0.1:1\"] }\n";
    std::fs::write(dir.path().join("gateway.toml"), config).unwrap();
    let told = gateway::run(dir.path(), &["check", "-c", "gateway.toml"]);
    let text = String::from_utf8_lossy(&told.stdout).into_owned() + &String::from_utf8_lossy(&told.stderr);
    assert!(!told.status.success() && text.contains("HTTP/3 without TLS"), "{text}");

    let port = free_port();
    let _taken = std::net::UdpSocket::bind(("127.0.0.1", port)).unwrap();
    let pair = Authority::new("http3").issue(&[NAME]);
    let setup = Setup::whole("gateway.toml", &CONFIG.replace("{port}", &port.to_string()));
    let setup = setup.set("listener", "http3 = true").set("app", "http://127.0.0.1:1").set("client_ca", "");
    let setup = setup.file("cert.pem", &pair.cert).file("cert.key", &pair.key);
    let mut gateway = setup.without_waiting().start().await;
    assert!(!gateway.ended(LONG).await.success());
    let text = gateway.stderr();
    assert!(text.contains("UDP") && text.contains(&port.to_string()), "{text}");
}

/// An answer in HTTP/1.1 of the kind that only HTTP/3 clients see: nothing of HTTP/1.1's framing comes through.
#[tokio::test]
async fn fields_of_a_connection_stay_behind() {
    let endpoint = Endpoint::start(|_| async {
        let response = Response::builder()
            .header("connection", "close, x-hop")
            .header("x-hop", "1")
            .header("keep-alive", "timeout=5")
            .header("x-kept", "1");
        Ok(response.body(full("whole"))?)
    })
    .await;
    let (gateway, authority) = start("http3 = true", &endpoint.url()).await;
    let reply = connect(&gateway, &authority).await.get("/").await;
    assert_eq!((reply.status, reply.text().as_str(), reply.header("x-kept")), (200, "whole", "1"));
    for name in ["connection", "x-hop", "keep-alive", "transfer-encoding"] {
        assert_eq!(reply.header(name), "", "{name}");
    }
    assert_eq!(reply.header("content-length"), "5");
}
