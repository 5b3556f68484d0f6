//! The rules of the cache, by whatever fields: request, answer and a second request as lines of `name: value`, divided by
//! empty lines; the first bytes choose policy, status and times. What may be stored comes back from its bytes as it was,
//! what is made of it for a client keeps its promises about its length, and what a store holds may be anything.
#![no_main]

use bytes::Bytes;
use http::{Method, StatusCode};
use libfuzzer_sys::fuzz_target;
use portcullis_cache::{
    Ask, Object, Policy, admit, admit::Received, conditions, judge, object::Times, present::present,
    validate, vary,
};
use portcullis_core::{Fields, Known, Request};
use portcullis_fuzz::fields;

fuzz_target!(|data: &[u8]| {
    if let Some(object) = Object::decode(&Bytes::copy_from_slice(data)) {
        use_it(&object, &Fields::new(), false, 0);
    }
    let Some((&[choice, status, asked, later], text)) = data.split_first_chunk() else { return };
    let mut parts = text.split(|&byte| byte == b'\n').collect::<Vec<_>>();
    parts.truncate(64);
    let mut heads = parts.split(|line| line.is_empty()).map(|lines| fields(lines.iter().copied()));
    let mut request = Request::new(if choice & 1 == 0 { Method::GET } else { Method::HEAD });
    request.arrive("/a", Some("b=c"));
    request.fields = heads.next().unwrap_or_default();
    let mut answer = heads.next().unwrap_or_default();
    // Written anew for each client.
    answer.remove("age");
    let second = heads.next().unwrap_or_default();
    let policy = Policy {
        default_lifetime: (choice & 2 != 0).then_some(60),
        force: choice & 4 != 0,
        min_lifetime: u32::from(choice & 8),
        store_cookies: choice & 16 != 0,
        stale_if_error: u32::from(choice & 32),
        ..Policy::default()
    };
    let ask = Ask::of(&request, &policy);
    let now = 1_000_000_000 + u64::from(asked);
    let status = StatusCode::from_u16(200 + u16::from(status)).expect("three digits");
    let received =
        Received { status, fields: &answer, length: Some(100), asked: now - u64::from(asked), now };
    let Ok(admitted) = admit(&policy, &request, None, &received) else { return };
    let body = [Bytes::from_static(&[b'x'; 60]), Bytes::from_static(&[b'y'; 40])];
    let mut variant = Vec::new();
    vary::write_variant(&admitted.vary, &request.fields, &mut variant);
    let Some(object) = Object::new(b"http://a/a?b=c", &variant, status, &answer, &body, admitted.times)
    else {
        return;
    };
    let back = Object::decode(&Bytes::from(object.encode())).expect("what we write, we read");
    assert_eq!((back.status, back.times, back.body()), (object.status, object.times, object.body()));
    assert_eq!((back.key(), back.variant()), (object.key(), object.variant()));
    assert!(back.fields().iter().eq(object.fields().iter()));
    // Damage is seen, wherever it is.
    let mut bytes = object.encode();
    let at = usize::from(later) * bytes.len() / 256;
    bytes[at] ^= 1 << (choice & 7);
    assert!(Object::decode(&Bytes::from(bytes)).is_none());
    let now = now + u64::from(later) * u64::from(later);
    if let Ok(ask) = &ask {
        judge(&object.times, &ask.directives, now);
    }
    use_it(&object, &second, choice & 64 != 0, now);
});

/// What clients are given of an object.
fn use_it(object: &Object, request: &Fields, is_head: bool, now: u64) {
    conditions::has_it(request, object);
    let mut upstream = Fields::new();
    request
        .iter()
        .for_each(|(name, value)| upstream.append(std::str::from_utf8(name).expect("a token"), value));
    validate::ask_for_news(&mut upstream, object);
    validate::freshened(object, request);
    let fresh = object.with_head(&validate::freshened(object, request), Times::default());
    assert!(fresh.is_none_or(|fresh| fresh.body() == object.body()));
    let answer = present(object, request, is_head, now);
    assert_eq!(answer.fields.known_all(Known::Age).count(), 1);
    let length = object.body().len() as u64;
    match answer.status {
        StatusCode::NOT_MODIFIED => assert_eq!(answer.body.remaining(), Some(0)),
        StatusCode::PARTIAL_CONTENT => assert!(object.status == StatusCode::OK),
        StatusCode::RANGE_NOT_SATISFIABLE => {}
        status => {
            assert_eq!(status, object.status);
            assert_eq!(answer.body.remaining(), Some(if is_head { 0 } else { length }));
        }
    }
}
