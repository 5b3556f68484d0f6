//! Routing (AVX3): paths, hosts, methods, headers, query, clients, Traefik's rules, priority; 404 and 405.

use http::Request;
use portcullis_e2e::{Client, Endpoint, Gateway, Reply, Setup, Version, client::empty};

/// An endpoint that says which path it saw; each route adds its own name as `X-Route`.
async fn gateway(routes: &[(&str, &str)]) -> (Gateway, Endpoint) {
    let endpoint = Endpoint::named("a").await;
    let mut text = String::new();
    for (name, conditions) in routes {
        text.push_str(&format!(
            "[[routes]]\nname = \"{name}\"\n{conditions}\nservice = \"app\"\n\
             middlewares = [{{ headers = {{ response = {{ set = {{ X-Route = \"{name}\" }} }} }} }}]\n\n"
        ));
    }
    text.push_str("[services.app]\nendpoints = [{ url = \"{app}\" }]\n");
    (Setup::new(&text).set("app", endpoint.url()).start().await, endpoint)
}

fn request(method: &str, target: &str, fields: &[(&str, &str)]) -> Request<portcullis_e2e::client::Body> {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(empty()).unwrap()
}

async fn ask(gateway: &Gateway, method: &str, target: &str, fields: &[(&str, &str)]) -> Reply {
    let one = gateway.send(request(method, target, fields)).await;
    let two = Client::plain(Version::H2, gateway.addr()).await.fetch(request(method, target, fields)).await;
    assert_eq!(
        (one.status, one.header("x-route")),
        (two.status, two.header("x-route")),
        "versions differ: {target}"
    );
    one
}

/// Exact, `{parameter}`, trailing `/*`; the more particular one first.
#[tokio::test]
async fn paths() {
    let (gateway, _endpoint) = gateway(&[
        ("tail", "path = \"/users/*\""),
        ("one", "path = \"/users/{id}\""),
        ("me", "path = \"/users/me\""),
        ("files", "path = \"/users/{id}/files/*\""),
        ("root", "path = \"/\""),
    ])
    .await;
    for (path, route) in [
        ("/", "root"),
        ("/users/me", "me"),
        ("/users/7", "one"),
        ("/users", "tail"),
        ("/users/", "tail"),
        ("/users/7/x", "tail"),
        ("/users/7/files", "files"),
        ("/users/7/files/a/b.txt", "files"),
    ] {
        let reply = ask(&gateway, "GET", path, &[]).await;
        assert_eq!((reply.status, reply.header("x-route")), (200, route), "{path}");
    }
    for path in ["/other", "/userss", "/Users/7"] {
        assert_eq!(ask(&gateway, "GET", path, &[]).await.status, 404, "{path}");
    }
}

/// Hosts: exact, `*.x` for exactly one label, in any case, with or without port and trailing dot.
#[tokio::test]
async fn hosts() {
    let (gateway, _endpoint) = gateway(&[
        ("exact", "hosts = [\"shop.example\", \"www.shop.example\"]"),
        ("wild", "hosts = [\"*.shop.example\"]"),
        ("other", "path = \"/*\""),
    ])
    .await;
    for (host, route) in [
        ("shop.example", "exact"),
        ("SHOP.Example", "exact"),
        ("shop.example:8080", "exact"),
        ("shop.example.", "exact"),
        ("www.shop.example", "exact"),
        ("api.shop.example", "wild"),
        ("a.b.shop.example", "other"),
        ("shop.example.evil.example", "other"),
        ("evilshop.example", "other"),
    ] {
        let reply = gateway.send(request("GET", "/", &[("host", host)])).await;
        assert_eq!((reply.status, reply.header("x-route")), (200, route), "{host}");
    }
}

/// Methods per route (AVX3): another method is 405 with `Allow`, unless another route takes it; no route is 404.
#[tokio::test]
async fn methods() {
    let (gateway, endpoint) = gateway(&[
        ("read", "path = \"/things/*\"\nmethods = [\"GET\", \"HEAD\"]"),
        ("write", "path = \"/things/*\"\nmethods = [\"POST\"]"),
    ])
    .await;
    assert_eq!(ask(&gateway, "GET", "/things/1", &[]).await.header("x-route"), "read");
    assert_eq!(ask(&gateway, "POST", "/things/1", &[]).await.header("x-route"), "write");
    let before = endpoint.count();
    let refused = ask(&gateway, "DELETE", "/things/1", &[]).await;
    assert_eq!(refused.status, 405);
    let mut allowed: Vec<&str> = refused.header("allow").split(", ").collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "POST"]);
    assert_eq!(ask(&gateway, "DELETE", "/nothing", &[]).await.status, 404);
    assert_eq!(endpoint.count(), before);
}

/// Headers and query parameters: there, absent, exactly, by regular expression.
#[tokio::test]
async fn headers_and_query() {
    let (gateway, _endpoint) = gateway(&[
        ("debug", "headers = { X-Debug = true }"),
        ("beta", "headers = { X-Version = \"beta\" }"),
        ("numbered", "headers = { X-Version = \"~^v[0-9]+$\" }"),
        ("preview", "query = { preview = \"1\" }"),
        ("paged", "query = { page = \"~^[0-9]+$\" }"),
        ("plain", "path = \"/*\"\npriority = 0"),
    ])
    .await;
    for (target, fields, route) in [
        ("/", vec![("x-debug", "")], "debug"),
        ("/", vec![("X-DEBUG", "anything")], "debug"),
        ("/", vec![("x-version", "beta")], "beta"),
        ("/", vec![("x-version", "Beta")], "plain"),
        ("/", vec![("x-version", "v12")], "numbered"),
        ("/", vec![("x-version", "v12x")], "plain"),
        ("/?preview=1", vec![], "preview"),
        ("/?x=2&preview=1", vec![], "preview"),
        ("/?preview=12", vec![], "plain"),
        ("/?page=12", vec![], "paged"),
        ("/?page=x", vec![], "plain"),
        ("/", vec![], "plain"),
    ] {
        let reply = ask(&gateway, "GET", target, &fields).await;
        assert_eq!((reply.status, reply.header("x-route")), (200, route), "{target} {fields:?}");
    }
}

/// Clients by address.
#[tokio::test]
async fn clients() {
    let (gateway, _endpoint) = gateway(&[
        ("inside", "clients = [\"127.0.0.0/8\"]\npath = \"/in\""),
        ("elsewhere", "clients = [\"10.0.0.0/8\"]\npath = \"/out\""),
    ])
    .await;
    assert_eq!(ask(&gateway, "GET", "/in", &[]).await.status, 200);
    assert_eq!(ask(&gateway, "GET", "/out", &[]).await.status, 404);
    assert_eq!(
        ask(&gateway, "GET", "/out", &[("x-forwarded-for", "10.0.0.1")]).await.status,
        404,
        "not believed"
    );
}

/// Traefik's rule language through the same matcher (MUS1).
#[tokio::test]
async fn traefik_rules() {
    let (gateway, _endpoint) = gateway(&[
        ("both", r#"rule = "Host(`a.example`) && PathPrefix(`/api`)""#),
        ("either", r#"rule = "Path(`/one`) || Path(`/two`)""#),
        ("regex", r#"rule = "HostRegexp(`^[a-z]+\\.tenant\\.example$`) && PathRegexp(`/v[0-9]+/`)""#),
        ("not", r#"rule = "!Method(`GET`) && PathPrefix(`/only`)""#),
        ("header", r#"rule = "Header(`X-Env`, `test`) && Query(`q`, `1`)""#),
        ("peer", r#"rule = "ClientIP(`127.0.0.1/32`) && Path(`/peer`)""#),
        (
            "grouped",
            r#"rule = "(PathPrefix(`/g`) || PathPrefix(`/h`)) && !HeaderRegexp(`User-Agent`, `(?i)bot`)""#,
        ),
    ])
    .await;
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str);
    let cases: &[Case<'_>] = &[
        ("GET", "/api/x", &[("host", "a.example")], "both"),
        ("GET", "/apix", &[("host", "a.example")], "both"),
        ("GET", "/api/x", &[("host", "b.example")], ""),
        ("GET", "/one", &[], "either"),
        ("GET", "/two", &[], "either"),
        ("GET", "/three", &[], ""),
        ("GET", "/v2/x", &[("host", "acme.tenant.example")], "regex"),
        ("GET", "/v2/x", &[("host", "acme1.tenant.example")], ""),
        ("POST", "/only", &[], "not"),
        ("GET", "/only", &[], ""),
        ("GET", "/x?q=1", &[("x-env", "test")], "header"),
        ("GET", "/x?q=2", &[("x-env", "test")], ""),
        ("GET", "/peer", &[], "peer"),
        ("GET", "/h/1", &[("user-agent", "curl")], "grouped"),
        ("GET", "/h/1", &[("user-agent", "GoogleBot")], ""),
    ];
    for (method, target, fields, route) in cases {
        let reply = ask(&gateway, method, target, fields).await;
        assert_eq!(reply.header("x-route"), *route, "{method} {target} {fields:?}: {}", reply.status);
    }
}

/// An explicit priority wins over the default; the seed's catch-all with priority 1 comes last (MUS2).
#[tokio::test]
async fn priority() {
    let (gateway, _endpoint) = gateway(&[
        ("frontend", "rule = \"PathPrefix(`/`)\"\npriority = 1"),
        ("api", "rule = \"PathPrefix(`/api`)\""),
        ("urgent", "path = \"/*\"\npriority = 100000\nheaders = { X-Urgent = true }"),
    ])
    .await;
    assert_eq!(ask(&gateway, "GET", "/x", &[]).await.header("x-route"), "frontend");
    assert_eq!(ask(&gateway, "GET", "/api/x", &[]).await.header("x-route"), "api");
    assert_eq!(ask(&gateway, "GET", "/api/x", &[("x-urgent", "")]).await.header("x-route"), "urgent");
}

/// Routes of one listener only.
#[tokio::test]
async fn listeners() {
    let endpoint = Endpoint::named("a").await;
    let text = r#"
[listeners.second]
address = "127.0.0.1:{port2}"

[[routes]]
name = "both"
path = "/both"
service = "app"

[[routes]]
name = "second"
path = "/second"
listeners = ["second"]
service = "app"

[services.app]
endpoints = [{ url = "{app}" }]
"#;
    let gateway = Setup::new(text).set("app", endpoint.url()).start().await;
    for (port, path, status) in
        [("port", "/both", 200), ("port2", "/both", 200), ("port", "/second", 404), ("port2", "/second", 200)]
    {
        assert_eq!(Client::h1(gateway.at(port)).await.get(path).await.status, status, "{port} {path}");
    }
    assert_eq!(gateway.admin_get("/both").await.status, 404, "never on the admin listener");
}

/// `strip_path` takes the literal prefix of the pattern away (AVX3).
#[tokio::test]
async fn strip_path() {
    let (gateway, endpoint) = gateway(&[
        ("users", "path = \"/api/users/*\"\nstrip_path = true"),
        ("kept", "path = \"/api/kept/*\""),
    ])
    .await;
    for (asked, forwarded) in [
        ("/api/users/7?x=1", "/7?x=1"),
        ("/api/users", "/"),
        ("/api/users/", "/"),
        ("/api/users/a/b", "/a/b"),
        ("/api/kept/7", "/api/kept/7"),
    ] {
        assert_eq!(ask(&gateway, "GET", asked, &[]).await.status, 200);
        assert_eq!(endpoint.last().target, forwarded, "{asked}");
    }
}

/// Ten thousand routes: each found, the configuration compiled in a reasonable time.
#[tokio::test]
async fn ten_thousand_routes() {
    let endpoint = Endpoint::named("a").await;
    let mut text = String::from("[services.app]\nendpoints = [{ url = \"{app}\" }]\n");
    for number in 0..10_000 {
        text.push_str(&format!(
            "[[routes]]\nname = \"r{number}\"\npath = \"/r{number}/{{id}}\"\nservice = \"app\"\n"
        ));
    }
    let gateway = Setup::new(&text).set("app", endpoint.url()).start().await;
    let mut client = Client::h1(gateway.addr()).await;
    for number in [0, 1, 4_999, 9_999] {
        assert_eq!(client.get(&format!("/r{number}/x")).await.status, 200);
    }
    assert_eq!(client.get("/r10000/x").await.status, 404);
}

/// `OPTIONS *` asks the gateway itself (RFC 9110 §9.3.7), whatever the routes.
#[tokio::test]
async fn options_of_the_gateway_itself() {
    let (gateway, endpoint) = gateway(&[("all", "path = \"/*\"")]).await;
    for line in ["OPTIONS * HTTP/1.1", "OPTIONS http://a HTTP/1.1"] {
        let reply =
            portcullis_e2e::RawClient::ask(gateway.addr(), format!("{line}\r\nHost: a\r\n\r\n")).await;
        let own = line.contains('*');
        assert_eq!(reply.status, if own { 204 } else { 200 }, "{line}");
        assert_eq!(reply.header("allow").contains("OPTIONS"), own, "{line}");
    }
    assert_eq!(endpoint.count(), 1);
    let other = portcullis_e2e::RawClient::ask(gateway.addr(), "GET * HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!((other.status, endpoint.count()), (400, 1));
}

/// `TRACE` shows credentials to scripts: only where a rule names it.
#[tokio::test]
async fn trace_only_by_name() {
    let (gateway, endpoint) =
        gateway(&[("all", "path = \"/*\""), ("trace", "path = \"/trace\"\nmethods = [\"TRACE\"]")]).await;
    let refused = ask(&gateway, "TRACE", "/x", &[]).await;
    assert_eq!((refused.status, endpoint.count()), (405, 0));
    assert!(refused.header("allow").contains("GET") && !refused.header("allow").contains("TRACE"));
    assert_eq!(ask(&gateway, "TRACE", "/trace", &[]).await.header("x-route"), "trace");
}

/// A request line of four words is none (400), not a version that is unknown.
#[tokio::test]
async fn a_space_in_the_target_is_400() {
    let (gateway, endpoint) = gateway(&[("all", "path = \"/*\"")]).await;
    for (line, status) in [("GET /a b HTTP/1.1", 400), ("GET /a HTTP/1.9", 505)] {
        let reply =
            portcullis_e2e::RawClient::ask(gateway.addr(), format!("{line}\r\nHost: a\r\n\r\n")).await;
        assert_eq!((reply.status, endpoint.count()), (status, 0), "{line}");
    }
}
