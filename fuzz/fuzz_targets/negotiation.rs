//! What clients say of their wishes: `Accept`, `Accept-Encoding`, `Cookie`, `Origin`, request ids. The fields go through
//! the readers of the proxy and through every middleware that reads fields; whatever an answer gets has no line end in it.
//! Lines of `name: value`; the first byte chooses.
#![no_main]

use std::{path::Path, sync::Arc, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use portcullis_config::model::Sticky as Settings;
use portcullis_core::{Answer, Exchange, Flow, Known, Middleware, Request, keep::Keep, middleware::Around};
use portcullis_fuzz::fields;
use portcullis_proxy::{
    balance::{Sticky, cookie::cookies},
    pages::accept,
};
use serde_json::{Value, json};

const OFFERS: [&str; 4] = ["application/problem+json", "application/json", "text/html", "text/plain"];

static MIDDLEWARES: LazyLock<Vec<Arc<dyn Middleware>>> = LazyLock::new(|| {
    let keep = Keep::default();
    let build = |kind: &str, settings: Value| {
        let around = Around {
            name: "fuzz@file",
            folder: Path::new("."),
            keep: &keep,
            stores: &Default::default(),
            meters: &Default::default(),
        };
        (portcullis_middleware::find(kind).expect("a kind").build)(&settings, &around).expect("settings")
    };
    vec![
        build("compress", json!({ "min_size": 1000 })),
        build(
            "cors",
            json!({ "origins": ["https://*.shop.example", "https://a.example"], "credentials": true }),
        ),
        build("request_id", json!({})),
        build("headers", json!({ "request": { "set": { "X-Client": "{client_ip}" } } })),
        build(
            "rate_limit",
            json!({ "requests_per_second": 1000, "burst": 1000, "key": { "header": "x-key" } }),
        ),
        build("redirect_scheme", json!({ "scheme": "https" })),
    ]
});

fuzz_target!(|data: &[u8]| {
    let Some((&choice, text)) = data.split_first() else { return };
    let method = if choice & 1 == 0 { http::Method::GET } else { http::Method::OPTIONS };
    let mut request = Request::new(method);
    request.arrive("/a/b", Some("c=d"));
    request.set_authority("shop.example");
    request.fields = fields(text.split(|&byte| byte == b'\n').take(64));
    let fields = &request.fields;
    if let Some(index) = accept::choose(fields.known_all(Known::Accept), OFFERS.into_iter()) {
        assert!(index < OFFERS.len());
    }
    for value in cookies(fields, b"lb") {
        assert!(!value.contains(&b';'));
    }
    let settings = Settings {
        cookie: "lb".into(),
        secure: true,
        http_only: true,
        same_site: None,
        max_age: None,
        path: "/".into(),
        domain: None,
    };
    assert_eq!(Sticky::new(&settings, "s@file", &[]).find(fields), None);
    let mut x = Exchange::for_test(request);
    for middleware in MIDDLEWARES.iter() {
        if let Ok(Flow::Answer(answer)) = middleware.on_request(&mut x) {
            check(&answer);
        }
    }
    let mut answer = Answer::with_body(http::StatusCode::OK, "fuzz", "text/html", "x".repeat(2000));
    for middleware in MIDDLEWARES.iter() {
        let _ = middleware.on_response(&mut x, &mut answer);
    }
    check(&answer);
});

fn check(answer: &Answer) {
    for (name, value) in answer.fields.iter() {
        assert!(!name.is_empty() && !value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
    }
}
