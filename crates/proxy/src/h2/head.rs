//! Heads between `http`'s hash map, which the `h2` crate speaks, and our flat list of fields.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use portcullis_core::{Error, Fields};

use crate::streams::head::{Arriving, sent};

/// The fields of a request as they arrived. `h2` has refused what belongs to a connection, upper-case names and
/// values with control characters.
///
/// # Errors
/// `HeadersTooLarge` for more than `most` fields; `BadRequest`.
pub(super) fn request_fields(map: &HeaderMap, most: usize) -> Result<Fields, Error> {
    let mut arriving = Arriving::default();
    map.iter().try_for_each(|(name, value)| arriving.add(name.as_str(), value.as_bytes(), most))?;
    Ok(arriving.whole())
}

/// Fields as they arrived in an answer or as trailers.
pub(super) fn fields(map: &HeaderMap) -> Fields {
    let mut fields = Fields::new();
    fields.extend_from_map(map);
    fields
}

/// Fields as HTTP/2 sends them: without those of a connection, and without the known names of `left_out` (a set of
/// [`Known::bit`](portcullis_core::Known::bit)s). All values share one allocation. A field that is none in HTTP/2 is left out.
pub fn to_header_map(fields: &Fields, left_out: u64) -> HeaderMap {
    let sent = || sent(fields, left_out);
    let (count, size) = sent().fold((0, 0), |(count, size), (.., value)| (count + 1, size + value.len()));
    // Two more, for what the caller adds: date and length.
    let mut map = HeaderMap::with_capacity(count + 2);
    let mut text = Vec::with_capacity(size);
    sent().for_each(|(.., value)| text.extend_from_slice(value));
    let mut text = Bytes::from(text);
    for (_, name, value) in sent() {
        let value = text.split_to(value.len().min(text.len()));
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_maybe_shared(value)) {
            // An error means that there are more fields than a map can hold, which no limit of ours lets through.
            let _ = map.try_append(name, value);
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use portcullis_core::{Kind, Known};

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
