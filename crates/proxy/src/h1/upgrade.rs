//! Leaving HTTP: a tunnel opens only after the endpoint's verified 101 (RFC 9110 §7.8, RFC 6455 §4.1), and the
//! connection never returns to a pool.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::StatusCode;
use portcullis_core::{Answer, Body, Error, Exchange, Fields, Kind, Known, Request, Source, answer::Tunnel};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{client::Conn, writer};
use crate::{
    forward::upstream::InFlight,
    io::{Input, Io},
};

/// What RFC 6455 §1.3 appends to the key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The token of an HTTP/1.1 request that asks to leave HTTP, when we may pass that on: one protocol, not `h2c`, on a
/// GET without body, named by `Connection`.
pub fn asked(fields: &Fields, method: &http::Method, has_body: bool) -> Option<Box<str>> {
    if !fields.has(Known::Upgrade) || has_body || method != http::Method::GET {
        return None;
    }
    let named = fields
        .known_all(Known::Connection)
        .flat_map(|value| value.split(|&byte| byte == b','))
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
    let mut tokens = fields.known_all(Known::Upgrade);
    let (token, other) = (tokens.next()?, tokens.next());
    let is_token = !token.is_empty()
        && token.iter().all(|&b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(&b));
    if !named || other.is_some() || !is_token || token.eq_ignore_ascii_case(b"h2c") {
        return None;
    }
    std::str::from_utf8(token).ok().map(|token| token.to_ascii_lowercase().into())
}

/// Completes a WebSocket handshake that came over HTTP/2, where it has neither key nor version (RFC 8441 §5).
pub fn prepare(request: &mut Request) {
    if !request.fields.has(Known::SecWebsocketKey) {
        let nonce: [u8; 16] = std::array::from_fn(|_| fastrand::u8(..));
        request.fields.append("sec-websocket-key", STANDARD.encode(nonce));
    }
    if !request.fields.has(Known::SecWebsocketVersion) {
        request.fields.append("sec-websocket-version", "13");
    }
}

/// Writes the fields that ask the endpoint.
pub fn ask(out: &mut Vec<u8>, token: &str) {
    writer::field(out, "connection", "upgrade");
    writer::field(out, "upgrade", token);
}

/// Judges a 101. What is opened may stay silent for `idle`.
///
/// # Errors
/// `UpgradeFailed` when nobody asked, when the protocol is another, or when the WebSocket proof is wrong.
#[allow(clippy::boxed_local)] // connections live in boxes, and this one ends here
pub fn accept(
    conn: Box<Conn>,
    x: &Exchange,
    mut fields: Fields,
    idle: Duration,
    in_flight: InFlight,
) -> Result<Answer, Error> {
    let bad = |reason: &'static str| Error::because(Kind::UpgradeFailed, reason);
    let Some(token) = &x.request.upgrade else {
        return Err(bad("101 without having been asked"));
    };
    let switched = fields.known(Known::Upgrade).is_some_and(|to| to.eq_ignore_ascii_case(token.as_bytes()));
    if !switched {
        return Err(bad("101 to another protocol"));
    }
    if &**token == "websocket" {
        let key = x.request.fields.known(Known::SecWebsocketKey).unwrap_or_default();
        if fields.known(Known::SecWebsocketAccept) != Some(proof(key).as_bytes()) {
            return Err(bad("wrong Sec-WebSocket-Accept"));
        }
    }
    portcullis_core::forwarded::strip_hop_by_hop(&mut fields, false);
    let io = conn.into_tunnel(in_flight);
    Ok(Answer {
        status: StatusCode::SWITCHING_PROTOCOLS,
        fields,
        body: Body::Empty,
        tunnel: Some(Box::new(Tunnel { io: Box::new(io), idle })),
        source: Source::Endpoint,
    })
}

/// `Sec-WebSocket-Accept` for a key.
pub fn proof(key: &[u8]) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(GUID);
    STANDARD.encode(context.finish())
}

/// One side of a tunnel: a socket, and what had been read from it before.
pub struct Side {
    io: Io,
    input: Input,
    /// Counts the tunnel at its endpoint for as long as it is open.
    _held: Option<(InFlight, crate::forward::upstream::Open)>,
}

impl Side {
    /// A side over a socket.
    pub fn new(io: Io, input: Input, held: Option<(InFlight, crate::forward::upstream::Open)>) -> Side {
        Side { io, input, _held: held }
    }
}

impl AsyncRead for Side {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let side = self.get_mut();
        if side.input.is_empty() {
            return Pin::new(&mut side.io).poll_read(cx, buf);
        }
        let piece = side.input.unread();
        let count = piece.len().min(buf.remaining());
        buf.put_slice(piece.get(..count).unwrap_or_default());
        side.input.consume(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Side {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_of_rfc_6455() {
        assert_eq!(proof(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn only_a_plain_single_request_to_upgrade_counts() {
        let fields = |pairs: &[(&str, &str)]| pairs.iter().copied().collect::<Fields>();
        let get = http::Method::GET;
        let good = fields(&[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")]);
        assert_eq!(asked(&good, &get, false).as_deref(), Some("websocket"));
        assert_eq!(asked(&good, &get, true), None);
        assert_eq!(asked(&good, &http::Method::POST, false), None);
        assert_eq!(asked(&fields(&[("upgrade", "websocket")]), &get, false), None);
        assert_eq!(asked(&fields(&[("connection", "upgrade"), ("upgrade", "h2c")]), &get, false), None);
        assert_eq!(asked(&fields(&[("connection", "upgrade"), ("upgrade", "a, b")]), &get, false), None);
    }
}
