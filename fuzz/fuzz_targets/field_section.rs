//! HTTP/3 field sections (QPACK) and the heads of requests in them: what is accepted means the same when it is written out
//! and read again, stays within its bounds, and cannot start a line of its own behind the gateway. The first byte chooses
//! how much may be in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_core::{Fields, Known};
use portcullis_proxy::h3::head::{self, RequestHead};

fuzz_target!(|data: &[u8]| {
    let Some((&choice, section)) = data.split_first() else { return };
    let (most_bytes, most_fields) = (usize::from(choice) * 64, usize::from(choice & 15));
    if let Ok(trailers) = head::trailers(section, most_bytes, most_fields) {
        assert!(trailers.len() <= most_fields);
        check(&trailers, most_bytes);
        again(&trailers, |section| head::trailers(section, usize::MAX, usize::MAX).ok());
    }
    let mut request = RequestHead::default();
    let Ok(fields) = request.read(section, most_bytes, most_fields) else { return };
    // Several lines of `Cookie` become one (RFC 9114 §4.2.1), so there may be fewer, never more.
    assert!(fields.len() <= most_fields);
    check(&fields, most_bytes);
    for text in [&request.scheme, &request.authority, &request.path, &request.protocol].into_iter().flatten()
    {
        assert!(text.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f)));
    }
    // A plain CONNECT has neither; it is refused as soon as it is a request.
    let is_connect = request.method == Some(http::Method::CONNECT) && request.protocol.is_none();
    assert!(is_connect || (request.method.is_some() && request.scheme.is_some() && request.path.is_some()));
});

/// What leaves as one head arrives as that head; fields of a connection do not leave.
fn again(fields: &Fields, read: impl Fn(&[u8]) -> Option<Fields>) {
    let frame = head::frame(None, fields, 0, |_| {});
    // A frame of type 1, and its length: one, two or four bytes (RFC 9000 §16).
    let length = 1 << (frame[1] >> 6);
    let back = read(&frame[1 + length..]).expect("what we write, we read");
    let sent = |(known, name, value): (Known, _, &'_ [u8])| {
        (Known::HOP_BY_HOP & known.bit() == 0 || known == Known::Other)
            .then(|| (name, value.trim_ascii().to_vec()))
    };
    assert!(back.iter_known().filter_map(sent).eq(fields.iter_known().filter_map(sent)));
}

fn check(fields: &Fields, most_bytes: usize) {
    let mut bytes = 0;
    for (name, value) in fields.iter() {
        bytes += name.len() + value.len();
        assert!(!name.is_empty() && !name.iter().any(u8::is_ascii_uppercase));
        assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
    }
    assert!(bytes <= most_bytes + 2 * fields.len());
}
