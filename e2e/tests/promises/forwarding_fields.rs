//! Header rules: hop-by-hop fields go first, X-Forwarded-*, Forwarded and Via are recomputed and trusted from
//! `trusted_proxies` only (`_` and `.` aliases included), `Host` is kept or replaced by choice.

use http::Request;
use portcullis_e2e::{
    Client, Endpoint, Gateway, RawClient, Script, Setup, Version, client::empty, endpoint::Seen,
};

async fn trusting(endpoint: &Endpoint, proxies: &str) -> Gateway {
    let text = format!(
        r#"
[listeners.web]
address = "127.0.0.1:{{port}}"
trusted_proxies = [{proxies}]

[admin]
address = "127.0.0.1:{{admin}}"
{}"#,
        crate::one("")
    );
    Setup::whole("gateway.toml", &text).set("app", endpoint.url()).start().await
}

async fn seen(gateway: &Gateway, endpoint: &Endpoint, version: Version, fields: &[(&str, &str)]) -> Seen {
    let mut request = Request::get("/x").header("host", "shop.example");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let mut client = Client::plain(version, gateway.addr()).await;
    let reply = client.fetch(request.body(empty()).unwrap()).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    endpoint.last()
}

/// From anybody: the peer's address, the scheme, host and port as the client used them, and our name in Via.
#[tokio::test]
async fn forwarding_fields_are_written() {
    let endpoint = Endpoint::named("a").await;
    let gateway = trusting(&endpoint, "").await;
    for (version, via) in [(Version::H1, "1.1 "), (Version::H2, "2")] {
        let seen = seen(&gateway, &endpoint, version, &[]).await;
        assert_eq!(seen.header("x-forwarded-for"), "127.0.0.1");
        assert_eq!(seen.header("x-forwarded-proto"), "http");
        assert_eq!(seen.header("x-forwarded-host"), "shop.example");
        assert_eq!(seen.header("x-real-ip"), "127.0.0.1");
        assert!(
            seen.header("via").starts_with(via) && seen.header("via").ends_with(" portcullis"),
            "{:?}",
            seen.headers
        );
        let forwarded = seen.header("forwarded").to_lowercase().replace('"', "");
        assert!(forwarded.contains("for=127.0.0.1"), "{forwarded}");
        assert!(forwarded.contains("proto=http") && forwarded.contains("host=shop.example"), "{forwarded}");
    }
}

/// Traefik CVE-2024-45410, CVE-2026-39858, Caddy GHSA-f59h, GHSA-49wc: an untrusted peer's claims vanish, whatever
/// their spelling.
#[tokio::test]
async fn claims_of_strangers_vanish() {
    let endpoint = Endpoint::named("a").await;
    let gateway = trusting(&endpoint, "\"192.0.2.0/24\"").await;
    let lies = [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-port", "666"),
        ("x-forwarded-prefix", "/evil"),
        ("x-forwarded-server", "evil"),
        ("x-forwarded-uri", "/evil"),
        ("x-real-ip", "6.6.6.6"),
        ("forwarded", "for=6.6.6.6;proto=https"),
        ("x_forwarded_for", "6.6.6.6"),
        ("x-forwarded_for", "6.6.6.6"),
        ("x.forwarded.for", "6.6.6.6"),
        ("x_real_ip", "6.6.6.6"),
        ("x_forwarded_proto", "https-evil"),
    ];
    for version in [Version::H1, Version::H2] {
        let seen = seen(&gateway, &endpoint, version, &lies).await;
        for (name, value) in &seen.headers {
            let value = value.to_str().unwrap();
            assert!(
                !value.contains("6.6.6.6") && !value.contains("evil") && !value.contains("666"),
                "{name}: {value}"
            );
            assert!(!name.as_str().contains(['_', '.']), "{name}");
        }
        assert_eq!(seen.header("x-forwarded-proto"), "http");
        assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    }
}

/// From a trusted proxy they are believed: the client is the rightmost that is not trusted, and the chain grows.
#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let endpoint = Endpoint::named("a").await;
    let gateway = trusting(&endpoint, "\"127.0.0.0/8\", \"10.0.0.0/8\"").await;
    let claims = [
        ("x-forwarded-for", "6.6.6.6, 203.0.113.9, 10.1.2.3"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "public.example"),
    ];
    let seen = seen(&gateway, &endpoint, Version::H1, &claims).await;
    assert!(
        seen.header("x-forwarded-for").ends_with("203.0.113.9, 10.1.2.3, 127.0.0.1"),
        "{:?}",
        seen.headers
    );
    assert_eq!(seen.header("x-forwarded-proto"), "https");
    assert_eq!(seen.header("x-forwarded-host"), "public.example");
    assert_eq!(seen.header("x-real-ip"), "203.0.113.9");
}

/// Hop-by-hop fields, and what `Connection` names, end here, both ways; but `Connection` cannot name away a field of
/// the gateway's (CVE-2024-45410).
#[tokio::test]
async fn hop_by_hop_fields_end_here() {
    let script = Script::start(|mut conversation| async move {
        while conversation.head().await.is_some() {
            let answer = "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
                          Proxy-Connection: keep-alive\r\nX-Kept: 1\r\nContent-Length: 2\r\n\r\nok";
            conversation.write(answer).await;
        }
    })
    .await;
    let gateway = Setup::new(&crate::one("")).set("app", script.url()).start().await;
    let request = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: X-Mine, X-Forwarded-For, close\r\nX-Mine: 1\r\n\
                   Keep-Alive: 5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic x\r\nTE: gzip\r\n\
                   Trailer: X-T\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nX-Kept: 1\r\n\r\n";
    let reply = RawClient::ask(gateway.addr(), request).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("x-kept"), "1");
    for gone in ["x-hop", "keep-alive", "proxy-connection"] {
        assert_eq!(reply.header(gone), "", "{gone} in {}", reply.head);
    }
    let head = script.last_head().to_lowercase();
    assert!(head.contains("x-kept: 1") && head.contains("x-forwarded-for: 127.0.0.1"), "{head}");
    for gone in [
        "x-mine",
        "keep-alive:",
        "proxy-connection",
        "proxy-authorization",
        "trailer:",
        "upgrade",
        "http2-settings",
    ] {
        assert!(!head.contains(gone), "{gone} in {head}");
    }
}

/// To an endpoint of HTTP/1.1 `TE: trailers` is named as what it is: for this hop only (RFC 9110 §10.1.4).
#[tokio::test]
async fn te_trailers_is_for_one_hop() {
    let endpoint = Endpoint::named("a").await;
    let gateway = trusting(&endpoint, "").await;
    let seen =
        seen(&gateway, &endpoint, Version::H1, &[("te", "gzip, trailers"), ("connection", "TE")]).await;
    assert_eq!((seen.header("te"), seen.header("connection")), ("trailers", "te"));
}

/// `TE: trailers` is the one thing that stays said, for gRPC's sake.
#[tokio::test]
async fn te_trailers_is_passed_on_to_h2() {
    let endpoint = Endpoint::named("a").await;
    let gateway = Setup::new(&crate::one("")).set("app", endpoint.url_as("h2c")).start().await;
    let seen = seen(&gateway, &endpoint, Version::H2, &[("te", "trailers")]).await;
    assert_eq!(seen.header("te"), "trailers");
}

/// `Host`: as the client said it, or the endpoint's own, by choice.
#[tokio::test]
async fn host_is_kept_or_replaced() {
    let endpoint = Endpoint::named("a").await;
    let authority = endpoint.addr().to_string();
    for (extra, host) in
        [("", "shop.example"), ("pass_host = true", "shop.example"), ("pass_host = false", &*authority)]
    {
        for scheme in ["http", "h2c"] {
            let setup = Setup::new(&crate::one(extra)).set("app", endpoint.url_as(scheme));
            let gateway = setup.start().await;
            for version in [Version::H1, Version::H2] {
                let seen = seen(&gateway, &endpoint, version, &[]).await;
                assert_eq!(seen.host, host, "{extra} {scheme} {version:?}");
                assert_eq!(seen.header("x-forwarded-host"), "shop.example");
            }
        }
    }
}

/// The order, case and number of the other fields stay as they came, both ways (HTTP/1.1).
#[tokio::test]
async fn other_fields_stay_as_they_came() {
    let script = Script::answering(
        "HTTP/1.1 200 Fine\r\nSet-Cookie: a=1\r\nX-CamelCase: Yes\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let gateway = Setup::new(&crate::one("")).set("app", script.url()).start().await;
    let request = "GET /a?b=c HTTP/1.1\r\nHost: a.example\r\nX-First: 1\r\nX-CamelCase: Mixed Value\r\nCookie: a=1\r\n\
                   Accept: */*\r\nX-First: 2\r\nX-Bytes: caf\u{e9}\r\n\r\n";
    let reply = RawClient::ask(gateway.addr(), request).await;
    let cookies: Vec<&str> = reply.head.lines().filter(|line| line.starts_with("Set-Cookie:")).collect();
    assert_eq!(cookies, ["Set-Cookie: a=1", "Set-Cookie: b=2"], "{}", reply.head);
    assert!(reply.head.contains("X-CamelCase: Yes"), "{}", reply.head);
    let head = script.last_head();
    assert!(head.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{head}");
    let mine: Vec<&str> = head
        .split("\r\n")
        .filter(|line| ["X-First", "X-Camel", "Cookie", "Accept:"].iter().any(|name| line.starts_with(name)))
        .collect();
    assert_eq!(
        mine,
        ["X-First: 1", "X-CamelCase: Mixed Value", "Cookie: a=1", "Accept: */*", "X-First: 2"],
        "{head}"
    );
    assert!(head.contains("X-Bytes: caf\u{e9}"), "{head}");
}

/// A request that passed this gateway before is refused before it can go round for ever (RFC 9110 §7.6.3).
#[tokio::test]
async fn a_loop_is_refused() {
    let text = r#"
[[routes]]
name = "all"
path = "/*"
upstream = { urls = ["http://127.0.0.1:{port}"] }
"#;
    let gateway = Setup::new(text).start().await;
    let reply = gateway.get("/").await;
    assert_eq!(reply.status, 508, "{}", reply.text());
}

/// A request's id is the gateway's to give: a stranger's goes, in every spelling; a trusted proxy's stays; and with
/// `request_id` it is what that says.
#[tokio::test]
async fn a_strangers_request_id_is_dropped() {
    let endpoint = Endpoint::named("a").await;
    let claims = [("x-request-id", "mine"), ("x_request_id", "mine"), ("x.request.id", "mine")];
    for version in [Version::H1, Version::H2] {
        let stranger = trusting(&endpoint, "").await;
        let got = seen(&stranger, &endpoint, version, &claims).await;
        assert!(claims.iter().all(|(name, _)| got.header(name).is_empty()), "{:?}", got.headers);
        let proxied = trusting(&endpoint, "\"127.0.0.1\"").await;
        let got = seen(&proxied, &endpoint, version, &claims).await;
        assert_eq!(
            (got.header("x-request-id"), got.header("x_request_id")),
            ("mine", ""),
            "{:?}",
            got.headers
        );
    }
    for (trust, kept) in [("all", true), ("trusted_peers", false)] {
        let text = format!(
            "{}\n[middlewares.id.request_id]\ntrust = \"{trust}\"\n",
            crate::one("").replace("service = \"app\"\n", "service = \"app\"\nmiddlewares = [\"id\"]\n")
        );
        let gateway = Setup::new(&text).set("app", endpoint.url()).start().await;
        let got = seen(&gateway, &endpoint, Version::H1, &claims).await;
        let id = got.header("x-request-id");
        assert_eq!(id == "mine", kept, "{trust}: {id}");
        assert!(!id.is_empty() && got.all("x-request-id").len() == 1, "{:?}", got.headers);
    }
}

/// `Proxy` becomes `HTTP_PROXY` in CGI programs (httpoxy): it is never passed on.
#[tokio::test]
async fn proxy_is_dropped() {
    let endpoint = Endpoint::named("a").await;
    for proxies in ["", "\"127.0.0.1\""] {
        let gateway = trusting(&endpoint, proxies).await;
        for version in [Version::H1, Version::H2] {
            let got =
                seen(&gateway, &endpoint, version, &[("proxy", "http://evil"), ("x-proxy", "kept")]).await;
            assert_eq!((got.header("proxy"), got.header("x-proxy")), ("", "kept"), "{version:?}");
        }
    }
}
