//! From a head to a request: what RFC 9113 §8.3 and RFC 9114 §4.3 demand of pseudo-header fields beyond their syntax.

use http::Method;
use portcullis_core::{Connection, Error, Fields, Kind, Known, Request};

use crate::{arrive, runtime::Listener};

/// What stands before the fields.
#[derive(Debug)]
pub(crate) struct Pseudo<'a> {
    pub(crate) method: &'a Method,
    pub(crate) scheme: Option<&'a str>,
    pub(crate) authority: Option<&'a str>,
    pub(crate) path: &'a str,
    /// Of an extended CONNECT (RFC 8441, RFC 9220).
    pub(crate) protocol: Option<&'a str>,
}

/// A request without its body.
pub(crate) struct Arrived {
    pub(crate) request: Request,
    /// The client waits for a 100 before it sends its body.
    pub(crate) expects: bool,
}

impl Arrived {
    /// Shall the stream become a tunnel?
    pub(crate) fn is_tunnel(&self) -> bool {
        self.request.upgrade.is_some()
    }
}

/// Makes a request of a head.
///
/// # Errors
/// See [`arrive::request`]; and what is said of pseudo-header fields.
pub(crate) fn request(
    head: &Pseudo<'_>,
    fields: Fields,
    listener: &Listener,
    connection: &Connection,
) -> Result<Arrived, Error> {
    let expects = match fields.known(Known::Expect) {
        Some(value) if value.eq_ignore_ascii_case(b"100-continue") => true,
        Some(_) => return Err(Error::new(Kind::ExpectationFailed)),
        None => false,
    };
    let upgrade = match head.protocol {
        // RFC 8441 §5: as if it had been `GET` with `Upgrade: websocket`.
        Some("websocket") => Some("websocket"),
        Some(_) => return Err(Error::because(Kind::NotImplemented, ":protocol")),
        None => None,
    };
    let method = if upgrade.is_some() { Method::GET } else { head.method.clone() };
    if method != Method::CONNECT {
        // As the URL of an HTTP/1.1 request line is judged. (`h2` keeps no scheme without authority.)
        if head.authority.is_some() && !matches!(head.scheme, Some("http" | "https")) {
            return Err(Error::because(Kind::BadRequest, ":scheme other than http and https"));
        }
        // RFC 9113 §8.3.1: one of them says whom the request is for.
        if head.authority.is_none() && !fields.has(Known::Host) {
            return Err(Error::because(Kind::BadRequest, "neither :authority nor Host"));
        }
    }
    if !head.path.starts_with('/') && head.path != "*" {
        return Err(Error::because(Kind::BadRequest, ":path is no path"));
    }
    let authority = head.authority.map(str::as_bytes);
    let mut request = arrive::request(method, head.path.as_bytes(), authority, fields, listener)?;
    if let Some(scheme) = head.scheme {
        arrive::check_scheme(scheme.as_bytes(), connection)?;
    }
    request.upgrade = upgrade.map(Into::into);
    Ok(Arrived { request, expects })
}
