//! AVX2: the file of the seed loads as it stands, and does what it says (`examples/avx-gateway`).

use std::path::PathBuf;

use http::Request;
use portcullis_e2e::{
    Client, Endpoint, Gateway, Setup,
    client::{empty, full},
    gateway,
};

fn example() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/avx-gateway/gateway.toml")
}

/// The file itself, with nothing but its addresses replaced by those of this machine's test.
async fn start() -> (Gateway, [Endpoint; 2]) {
    let text = std::fs::read_to_string(example()).unwrap();
    let text = text
        .replace("host = \"0.0.0.0\"", "host = \"127.0.0.1\"")
        .replace("port = 8080", "port = {port}")
        .replace("http://service1:8001", "{one}")
        .replace("http://service2:8002", "{two}");
    let text = format!("{text}\n[admin]\naddress = \"127.0.0.1:{{admin}}\"\n");
    let [one, two] = [Endpoint::named("one").await, Endpoint::named("two").await];
    let setup = Setup::whole("gateway.toml", &text).set("one", one.url()).set("two", two.url());
    (setup.start().await, [one, two])
}

#[tokio::test]
async fn it_checks_without_a_finding() {
    let dir = tempfile::tempdir().unwrap();
    let path = example();
    let output = gateway::run(dir.path(), &["check", "-c", path.to_str().unwrap()]);
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{said}");
}

/// The prefix is stripped, the two endpoints take turns, other methods are 405, other paths 404.
#[tokio::test]
async fn its_route_works() {
    let (gateway, endpoints) = start().await;
    let mut client = Client::h1(gateway.addr()).await;
    let mut answers = Vec::new();
    for method in ["GET", "POST", "PUT", "DELETE"] {
        let request =
            Request::builder().method(method).uri("/api/users/7?full=1").body(full("data")).unwrap();
        let reply = client.fetch(request).await;
        assert_eq!(reply.status, 200, "{method}");
        answers.push(reply.endpoint().to_owned());
    }
    assert_ne!(answers[0], answers[1]);
    assert_eq!((&answers[0], &answers[1]), (&answers[2], &answers[3]));
    for endpoint in &endpoints {
        assert!(endpoint.seen().iter().all(|seen| seen.target == "/7?full=1"));
    }
    assert_eq!(client.get("/api/orders").await.status, 404);
    let request = Request::patch("/api/users/7").body(empty()).unwrap();
    let refused = client.fetch(request).await;
    assert_eq!(refused.status, 405);
    assert!(refused.header("allow").contains("DELETE"), "{:?}", refused.headers);
}

/// `enable_cors`: any origin may read, preflight is answered.
#[tokio::test]
async fn cors_is_on() {
    let (gateway, [one, two]) = start().await;
    let preflight = Request::options("/api/users/7")
        .header("origin", "https://anywhere.example")
        .header("access-control-request-method", "DELETE");
    let reply = gateway.send(preflight.body(empty()).unwrap()).await;
    assert!([200, 204].contains(&reply.status), "{} {}", reply.status, reply.text());
    assert_eq!(reply.header("access-control-allow-origin"), "*");
    assert!(reply.header("access-control-allow-methods").contains("DELETE"), "{:?}", reply.headers);
    assert_eq!(one.count() + two.count(), 0);
    let request = Request::get("/api/users/7").header("origin", "https://anywhere.example");
    let reply = gateway.send(request.body(empty()).unwrap()).await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, "*"));
}

/// `burst_size = 200`: 200 requests at once pass, and far more do not.
#[tokio::test]
async fn the_rate_is_limited() {
    let (gateway, endpoints) = start().await;
    let mut client = Client::h1(gateway.addr()).await;
    let mut refused = None;
    let mut passed = 0;
    // 100 a second come back while we ask: the bound is generous, and still an end.
    for _ in 0..20_000 {
        let reply = client.get("/api/users/7").await;
        match reply.status {
            200 => passed += 1,
            429 => {
                refused = Some(reply);
                break;
            }
            other => panic!("{other}"),
        }
    }
    assert!(passed >= 200, "{passed} passed");
    let refused = refused.expect("an end to it");
    assert!(refused.header("retry-after").parse::<u32>().is_ok());
    assert_eq!(endpoints.iter().map(Endpoint::count).sum::<usize>(), passed);
}
