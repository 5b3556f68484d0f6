//! Heads between `http`'s hash map, which the `h2` crate speaks, and our flat list of fields.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use portcullis_core::{Error, Fields, Kind, Known};

use crate::h1::framing;

/// Fields of a connection, which HTTP/2 has no place for (RFC 9113 §8.2.2).
const OF_CONNECTION: u64 = Known::Connection.bit()
    | Known::KeepAlive.bit()
    | Known::ProxyConnection.bit()
    | Known::TransferEncoding.bit()
    | Known::Upgrade.bit()
    | Known::Http2Settings.bit();

/// The fields of a request as they arrived. `h2` has refused what belongs to a connection, upper-case names and
/// values with control characters; the rest of RFC 9113 §8.2.1 and what HTTP/1.1 endpoints could read differently is
/// refused here.
///
/// # Errors
/// `HeadersTooLarge` for more than `most` fields; `BadRequest`.
pub(super) fn request_fields(map: &HeaderMap, most: usize) -> Result<Fields, Error> {
    if map.len() > most {
        return Err(Error::because(Kind::HeadersTooLarge, "too many fields"));
    }
    let mut lengths = map.get_all(header::CONTENT_LENGTH).iter();
    let is_number = |value: &HeaderValue| framing::decimal(value.as_bytes()).is_some();
    if lengths.next().is_some_and(|length| !is_number(length)) || lengths.next().is_some() {
        return Err(Error::because(Kind::BadRequest, "content-length"));
    }
    let mut fields = Fields::new();
    for (name, value) in map {
        let value = value.as_bytes();
        let is_padded = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        if is_padded(value.first()) || is_padded(value.last()) {
            return Err(Error::because(Kind::BadRequest, "white space around a field value"));
        }
        if *name != header::COOKIE {
            fields.append(name.as_str(), value);
        }
    }
    join_cookies(map, &mut fields);
    Ok(fields)
}

/// A cookie may come in crumbs, one field each, for better compression; nobody behind us knows of that
/// (RFC 9113 §8.2.3).
fn join_cookies(map: &HeaderMap, fields: &mut Fields) {
    let mut crumbs = map.get_all(header::COOKIE).iter();
    let Some(first) = crumbs.next() else { return };
    let Some(second) = crumbs.next() else {
        fields.append("cookie", first.as_bytes());
        return;
    };
    let mut whole = [first.as_bytes(), b"; ", second.as_bytes()].concat();
    for crumb in crumbs {
        whole.extend_from_slice(b"; ");
        whole.extend_from_slice(crumb.as_bytes());
    }
    fields.append("cookie", whole);
}

/// Fields as they arrived in an answer or as trailers.
pub(super) fn fields(map: &HeaderMap) -> Fields {
    let mut fields = Fields::new();
    fields.extend_from_map(map);
    fields
}

/// Fields as HTTP/2 sends them: without those of a connection, and without the known names of `left_out` (a set of
/// [`Known::bit`]s). All values share one allocation. A field that is none in HTTP/2 is left out.
pub fn to_header_map(fields: &Fields, left_out: u64) -> HeaderMap {
    let left_out = (left_out | OF_CONNECTION) & !Known::Other.bit();
    let sent = || fields.iter_known().filter(|(known, ..)| known.bit() & left_out == 0);
    let (count, size) = sent().fold((0, 0), |(count, size), (.., value)| (count + 1, size + value.len()));
    // Two more, for what the caller adds: date and length.
    let mut map = HeaderMap::with_capacity(count + 2);
    let mut text = Vec::with_capacity(size);
    sent().for_each(|(.., value)| text.extend_from_slice(value.trim_ascii()));
    let mut text = Bytes::from(text);
    for (known, name, value) in sent() {
        let value = text.split_to(value.trim_ascii().len().min(text.len()));
        if known == Known::Te && !value.eq_ignore_ascii_case(b"trailers") {
            continue;
        }
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_maybe_shared(value)) {
            // An error means that there are more fields than a map can hold, which no limit of ours lets through.
            let _ = map.try_append(name, value);
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn cookie_crumbs_become_one() {
        let fields =
            request_fields(&map(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")]), 9);
        let fields = fields.unwrap();
        assert_eq!(fields.get_str("cookie"), Some("a=1; b=2; c=3"));
        assert_eq!(fields.len(), 2);
    }

    #[test]
    fn doubtful_fields_are_refused() {
        for bad in [
            &[("x", " padded")][..],
            &[("x", "padded\t")],
            &[("content-length", "1"), ("content-length", "1")],
            &[("content-length", "")],
            &[("content-length", "+1")],
            &[("content-length", "9223372036854775808")],
        ] {
            assert_eq!(request_fields(&map(bad), 9).unwrap_err().kind, Kind::BadRequest, "{bad:?}");
        }
        let many = map(&[("a", "1"), ("b", "2"), ("c", "3")]);
        assert_eq!(request_fields(&many, 2).unwrap_err().kind, Kind::HeadersTooLarge);
        assert!(request_fields(&many, 3).is_ok());
    }

    #[test]
    fn what_belongs_to_a_connection_stays_behind() {
        let fields: Fields = [
            ("Connection", "close"),
            ("Keep-Alive", "1"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "x"),
            ("Proxy-Connection", "x"),
            ("TE", "trailers, deflate"),
            ("Content-Length", "3"),
            ("Trailer", "x-sum"),
            ("X-Kept", " b "),
            ("x-kept", "c"),
        ]
        .into_iter()
        .collect();
        let map = to_header_map(&fields, Known::ContentLength.bit());
        let kept: Vec<_> = map.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(kept, [("trailer", "x-sum"), ("x-kept", "b"), ("x-kept", "c")]);
        assert_eq!(to_header_map(&[("te", "trailers")].into_iter().collect(), 0).len(), 1);
    }
}
