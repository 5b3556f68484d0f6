//! One canonical form of a path before routing, and exactly that form is forwarded.

use portcullis_e2e::{Endpoint, Gateway, RawClient, Setup};

const ROUTES: &str = r#"
[[routes]]
name = "admin"
path = "/admin/*"
service = "secret"

[[routes]]
name = "all"
path = "/*"
service = "app"

[services.app]
endpoints = [{ url = "{app}" }]

[services.secret]
endpoints = [{ url = "{secret}" }]
"#;

async fn ask(gateway: &Gateway, target: &str) -> (u16, String) {
    let request = format!("GET {target} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
    let reply = RawClient::ask(gateway.addr(), request).await;
    (reply.status, reply.header("x-endpoint").to_owned())
}

#[tokio::test]
async fn what_is_routed_is_what_is_forwarded() {
    let [app, secret] = [Endpoint::named("app").await, Endpoint::named("secret").await];
    let gateway = Setup::new(ROUTES).set("app", app.url()).set("secret", secret.url()).start().await;
    for (asked, taker, forwarded) in [
        ("/a/b?x=%2f&y", "app", "/a/b?x=%2f&y"),
        ("/a//b", "app", "/a/b"),
        ("/a/./b/../c", "app", "/a/c"),
        ("/a/%2e%2e/c", "app", "/c"),
        ("/%61/%7Euser", "app", "/a/~user"),
        ("/caf%c3%a9", "app", "/caf%C3%A9"),
        ("/a%20b", "app", "/a%20b"),
        ("/x/../admin/keys", "secret", "/admin/keys"),
        ("/x/%2e%2e/admin/keys", "secret", "/admin/keys"),
        ("//admin/keys", "secret", "/admin/keys"),
        ("/%61dmin/keys", "secret", "/admin/keys"),
        ("/admin/../x", "app", "/x"),
        ("/../../x", "app", "/x"),
        ("/", "app", "/"),
        ("/x/", "app", "/x/"),
    ] {
        let (status, endpoint) = ask(&gateway, asked).await;
        assert_eq!((status, endpoint.as_str()), (200, taker), "{asked}");
        let seen = if taker == "app" { app.last() } else { secret.last() };
        assert_eq!(seen.target, forwarded, "{asked}");
    }
}

/// What servers disagree about is refused: 400, and forwarded nowhere.
#[tokio::test]
async fn doubtful_paths_are_400() {
    let [app, secret] = [Endpoint::named("app").await, Endpoint::named("secret").await];
    let gateway = Setup::new(ROUTES).set("app", app.url()).set("secret", secret.url()).start().await;
    for asked in [
        "/a%00b",
        "/a%2fb",
        "/a%5Cb",
        "/a%3bb",
        "/a%25b",
        "/a%3Fb",
        "/a%23b",
        "/a%zzb",
        "/a%",
        "/a%2",
        "/a#b",
        "/a\\b",
        "/%ff%fe",
        "/a/..%2f..%2fadmin",
    ] {
        assert_eq!(ask(&gateway, asked).await.0, 400, "{asked}");
    }
    assert_eq!((app.count(), secret.count()), (0, 0));
}

/// By choice, encoded delimiters are kept as they are.
#[tokio::test]
async fn the_policy_can_be_loosened() {
    let app = Endpoint::named("app").await;
    let text = r#"
[[routes]]
name = "files"
path = "/files/*"
service = "app"
path_policy = { encoded_delimiters = "keep" }

[[routes]]
name = "all"
path = "/*"
service = "app"

[services.app]
endpoints = [{ url = "{app}" }]
"#;
    let gateway = Setup::new(text).set("app", app.url()).start().await;
    assert_eq!(ask(&gateway, "/files/a%2fb").await.0, 200);
    assert_eq!(app.last().target, "/files/a%2Fb");
    assert_eq!(ask(&gateway, "/other/a%2fb").await.0, 400);
}

/// By choice of the listener, slashes are not merged.
#[tokio::test]
async fn slashes_can_be_kept() {
    let app = Endpoint::named("app").await;
    let text = format!("[listeners.web.path_policy]\nmerge_slashes = false\n{}", crate::one(""));
    let gateway = Setup::new(&text).set("app", app.url()).start().await;
    assert_eq!(ask(&gateway, "/a//b").await.0, 200);
    assert_eq!(app.last().target, "/a//b");
}
