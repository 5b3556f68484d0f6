//! Heads going out: status and request lines, and how an answer's body is delimited for this client.

use http::StatusCode;
use portcullis_core::{Answer, Fields, Known};

/// How an answer's body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delimit {
    /// No body, whatever the fields say (HEAD, 204, 304).
    Nothing,
    /// As long as the head says.
    Length(u64),
    /// In chunks.
    Chunks,
    /// Until we close the connection (HTTP/1.0 clients).
    Close,
}

/// `HTTP/1.1 200 OK` and its line end.
pub fn status_line(out: &mut Vec<u8>, status: StatusCode) {
    if status == StatusCode::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or("Unknown").as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Decides how the body is delimited.
pub fn delimit(answer: &Answer, to_head: bool, http_10: bool) -> Delimit {
    let status = answer.status;
    if to_head
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || status.is_informational()
    {
        return Delimit::Nothing;
    }
    match answer.body.remaining() {
        Some(length) => Delimit::Length(length),
        None if http_10 => Delimit::Close,
        None => Delimit::Chunks,
    }
}

/// Writes an answer's head. Framing fields are ours alone: what the origin said of them is dropped, except the length
/// that a HEAD or 304 talks about.
pub fn answer_head(
    out: &mut Vec<u8>,
    answer: &mut Answer,
    delimit: Delimit,
    connection: Option<&str>,
    date: &str,
) {
    let fields = &mut answer.fields;
    fields.remove_known(Known::TransferEncoding);
    status_line(out, answer.status);
    let told = match delimit {
        // RFC 9110 §8.6: no Content-Length in a 204 (nor 1xx); in answers to HEAD and in 304 it is information.
        Delimit::Nothing => !answer.status.is_informational() && answer.status != StatusCode::NO_CONTENT,
        Delimit::Length(length) => {
            fields.known(Known::ContentLength).and_then(super::framing::decimal) == Some(length)
        }
        Delimit::Chunks | Delimit::Close => false,
    };
    if !told {
        fields.remove_known(Known::ContentLength);
    }
    fields.write_to(out);
    match delimit {
        Delimit::Length(length) if !told => {
            out.extend_from_slice(b"content-length: ");
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        Delimit::Chunks => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        _ => {}
    }
    if !fields.has(Known::Date) {
        field(out, "date", date);
    }
    if let Some(connection) = connection {
        field(out, "connection", connection);
    }
    out.extend_from_slice(b"\r\n");
}

/// One field line.
pub fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The request line and fields towards an endpoint, without the empty line.
pub fn request_head(
    out: &mut Vec<u8>,
    method: &str,
    base: &str,
    path: &str,
    query: Option<&str>,
    host: &str,
    fields: &Fields,
) {
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(base.as_bytes());
    out.extend_from_slice(path.as_bytes());
    if let Some(query) = query {
        out.push(b'?');
        out.extend_from_slice(query.as_bytes());
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    field(out, "host", host);
    fields.write_to(out);
}
