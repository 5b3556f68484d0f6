//! From what a listener read to a [`Request`]: the target in canonical form, the authority agreed upon. Shared by all
//! protocols, so that they cannot disagree.

use http::Method;
use portcullis_config::model::{Doubtful, PathPolicy};
use portcullis_core::{
    Connection, Error, Fields, Kind, Known, Request,
    fields::Span,
    path::{self, Delimiters, Policy},
};

use crate::runtime::Listener;

/// Makes a request of a method, a target as sent, and fields. `authority` is what the protocol carries outside of the
/// fields (`:authority`); `Host` may be among the fields and is taken out of them.
///
/// # Errors
/// `UriTooLong`, `BadPath`, `BadRequest` (several or different authorities, characters that have no business in one),
/// `NotImplemented` for CONNECT.
pub fn request(
    method: Method,
    target: &[u8],
    authority: Option<&[u8]>,
    mut fields: Fields,
    listener: &Listener,
) -> Result<Request, Error> {
    let settings = &listener.settings;
    if target.len() > settings.limits.uri_bytes {
        return Err(Error::new(Kind::UriTooLong));
    }
    if method == Method::CONNECT {
        return Err(Error::because(Kind::NotImplemented, "CONNECT"));
    }
    let (named, target) = split_absolute(target)?;
    let host = take_host(&mut fields)?;
    let mut request = Request::with_fields(method, fields);
    match (named.or(authority), host) {
        (None, None) => {}
        (None, Some(host)) => {
            let bytes = checked_authority(request.fields.slice(host))?.1;
            request.adopt_authority(host, bytes);
        }
        (Some(named), host) => {
            if host.is_some_and(|host| !named.eq_ignore_ascii_case(request.fields.slice(host))) {
                return Err(Error::because(Kind::BadRequest, "authority and Host differ"));
            }
            request.set_authority(checked_authority(named)?.0);
        }
    }
    path::arrive(&mut request, target, listener.path)?;
    Ok(request)
}

/// Judges the scheme that a request names outside of its fields: `:scheme`, or that of an absolute target. What the
/// request is, the connection says; but `https` is not asked for in plaintext, unless a trusted proxy ended the TLS
/// (RFC 9110 §7.4). `http` over TLS asks for less than there is.
///
/// # Errors
/// `Misdirected`; `BadRequest` for a scheme that is none of HTTP.
pub fn check_scheme(scheme: &[u8], connection: &Connection) -> Result<(), Error> {
    if scheme.eq_ignore_ascii_case(b"https") {
        return match connection.tls.is_some() || connection.trusted {
            true => Ok(()),
            false => Err(Error::because(Kind::Misdirected, "https asked for over plaintext")),
        };
    }
    if scheme.eq_ignore_ascii_case(b"http") {
        return Ok(());
    }
    Err(Error::because(Kind::BadRequest, "scheme is neither http nor https"))
}

/// The policy of the model as the canonicaliser takes it.
pub fn policy(policy: PathPolicy) -> Policy {
    Policy {
        merge_slashes: policy.merge_slashes,
        delimiters: match policy.encoded_delimiters {
            Doubtful::Reject => Delimiters::Reject,
            Doubtful::Keep => Delimiters::Keep,
        },
    }
}

/// `http://host/path` into host and path (RFC 9112 §3.2.2).
fn split_absolute(target: &[u8]) -> Result<(Option<&[u8]>, &[u8]), Error> {
    if matches!(target.first(), Some(b'/' | b'*')) {
        return Ok((None, target));
    }
    let scheme_end = target.windows(3).position(|window| window == b"://");
    let scheme = scheme_end.and_then(|end| target.get(..end)).unwrap_or_default();
    let rest = scheme_end.and_then(|end| target.get(end + 3..)).unwrap_or_default();
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(Error::because(Kind::BadRequest, "target is neither a path nor an http URL"));
    }
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.is_empty() {
        return Err(Error::because(Kind::BadRequest, "URL without a host"));
    }
    match path.first() {
        Some(b'/') => Ok((Some(authority), path)),
        None => Ok((Some(authority), b"/")),
        Some(_) => Err(Error::because(Kind::BadRequest, "URL without a path")),
    }
}

/// Takes `Host` out of the fields; there may be one at most (RFC 9112 §3.2).
fn take_host(fields: &mut Fields) -> Result<Option<Span>, Error> {
    if fields.known_all(Known::Host).nth(1).is_some() {
        return Err(Error::because(Kind::BadRequest, "more than one Host"));
    }
    let host = fields.known_span(Known::Host);
    fields.remove_known(Known::Host);
    Ok(host)
}

/// An authority without user, without commas, spaces or a path; a port of digits (RFC 3986 §3.2, checked for what two
/// parties could read in two ways). Also how many bytes of it are the host.
fn checked_authority(authority: &[u8]) -> Result<(&str, usize), Error> {
    let bad = || Error::because(Kind::BadRequest, "bad authority");
    let host = match authority.first() {
        Some(b'[') => {
            let end = memchr::memchr(b']', authority).ok_or_else(bad)?;
            let address = authority.get(1..end).and_then(|address| std::str::from_utf8(address).ok());
            if address.is_none_or(|address| address.parse::<std::net::Ipv6Addr>().is_err()) {
                return Err(bad());
            }
            end + 1
        }
        _ => {
            let may_stand = |byte: &u8| HOST.get(usize::from(*byte)).copied().unwrap_or(false);
            authority.iter().position(|byte| !may_stand(byte)).unwrap_or(authority.len())
        }
    };
    let port_is_fine = match authority.get(host..).unwrap_or_default() {
        [] | [b':'] => true,
        [b':', digits @ ..] => {
            let number = |sum: u32, digit: &u8| sum * 10 + u32::from(digit - b'0');
            digits.len() <= 5
                && digits.iter().all(u8::is_ascii_digit)
                && digits.iter().fold(0, number) <= u32::from(u16::MAX)
        }
        _ => false,
    };
    let text = std::str::from_utf8(authority).map_err(|_| bad())?;
    if port_is_fine { Ok((text, host)) } else { Err(bad()) }
}

/// What a name may consist of (RFC 3986 §3.2.2: unreserved, sub-delims but the comma). No escapes: some decode them, some
/// do not, and no name that DNS knows needs one.
#[allow(clippy::indexing_slicing)] // at compile time, over a constant
const HOST: [bool; 256] = {
    let mut table = [false; 256];
    let marks = b"-._~!$&'()*+;=";
    let mut at = 0;
    while at < marks.len() {
        table[marks[at] as usize] = true;
        at += 1;
    }
    let mut byte = 0;
    while byte < 256 {
        table[byte] |= (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        for good in ["", "a", "A.example:80", "[::1]:8080", "[::1]", "10.0.0.1:1", "a_b"] {
            assert!(checked_authority(good.as_bytes()).is_ok(), "{good}");
        }
        for bad in [
            "a b", "a,b", "u@h", "a/b", "a:b", "a:99999", "a:1:2", "[::1", "[x]", "a\\b", "a?b", "a#b",
            "a%20b", "é",
        ] {
            assert!(checked_authority(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn absolute_targets() {
        assert_eq!(split_absolute(b"/a?b").unwrap(), (None, &b"/a?b"[..]));
        assert_eq!(split_absolute(b"HTTP://h:1/a").unwrap(), (Some(&b"h:1"[..]), &b"/a"[..]));
        assert_eq!(split_absolute(b"http://h").unwrap(), (Some(&b"h"[..]), &b"/"[..]));
        for bad in [&b"a"[..], b"ftp://h/", b"http://h?x", b"http:///x", b"http://", b"://h/", b""] {
            assert!(split_absolute(bad).is_err(), "{bad:?}");
        }
    }
}
