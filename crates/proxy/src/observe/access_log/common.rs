//! The common log format with referer and user agent, followed by what Traefik adds to it, so that programs that read
//! Traefik's log (GoAccess calls it TRAEFIKCLF) read this one: reason, route, endpoint and milliseconds.

use std::{io::Write, time::SystemTime};

use portcullis_core::Known;

use super::{Line, escape, json::protocol, stamp::Stamp};

/// Writes the line.
pub(super) fn write(line: &Line<'_>, started: SystemTime, stamp: &mut Stamp, out: &mut Vec<u8>) {
    let x = line.x;
    // Writing to a vector cannot fail.
    let _ = write!(out, "{} - ", x.client);
    user(x.identity().map(|identity| &*identity.subject), out);
    let _ = write!(out, " [{}] \"{} ", stamp.common(started), x.request.method);
    escape::common(x.request.original_path().as_bytes(), out);
    if let Some(query) = x.request.original_query() {
        out.push(b'?');
        escape::common(escape::redacted(query).as_bytes(), out);
    }
    out.push(b' ');
    out.extend_from_slice(protocol(x.connection.protocol).as_bytes());
    out.extend_from_slice(b"\" ");
    escape::number(line.status.into(), out);
    out.push(b' ');
    escape::number(line.bytes_out, out);
    let field = |known| x.request.fields.known(known).map(|value| escape::text(value));
    let referer = field(Known::Referer);
    quoted(referer.as_deref().map(escape::redacted_url).as_deref(), out);
    quoted(field(Known::UserAgent).as_deref(), out);
    out.push(b' ');
    out.extend_from_slice(line.reason.unwrap_or("-").as_bytes());
    quoted(Some(&*x.route).filter(|route| !route.is_empty()), out);
    quoted(line.endpoint, out);
    out.push(b' ');
    escape::number(u64::try_from(line.time_total.as_millis()).unwrap_or(u64::MAX), out);
    out.extend_from_slice(b"ms\n");
}

/// One word, whatever stands in it.
fn user(name: Option<&str>, out: &mut Vec<u8>) {
    let name = name.filter(|name| !name.is_empty()).unwrap_or("-");
    for (at, word) in name.split(' ').enumerate() {
        out.extend_from_slice(if at > 0 { b"\\x20" } else { b"" });
        escape::common(word.as_bytes(), out);
    }
}

fn quoted(text: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(b" \"");
    escape::common(text.unwrap_or("-").as_bytes(), out);
    out.push(b'"');
}
