//! Heads of answers: what is accepted means the same when it is written out and read again, however it trickled in, and
//! its framing is decided the same way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_proxy::h1::{
    framing,
    head::{self, Scan},
};

fuzz_target!(|data: &[u8]| {
    let Some((&choice, bytes)) = data.split_first() else { return };
    let whole = Scan::default().end(bytes);
    // In two reads, the end is found where it is found in one.
    let mut scan = Scan::default();
    let first = scan.end(&bytes[..bytes.len() * usize::from(choice) / 256]);
    let trickled = match first {
        Ok(None) => scan.end(bytes),
        found => found,
    };
    assert_eq!(whole, trickled);
    let Ok(Some(end)) = whole else { return };
    assert!(bytes[..end].ends_with(b"\r\n\r\n") || &bytes[..end] == b"\r\n");
    if let Ok(trailers) = head::trailers(&bytes[..end]) {
        let mut out = Vec::new();
        trailers.write_to(&mut out);
        out.extend_from_slice(b"\r\n");
        let again = head::trailers(&out).expect("what we write, we read");
        assert!(again.iter().eq(trailers.iter()));
    }
    let Ok(head) = head::answer(&bytes[..end]) else { return };
    let bodyless = choice & 1 != 0;
    let framing = framing::of_answer(&head.fields, head.http_10, bodyless);
    let minor = if head.http_10 { 0 } else { 1 };
    let mut out = format!("HTTP/1.{minor} {} \r\n", head.status.as_u16()).into_bytes();
    head.fields.write_to(&mut out);
    out.extend_from_slice(b"\r\n");
    assert_eq!(Scan::default().end(&out), Ok(Some(out.len())), "no line end inside of a field");
    let again = head::answer(&out).expect("what we write, we read");
    assert_eq!((again.status, again.http_10), (head.status, head.http_10));
    assert!(again.fields.iter().eq(head.fields.iter()));
    let framing_again = framing::of_answer(&again.fields, again.http_10, bodyless);
    match (framing, framing_again) {
        (Ok(one), Ok(two)) => assert_eq!(one, two),
        (one, two) => assert_eq!(one.is_err(), two.is_err()),
    }
});
