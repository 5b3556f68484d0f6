//! Tables of requests and what CORS makes of them.

use http::{Method, StatusCode};
use portcullis_core::{Answer, Exchange, Fields, Flow, Source};
use serde_json::{Value, json};

use crate::testing::{build, problem, request_by, told};

/// What the browser gets: `None` when the service was reached, else the status; and the fields in alphabetical order.
fn exchange(settings: Value, method: Method, sent: &[(&str, &str)]) -> (Option<u16>, Vec<String>) {
    let cors = build("cors", settings);
    let mut x: Exchange = request_by(method, "/");
    sent.iter().for_each(|(name, value)| x.request.fields.append(name, value));
    let (by_us, mut answer) = match cors.on_request(&mut x).unwrap() {
        Flow::Answer(answer) => (Some(answer.status.as_u16()), answer),
        _ => {
            let mut answer = Answer::new(StatusCode::OK, "test");
            answer.source = Source::Endpoint;
            answer.fields = Fields::from_iter([
                ("Access-Control-Allow-Origin", "https://the-service-says"),
                ("Access-Control-Allow-Credentials", "true"),
                ("Vary", "Accept"),
            ]);
            (None, answer)
        }
    };
    told(&cors, &mut x, &mut answer);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut fields: Vec<_> = answer
        .fields
        .iter()
        .map(|(name, value)| format!("{}: {}", text(name).to_lowercase(), text(value)))
        .map(|line| line.replace("access-control-", "ac-"))
        .collect();
    fields.sort();
    (by_us, fields)
}

const ORIGIN: (&str, &str) = ("Origin", "https://a.example");

#[test]
fn plain_requests() {
    let named = json!({"origins": "https://a.example", "expose": ["X-Total", "X-Page"]});
    let with_credentials = json!({"origins": ["https://a.example"], "credentials": true});
    for (settings, sent, expected) in [
        (json!({}), vec![ORIGIN], vec!["ac-allow-origin: *", "vary: Accept"]),
        (json!({}), vec![], vec!["ac-allow-origin: *", "vary: Accept"]),
        (
            named.clone(),
            vec![ORIGIN],
            vec![
                "ac-allow-origin: https://a.example",
                "ac-expose-headers: X-Total, X-Page",
                "vary: Accept",
                "vary: Origin",
            ],
        ),
        (named.clone(), vec![("Origin", "https://b.example")], vec!["vary: Accept", "vary: Origin"]),
        (named, vec![], vec!["vary: Accept", "vary: Origin"]),
        (
            with_credentials,
            vec![ORIGIN],
            vec![
                "ac-allow-credentials: true",
                "ac-allow-origin: https://a.example",
                "vary: Accept",
                "vary: Origin",
            ],
        ),
    ] {
        for method in [Method::GET, Method::POST, Method::OPTIONS] {
            let got = exchange(settings.clone(), method, &sent);
            assert_eq!(
                got,
                (None, expected.iter().map(|line| (*line).to_owned()).collect()),
                "{settings} {sent:?}"
            );
        }
    }
}

const ASKS_PUT: (&str, &str) = ("Access-Control-Request-Method", "PUT");
const ASKS_FIELDS: (&str, &str) = ("Access-Control-Request-Headers", "authorization, x-a");
const VARY: [&str; 2] = ["vary: Access-Control-Request-Headers", "vary: Access-Control-Request-Method"];

#[test]
fn preflights_that_are_granted() {
    for (settings, sent, expected) in [
        (
            json!({}),
            vec![ORIGIN, ASKS_PUT],
            vec!["ac-allow-methods: PUT", "ac-allow-origin: *", VARY[0], VARY[1]],
        ),
        (
            json!({"max_age": "1h"}),
            vec![ORIGIN, ASKS_PUT, ASKS_FIELDS],
            vec![
                "ac-allow-headers: authorization, x-a",
                "ac-allow-methods: PUT",
                "ac-allow-origin: *",
                "ac-max-age: 3600",
                VARY[0],
                VARY[1],
            ],
        ),
        (
            json!({"origins": "https://a.example", "methods": "GET,PUT", "headers": "X-A, Authorization", "credentials": true}),
            vec![ORIGIN, ASKS_PUT, ASKS_FIELDS],
            vec![
                "ac-allow-credentials: true",
                "ac-allow-headers: authorization, x-a",
                "ac-allow-methods: GET, PUT",
                "ac-allow-origin: https://a.example",
                VARY[0],
                VARY[1],
                "vary: Origin",
            ],
        ),
        // Safelisted methods need no permission.
        (
            json!({"methods": ["PUT"]}),
            vec![ORIGIN, ("Access-Control-Request-Method", "POST")],
            vec!["ac-allow-methods: PUT", "ac-allow-origin: *", VARY[0], VARY[1]],
        ),
    ] {
        let got = exchange(settings.clone(), Method::OPTIONS, &sent);
        assert_eq!(
            got,
            (Some(204), expected.iter().map(|line| (*line).to_owned()).collect()),
            "{settings} {sent:?}"
        );
    }
}

#[test]
fn preflights_that_are_not() {
    let settings = json!({"origins": "https://a.example", "methods": "PUT", "headers": ["X-A"]});
    for sent in [
        vec![("Origin", "https://evil.example"), ASKS_PUT],
        vec![("Origin", "null"), ASKS_PUT],
        vec![ORIGIN, ("Access-Control-Request-Method", "DELETE")],
        vec![ORIGIN, ("Access-Control-Request-Method", "put")],
        vec![ORIGIN, ASKS_PUT, ASKS_FIELDS],
        vec![
            ORIGIN,
            ASKS_PUT,
            ("Access-Control-Request-Headers", "x-a"),
            ("Access-Control-Request-Headers", "x-b"),
        ],
    ] {
        let expected = vec![VARY[0].to_owned(), VARY[1].to_owned(), "vary: Origin".to_owned()];
        assert_eq!(exchange(settings.clone(), Method::OPTIONS, &sent), (Some(204), expected), "{sent:?}");
    }
    let nonsense = [ORIGIN, ("Access-Control-Request-Method", "a b")];
    assert_eq!(exchange(json!({}), Method::OPTIONS, &nonsense).1, VARY);
}

#[test]
fn what_is_no_preflight_reaches_the_service() {
    for (method, sent) in [
        (Method::OPTIONS, vec![ORIGIN]),
        (Method::OPTIONS, vec![ASKS_PUT]),
        (Method::GET, vec![ORIGIN, ASKS_PUT]),
    ] {
        assert_eq!(exchange(json!({}), method, &sent).0, None, "{sent:?}");
    }
}

#[test]
fn settings_are_judged() {
    let path = |settings| problem("cors", settings).path;
    assert_eq!(path(json!({"credentials": true})), "origins");
    assert_eq!(path(json!({"origins": "*", "credentials": true})), "origins");
    assert_eq!(path(json!({"origins": ""})), "origins");
    assert_eq!(path(json!({"origins": []})), "origins");
    assert_eq!(path(json!({"origins": "https://a.example/"})), "origins[0]");
    assert_eq!(path(json!({"methods": ["GET", "put"]})), "methods[1]");
    assert_eq!(path(json!({"headers": ["a b"]})), "headers[0]");
    assert_eq!(
        path(json!({"origins": "https://a.example", "credentials": true, "expose": "*"})),
        "expose[0]"
    );
    assert_eq!(path(json!({"max_age": "soon"})), "max_age");
}
