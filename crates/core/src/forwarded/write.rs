//! Writing the forwarding fields of a request that goes on to an endpoint.

use std::{
    io::Write,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use crate::{
    Exchange, Known,
    fields::Span,
    forwarded::node::{address, is_obfuscated, list},
};

/// Fields written here, whatever stood there before.
const WRITTEN: u64 = Known::XForwardedFor.bit()
    | Known::XRealIp.bit()
    | Known::XForwardedProto.bit()
    | Known::XForwardedHost.bit()
    | Known::XForwardedPort.bit()
    | Known::Forwarded.bit();

/// Writes `X-Forwarded-For` (the peer appended), `X-Real-IP`, `X-Forwarded-Proto`, `-Host`, `-Port`, `Forwarded` (our
/// element appended) and `Via`. `gateway` is the gateway's name. To be called once per exchange, after
/// [`receive`](super::receive) and the middlewares.
pub fn send(x: &mut Exchange, gateway: &str) {
    let connection = x.connection.clone();
    let plain = !x.request.fields.has_any(WRITTEN | Known::Via.bit()) && x.client == connection.peer.ip();
    let mut last = connection.prepared.0.lock().unwrap_or_else(PoisonError::into_inner);
    // Requests on one connection mostly name one host: then all of these fields are those of the request before.
    let again = plain && last.is_for(x, gateway);
    if !again {
        last.text.clear();
        last.count = 0;
        compose(x, gateway, &mut last);
        last.remember(x, gateway, plain);
    }
    let fields = &mut x.request.fields;
    fields.remove_set(WRITTEN);
    let at = fields.adopt(&last.text);
    for &(known, start, value, end) in last.spans.iter().take(last.count) {
        let name = Span { start: at + start, end: at + value - 2 };
        fields.push_known(name, Span { start: at + value, end: at + end }, known);
    }
}

/// The forwarding fields of a connection's last request.
#[derive(Debug, Default)]
pub struct Prepared(Mutex<Lines>);

/// Lines put together: text, and where each line, its value and the value's end stand.
#[derive(Debug, Default)]
struct Lines {
    text: Vec<u8>,
    /// Name, start, start of the value, end of the value.
    spans: [(Known, u32, u32, u32); 7],
    count: usize,
    /// What they depend on, where that is only this.
    authority: String,
    gateway: String,
    secure: bool,
    http_10: bool,
    is_plain: bool,
}

impl Lines {
    /// Are they those of this plain request too?
    fn is_for(&self, x: &Exchange, gateway: &str) -> bool {
        self.is_plain
            && self.secure == x.secure
            && self.http_10 == x.request.http_10
            && self.authority == x.request.authority()
            && self.gateway == gateway
    }

    fn remember(&mut self, x: &Exchange, gateway: &str, plain: bool) {
        self.is_plain = plain;
        self.secure = x.secure;
        self.http_10 = x.request.http_10;
        if plain {
            self.authority.clear();
            self.authority.push_str(x.request.authority());
            self.gateway.clear();
            self.gateway.push_str(gateway);
        }
    }

    /// One line; `name` ends with `: `.
    fn line(&mut self, known: Known, name: &str, value: impl FnOnce(&mut Vec<u8>)) {
        let start = self.text.len() as u32;
        self.text.extend_from_slice(name.as_bytes());
        let at = self.text.len() as u32;
        value(&mut self.text);
        let end = self.text.len() as u32;
        self.text.extend_from_slice(b"\r\n");
        if let Some(slot) = self.spans.get_mut(self.count) {
            *slot = (known, start, at, end);
            self.count += 1;
        }
    }
}

fn compose(x: &Exchange, gateway: &str, lines: &mut Lines) {
    let (fields, connection) = (&x.request.fields, &*x.connection);
    let authority = x.request.authority();
    let direct = x.client == connection.peer.ip() || x.client == connection.peer.ip().to_canonical();
    lines.line(Known::XForwardedFor, "X-Forwarded-For: ", |text| {
        for value in fields.known_all(Known::XForwardedFor).filter(|value| !value.is_empty()) {
            text.extend_from_slice(value);
            text.extend_from_slice(b", ");
        }
        if !direct && !fields.has(Known::XForwardedFor) {
            let _ = write!(text, "{}, ", x.client);
        }
        text.extend_from_slice(connection.peer_text.as_bytes());
    });
    lines.line(Known::XRealIp, "X-Real-IP: ", |text| {
        if direct {
            text.extend_from_slice(connection.peer_text.as_bytes());
        } else {
            let _ = write!(text, "{}", x.client);
        }
    });
    lines.line(Known::XForwardedProto, "X-Forwarded-Proto: ", |text| {
        text.extend_from_slice(x.scheme().as_bytes())
    });
    let host = fields.known(Known::XForwardedHost).unwrap_or(authority.as_bytes());
    if !host.is_empty() {
        lines.line(Known::XForwardedHost, "X-Forwarded-Host: ", |text| push_clean(text, host));
    }
    lines.line(Known::XForwardedPort, "X-Forwarded-Port: ", |text| {
        let said = fields.known(Known::XForwardedPort);
        let port = said.or_else(|| port_of(host)).unwrap_or(if x.secure { b"443" } else { b"80" });
        push_clean(text, port);
    });
    lines.line(Known::Forwarded, "Forwarded: ", |text| forwarded(x, gateway, direct, text));
    lines.line(Known::Via, "Via: ", |text| {
        let version = if x.request.http_10 { "1.0" } else { connection.protocol.version() };
        text.extend_from_slice(version.as_bytes());
        text.push(b' ');
        push_clean(text, gateway.as_bytes());
    });
}

/// What came before us, then our own element: who spoke to us, how, asking for what host.
fn forwarded(x: &Exchange, gateway: &str, direct: bool, text: &mut Vec<u8>) {
    let fields = &x.request.fields;
    if fields.has(Known::Forwarded) {
        for value in fields.known_all(Known::Forwarded) {
            push_clean(text, value);
            text.extend_from_slice(b", ");
        }
    } else if fields.has(Known::XForwardedFor) {
        // RFC 7239 §7.4: the older list carried over. What is no address is unknown.
        for entry in fields.known_all(Known::XForwardedFor).flat_map(list) {
            push_node(text, address(entry));
            if address(entry) == Some(x.client) {
                push_origin(x, text);
            }
            text.extend_from_slice(b", ");
        }
    } else if !direct {
        push_node(text, Some(x.client));
        push_origin(x, text);
        text.extend_from_slice(b", ");
    }
    push_node(text, Some(x.connection.peer.ip().to_canonical()));
    text.extend_from_slice(if x.connection.tls.is_some() { b";proto=https" } else { b";proto=http" });
    if !x.request.authority().is_empty() {
        push_host(text, x.request.authority().as_bytes());
    }
    text.extend_from_slice(b";by=_");
    text.extend(gateway.bytes().filter(|&byte| is_obfuscated(byte)));
}

/// Scheme and host as the client used them, where a trusted proxy said so.
fn push_origin(x: &Exchange, text: &mut Vec<u8>) {
    text.extend_from_slice(b";proto=");
    text.extend_from_slice(x.scheme().as_bytes());
    if let Some(host) = x.request.fields.known(Known::XForwardedHost) {
        push_host(text, host);
    }
}

fn push_host(text: &mut Vec<u8>, host: &[u8]) {
    text.extend_from_slice(b";host=\"");
    text.extend(host.iter().filter(|&&byte| byte > b' ' && byte != 0x7f && byte != b'"' && byte != b'\\'));
    text.push(b'"');
}

fn push_node(text: &mut Vec<u8>, node: Option<IpAddr>) {
    let _ = match node {
        Some(IpAddr::V4(ip)) => write!(text, "for={ip}"),
        Some(IpAddr::V6(ip)) => write!(text, "for=\"[{ip}]\""),
        None => write!(text, "for=unknown"),
    };
}

/// Without what could end the line.
fn push_clean(text: &mut Vec<u8>, value: &[u8]) {
    text.extend(value.iter().filter(|&&byte| (byte >= b' ' || byte == b'\t') && byte != 0x7f));
}

/// The port of an authority.
fn port_of(authority: &[u8]) -> Option<&[u8]> {
    let at = authority.iter().rposition(|&byte| byte == b':')?;
    let port = authority.get(at + 1..)?;
    (!port.is_empty() && port.iter().all(u8::is_ascii_digit)).then_some(port)
}
