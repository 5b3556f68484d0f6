//! A stored answer as the answer to one request: whole, or 304, or parts of it, or only its head.

use bytes::{BufMut, Bytes, BytesMut};
use http::StatusCode;
use portcullis_core::{Answer, Body, Fields, Known};

use crate::{
    conditions,
    date::Seconds,
    object::Object,
    range::{self, Parts},
};

/// Who answers, for the log.
pub const BY: &str = "cache";

/// The answer for a request with these fields; `is_head` for HEAD.
pub fn present(object: &Object, request: &Fields, is_head: bool, now: Seconds) -> Answer {
    const CONDITIONAL: u64 = Known::IfNoneMatch.bit() | Known::IfModifiedSince.bit() | Known::Range.bit();
    let mut answer = Answer::new(object.status, BY);
    answer.fields = object.fields();
    // RFC 9111 §5.1
    answer.fields.append_classified(
        Known::Age,
        "age",
        itoa::Buffer::new().format(object.times.age(now)).as_bytes(),
    );
    answer.body = if is_head { Body::Empty } else { Body::from(object.body()) };
    if request.has_any(CONDITIONAL) && object.status == StatusCode::OK {
        condition(&mut answer, object, request, is_head);
    }
    answer
}

fn condition(answer: &mut Answer, object: &Object, request: &Fields, is_head: bool) {
    if conditions::has_it(request, object) {
        not_modified(answer);
        return;
    }
    // RFC 9110 §14.2: `Range` means something to GET only.
    let Some(asked) = request.known(Known::Range).filter(|_| !is_head) else { return };
    if !conditions::may_be_part(request, object) {
        return;
    }
    let whole = &object.body();
    match range::parts(asked, whole.len()) {
        Parts::Whole => {}
        Parts::Nothing => {
            answer.status = StatusCode::RANGE_NOT_SATISFIABLE;
            answer.fields.retain(|_, name, _| !is_of_content(name));
            answer.fields.set("content-range", format!("bytes */{}", whole.len()));
            answer.fields.set("content-length", "0");
            answer.body = Body::Empty;
        }
        Parts::These(parts) => match parts.as_slice() {
            [(start, end)] => {
                answer.status = StatusCode::PARTIAL_CONTENT;
                answer.fields.set("content-range", content_range((*start, *end), whole.len()));
                answer.fields.set("content-length", (end - start).to_string());
                answer.body = Body::from(whole.slice(*start..*end));
            }
            parts => several(answer, whole, parts),
        },
    }
}

/// RFC 9110 §15.4.5: without what describes a body that is not sent.
fn not_modified(answer: &mut Answer) {
    answer.status = StatusCode::NOT_MODIFIED;
    answer.body = Body::Empty;
    answer.fields.retain(|_, name, _| !is_of_content(name));
}

fn is_of_content(name: &[u8]) -> bool {
    name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"content-"))
        && !name.eq_ignore_ascii_case(b"content-location")
        && !name.eq_ignore_ascii_case(b"content-security-policy")
}

fn content_range((start, end): (usize, usize), length: usize) -> String {
    format!("bytes {start}-{}/{length}", end.saturating_sub(1))
}

/// `multipart/byteranges` (RFC 9110 §14.6).
fn several(answer: &mut Answer, whole: &Bytes, parts: &[(usize, usize)]) {
    let kind = answer.fields.known(Known::ContentType).map(<[u8]>::to_vec);
    let boundary = boundary(whole, parts);
    let mut body = BytesMut::new();
    for part @ (start, end) in parts {
        body.put_slice(format!("\r\n--{boundary}\r\n").as_bytes());
        if let Some(kind) = &kind {
            body.put_slice(b"content-type: ");
            body.put_slice(kind);
            body.put_slice(b"\r\n");
        }
        body.put_slice(format!("content-range: {}\r\n\r\n", content_range(*part, whole.len())).as_bytes());
        body.put_slice(whole.get(*start..*end).unwrap_or_default());
    }
    body.put_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    answer.status = StatusCode::PARTIAL_CONTENT;
    answer.fields.set("content-type", format!("multipart/byteranges; boundary={boundary}"));
    answer.fields.set("content-length", body.len().to_string());
    answer.body = Body::from(body.freeze());
}

/// Text that does not stand in the body.
fn boundary(whole: &Bytes, parts: &[(usize, usize)]) -> String {
    let mut number = parts.iter().fold(whole.len() as u64, |sum, (start, end)| {
        sum.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(*start as u64).rotate_left(17) ^ *end as u64
    });
    loop {
        let text = format!("part-{number:016x}");
        if memchr::memmem::find(whole, text.as_bytes()).is_none() {
            return text;
        }
        number = number.wrapping_add(1);
    }
}
