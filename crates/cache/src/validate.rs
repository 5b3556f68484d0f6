//! Asking the origin whether a stored answer is still right, and what its reply changes (RFC 9111 §4.3).

use portcullis_core::{Fields, Known};

use crate::{date, object::Object};

/// Fields by which a client makes its request conditional, or asks for a part.
const CONDITIONS: [&str; 3] = ["if-match", "if-unmodified-since", "if-range"];

/// Makes the request one for the whole answer, whatever the client has already.
pub fn ask_for_all(fields: &mut Fields) {
    const SET: u64 = Known::IfNoneMatch.bit() | Known::IfModifiedSince.bit() | Known::Range.bit();
    fields.remove_set(SET);
    for name in CONDITIONS {
        fields.remove(name);
    }
}

/// Makes the request one for what is new since the stored answer; false when that has no validator.
pub fn ask_for_news(fields: &mut Fields, object: &Object) -> bool {
    ask_for_all(fields);
    let etag = object.get("etag").next();
    let modified = object.get("last-modified").next();
    if let Some(etag) = etag {
        fields.append("if-none-match", etag);
    }
    if let Some(modified) = modified {
        fields.append("if-modified-since", modified);
    }
    etag.is_some() || modified.is_some()
}

/// Does a 304 speak of this stored answer (RFC 9111 §4.3.4)?
pub fn is_about(object: &Object, reply: &Fields) -> bool {
    if let Some(etag) = reply.known(Known::Etag) {
        return match object.get("etag").next() {
            Some(own) if is_strong(etag) => own == etag,
            Some(own) => opaque(own) == opaque(etag),
            None => false,
        };
    }
    match (reply.known(Known::LastModified), object.get("last-modified").next()) {
        (Some(new), Some(own)) => date::parse(new) == date::parse(own),
        _ => true,
    }
}

/// The stored answer's fields with those of a 304 in their place (RFC 9111 §3.2). What describes the stored body stays.
pub fn freshened(object: &Object, reply: &Fields) -> Fields {
    let mut fields = object.fields();
    let stays = |name: &[u8]| {
        STAYS.iter().any(|stays| stays.as_bytes().eq_ignore_ascii_case(name))
            || name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"content-"))
                && !name.eq_ignore_ascii_case(b"content-location")
    };
    let new = || reply.iter().filter(|(name, _)| !stays(name));
    for (name, _) in new() {
        fields.remove_classified(Known::of(name), name);
    }
    for (name, value) in new() {
        if let Ok(name) = std::str::from_utf8(name) {
            fields.append(name, value);
        }
    }
    if !reply.has(Known::Age) {
        fields.remove_known(Known::Age);
    }
    fields
}

/// Fields of a 304 that do not replace those that are stored, beside `Content-*`.
const STAYS: [&str; 2] = ["transfer-encoding", "connection"];

/// An answer to HEAD says whether the stored answer to GET still is what it was (RFC 9111 §4.3.5).
pub fn head_agrees(object: &Object, reply: &Fields) -> bool {
    let same = |name| match (reply.get(name), object.get(name).next()) {
        (Some(new), Some(own)) => new == own,
        (Some(_), None) => name == "content-length",
        _ => true,
    };
    same("etag") && same("last-modified") && same("content-length")
}

/// Is an entity tag strong (RFC 9110 §8.8.3)?
pub fn is_strong(etag: &[u8]) -> bool {
    !etag.starts_with(b"W/")
}

/// What weak comparison looks at.
pub fn opaque(etag: &[u8]) -> &[u8] {
    etag.strip_prefix(b"W/").unwrap_or(etag)
}
