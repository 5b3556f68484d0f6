//! Conditions of a client's request, judged on a stored answer (RFC 9110 §13, RFC 9111 §4.3.2).

use portcullis_core::{Fields, Known};

use crate::{
    date,
    object::Object,
    validate::{is_strong, opaque},
};

/// Has the client what is stored, so that 304 will do? `If-None-Match` counts before `If-Modified-Since`.
pub fn has_it(request: &Fields, object: &Object) -> bool {
    if request.has(Known::IfNoneMatch) {
        let own = object.get("etag").next();
        return request.known_all(Known::IfNoneMatch).any(|line| names(line, own));
    }
    let Some(since) = date::single(request.known_all(Known::IfModifiedSince)).and_then(date::parse) else {
        return false;
    };
    let modified = object.get("last-modified").next().and_then(date::parse);
    // Without `Last-Modified`, the time of the answer itself counts.
    let modified = modified.or_else(|| object.get("date").next().and_then(date::parse));
    modified.unwrap_or(object.times.received) <= since
}

/// Is the stored entity tag in a list of them (weak comparison), or is the list `*`?
fn names(line: &[u8], own: Option<&[u8]>) -> bool {
    let mut rest = line;
    while !rest.is_empty() {
        let (member, after) = crate::directives::member(rest);
        let member = member.trim_ascii();
        if member == b"*" || own.is_some_and(|own| opaque(own) == opaque(member) && !member.is_empty()) {
            return true;
        }
        rest = after;
    }
    false
}

/// Does the part that a client asks for belong to what it has (`If-Range`, RFC 9110 §13.1.5)? Only strong validators say
/// so.
pub fn may_be_part(request: &Fields, object: &Object) -> bool {
    let mut lines = request.get_all("if-range");
    let Some(condition) = lines.next() else { return true };
    if lines.next().is_some() {
        return false;
    }
    let condition = condition.trim_ascii();
    if condition.starts_with(b"\"") || condition.starts_with(b"W/") {
        return object.get("etag").next().is_some_and(|own| is_strong(own) && own == condition);
    }
    let (Some(modified), Some(date)) = (object.get("last-modified").next(), object.get("date").next()) else {
        return false;
    };
    // A date is strong when the answer was made later than within its second (RFC 9110 §8.8.2.2).
    let is_strong = date::parse(date) > date::parse(modified);
    is_strong && date::parse(condition).is_some() && date::parse(condition) == date::parse(modified)
}
