//! The access log (MUS9, AVX4): JSON, common log format, short; a reason for every request that the gateway ended, and
//! where the time went.

use http::Request;
use portcullis_e2e::{Client, Endpoint, Gateway, RawClient, Setup, client::empty, wait::LONG, within};
use serde_json::Value;

async fn start(log: &str) -> (Gateway, Endpoint, Endpoint) {
    let endpoint = Endpoint::named("a").await;
    let mut dead = Endpoint::named("dead").await;
    dead.stop().await;
    let text = format!(
        r#"
[access_log]
{log}

[[routes]]
name = "users"
path = "/users/{{id}}"
service = "app"

[[routes]]
name = "dead"
path = "/dead"
upstream = {{ urls = ["{{dead}}"] }}

[services.app]
endpoints = [{{ url = "{{app}}" }}]
"#
    );
    (Setup::new(&text).set("app", endpoint.url()).set("dead", dead.url()).start().await, endpoint, dead)
}

async fn line(gateway: &Gateway, holding: &str) -> String {
    within(LONG, &format!("a line with {holding}"), || async { gateway.stdout().contains(holding) }).await;
    gateway.stdout().lines().find(|line| line.contains(holding)).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn json() {
    let (gateway, endpoint, _dead) = start("format = \"json\"").await;
    let request = Request::get("/users/7?x=1&token=secret")
        .header("host", "shop.example")
        .header("user-agent", "test/1");
    assert_eq!(gateway.send(request.body(empty()).unwrap()).await.status, 200);
    let line: Value = serde_json::from_str(&line(&gateway, "/users/7").await).unwrap();
    for (key, value) in [
        ("method", "GET"),
        ("host", "shop.example"),
        ("path", "/users/7"),
        ("protocol", "HTTP/1.1"),
        ("client", "127.0.0.1"),
        ("listener", "web"),
        ("user_agent", "test/1"),
    ] {
        assert_eq!(line[key], value, "{line}");
    }
    assert_eq!((line["status"].as_u64(), line["bytes_out"].as_u64()), (Some(200), Some(1)), "{line}");
    assert!(line["route"].as_str().is_some_and(|route| route.starts_with("users")), "{line}");
    assert!(
        line["endpoint"].as_str().is_some_and(|url| url.contains(&endpoint.addr().port().to_string())),
        "{line}"
    );
    assert!(line.get("reason").is_none(), "the gateway did not end it: {line}");
    for time in ["duration_ms", "route_ms", "connect_ms", "first_byte_ms", "transfer_ms"] {
        assert!(line[time].is_number(), "{time} in {line}");
    }
    assert!(!line.to_string().contains("secret"), "{line}");
    assert!(line["time"].as_str().is_some_and(|time| time.starts_with("20") && time.ends_with('Z')));
}

/// A reason code for what the gateway itself ended.
#[tokio::test]
async fn reasons() {
    let (gateway, _endpoint, _dead) = start("").await;
    gateway.get("/dead").await;
    gateway.get("/nothing").await;
    RawClient::ask(gateway.addr(), "GET /broken HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n").await;
    for (path, status, reason) in [("/dead", 502, "connection-refused"), ("/nothing", 404, "no-route")] {
        let line: Value = serde_json::from_str(&line(&gateway, path).await).unwrap();
        assert_eq!(
            (line["status"].as_u64(), line["reason"].as_str()),
            (Some(status), Some(reason)),
            "{line}"
        );
    }
    let bad: Value = serde_json::from_str(&line(&gateway, "bad-request").await).unwrap();
    assert_eq!(bad["status"], 400, "{bad}");
}

/// A client that leaves is logged, with its reason.
#[tokio::test]
async fn a_client_that_leaves() {
    let hanging = portcullis_e2e::Script::start(|mut conversation| async move {
        conversation.head().await;
        conversation.hang().await;
    })
    .await;
    let text = format!("[access_log]\nformat = \"json\"\n{}", crate::one(""));
    let gateway = Setup::new(&text).set("app", hanging.url()).start().await;
    let mut client = RawClient::connect(gateway.addr()).await;
    client.write("GET /left HTTP/1.1\r\nHost: a\r\n\r\n").await;
    within(LONG, "the request to arrive", || async { !hanging.heads().is_empty() }).await;
    drop(client);
    let line: Value = serde_json::from_str(&line(&gateway, "/left").await).unwrap();
    assert_eq!(
        (line["status"].as_u64(), line["reason"].as_str()),
        (Some(499), Some("client-gone")),
        "{line}"
    );
}

/// A hostile request cannot forge a line or speak to a terminal.
#[tokio::test]
async fn lines_cannot_be_forged() {
    for format in ["json", "common", "short"] {
        let (gateway, _endpoint, _dead) = start(&format!("format = \"{format}\"")).await;
        let request = "GET /users/%0aforged%1b[31m?%0d%0aforged HTTP/1.1\r\nHost: a\r\nUser-Agent: x\t\x1b[31m\"forged\r\n\r\n";
        let reply = RawClient::ask(gateway.addr(), request).await;
        Client::h1(gateway.addr()).await.get("/users/after").await;
        line(&gateway, "/users/after").await;
        let log = gateway.stdout();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("/users/")).collect();
        assert!(lines.len() <= 2, "{}: {log}", reply.status);
        assert!(!log.contains("\x1b[31m"), "{log:?}");
        assert!(log.lines().all(|line| !line.starts_with("forged")), "{log}");
    }
}

#[tokio::test]
async fn common_log_format() {
    let (gateway, _endpoint, _dead) = start("format = \"common\"").await;
    gateway.get("/users/7?x=1").await;
    let line = line(&gateway, "/users/7").await;
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    assert!(line.contains("] \"GET /users/7?x=1 HTTP/1.1\" 200 1 "), "{line}");
}

/// Into a file, which may be moved away and is opened anew on SIGUSR1.
#[tokio::test]
async fn into_a_file_that_is_rotated() {
    let (gateway, _endpoint, _dead) = start("format = \"json\"\nfile = \"access.log\"").await;
    let path = gateway.dir.path().join("access.log");
    let holds = |path: std::path::PathBuf, text: &'static str| async move {
        std::fs::read_to_string(path).is_ok_and(|log| log.contains(text))
    };
    gateway.get("/users/first").await;
    within(LONG, "the first line", || holds(path.clone(), "/users/first")).await;
    std::fs::rename(&path, gateway.dir.path().join("access.log.1")).unwrap();
    gateway.signal(rustix::process::Signal::USR1);
    within(LONG, "a new file", || async { path.exists() }).await;
    gateway.get("/users/second").await;
    within(LONG, "the second line", || holds(path.clone(), "/users/second")).await;
    assert!(!gateway.stdout().contains("/users/"));
}

/// Off unless asked for.
#[tokio::test]
async fn off_by_default() {
    let endpoint = Endpoint::named("a").await;
    let gateway = Setup::new(&crate::one("")).set("app", endpoint.url()).start().await;
    gateway.get("/unseen").await;
    gateway.get("/unseen").await;
    assert!(!gateway.stdout().contains("/unseen"));
}

/// What is refused before there is a request is logged with the host and the target that were asked for, as they came,
/// bounded, over both versions; and without what is secret in them.
#[tokio::test]
async fn refused_requests_are_logged_as_they_came() {
    let (gateway, _endpoint, _dead) = start("format = \"json\"").await;
    let long = "x".repeat(9000);
    let many = "X-Field: 1\r\n".repeat(200);
    for (head, status, path, query, host) in [
        (
            "GET /users/x%2fy?token=secret HTTP/1.1\r\nHost: Shop.example\r\n\r\n".to_owned(),
            400,
            "/users/x%2fy",
            Some("token=***"),
            "shop.example",
        ),
        (
            "GET /doubled HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n".to_owned(),
            400,
            "/doubled",
            None,
            "a.example",
        ),
        ("GET /users/a b HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400, "/users/a b", None, "a"),
        ("GET /version HTTP/1.7\r\nHost: a\r\n\r\n".to_owned(), 505, "/version", None, "a"),
        (format!("GET /many HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 431, "/many", None, "a"),
        (
            format!("GET /long/{long} HTTP/1.1\r\nHost: long.example\r\n\r\n"),
            414,
            "/long/xxx",
            None,
            "long.example",
        ),
        (
            "GET http://me:secret@url.example/user HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            400,
            "http://url.example/user",
            None,
            "a",
        ),
    ] {
        let reply = RawClient::ask(gateway.addr(), &head).await;
        assert_eq!(reply.status, status, "{path}");
        let line = line(&gateway, path).await;
        let entry: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (entry["status"].as_u64(), entry["host"].as_str()),
            (Some(u64::from(status)), Some(host)),
            "{line}"
        );
        assert!(
            entry["path"].as_str().is_some_and(|logged| logged.starts_with(path) && logged.len() < 1100),
            "{line}"
        );
        assert_eq!((entry["query"].as_str(), entry["method"].as_str()), (query, Some("GET")), "{line}");
        assert!(!line.contains("secret"), "{line}");
    }
    let mut client = Client::h2(gateway.addr()).await;
    let request = Request::get("/over-h2%2fy").header("host", "two.example").body(empty()).unwrap();
    assert_eq!(client.fetch(request).await.status, 400);
    let entry: Value = serde_json::from_str(&line(&gateway, "/over-h2%2fy").await).unwrap();
    assert_eq!(
        (entry["host"].as_str(), entry["protocol"].as_str()),
        (Some("two.example"), Some("HTTP/2")),
        "{entry}"
    );
}

/// Nor can a request that is refused forge a line or speak to a terminal.
#[tokio::test]
async fn refused_requests_cannot_forge_lines() {
    for format in ["json", "common", "short"] {
        let (gateway, _endpoint, _dead) = start(&format!("format = \"{format}\"")).await;
        for request in [
            &b"GET /refused\x1b[31m\"\\ \",\"forged\":\"1 HTTP/1.1\r\nHost: a\"\x1b[31m\r\nHost: b\r\n\r\n"[..],
            b"GET /refused\xff\xc2\x9b31m\rforged HTTP/1.1\r\nHost: \xff\r\n\r\n",
            b"\x16\x03\x01refused\0\x1b[31m\"\r\n\r\n",
        ] {
            assert_eq!(RawClient::ask(gateway.addr(), request).await.status, 400);
        }
        gateway.get("/users/after").await;
        line(&gateway, "/users/after").await;
        let log = gateway.stdout();
        let refused: Vec<&str> = log.lines().filter(|line| line.contains("refused")).collect();
        assert_eq!(refused.len(), 3, "{log}");
        for line in refused {
            assert!(!line.chars().any(char::is_control), "{line:?}");
            if format == "json" {
                let entry: Value = serde_json::from_str(line).unwrap();
                assert!(entry.get("forged").is_none(), "{line}");
            }
        }
    }
}
