//! Heads of messages: from bytes to the flat list of fields. `httparse` reads the syntax; what it is lenient about
//! (line ends, white space) is refused here, before it.

use std::mem::MaybeUninit;

use http::{Method, StatusCode};
use portcullis_core::{Error, Fields, Kind, Known, fields::Span};

/// Most fields that a head may ever hold; limits are at or below it.
pub const MOST_FIELDS: usize = 256;

/// Looks for the end of a head, remembering where it stopped, so that a head that trickles in is read once.
#[derive(Debug, Default)]
pub struct Scan {
    /// Bytes already looked at.
    seen: usize,
    /// Where the current line began.
    line: usize,
}

/// A line ended with LF alone.
#[derive(Debug, PartialEq, Eq)]
pub struct BareLf;

impl Scan {
    /// The length of the head that `bytes` begins with, its empty line included; `None` while that is not there.
    ///
    /// # Errors
    /// A line that ends with LF alone (RFC 9112 §2.2 would let a recipient accept it; two that disagree about it are
    /// a hole).
    pub fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, BareLf> {
        while let Some(at) = bytes.get(self.seen..).and_then(|rest| memchr::memchr(b'\n', rest)) {
            let lf = self.seen + at;
            if lf == 0 || bytes.get(lf - 1) != Some(&b'\r') {
                return Err(BareLf);
            }
            let line_is_empty = lf == self.line + 1;
            self.seen = lf + 1;
            self.line = lf + 1;
            if line_is_empty {
                return Ok(Some(lf + 1));
            }
        }
        self.seen = bytes.len();
        Ok(None)
    }
}

/// A request head as read, not yet judged.
#[derive(Debug)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The request target as sent.
    pub target: Span,
    /// HTTP/1.0?
    pub http_10: bool,
    /// The fields; `target` is a range of the same buffer.
    pub fields: Fields,
}

/// An answer's head as read.
#[derive(Debug)]
pub struct AnswerHead {
    /// The status.
    pub status: StatusCode,
    /// HTTP/1.0?
    pub http_10: bool,
    /// The fields.
    pub fields: Fields,
}

/// Reads a whole request head.
///
/// # Errors
/// 400 for bad syntax, 431 for more than `most` fields, 505 for other versions, 501 never (any token is a method).
pub fn request(head: &[u8], most: usize) -> Result<RequestHead, Error> {
    let mut slots = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; MOST_FIELDS];
    let slots = slots.get_mut(..most.min(MOST_FIELDS)).unwrap_or_default();
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(head, slots) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(Error::because(Kind::BadRequest, "head ends before its end")),
        Err(error) => return Err(request_error(error, head)),
    }
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Error::new(Kind::BadRequest));
    };
    let method =
        Method::from_bytes(method.as_bytes()).map_err(|_| Error::because(Kind::BadRequest, "bad method"))?;
    let mut fields = Fields::new();
    fields.adopt(head);
    let target = span(head, target.as_bytes());
    push_all(head, parsed.headers, &mut fields);
    Ok(RequestHead { method, target, http_10: version == 0, fields })
}

/// Reads a whole answer head.
///
/// # Errors
/// `BadResponse` for bad syntax, `ResponseHeadersTooLarge` for too many fields.
pub fn answer(head: &[u8]) -> Result<AnswerHead, Error> {
    let mut slots = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; MOST_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut parsed, head, &mut slots) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(Error::because(Kind::BadResponse, "head ends before its end")),
        Err(httparse::Error::TooManyHeaders) => return Err(Error::new(Kind::ResponseHeadersTooLarge)),
        Err(error) => return Err(Error::because(Kind::BadResponse, error.to_string())),
    }
    let (Some(code), Some(version)) = (parsed.code, parsed.version) else {
        return Err(Error::new(Kind::BadResponse));
    };
    let status = StatusCode::from_u16(code).map_err(|_| Error::because(Kind::BadResponse, "bad status"))?;
    let mut fields = Fields::new();
    fields.adopt(head);
    push_all(head, parsed.headers, &mut fields);
    Ok(AnswerHead { status, http_10: version == 0, fields })
}

/// Reads a trailer section with its empty line.
///
/// # Errors
/// `BadRequest` for bad syntax and for fields that frame, route or authenticate a message (RFC 9110 §6.5.1).
pub fn trailers(section: &[u8]) -> Result<Fields, Error> {
    let mut slots = [httparse::EMPTY_HEADER; 64];
    let parsed = match httparse::parse_headers(section, &mut slots) {
        Ok(httparse::Status::Complete((_, parsed))) => parsed,
        _ => return Err(Error::because(Kind::BadRequest, "bad trailers")),
    };
    let mut fields = Fields::new();
    fields.adopt(section);
    push_all(section, parsed, &mut fields);
    const NEVER: u64 = Known::HOP_BY_HOP
        | Known::FORWARDING
        | Known::ContentLength.bit()
        | Known::Host.bit()
        | Known::Authorization.bit()
        | Known::ContentEncoding.bit()
        | Known::ContentType.bit();
    if fields.has_any(NEVER) {
        return Err(Error::because(Kind::BadRequest, "a field that may not be a trailer"));
    }
    Ok(fields)
}

fn request_error(error: httparse::Error, head: &[u8]) -> Error {
    match error {
        httparse::Error::TooManyHeaders => Error::new(Kind::HeadersTooLarge),
        // A space in the target makes the rest of it look like a version.
        httparse::Error::Version if !names_a_version(head) => {
            Error::because(Kind::BadRequest, "the request line is not of three words")
        }
        httparse::Error::Version => Error::new(Kind::VersionNotSupported),
        other => Error::because(Kind::BadRequest, other.to_string()),
    }
}

/// Is the third word of the request line, and its last, a version of HTTP?
fn names_a_version(head: &[u8]) -> bool {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ').skip(2);
    words.next().is_some_and(|word| word.starts_with(b"HTTP/")) && words.next().is_none()
}

fn push_all(head: &[u8], parsed: &[httparse::Header<'_>], fields: &mut Fields) {
    for header in parsed {
        fields.push_spans(span(head, header.name.as_bytes()), span(head, header.value));
    }
}

/// Where a part of `whole` stands in it. (Both are slices of one buffer; the difference of their addresses is the
/// offset. An empty part may point anywhere and gives an empty span.)
fn span(whole: &[u8], part: &[u8]) -> Span {
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    if part.is_empty() || start > whole.len() {
        return Span::default();
    }
    Span { start: start as u32, end: (start + part.len()) as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<RequestHead, Kind> {
        let mut scan = Scan::default();
        let end = scan.end(text.as_bytes()).map_err(|_| Kind::BadRequest)?.ok_or(Kind::RequestTimeout)?;
        request(&text.as_bytes()[..end], 100).map_err(|error| error.kind)
    }

    #[test]
    fn reads_a_request() {
        let head = read("GET /a?b HTTP/1.1\r\nHost: x\r\nX-Empty:\r\nX-Pad:  v \t\r\n\r\nbody").unwrap();
        assert_eq!(head.method, Method::GET);
        assert_eq!(head.fields.slice(head.target), b"/a?b");
        assert_eq!(head.fields.get("x-pad"), Some(&b"v"[..]));
        assert_eq!(head.fields.get("x-empty"), Some(&b""[..]));
        let mut out = Vec::new();
        head.fields.write_to(&mut out);
        assert_eq!(out, b"Host: x\r\nX-Empty: \r\nX-Pad: v\r\n");
    }

    #[test]
    fn refuses_the_ambiguous() {
        for bad in [
            "GET / HTTP/1.1\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\n\r\n",
            "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
            "GET / HTTP/1.1\r\n Host: x\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\0c\r\n\r\n",
            "GET / HTTP/1.1\r\n: b\r\n\r\n",
            "GET / HTTP/1.1\r\nnocolon\r\n\r\n",
            "GET  / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1 \r\n\r\n",
            "GET\t/ HTTP/1.1\r\n\r\n",
            "G@T / HTTP/1.1\r\n\r\n",
            "GET /a b HTTP/1.1\r\n\r\n",
            "GET /a HTTP/1.1 HTTP/1.1\r\n\r\n",
            "GET / JTTP/1.1\r\n\r\n",
        ] {
            assert!(matches!(read(bad), Err(Kind::BadRequest)), "{bad:?}: {:?}", read(bad));
        }
        assert!(matches!(read("GET / HTTP/2.0\r\n\r\n"), Err(Kind::VersionNotSupported)));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101));
        assert!(matches!(read(&many), Err(Kind::HeadersTooLarge)));
    }

    #[test]
    fn a_trickling_head_is_found_once_complete() {
        let text = b"GET / HTTP/1.1\r\nA: b\r\n\r\n";
        let mut scan = Scan::default();
        for end in 0..text.len() {
            assert_eq!(scan.end(&text[..end]), Ok(None));
        }
        assert_eq!(scan.end(text), Ok(Some(text.len())));
    }

    #[test]
    fn reads_an_answer() {
        let head = answer(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n").unwrap();
        assert!(head.http_10 && head.status == 200);
        assert!(answer(b"HTTP/1.1 2000 OK\r\n\r\n").is_err());
        assert!(answer(b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n").is_err());
    }
}
