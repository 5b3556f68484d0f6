use std::{fs, path::PathBuf, time::Duration};

use http::Method;
use portcullis_core::{Connection, Request};

use super::*;

const ID: &str = "0190163d-8694-739b-aea5-966c26f8ad91";
/// Must never be seen by a client that is not trusted.
const SECRET: &str = "10.11.12.13:8080: os error 111";

fn exchange(fields: &[(&str, &str)]) -> Exchange {
    let mut request = Request::new(Method::GET);
    request.fields = fields.iter().copied().collect();
    let mut x = Exchange::for_test(request);
    x.id = Some(ID.into());
    x
}

fn pages() -> Pages {
    Pages::compile(&BTreeMap::new(), "portcullis")
}

fn body(answer: &Answer) -> &str {
    match &answer.body {
        Body::Empty => "",
        Body::Full(bytes) => std::str::from_utf8(bytes).unwrap(),
        Body::Stream(_) => panic!("a whole body"),
    }
}

fn written(answer: &Answer) -> String {
    let mut head = format!("{}\n", answer.status.as_u16()).into_bytes();
    answer.fields.write_to(&mut head);
    format!("{}\n{}", String::from_utf8(head).unwrap().replace("\r\n", "\n"), body(answer))
}

/// Compares with the golden file, or writes it when `UPDATE_GOLDEN` is set.
fn golden(folder: &std::path::Path, name: &str, text: &str) {
    let path = folder.join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(folder).unwrap();
        fs::write(&path, text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{} differs; UPDATE_GOLDEN=1 writes it anew", path.display());
}

#[test]
fn every_kind_in_every_form() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/errors"));
    let forms: [(&str, &[(&str, &str)]); 4] = [
        ("json", &[]),
        ("html", &[("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")]),
        ("text", &[("Accept", "text/plain")]),
        ("grpc", &[("Content-Type", "application/grpc+proto"), ("TE", "trailers")]),
    ];
    let mut names = Vec::new();
    for kind in Kind::ALL {
        let mut text = String::new();
        for (form, fields) in forms {
            let answer = pages().answer(&mut exchange(fields), &Error::because(kind, SECRET));
            assert_eq!(answer.source, Source::Error(kind));
            let _ = writeln!(text, "=== {form}\n{}", written(&answer));
        }
        assert!(!text.contains("10.11.12.13") && !text.contains("os error"), "{text}");
        let name = format!("{}.txt", portcullis_core::answer::mapping(kind).slug);
        golden(&folder, &name, &text);
        names.push(name);
    }
    names.sort();
    let mut there: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    there.sort();
    assert_eq!(there, names, "a file for each kind, and no other");
}

#[test]
fn every_kind_is_documented() {
    let docs = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors.md")).unwrap();
    for kind in Kind::ALL {
        let m = portcullis_core::answer::mapping(kind);
        let row = format!(
            "| `{}` | {} | {} | `{}` | {} |",
            m.slug,
            m.status.as_u16(),
            m.title,
            m.proxy_status,
            m.grpc
        );
        assert!(docs.contains(&row), "docs/errors.md lacks the row\n{row}");
    }
}

#[test]
fn the_problem_document_is_one() {
    let answer = pages().answer(&mut exchange(&[("accept", "*/*")]), &Kind::NoHealthyEndpoints.into());
    let document: serde_json::Value = serde_json::from_str(body(&answer)).unwrap();
    let expected = serde_json::json!({
        "type": "https://portcullis.dev/problems/no-healthy-endpoints",
        "title": "No endpoint in service",
        "status": 503,
        "detail": "What stands behind this address is out of service at the moment. Ask again later.",
        "instance": format!("urn:uuid:{ID}"),
    });
    assert_eq!(document, expected);
    assert_eq!(answer.fields.get_str("content-type"), Some("application/problem+json"));
    assert_eq!(answer.fields.get_str("retry-after"), Some("5"));
}

#[test]
fn a_request_without_id_gets_one() {
    let mut x = exchange(&[]);
    x.id = None;
    let answer = pages().answer(&mut x, &Kind::NoRoute.into());
    let id = x.id.expect("an id");
    assert!(body(&answer).contains(&format!("urn:uuid:{id}")));
    assert_eq!(answer.fields.get_str("x-request-id"), Some(&*id));
}

#[test]
fn an_id_from_elsewhere_is_escaped_wherever_it_stands() {
    let mut x = exchange(&[("accept", "text/html")]);
    x.id = Some("<b>\"ü".into());
    let page = pages().answer(&mut x, &Kind::NoRoute.into());
    assert!(body(&page).contains("<code>&lt;b&gt;&quot;ü</code>"));
    assert_eq!(instance("<b>\"ü"), "urn:x-request-id:%3Cb%3E%22%C3%BC");
}

#[test]
fn details_are_for_trusted_peers() {
    let mut x = exchange(&[]);
    let error = Error::because(Kind::ConnectionRefused, "10.0.0.1:80 said \"no\"\r\n");
    let status =
        |x: &mut Exchange| pages().answer(x, &error).fields.get_str("proxy-status").map(str::to_owned);
    assert_eq!(status(&mut x).unwrap(), "portcullis; error=connection_refused");
    let old = &x.connection;
    x.connection = Arc::new(Connection {
        peer: old.peer,
        peer_text: old.peer_text.clone(),
        local: old.local,
        listener: old.listener.clone(),
        trusted: true,
        tls: None,
        protocol: old.protocol,
        id: 1,
        prepared: Default::default(),
    });
    let expected = "portcullis; error=connection_refused; details=\"10.0.0.1:80 said \\\"no\\\"??\"";
    assert_eq!(status(&mut x).unwrap(), expected);
}

#[test]
fn when_to_ask_again_is_rounded_up() {
    for (delay, expected) in [(1, "1"), (1000, "1"), (1001, "2"), (59_500, "60")] {
        let error = Error::new(Kind::RateLimited).retry_after(Duration::from_millis(delay));
        let answer = pages().answer(&mut exchange(&[]), &error);
        assert_eq!(answer.fields.get_str("retry-after"), Some(expected));
    }
    let answer = pages().answer(&mut exchange(&[]), &Kind::NoRoute.into());
    assert_eq!(answer.fields.get_str("retry-after"), None);
}

#[test]
fn grpc_is_told_by_its_content_type() {
    for (sent, is) in [
        ("application/grpc", true),
        ("application/grpc; x=y", true),
        ("Application/gRPC+json", true),
        ("application/grpc-web+proto", true),
        ("application/grpcx", false),
        ("application/json", false),
        ("application", false),
    ] {
        let answer = pages().answer(&mut exchange(&[("content-type", sent)]), &Kind::NoRoute.into());
        assert_eq!(answer.fields.contains("grpc-status"), is, "{sent}");
        let expected = if is { (200, sent) } else { (404, "application/problem+json") };
        assert_eq!((answer.status.as_u16(), answer.fields.get_str("content-type").unwrap()), expected);
        assert_eq!(answer.body.is_empty(), is);
    }
}

#[test]
fn own_pages_by_status_then_by_class() {
    let page =
        |content_type: &str, body: &str| ErrorPage { content_type: content_type.into(), body: body.into() };
    let own = BTreeMap::from([
        (StatusRange { from: 500, to: 599 }, page("text/html", "class {status}")),
        (StatusRange { from: 503, to: 503 }, page("text/html; charset=utf-8", "<p>{request_id}")),
    ]);
    let pages = Pages::compile(&own, "portcullis");
    let get = |kind: Kind, accept: &str| {
        let answer = pages.answer(&mut exchange(&[("accept", accept)]), &kind.into());
        (answer.fields.get_str("content-type").unwrap().to_owned(), body(&answer).to_owned())
    };
    assert_eq!(get(Kind::ShuttingDown, "*/*"), ("text/html; charset=utf-8".into(), format!("<p>{ID}")));
    assert_eq!(get(Kind::Internal, "text/html"), ("text/html".into(), "class 500".into()));
    assert_eq!(get(Kind::NoRoute, "*/*").0, "application/problem+json");
    // Who asks for JSON gets JSON; who likes nothing we have gets the page that stands there.
    assert_eq!(get(Kind::Internal, "application/json").0, "application/json");
    assert_eq!(get(Kind::Internal, "image/png").1, "class 500");
}
