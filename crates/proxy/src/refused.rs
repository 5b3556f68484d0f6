//! What the access log shows of a request that was refused before it could become one: method, target and host as they
//! came, as far as they came. Nothing else is ever done with it. The log escapes what it writes; here it is only bounded,
//! and names and passwords in front of an `@` are left out.

use std::borrow::Cow;

use http::{Method, header, request::Parts};
use portcullis_core::Request;

/// The longest part of a target, or of a host, that is shown.
const LONGEST: usize = 1024;

/// From the bytes of an HTTP/1.1 head that cannot be read, or is not whole.
pub fn of_head(bytes: &[u8]) -> Request {
    let mut lines = bytes.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let line = lines.next().unwrap_or_default();
    let space = memchr::memchr(b' ', line);
    let method = space.and_then(|end| line.get(..end)).and_then(|name| Method::from_bytes(name).ok());
    let target = match (&method, space) {
        (Some(_), Some(space)) => line.get(space + 1..).unwrap_or_default(),
        // No request line at all: whatever it is, a TLS handshake perhaps.
        _ => line,
    };
    let end = memchr::memmem::rfind(target, b" HTTP/").unwrap_or(target.len());
    let (mut host, mut agent) = (None, None);
    for line in lines {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = line.split_at(colon);
        let slot = match name.trim_ascii() {
            name if name.eq_ignore_ascii_case(b"host") => &mut host,
            name if name.eq_ignore_ascii_case(b"user-agent") => &mut agent,
            _ => continue,
        };
        slot.get_or_insert(value.get(1..).unwrap_or_default().trim_ascii());
    }
    shown(method, target.get(..end).unwrap_or_default(), host, agent)
}

/// From the head of an HTTP/2 request.
pub fn of_parts(head: &Parts) -> Request {
    let target = head.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    let authority = head.uri.authority().map(|authority| authority.as_str().as_bytes());
    let field = |name| head.headers.get(name).map(http::HeaderValue::as_bytes);
    let host = authority.or_else(|| field(header::HOST));
    shown(Some(head.method.clone()), target.as_bytes(), host, field(header::USER_AGENT))
}

/// From what came of a head.
pub fn shown(method: Option<Method>, target: &[u8], host: Option<&[u8]>, agent: Option<&[u8]>) -> Request {
    // A method too long to be one is not shown. A dash is a token, and so is always a method.
    let method = method.filter(|method| method.as_str().len() <= 32);
    let method = method.or_else(|| Method::from_bytes(b"-").ok()).unwrap_or_default();
    let mut request = Request::new(method);
    let target = bounded(target);
    let target = without_user_of_url(&target);
    match target.split_once('?') {
        Some((path, query)) => request.arrive(path, Some(query)),
        None => request.arrive(&target, None),
    }
    if let Some(host) = host {
        let host = bounded(host);
        request.set_authority(host.rsplit_once('@').map_or(&*host, |(_, host)| host));
    }
    if let Some(agent) = agent {
        request.fields.append("user-agent", agent);
    }
    request
}

fn bounded(bytes: &[u8]) -> Cow<'_, str> {
    match bytes.get(..LONGEST) {
        Some(start) if bytes.len() > LONGEST => Cow::Owned(String::from_utf8_lossy(start).into_owned() + "…"),
        _ => String::from_utf8_lossy(bytes),
    }
}

/// `http://user:password@host/` without user and password.
fn without_user_of_url(target: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = target.split_once("://") else { return Cow::Borrowed(target) };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest.split_at_checked(end).and_then(|(authority, _)| authority.rfind('@')) {
        Some(at) if !scheme.contains('/') => {
            Cow::Owned(format!("{scheme}://{}", rest.get(at + 1..).unwrap_or_default()))
        }
        _ => Cow::Borrowed(target),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Method, path, query and authority.
    fn seen(head: &[u8]) -> (String, String, Option<String>, String) {
        let request = of_head(head);
        (
            request.method.to_string(),
            request.original_path().to_owned(),
            request.original_query().map(ToOwned::to_owned),
            request.authority().to_owned(),
        )
    }

    #[test]
    fn what_came_is_shown_as_it_came() {
        for (head, method, path, query, host) in [
            (
                &b"GET /x%2fy?a=1 HTTP/1.1\r\nA: b\r\nHost: A.example\r\n\r\n"[..],
                "GET",
                "/x%2fy",
                Some("a=1"),
                "a.example",
            ),
            (b"POST /a b HTTP/1.1\r\nhost:a\r\nHost: b\r\n", "POST", "/a b", None, "a"),
            (b"GET / HTTP/3.7\nHost : spaced\n\n", "GET", "/", None, "spaced"),
            (
                b"GET http://me:secret@a/b@c HTTP/1.1\r\nHost: me:secret@a\r\n",
                "GET",
                "http://a/b@c",
                None,
                "a",
            ),
            (b"GET /cut", "GET", "/cut", None, ""),
            (b"G@T / HTTP/1.1\r\n\r\n", "-", "G@T /", None, ""),
            (b"\x16\x03\x01\x00", "-", "\x16\x03\x01\0", None, ""),
            (b"GET /\xff\x1b HTTP/1.1\r\n", "GET", "/\u{fffd}\x1b", None, ""),
            (b"", "-", "", None, ""),
        ] {
            let expected =
                (method.to_owned(), path.to_owned(), query.map(ToOwned::to_owned), host.to_owned());
            assert_eq!(seen(head), expected, "{:?}", String::from_utf8_lossy(head));
        }
    }

    #[test]
    fn it_is_bounded() {
        let (method, path, _, host) =
            seen(format!("{0} /{0} HTTP/1.1\r\nHost: {0}\r\n", "x".repeat(5000)).as_bytes());
        assert_eq!(
            (method.as_str(), path.len(), host.len()),
            ("-", LONGEST + "…".len(), LONGEST + "…".len())
        );
    }
}
