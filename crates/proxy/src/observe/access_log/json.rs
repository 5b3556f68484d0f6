//! One JSON object per line. What is not known is left out.

use std::{io::Write, time::SystemTime};

use portcullis_core::{Known, Protocol};

use super::{Line, escape, stamp::Stamp};

/// Writes the line.
pub(super) fn write(line: &Line<'_>, started: SystemTime, stamp: &mut Stamp, out: &mut Vec<u8>) {
    let (second, millis) = stamp.rfc3339(started);
    out.extend_from_slice(b"{\"time\":\"");
    out.extend_from_slice(second.as_bytes());
    out.extend_from_slice(&[b'.', digit(millis / 100), digit(millis / 10), digit(millis)]);
    out.extend_from_slice(b"Z\"");
    request(line, out);
    answer(line, out);
    out.extend_from_slice(b"}\n");
}

fn request(line: &Line<'_>, out: &mut Vec<u8>) {
    let (x, connection) = (line.x, &*line.x.connection);
    text(out, "method", x.request.method.as_str());
    text(out, "scheme", x.scheme());
    text(out, "host", x.request.authority());
    text(out, "path", x.request.original_path());
    if let Some(query) = x.request.original_query() {
        text(out, "query", &escape::redacted(query));
    }
    text(out, "protocol", protocol(connection.protocol));
    key(out, "client");
    // An address needs no escapes; writing to a vector cannot fail.
    let _ = write!(out, "\"{}\"", x.client);
    if x.client != connection.peer.ip() {
        text(out, "peer", &connection.peer_text);
    }
    text(out, "listener", &connection.listener);
    number(out, "connection", connection.id);
    if let Some(tls) = &connection.tls {
        text(out, "tls", tls.version);
        optional(out, "sni", tls.sni.as_deref());
    }
    optional(out, "user", x.identity().map(|identity| &*identity.subject));
    optional(out, "request_id", x.id.as_deref());
    if let Some(agent) = x.request.fields.known(Known::UserAgent) {
        text(out, "user_agent", &escape::text(agent));
    }
    if let Some(referer) = x.request.fields.known(Known::Referer) {
        text(out, "referer", &escape::redacted_url(&escape::text(referer)));
    }
}

fn answer(line: &Line<'_>, out: &mut Vec<u8>) {
    number(out, "status", line.status.into());
    optional(out, "reason", line.reason);
    optional(out, "detail", line.detail);
    optional(out, "route", Some(&*line.x.route).filter(|route| !route.is_empty()));
    optional(out, "service", line.service);
    if let Some(endpoint) = line.endpoint {
        text(out, "endpoint", endpoint);
        number(out, "attempts", line.attempts.into());
        key(out, "reused");
        out.extend_from_slice(if line.reused { b"true" } else { b"false" });
    }
    optional(out, "cache", line.cache);
    number(out, "bytes_in", line.bytes_in);
    number(out, "bytes_out", line.bytes_out);
    let mut millis = |name, duration| {
        key(out, name);
        escape::millis(duration, out);
    };
    millis("duration_ms", line.time_total);
    millis("route_ms", line.time_route);
    if line.endpoint.is_some() {
        millis("connect_ms", line.time_connect);
    }
    if !line.time_first_byte.is_zero() {
        millis("first_byte_ms", line.time_first_byte);
        millis("transfer_ms", line.time_total.saturating_sub(line.time_first_byte));
    }
}

/// `HTTP/1.1`, `HTTP/2`, `HTTP/3`.
pub(super) fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http1 => "HTTP/1.1",
        Protocol::Http2 => "HTTP/2",
        Protocol::Http3 => "HTTP/3",
    }
}

fn digit(number: u32) -> u8 {
    b'0' + (number % 10) as u8
}

fn key(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn text(out: &mut Vec<u8>, name: &str, value: &str) {
    key(out, name);
    out.push(b'"');
    escape::json(value, out);
    out.push(b'"');
}

fn optional(out: &mut Vec<u8>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        text(out, name, value);
    }
}

fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    key(out, name);
    escape::number(value, out);
}
