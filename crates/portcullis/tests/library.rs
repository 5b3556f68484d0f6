//! The library as a program uses it, over real sockets.

use std::{fs, net::SocketAddr, time::Duration};

use portcullis::{Error, Gateway, GatewayConfig};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::timeout,
};

/// An endpoint that answers every request with its name and the path asked for.
async fn endpoint(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let body = format!("{name} {}", head.split(' ').nth(1).unwrap_or_default());
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    address
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: a.example\r\nOrigin: http://b.example\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    timeout(Duration::from_secs(10), stream.read_to_string(&mut answer))
        .await
        .expect("in time")
        .expect("an answer");
    answer
}

#[tokio::test]
async fn built_in_a_program() {
    let (one, two) = (endpoint("one").await, endpoint("two").await);
    let gateway = Gateway::builder()
        .route("/a/*", &format!("http://{one}"))
        .route("/a/*", &format!("http://{two}"))
        .with_host("127.0.0.1")
        .with_port(0)
        .with_workers(1)
        .with_rate_limit(4)
        .with_cors(true)
        .with_timeout(Duration::from_secs(5))
        .build()
        .await
        .expect("a gateway");
    let web = gateway.address("web").expect("its listener");
    assert_eq!(gateway.addresses().len(), 1, "no admin listener unless asked for");
    let mut seen: Vec<bool> = Vec::new();
    for _ in 0..4 {
        let answer = get(web, "/a/x").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("/a/x"), "{answer}");
        assert!(answer.to_ascii_lowercase().contains("access-control-allow-origin"), "{answer}");
        seen.push(answer.contains("one /a/x"));
    }
    assert_eq!(seen.iter().filter(|one| **one).count(), 2, "{seen:?}");
    let limited = get(web, "/a/x").await;
    assert!(limited.starts_with("HTTP/1.1 429"), "{limited}");

    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(gateway.serve_until(async { drop(stopped.await) }));
    stop.send(()).expect("it serves");
    timeout(Duration::from_secs(10), served)
        .await
        .expect("it ends")
        .expect("in peace")
        .expect("without error");
    assert!(TcpStream::connect(web).await.is_err(), "it listens no longer");
}

#[tokio::test]
async fn from_a_file_that_is_followed() {
    let (one, two) = (endpoint("one").await, endpoint("two").await);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("gateway.json");
    let configuration = |to: SocketAddr| {
        json!({
            "server": { "host": "127.0.0.1", "port": 0, "workers": 1 },
            "admin": false,
            "routes": [{ "path": "/*", "upstream": { "urls": [format!("http://{to}")] } }],
        })
        .to_string()
    };
    fs::write(&file, configuration(one)).expect("written");
    let config = GatewayConfig::load(&file).expect("a configuration");
    let gateway = Gateway::from_config(config).await.expect("a gateway");
    let web = gateway.address("web").expect("its listener");
    assert!(get(web, "/").await.contains("one /"));

    fs::write(&file, "{}}").expect("written");
    let attempt = gateway.reload().await.expect("an attempt");
    assert!(!attempt.ok && attempt.findings.iter().any(portcullis_config::Finding::is_error), "{attempt:?}");
    assert!(get(web, "/").await.contains("one /"), "the last good one stays");

    fs::write(&file, configuration(two)).expect("written");
    let followed = async {
        while !get(web, "/").await.contains("two /") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(10), followed).await.expect("the change is followed");
}

#[tokio::test]
async fn what_is_wrong_is_told_whole() {
    let error = Gateway::builder()
        .route("users", "nowhere")
        .route("/b", "ftp://x")
        .build()
        .await
        .expect_err("refused");
    let Error::Configuration(text) = error else { panic!("{error:?}") };
    assert!(text.contains("routes[0]") && text.contains("routes[1]"), "{text}");

    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = taken.local_addr().expect("its address").port();
    let error = Gateway::builder().with_host("127.0.0.1").with_port(port).build().await.expect_err("refused");
    assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");

    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("gateway.toml");
    assert!(matches!(GatewayConfig::load(missing), Err(Error::Configuration(_))));
}
