//! Each middleware once through the real binary; their corners are tested beside the code.

use http::Request;
use portcullis_e2e::{
    Client, Endpoint, Gateway, Reply, Setup,
    client::{Body, empty, full},
    endpoint::text,
};

/// Everything through these middlewares (inline tables) to an endpoint that answers a kilobyte of text.
async fn through(middlewares: &str) -> (Gateway, Endpoint) {
    let endpoint = Endpoint::with(|_| {
        let mut answer = text(200, &"all work and no play makes jack a dull boy. ".repeat(100));
        answer.headers_mut().insert("x-powered-by", "magic".parse().unwrap());
        answer
    })
    .await;
    let text = crate::one("")
        .replace("service = \"app\"\n", &format!("service = \"app\"\nmiddlewares = [{middlewares}]\n"));
    (Setup::new(&text).set("app", endpoint.url()).start().await, endpoint)
}

async fn send(gateway: &Gateway, method: &str, target: &str, fields: &[(&str, &str)]) -> Reply {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    gateway.send(request.body(empty()).unwrap()).await
}

#[tokio::test]
async fn paths_are_rewritten() {
    for (middleware, asked, forwarded) in [
        (r#"{ strip_prefix = { prefixes = ["/api", "/v1"] } }"#, "/api/x?y", "/x?y"),
        (r#"{ strip_prefix = { prefixes = ["/api", "/v1"] } }"#, "/v1", "/"),
        (r#"{ strip_prefix = { prefixes = ["/api"] } }"#, "/other", "/other"),
        (r#"{ strip_prefix_regex = { regex = ["/tenants/[a-z]+"] } }"#, "/tenants/acme/x", "/x"),
        (r#"{ add_prefix = { prefix = "/internal" } }"#, "/x?y", "/internal/x?y"),
        (r#"{ replace_path = { path = "/index.html" } }"#, "/x/y?z", "/index.html?z"),
        (
            r#"{ replace_path_regex = { regex = "^/users/([0-9]+)/(.*)", replacement = "/$2/of/$1" } }"#,
            "/users/7/cats",
            "/cats/of/7",
        ),
        (r#"{ strip_prefix = { prefixes = ["/a"] } }, { add_prefix = { prefix = "/b" } }"#, "/a/c", "/b/c"),
    ] {
        let (gateway, endpoint) = through(middleware).await;
        assert_eq!(gateway.get(asked).await.status, 200, "{middleware}");
        assert_eq!(endpoint.last().target, forwarded, "{middleware}");
    }
}

/// The prefix that was taken away is told in `X-Forwarded-Prefix`.
#[tokio::test]
async fn the_stripped_prefix_is_told() {
    let (gateway, endpoint) = through(r#"{ strip_prefix = { prefixes = ["/api"] } }"#).await;
    gateway.get("/api/x").await;
    assert_eq!(endpoint.last().header("x-forwarded-prefix"), "/api");
}

#[tokio::test]
async fn redirects() {
    let (gateway, endpoint) =
        through(r#"{ redirect_scheme = { scheme = "https", permanent = true } }"#).await;
    let reply = send(&gateway, "GET", "/x?y=1", &[("host", "shop.example")]).await;
    assert!([301, 308].contains(&reply.status), "{}", reply.status);
    assert_eq!(reply.header("location"), "https://shop.example/x?y=1");
    assert_eq!(endpoint.count(), 0);

    let (gateway, endpoint) = through(
        r#"{ redirect_regex = { regex = '^https?://www\.([^/]*)(.*)', replacement = 'https://$1$2' } }"#,
    )
    .await;
    let reply = send(&gateway, "GET", "/x", &[("host", "www.shop.example")]).await;
    assert!([302, 307].contains(&reply.status), "{}", reply.status);
    assert_eq!(reply.header("location"), "https://shop.example/x");
    assert_eq!(send(&gateway, "GET", "/x", &[("host", "shop.example")]).await.status, 200);
    assert_eq!(endpoint.count(), 1);
}

#[tokio::test]
async fn headers() {
    let settings = r#"{ headers = {
        request = { set = { X-Set = "1", X-Client = "{client_ip}" }, add = { X-Add = "more" }, remove = ["X-Debug"] },
        response = { set = { X-Frame-Options = "DENY" }, add = { X-Add = "answer" }, remove = ["X-Powered-By"] },
        sts_seconds = 31536000, content_type_nosniff = true } }"#
        .replace('\n', " ");
    let (gateway, endpoint) = through(&settings).await;
    let reply = send(&gateway, "GET", "/", &[("x-set", "0"), ("x-add", "first"), ("x-debug", "1")]).await;
    let seen = endpoint.last();
    assert_eq!(
        (seen.header("x-set"), seen.header("x-client"), seen.header("x-debug")),
        ("1", "127.0.0.1", "")
    );
    assert_eq!(seen.all("x-add"), ["first", "more"]);
    assert_eq!(reply.header("x-frame-options"), "DENY");
    assert_eq!((reply.header("x-add"), reply.header("x-powered-by")), ("answer", ""));
    assert_eq!(reply.header("x-content-type-options"), "nosniff");
    assert_eq!(reply.header("strict-transport-security"), "", "RFC 6797 §7.2: never over plaintext");
}

/// CORS (AVX4, VK10, PET7): preflight answered, origins by list.
#[tokio::test]
async fn cors() {
    let (gateway, endpoint) = through(
        r#"{ cors = { origins = ["https://shop.example"], methods = ["GET", "PUT"], credentials = true } }"#,
    )
    .await;
    let preflight = [("origin", "https://shop.example"), ("access-control-request-method", "PUT")];
    let reply = send(&gateway, "OPTIONS", "/", &preflight).await;
    assert!([200, 204].contains(&reply.status), "{}", reply.status);
    assert_eq!(reply.header("access-control-allow-origin"), "https://shop.example");
    assert!(reply.header("access-control-allow-methods").contains("PUT"));
    assert_eq!(reply.header("access-control-allow-credentials"), "true");
    assert_eq!(endpoint.count(), 0);
    let reply = send(&gateway, "GET", "/", &[("origin", "https://shop.example")]).await;
    assert_eq!(reply.header("access-control-allow-origin"), "https://shop.example");
    assert!(reply.header("vary").to_lowercase().contains("origin"));
    let stranger = send(&gateway, "GET", "/", &[("origin", "https://evil.example")]).await;
    assert_eq!(stranger.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn body_limit() {
    let (gateway, _endpoint) = through(r#"{ body_limit = { max = "10 B" } }"#).await;
    for (length, status) in [(10, 200), (11, 413)] {
        let request: Request<Body> = Request::post("/").body(full(vec![b'x'; length])).unwrap();
        assert_eq!(gateway.send(request).await.status, status);
    }
}

#[tokio::test]
async fn addresses() {
    let (gateway, _endpoint) = through(r#"{ ip_allow = { ranges = ["127.0.0.0/8"] } }"#).await;
    assert_eq!(gateway.get("/").await.status, 200);
    let (gateway, endpoint) = through(r#"{ ip_allow = { ranges = ["10.0.0.0/8"] } }"#).await;
    assert_eq!(send(&gateway, "GET", "/", &[("x-forwarded-for", "10.0.0.1")]).await.status, 403);
    assert_eq!(endpoint.count(), 0);
    let (gateway, _endpoint) = through(r#"{ ip_deny = { ranges = ["127.0.0.1"] } }"#).await;
    assert_eq!(gateway.get("/").await.status, 403);
}

#[tokio::test]
async fn request_id() {
    let (gateway, endpoint) = through("{ request_id = {} }").await;
    let reply = send(&gateway, "GET", "/", &[("x-request-id", "a-strangers-own")]).await;
    let id = reply.header("x-request-id").to_owned();
    assert!(id.len() >= 16 && id != "a-strangers-own", "{id}");
    assert_eq!(endpoint.last().header("x-request-id"), id);
}

/// Compression by what the client takes; undone it is the same text; small, encoded and foreign bodies stay.
#[tokio::test]
async fn compress() {
    let (gateway, _endpoint) = through("{ compress = {} }").await;
    let plain = gateway.get("/").await;
    assert_eq!(plain.header("content-encoding"), "");
    for (accept, encoding) in
        [("gzip", "gzip"), ("br", "br"), ("zstd", "zstd"), ("gzip;q=0.1, br;q=0.9", "br"), ("identity", "")]
    {
        let reply = send(&gateway, "GET", "/", &[("accept-encoding", accept)]).await;
        assert_eq!(reply.header("content-encoding"), encoding, "{accept}");
        assert!(reply.header("vary").to_lowercase().contains("accept-encoding"), "{accept}");
        if encoding.is_empty() {
            assert_eq!(reply.body, plain.body);
        } else {
            assert!(reply.body.len() * 4 < plain.body.len(), "{accept}: {} bytes", reply.body.len());
        }
    }
    let mut client = Client::h1(gateway.addr()).await;
    let request = Request::get("/").header("accept-encoding", "gzip").body(empty()).unwrap();
    let reply = client.fetch(request).await;
    let unpacked = std::process::Command::new("gzip")
        .arg("-dc")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn();
    let mut unpacked = unpacked.expect("gzip, which every Debian has");
    std::io::Write::write_all(&mut unpacked.stdin.take().unwrap(), &reply.body).unwrap();
    assert!(unpacked.wait_with_output().unwrap().stdout == plain.body);
}

#[tokio::test]
async fn static_response() {
    let settings = r#"{ static_response = { status = 503, body = '{"maintenance": true}', content_type = "application/json", headers = { Retry-After = "600" } } }"#;
    let (gateway, endpoint) = through(settings).await;
    let reply = gateway.get("/").await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, "600"));
    assert_eq!(reply.json()["maintenance"], true);
    assert_eq!(endpoint.count(), 0);
}

/// Rate limit (AVX4, VK11, MUS11): the burst passes, the rest is 429 with `Retry-After`.
#[tokio::test]
async fn rate_limit() {
    let (gateway, endpoint) = through("{ rate_limit = { requests_per_second = 0.01, burst = 5 } }").await;
    let mut statuses = Vec::new();
    let mut last = None;
    for _ in 0..8 {
        let reply = gateway.get("/").await;
        statuses.push(reply.status);
        last = Some(reply);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429, 429]);
    assert!(last.unwrap().header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0));
    assert_eq!(endpoint.count(), 5);
}

#[tokio::test]
async fn fault() {
    let fault = r#"{ fault = { delay = { time = "200ms" }, abort = { status = 503 }, header = "X-Chaos" } }"#;
    let (gateway, endpoint) = through(fault).await;
    assert_eq!(gateway.get("/").await.status, 200);
    let begun = std::time::Instant::now();
    let reply = send(&gateway, "GET", "/", &[("x-chaos", "1")]).await;
    assert_eq!((reply.status, endpoint.count()), (503, 1));
    assert!(begun.elapsed().as_millis() >= 200, "{:?}", begun.elapsed());
    let page = gateway.metrics().await;
    assert_eq!(page.sum("gateway_faults_injected_total", &[("fault", "abort")]), 1.0);
}

/// Asked in the order written, told in reverse; those of the listener before those of the route.
#[tokio::test]
async fn order() {
    let endpoint = Endpoint::named("a").await;
    let text = r#"
[listeners.web]
address = "127.0.0.1:{port}"
middlewares = ["outer"]

[admin]
address = "127.0.0.1:{admin}"

[[routes]]
name = "all"
path = "/*"
middlewares = ["first", "second"]
service = "app"

[services.app]
endpoints = [{ url = "{app}" }]

[middlewares.outer.headers]
request.add.X-Order = "outer"
response.add.X-Order = "outer"

[middlewares.first.headers]
request.add.X-Order = "first"
response.add.X-Order = "first"

[middlewares.second.headers]
request.add.X-Order = "second"
response.add.X-Order = "second"
"#;
    let gateway = Setup::whole("gateway.toml", text).set("app", endpoint.url()).start().await;
    let reply = gateway.get("/").await;
    assert_eq!(endpoint.last().all("x-order"), ["outer", "first", "second"]);
    assert_eq!(reply.all("x-order"), ["second", "first", "outer"]);
}

/// Whoever was asked is told, also of an answer that another middleware or an error made.
#[tokio::test]
async fn told_of_errors_too() {
    let mut endpoint = Endpoint::named("a").await;
    endpoint.stop().await;
    let headers = "middlewares = [{ headers = { response = { set = { X-Seen = \"1\" } } } }]";
    let text = crate::one("").replace("service = \"app\"\n", &format!("service = \"app\"\n{headers}\n"));
    let gateway = Setup::new(&text).set("app", endpoint.url()).start().await;
    let reply = gateway.get("/").await;
    assert_eq!((reply.status, reply.header("x-seen")), (502, "1"));
}
