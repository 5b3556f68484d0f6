//! A real browser, Chromium, and HTTP/3: it comes over TCP, learns by `Alt-Svc` that there is HTTP/3, and goes on with that.

use std::sync::Arc;

use http::{Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use portcullis_e2e::{
    Endpoint, Gateway, bounded,
    certs::{Authority, Pair},
    chromium,
    client::{Body, Problem, full},
    wait::LONG,
    within,
};
use serde_json::Value;
use tokio::sync::Notify;

use crate::http3::{NAME, setup};

/// Asks until it is answered over HTTP/3 (or has asked long enough), then uploads, downloads, and loads another page in a
/// frame. What came of it is the title in the end. The picture is there so that the browser waits for that.
const PAGE: &str = r#"<!doctype html><title>not yet</title>
<script>
  const protocol = (kind) => performance.getEntriesByType(kind).at(-1).nextHopProtocol;
  (async () => {
    let asked = '';
    for (let i = 0; i < 100 && asked !== 'h3'; i++) {
      await (await fetch('/ping', { cache: 'no-store' })).text();
      asked = protocol('resource');
      await new Promise((done) => setTimeout(done, 50));
    }
    const up = await (await fetch('/count', { method: 'POST', body: new Uint8Array(1 << 20) })).text();
    const down = (await (await fetch('/large')).arrayBuffer()).byteLength;
    const frame = document.createElement('iframe');
    frame.src = '/second';
    await new Promise((done) => { frame.onload = done; document.body.append(frame); });
    const [second] = frame.contentWindow.performance.getEntriesByType('navigation');
    document.title = [protocol('navigation'), asked, up, down, second.nextHopProtocol].join(' ');
    await fetch('/done');
  })();
</script>
<body><img src="/held">"#;

async fn pages() -> Endpoint {
    let done = Arc::new(Notify::new());
    Endpoint::start(move |request| answer(request, done.clone())).await
}

async fn answer(request: Request<Incoming>, done: Arc<Notify>) -> Result<Response<Body>, Problem> {
    let html = Response::builder().header("content-type", "text/html");
    let body = match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => full(PAGE),
        (&Method::POST, "/count") => full(request.into_body().collect().await?.to_bytes().len().to_string()),
        (&Method::GET, "/large") => full(vec![b'x'; 1 << 20]),
        (&Method::GET, "/held") => {
            bounded(LONG, "the page's end", done.notified()).await;
            full("")
        }
        (&Method::GET, "/done") => {
            done.notify_one();
            full("")
        }
        _ => full("<!doctype html><title>second</title>"),
    };
    Ok(html.body(body)?)
}

/// Starts a gateway with a certificate that the browser can be told to believe.
async fn start(listener: &str, app: &str) -> (Gateway, Pair) {
    let pair = Authority::new("browser").issue(&[NAME]);
    let (setup, _) = setup(listener, app);
    let setup = setup.file("cert.pem", &pair.cert).file("cert.key", &pair.key);
    (setup.set("client_ca", "").start().await, pair)
}

/// The protocols over which a path was asked for, in order, as the access log has them.
async fn protocols(gateway: &Gateway, path: &str) -> Vec<String> {
    let lines = || {
        let lines: Vec<String> = gateway
            .stdout()
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|line| line["path"] == path)
            .map(|line| line["protocol"].as_str().unwrap_or_default().to_owned())
            .collect();
        lines
    };
    within(LONG, "the access log", || async { !lines().is_empty() }).await;
    lines()
}

/// What is asked for over HTTP/3 once the browser knows of it.
const LATER: [&str; 4] = ["/count", "/large", "/second", "/done"];

/// The first page comes over HTTP/2, which is what TCP gives; whatever comes later goes over HTTP/3, in the browser's own
/// words and in the log's. A browser goes back to TCP when QUIC keeps it waiting for some tenths of a second, as a busy
/// machine may: so it gets three chances.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chromium_finds_http_3_by_alt_svc() {
    let endpoint = pages().await;
    for chances_left in [2, 1, 0] {
        let (gateway, pair) = start("http3 = true", &endpoint.url()).await;
        let document = chromium::document(gateway.addr(), NAME, &pair, "/").await;
        assert_eq!(protocols(&gateway, "/").await, ["HTTP/2"]);
        let mut logged = Vec::new();
        for path in LATER {
            logged.push(protocols(&gateway, path).await);
        }
        if logged.iter().all(|each| each == &["HTTP/3"]) || chances_left == 0 {
            assert!(document.contains("<title>h2 h3 1048576 1048576 h3</title>"), "{document}");
            assert_eq!(protocols(&gateway, "/ping").await.last().map(String::as_str), Some("HTTP/3"));
            assert_eq!(logged, [["HTTP/3"]; LATER.len()], "{LATER:?}");
            return;
        }
    }
}

/// Where UDP does not come through, nothing is lost: the same page over HTTP/2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chromium_stays_with_http_2_where_there_is_nothing_else() {
    let endpoint = pages().await;
    // It is told of a port where nobody listens.
    let port = portcullis_e2e::ports::free_port();
    let listener = format!("http3 = {{ advertised_port = {port} }}");
    let (gateway, pair) = start(&listener, &endpoint.url()).await;
    let document = chromium::document(gateway.addr(), NAME, &pair, "/").await;
    assert!(document.contains("<title>h2 h2 1048576 1048576 h2</title>"), "{document}");
    assert_eq!(protocols(&gateway, "/large").await, ["HTTP/2"]);
}
