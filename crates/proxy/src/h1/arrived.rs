//! A request as it arrives: from the bytes of its head to its ticket.

use std::sync::Arc;

use portcullis_core::{Connection, Error, Exchange, Fields, Kind, Known};

use super::{
    framing::{self, Framing},
    head::{self, Scan},
    incoming::Link,
    upgrade,
};
use crate::{
    arrive,
    runtime::{Listener, Runtime},
    ticket::Ticket,
    worker::Worker,
};

/// A request and what its framing said about the connection.
pub struct Arrived {
    /// The request.
    pub ticket: Box<Ticket>,
    /// Where its body ends.
    pub framing: Framing,
    /// The client would keep the connection open.
    pub keep: bool,
    /// It came by HTTP/1.0.
    pub http_10: bool,
    /// The configuration by which it was read, and by which it will be served.
    pub runtime: Arc<Runtime>,
    /// Where it arrived.
    pub listener: Arc<Listener>,
}

/// A request, when its head is complete, and how many bytes that took.
///
/// # Errors
/// What is wrong with it; the connection ends with the answer that says so.
pub fn read(
    scan: &mut Scan,
    bytes: &[u8],
    worker: &Worker,
    connection: &Arc<Connection>,
    link: &Arc<Link>,
) -> Result<Option<(Arrived, usize)>, Error> {
    let runtime = worker.runtime().ok_or(Error::new(Kind::ShuttingDown))?;
    let listener =
        runtime.listeners.get(&connection.listener).cloned().ok_or(Error::new(Kind::ShuttingDown))?;
    let limits = listener.settings.limits;
    let end = scan.end(bytes).map_err(|_| Error::because(Kind::BadRequest, "line ends with LF alone"))?;
    if end.unwrap_or(bytes.len()) > limits.header_bytes {
        let line = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
        return Err(Error::new(if line > limits.uri_bytes {
            Kind::UriTooLong
        } else {
            Kind::HeadersTooLarge
        }));
    }
    let Some(end) = end else { return Ok(None) };
    let bytes = bytes.get(..end).unwrap_or_default();
    let head = head::request(bytes, limits.header_count)?;
    let http_10 = head.http_10;
    let framing = framing::of_request(&head.fields, http_10)?;
    let has_body = !matches!(framing, Framing::None | Framing::Length(0));
    if !http_10 && !head.fields.has(Known::Host) {
        return Err(Error::because(Kind::BadRequest, "no Host"));
    }
    let keep = framing::keeps_open(&head.fields, http_10);
    let upgrade = if http_10 { None } else { upgrade::asked(&head.fields, &head.method, has_body) };
    let expects_continue = expects_continue(&head.fields, http_10)? && has_body;
    let target = bytes.get(head.target.start as usize..head.target.end as usize).unwrap_or_default();
    let mut request = arrive::request(head.method, target, None, head.fields, &listener)?;
    if !matches!(target.first(), Some(b'/' | b'*')) {
        let scheme = memchr::memchr(b':', target).and_then(|end| target.get(..end));
        arrive::check_scheme(scheme.unwrap_or_default(), connection)?;
    }
    request.upgrade = upgrade;
    request.expects_continue = expects_continue;
    request.http_10 = http_10;
    let x = Exchange::new(request, connection.clone(), link.clone(), std::time::Instant::now());
    let ticket = Ticket::begin(worker.index, runtime.clone(), x);
    Ok(Some((Arrived { ticket, framing, keep, http_10, runtime, listener }, end)))
}

/// `Expect: 100-continue`; any other expectation is an error (RFC 9110 §10.1.1). Ignored in HTTP/1.0.
fn expects_continue(fields: &Fields, http_10: bool) -> Result<bool, Error> {
    match fields.known(Known::Expect) {
        Some(value) if value.eq_ignore_ascii_case(b"100-continue") => Ok(!http_10),
        Some(_) => Err(Error::new(Kind::ExpectationFailed)),
        None => Ok(false),
    }
}
