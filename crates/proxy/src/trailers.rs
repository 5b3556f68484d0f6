//! Trailers of requests, whatever protocol they came by. Endpoints may merge them into the fields of the head (CGI and
//! its kin do), where they would have gone through all that a request's fields go through. So what would mean anything
//! there is refused here.

use portcullis_core::{Error, Fields, Kind, Known, forwarded};

/// Fields that frame, route, authenticate or modify a request, or describe its content (RFC 9110 §6.5.1), and those by
/// which proxies tell each other about it.
const NEVER: u64 = Known::HOP_BY_HOP
    | Known::FORWARDING
    | Known::ContentLength.bit()
    | Known::ContentEncoding.bit()
    | Known::ContentType.bit()
    | Known::Host.bit()
    | Known::Via.bit()
    | Known::Expect.bit()
    | Known::Authorization.bit()
    | Known::Cookie.bit()
    | Known::SetCookie.bit()
    | Known::Origin.bit()
    | Known::Range.bit()
    | Known::IfNoneMatch.bit()
    | Known::IfModifiedSince.bit()
    | Known::CacheControl.bit()
    | Known::XRequestId.bit()
    | Known::SecWebsocketKey.bit()
    | Known::SecWebsocketVersion.bit();

/// More of them, which no one else here needs to know.
const NEVER_EITHER: [&[u8]; 5] =
    [b"if-match", b"if-unmodified-since", b"if-range", b"max-forwards", b"pragma"];

/// The trailers as they may go on: other spellings of important fields, and names that only gateways set, are dropped.
///
/// # Errors
/// `BadRequest` for fields that are no trailers.
pub fn of_request(mut fields: Fields) -> Result<Fields, Error> {
    let is_either = |name: &[u8]| NEVER_EITHER.iter().any(|never| never.eq_ignore_ascii_case(name));
    if fields.has_any(NEVER) || fields.iter().any(|(name, _)| is_either(name)) {
        return Err(Error::because(Kind::BadRequest, "a field that may not be a trailer"));
    }
    forwarded::clean_trailers(&mut fields);
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_in_a_head_is_no_trailer() {
        for name in
            ["Content-Length", "transfer-encoding", "Host", "Cookie", "VIA", "If-Match", "X-Forwarded-For"]
        {
            assert!(of_request([(name, "1")].into_iter().collect()).is_err(), "{name}");
        }
        let fields: Fields = [
            ("X-Sum", "1"),
            ("X_Forwarded_For", "6.6.6.6"),
            ("content.length", "5"),
            ("X-Consumer-Id", "root"),
        ]
        .into_iter()
        .collect();
        let fields = of_request(fields).unwrap();
        assert_eq!(fields.iter().collect::<Vec<_>>(), [(&b"X-Sum"[..], &b"1"[..])]);
    }
}
