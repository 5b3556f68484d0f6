//! Settings of middlewares, and what is made of requests by whatever settings are accepted: no panic, every refusal says
//! where and why, and no request or answer gets a path, a query or a field that could not have arrived.
//!
//! The kind, the target of a request and the settings as JSON, a line each; then the fields of the request, `name: value`.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use portcullis_core::{
    Answer, Exchange, Fields, Flow, Request,
    keep::Keep,
    line::is_token,
    middleware::Around,
    path::{self, Policy},
};
use portcullis_fuzz::fields;

fuzz_target!(|data: &[u8]| {
    let mut lines = data.split(|&byte| byte == b'\n').take(64);
    let (Some(kind), Some(target), Some(settings)) = (lines.next(), lines.next(), lines.next()) else {
        return;
    };
    let Some(row) = std::str::from_utf8(kind).ok().and_then(portcullis_middleware::find) else { return };
    let Ok(settings) = serde_json::from_slice(settings) else { return };
    let around = Around {
        name: "fuzz@file",
        folder: Path::new("."),
        keep: &Keep::default(),
        stores: &Default::default(),
        meters: &Default::default(),
    };
    let middleware = match (row.build)(&settings, &around) {
        Ok(middleware) => middleware,
        Err(problem) => return assert!(!problem.message.is_empty()),
    };
    let mut request = Request::with_fields(http::Method::GET, fields(lines));
    if path::arrive(&mut request, target, Policy::LENIENT).is_err() {
        return;
    }
    request.set_authority("shop.example:8080");
    let mut x = Exchange::for_test(request);
    match middleware.on_request(&mut x) {
        Ok(Flow::Answer(answer)) => check(&answer.fields),
        Ok(_) => {}
        // It goes nowhere.
        Err(_) => return,
    }
    check(&x.request.fields);
    assert!(path::is_canonical(x.request.path(), Policy::LENIENT), "{}", x.request.path());
    assert!(x.request.query().is_none_or(|query| query.bytes().all(|byte| byte.is_ascii_graphic())));
    assert!(x.request.authority().bytes().all(|byte| byte.is_ascii_graphic()));
    let mut answer = Answer::with_body(http::StatusCode::OK, "fuzz", "text/html", "x".repeat(2000));
    let _ = middleware.on_response(&mut x, &mut answer);
    check(&answer.fields);
});

fn check(fields: &Fields) {
    for (name, value) in fields.iter() {
        assert!(std::str::from_utf8(name).is_ok_and(is_token));
        assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
    }
}
