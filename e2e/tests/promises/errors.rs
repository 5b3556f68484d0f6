//! Errors of the gateway's own: problem details (RFC 9457), HTML or text by `Accept`, request id, `Proxy-Status`
//! (RFC 9209), own pages.

use http::Request;
use portcullis_e2e::{Endpoint, Gateway, Reply, Setup, client::empty};

async fn ask(gateway: &Gateway, path: &str, accept: Option<&str>) -> Reply {
    let mut request = Request::get(path);
    if let Some(accept) = accept {
        request = request.header("accept", accept);
    }
    gateway.send(request.body(empty()).unwrap()).await
}

const ROUTES: &str = r#"
[[routes]]
name = "dead"
path = "/dead"
upstream = { urls = ["{dead}"] }
"#;

async fn setup(more: &str) -> Gateway {
    let mut dead = Endpoint::named("dead").await;
    dead.stop().await;
    Setup::new(&format!("{ROUTES}{more}")).set("dead", dead.url()).start().await
}

#[tokio::test]
async fn problem_details_by_default_and_when_asked_for() {
    let gateway = setup("").await;
    for accept in
        [None, Some("*/*"), Some("application/json"), Some("application/problem+json, text/html;q=0.5")]
    {
        let reply = ask(&gateway, "/nothing", accept).await;
        // Whoever takes nothing but plain JSON is not told of a type that it does not know.
        let kind =
            if accept == Some("application/json") { "application/json" } else { "application/problem+json" };
        assert_eq!((reply.status, reply.header("content-type")), (404, kind), "{accept:?}");
        let problem = reply.json();
        assert_eq!(problem["status"], 404);
        assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()));
        assert!(problem["type"].as_str().is_some_and(|slug| slug.ends_with("no-route")), "{problem}");
    }
}

#[tokio::test]
async fn html_and_text_for_those_who_want_it() {
    let gateway = setup("").await;
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    let html = ask(&gateway, "/nothing", Some(browser)).await;
    assert!(html.header("content-type").starts_with("text/html"), "{:?}", html.headers);
    assert!(html.text().contains("404") && html.text().to_lowercase().contains("<html"), "{}", html.text());
    let text = ask(&gateway, "/nothing", Some("text/plain")).await;
    assert!(text.header("content-type").starts_with("text/plain"), "{:?}", text.headers);
    assert!(text.text().contains("404") && !text.text().contains('<'), "{}", text.text());
}

/// Every error carries an id, a different one each time, and the name and cause in `Proxy-Status`.
#[tokio::test]
async fn ids_and_proxy_status() {
    let gateway = setup("").await;
    let [one, two] = [ask(&gateway, "/dead", None).await, ask(&gateway, "/dead", None).await];
    let ids = [&one, &two].map(|reply| {
        assert_eq!(reply.status, 502);
        let status = reply.header("proxy-status");
        assert!(status.starts_with("portcullis;") && status.contains("error=connection_refused"), "{status}");
        let id = reply.header("x-request-id").to_owned();
        assert!(!id.is_empty(), "{:?}", reply.headers);
        assert!(reply.text().contains(&id), "the page names it, too: {}", reply.text());
        id
    });
    assert_ne!(ids[0], ids[1]);
    let none = ask(&gateway, "/nothing", None).await;
    assert!(none.header("proxy-status").contains("error=destination_not_found"), "{:?}", none.headers);
}

/// A page never says where an endpoint is.
#[tokio::test]
async fn addresses_do_not_leak() {
    let mut dead = Endpoint::named("dead").await;
    dead.stop().await;
    let port = dead.addr().port().to_string();
    let gateway = Setup::new(ROUTES).set("dead", dead.url()).start().await;
    for accept in ["application/json", "text/html", "text/plain"] {
        let reply = ask(&gateway, "/dead", Some(accept)).await;
        let all = format!("{:?}{}", reply.headers, reply.text());
        assert!(!all.contains(&port) && !all.contains("127.0.0.1"), "{all}");
    }
}

/// A hostile path is not echoed into HTML.
#[tokio::test]
async fn pages_are_escaped() {
    let gateway = setup("").await;
    for path in ["/%3Cscript%3Ealert(1)", "/x?<script>"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n");
        let reply = portcullis_e2e::RawClient::ask(gateway.addr(), request).await;
        assert!(reply.status >= 400 && !reply.text().contains("<script>"), "{}", reply.text());
    }
}

/// An own page per status, or per class of statuses.
#[tokio::test]
async fn own_pages() {
    let pages = r#"
[error_pages]
404 = "<h1>Lost: {status} {title} {request_id}</h1>"
5xx = { content_type = "text/plain", body = "Broken: {status}" }
"#;
    let gateway = setup(pages).await;
    let lost = ask(&gateway, "/nothing", None).await;
    assert_eq!(lost.status, 404);
    assert!(lost.header("content-type").starts_with("text/html"), "{:?}", lost.headers);
    let expected = format!("<h1>Lost: 404 No route {}</h1>", lost.header("x-request-id"));
    assert_eq!(lost.text(), expected);
    let broken = ask(&gateway, "/dead", None).await;
    assert_eq!((broken.header("content-type"), broken.text().as_str()), ("text/plain", "Broken: 502"));
}

/// An error of an endpoint's own is passed on as it is.
#[tokio::test]
async fn errors_of_endpoints_are_theirs() {
    let endpoint = Endpoint::with(|_| portcullis_e2e::endpoint::text(500, "my own trouble")).await;
    let gateway = Setup::new(&crate::one("")).set("app", endpoint.url()).start().await;
    let reply = gateway.get("/").await;
    assert_eq!(
        (reply.status, reply.text().as_str(), reply.header("content-type")),
        (500, "my own trouble", "text/plain")
    );
}

/// HEAD gets the head only.
#[tokio::test]
async fn head_has_no_body() {
    let gateway = setup("").await;
    let reply = gateway.send(Request::head("/nothing").body(empty()).unwrap()).await;
    assert_eq!((reply.status, reply.body.len()), (404, 0));
}

/// Own pages are for the public; the admin listener answers programs.
#[tokio::test]
async fn own_pages_are_not_the_admin_listeners() {
    let gateway = setup("[error_pages]\n4xx = \"<h1>Lost</h1>\"\n").await;
    assert_eq!(ask(&gateway, "/nothing", None).await.text(), "<h1>Lost</h1>");
    for request in ["GET /x%2fy HTTP/1.1\r\nHost: a\r\n\r\n", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let reply = portcullis_e2e::RawClient::ask(gateway.admin(), request).await;
        assert_eq!(reply.header("content-type"), "application/problem+json", "{}", reply.text());
    }
}
