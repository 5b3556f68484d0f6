//! Sticky sessions (MUS4, VK11): a cookie of a chosen name keeps a client at its endpoint, and fails over.

use http::Request;
use portcullis_e2e::{Client, Endpoint, Reply, Setup, client::empty};

const TWO: &str = r#"
[[routes]]
name = "all"
path = "/*"
service = "app"

[services.app]
endpoints = [{ url = "{a}" }, { url = "{b}" }]
sticky = { cookie = "music_session", secure = true, http_only = true, same_site = "lax", max_age = 3600, path = "/app" }
"#;

fn cookie(reply: &Reply) -> String {
    let set = reply.header("set-cookie").to_owned();
    set.split(';').next().unwrap_or_default().to_owned()
}

async fn with_cookie(client: &mut Client, cookie: &str) -> Reply {
    client.fetch(Request::get("/").header("cookie", cookie).body(empty()).unwrap()).await
}

/// The first answer sets the cookie, with the attributes configured; the cookie leads back to the same endpoint.
#[tokio::test]
async fn a_cookie_keeps_the_client() {
    let [a, b] = [Endpoint::named("a").await, Endpoint::named("b").await];
    let gateway = Setup::new(TWO).set("a", a.url()).set("b", b.url()).start().await;
    let mut client = Client::h1(gateway.addr()).await;
    for _ in 0..4 {
        let first = client.get("/").await;
        let set = first.header("set-cookie").to_lowercase();
        assert!(set.starts_with("music_session="), "{set}");
        for attribute in ["secure", "httponly", "samesite=lax", "max-age=3600", "path=/app"] {
            assert!(set.split("; ").any(|part| part == attribute), "{attribute} in {set}");
        }
        let home = first.endpoint().to_owned();
        for _ in 0..6 {
            let reply = with_cookie(&mut client, &format!("theme=dark; {}", cookie(&first))).await;
            assert_eq!(reply.endpoint(), home);
            assert_eq!(reply.header("set-cookie"), "", "nothing new to say");
        }
    }
    assert!(a.count() > 0 && b.count() > 0, "both are somebody's home");
}

/// The value says nothing about the address, in plain or in base64, and another client's guess leads nowhere harmful.
#[tokio::test]
async fn the_cookie_does_not_show_the_address() {
    let [a, b] = [Endpoint::named("a").await, Endpoint::named("b").await];
    let gateway = Setup::new(TWO).set("a", a.url()).set("b", b.url()).start().await;
    let mut client = Client::h1(gateway.addr()).await;
    for _ in 0..2 {
        let reply = client.get("/").await;
        let cookie = cookie(&reply);
        let value = cookie.trim_start_matches("music_session=").to_owned();
        for port in [a.addr().port(), b.addr().port()] {
            assert!(!value.contains(&port.to_string()), "{value}");
            assert!(!value.contains(&format!("{port:x}")), "{value}");
        }
        assert!(!value.contains("127") && !value.contains("http") && !value.contains("MTI3"), "{value}");
    }
    let guessed = with_cookie(&mut client, "music_session=0000000000000000").await;
    assert_eq!(guessed.status, 200);
    assert!(guessed.header("set-cookie").starts_with("music_session="), "a stranger's cookie is replaced");
}

/// Failover: when the client's endpoint is gone, another answers and becomes its home.
#[tokio::test]
async fn a_dead_home_is_replaced() {
    let [mut a, mut b] = [Endpoint::named("a").await, Endpoint::named("b").await];
    let text = format!("{TWO}\npassive_health = {{ failures = 1, window = \"10s\", ejection = \"60s\" }}\n");
    let gateway = Setup::new(&text).set("a", a.url()).set("b", b.url()).start().await;
    let mut client = Client::h1(gateway.addr()).await;
    let first = client.get("/").await;
    let home = first.endpoint().to_owned();
    let old = cookie(&first);
    if home == "a" {
        a.stop().await
    } else {
        b.stop().await
    }
    // The connection is refused, which is safe to try elsewhere at once or counts against the endpoint: either way the
    // next answers come from the other.
    let mut reply = with_cookie(&mut client, &old).await;
    if reply.status != 200 {
        reply = with_cookie(&mut client, &old).await;
    }
    assert_eq!(reply.status, 200);
    assert_ne!(reply.endpoint(), home);
    let new = cookie(&reply);
    assert!(new.starts_with("music_session=") && new != old, "a new home: {new}");
    let again = with_cookie(&mut client, &new).await;
    assert_eq!(again.endpoint(), reply.endpoint());
}
