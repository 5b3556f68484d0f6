use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;

/// The body of an answer, and its status.
async fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"), body.to_owned())
}

/// Who answers six requests, sorted.
async fn six(address: SocketAddr) -> Vec<String> {
    let mut all = Vec::new();
    for _ in 0..6 {
        all.push(ask(address, "GET", "/").await.1.trim().to_owned());
    }
    all.sort();
    all
}

async fn becomes(address: SocketAddr, expected: &[&str]) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let seen = six(address).await;
        if seen == expected {
            return;
        }
        assert!(Instant::now() < end, "{seen:?} never became {expected:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn balancing_and_a_failing_endpoint_as_the_introduction_promises() {
    let mut endpoints = Vec::new();
    for name in NAMES {
        endpoints.push((name, endpoint::start(name).await.expect("an endpoint")));
    }
    let text = configuration(SocketAddr::from(([127, 0, 0, 1], 0)), 0, &endpoints);
    let provider = Fixed::text("demo", "demo.toml", &text);
    let app =
        App::start(vec![Arc::new(provider)], PathBuf::from("."), None).await.expect("the gateway starts");
    let addresses = app.addresses();
    let web = addresses.iter().find(|(name, _)| &**name == "web").expect("the listener").1;
    let all =
        ["hello from a", "hello from a", "hello from b", "hello from b", "hello from c", "hello from c"];
    let two =
        ["hello from a", "hello from a", "hello from a", "hello from c", "hello from c", "hello from c"];
    becomes(web, &all).await;
    assert_eq!(ask(web, "POST", "/endpoints/b/fail").await, (200, "b fails from now on\n".into()));
    becomes(web, &two).await;
    assert_eq!(ask(web, "POST", "/endpoints/b/heal").await, (200, "b has healed\n".into()));
    becomes(web, &all).await;
    let (status, whoami) = ask(web, "GET", "/whoami").await;
    assert!(status == 200 && whoami.contains("x-request-id"), "{whoami}");
    assert_eq!(ask(web, "GET", "/gateway/health").await.0, 200);
    let told = introduction(&app, &text, &endpoints);
    assert!(told.contains(&format!("curl -s 'http://{web}/?[1-6]'")), "{told}");
    app.drain().await;
}
