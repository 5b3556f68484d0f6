//! Deadlines of clients: `grpc-timeout` and a header of one's own, held to and passed on with what is left.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use http::{Request, Response};
use portcullis_e2e::{
    Client, Endpoint, Gateway, Setup, Version,
    client::{Body, empty, full, streamed},
    endpoint,
    wait::{LONG, bounded, within},
};

/// An endpoint that never answers, and what `name` said of each request.
async fn deaf(name: &'static str) -> (Endpoint, Arc<Mutex<Vec<String>>>) {
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let into = told.clone();
    let endpoint = Endpoint::start(move |request| {
        let value = request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        into.lock().unwrap().push(value.unwrap_or_default());
        std::future::pending()
    })
    .await;
    (endpoint, told)
}

fn call(timeout: &str) -> Request<Body> {
    let request = Request::post("/notes.Notes/Say").header("content-type", "application/grpc");
    request.header("grpc-timeout", timeout).body(full("\0\0\0\0\0")).unwrap()
}

fn micros(text: &str) -> u64 {
    text.strip_suffix('u').unwrap_or_else(|| panic!("{text}")).parse().unwrap()
}

async fn start(app: &Endpoint, routes: &str) -> Gateway {
    let text = format!("{routes}\n[services.app]\nendpoints = [\"{{app}}\"]\n");
    Setup::new(&text).set("app", app.url()).start().await
}

const ALL: &str = "[[routes]]\npath = \"/*\"\nservice = \"app\"\n";

/// A call whose time is over gets status 4, whatever its service or route says about time, and no sooner.
#[tokio::test]
async fn a_grpc_call_is_ended_in_time() {
    let (deaf, told) = deaf("grpc-timeout").await;
    for (more, asked) in [("", "400m"), ("timeouts = { total = \"400ms\" }", "1H"), ("retry = 3", "400000u")]
    {
        told.lock().unwrap().clear();
        let gateway = start(&deaf, &format!("{ALL}{more}")).await;
        let begun = Instant::now();
        let reply = bounded(LONG, "a status", gateway.send(call(asked))).await;
        let took = begun.elapsed();
        assert_eq!((reply.status, reply.header("grpc-status")), (200, "4"), "{more} {:?}", reply.headers);
        assert!(took >= Duration::from_millis(400) && took < Duration::from_secs(5), "{more} {took:?}");
        let told = told.lock().unwrap().clone();
        assert_eq!(told.len(), 1);
        assert!((300_000..=400_000).contains(&micros(&told[0])), "{told:?}");
    }
}

/// No time at all: nobody is asked. What is no time is nobody's, and passes.
#[tokio::test]
async fn no_time_and_nonsense() {
    let endpoint = Endpoint::named("app").await;
    let gateway = start(&endpoint, ALL).await;
    let reply = bounded(LONG, "a status", gateway.send(call("0n"))).await;
    assert_eq!((reply.header("grpc-status"), endpoint.count()), ("4", 0));
    for nonsense in ["123456789m", "x", "-1S"] {
        assert_eq!(gateway.send(call(nonsense)).await.endpoint(), "app");
        assert_eq!(endpoint.last().header("grpc-timeout"), nonsense);
    }
    let plain = Request::get("/").header("grpc-timeout", "1n").body(empty()).unwrap();
    assert_eq!(gateway.send(plain).await.endpoint(), "app");
}

/// Each attempt is told what is left when it begins.
#[tokio::test]
async fn what_is_left_is_told_anew_for_each_attempt() {
    let count = Arc::new(AtomicUsize::new(0));
    let told: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
    let into = told.clone();
    let endpoint = Endpoint::start(move |request| {
        let field = |name: &str| request.headers().get(name).map_or("", |v| v.to_str().unwrap()).to_owned();
        into.lock().unwrap().push((field("grpc-timeout"), field("x-timeout")));
        let fails = count.fetch_add(1, Relaxed) == 0;
        async move {
            if fails {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            Ok(endpoint::text(if fails { 503 } else { 200 }, "said"))
        }
    })
    .await;
    let routes = "[[routes]]\npath = \"/*\"\nservice = \"app\"\nretry = { methods = [\"POST\"], backoff = \"1ms\" }\n\
                  timeouts = { deadline = { header = \"X-Timeout\", from = \"anyone\" } }";
    let gateway = start(&endpoint, routes).await;
    let mut request = call("8S");
    request.headers_mut().insert("x-timeout", "9000".parse().unwrap());
    assert_eq!(gateway.send(request).await.status, 200);
    let told = told.lock().unwrap().clone();
    let (first, second) = (micros(&told[0].0), micros(&told[1].0));
    assert!(first <= 8_000_000 && first > 4_000_000 && second + 300_000 <= first, "{told:?}");
    let (first, second): (u64, u64) = (told[0].1.parse().unwrap(), told[1].1.parse().unwrap());
    assert!(first <= 8000 && second + 300 <= first + 1, "the sooner of the two: {told:?}");
}

/// A header of one's own: 504 with a problem document; believed only from those who are trusted, and capped.
#[tokio::test]
async fn a_header_of_ones_own() {
    let (deaf, told) = deaf("x-request-timeout").await;
    let routes = "[timeouts]\ndeadline = \"X-Request-Timeout\"\n[[routes]]\npath = \"/capped\"\nservice = \"app\"\n\
                  timeouts = { total = \"500ms\" }\n[[routes]]\npath = \"/*\"\nservice = \"app\"\n";
    let ask = |path: &str, value: &str| {
        Request::get(path).header("x-request-timeout", value).body(empty()).unwrap()
    };
    let text = format!("{routes}\n[services.app]\nendpoints = [\"{{app}}\"]\n");
    let listener = "[listeners.web]\naddress = \"127.0.0.1:{port}\"\ntrusted_proxies = [\"127.0.0.1\"]\n\
                    [admin]\naddress = \"127.0.0.1:{admin}\"\n";
    let trusting = Setup::whole("gateway.toml", &format!("{listener}{text}"));
    let trusting = trusting.set("app", deaf.url()).start().await;
    for (path, value, most) in [("/a", "300", 300), ("/capped", "99999999", 500)] {
        told.lock().unwrap().clear();
        let begun = Instant::now();
        let reply = bounded(LONG, "an error", trusting.send(ask(path, value))).await;
        let took = begun.elapsed().as_millis();
        assert_eq!((reply.status, reply.header("content-type")), (504, "application/problem+json"));
        assert!(reply.json()["type"].as_str().unwrap().ends_with("/total-timeout"), "{}", reply.text());
        assert!(took >= most && took < most + 4000, "{path} {took}");
        let told: u128 = told.lock().unwrap()[0].parse().unwrap();
        assert!(told <= most && told + 200 > most, "{path} {told}");
    }
    // A stranger is not believed: the header goes, and the route's own time is what endpoints are told.
    told.lock().unwrap().clear();
    let other = start(&deaf, routes).await;
    let reply = bounded(LONG, "an error", other.send(ask("/capped", "1"))).await;
    assert_eq!(reply.status, 504);
    assert!(told.lock().unwrap()[0].parse::<u128>().unwrap() > 300, "{told:?}");
    let unbounded = tokio::time::timeout(Duration::from_millis(700), other.send(ask("/a", "1"))).await;
    assert!(unbounded.is_err(), "nobody bounds it");
    assert_eq!(told.lock().unwrap().last().unwrap(), "");
}

/// Messages have begun: the call ends with a status in its trailers and not with a reset, and its endpoint is let go.
#[tokio::test]
async fn messages_that_have_begun_end_with_a_status() {
    let held: Arc<Mutex<Vec<_>>> = Arc::default();
    let into = held.clone();
    let endpoint = Endpoint::start(move |_| {
        let into = into.clone();
        async move {
            let (mut sender, body) = streamed();
            tokio::spawn(async move {
                let _ = sender.send_data("\0\0\0\0\x01a".into()).await;
                into.lock().unwrap().push(sender);
            });
            Ok(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
        }
    })
    .await;
    let gateway = Setup::new(&format!("{ALL}[services.app]\nendpoints = [\"{{app}}\"]\n"));
    let gateway = gateway.top("access_log = { format = \"json\" }").set("app", endpoint.url_as("h2c"));
    let gateway = gateway.start().await;
    let mut client = Client::plain(Version::H2, gateway.addr()).await;
    let reply = bounded(LONG, "the end", client.fetch(call("500m"))).await;
    assert_eq!((reply.status, &reply.body[..]), (200, &b"\0\0\0\0\x01a"[..]));
    let trailers = reply.trailers.expect("trailers");
    assert_eq!(trailers["grpc-status"], "4");
    // Its answer began as 200, and the log and the metrics know who ended it (AVX4).
    within(LONG, "its line", || async { gateway.stdout().contains("/notes.Notes/Say") }).await;
    let line = gateway.stdout().lines().find(|line| line.contains("/notes.Notes/Say")).unwrap().to_owned();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["status"], &line["reason"]), (&200.into(), &"total-timeout".into()), "{line}");
    let labels = [("type", "total-timeout")];
    assert_eq!(gateway.metrics().await.sum("gateway_http_errors_total", &labels), 1.0);
}

/// How little time clients give is not the endpoint's failure.
#[tokio::test]
async fn impatient_clients_open_no_circuit() {
    let (deaf, _) = deaf("grpc-timeout").await;
    let text = format!(
        "{ALL}[services.app]\nendpoints = [\"{{app}}\"]\ncircuit_breaker = {{ failure_threshold = 2 }}\n"
    );
    let gateway = Setup::new(&text).set("app", deaf.url()).start().await;
    for _ in 0..5 {
        let reply = bounded(LONG, "a status", gateway.send(call("50m"))).await;
        assert_eq!(reply.header("grpc-status"), "4");
    }
    assert_eq!(gateway.metrics().await.sum("gateway_circuit_breaker_failures_total", &[]), 0.0);
}
