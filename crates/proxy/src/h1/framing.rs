//! Where a body ends (RFC 9112 §6): the one place that reads `Content-Length` and `Transfer-Encoding`. Whatever two
//! parties could understand in two ways is refused.

use portcullis_core::{Error, Fields, Kind, Known};

/// How a body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// Until the connection closes; answers only.
    Close,
}

/// The framing of a request.
///
/// # Errors
/// 400 for both fields, several lengths, a length that is not 1*DIGIT, any coding but exactly one `chunked`, and for
/// a coding in HTTP/1.0.
pub fn of_request(fields: &Fields, http_10: bool) -> Result<Framing, Error> {
    if fields.has(Known::TransferEncoding) {
        if fields.has(Known::ContentLength) {
            return Err(Error::because(Kind::BadRequest, "both Content-Length and Transfer-Encoding"));
        }
        if http_10 {
            return Err(Error::because(Kind::BadRequest, "Transfer-Encoding in HTTP/1.0"));
        }
        return match is_chunked(fields) {
            true => Ok(Framing::Chunked),
            false => Err(Error::because(Kind::BadRequest, "Transfer-Encoding other than one \"chunked\"")),
        };
    }
    match length(fields) {
        Ok(None) => Ok(Framing::None),
        Ok(Some(length)) => Ok(Framing::Length(length)),
        Err(reason) => Err(Error::because(Kind::BadRequest, reason)),
    }
}

/// The framing of an answer. `bodyless` for answers to HEAD, and for 1xx, 204 and 304.
///
/// # Errors
/// `BadResponse` for what [`of_request`] refuses in requests.
pub fn of_answer(fields: &Fields, http_10: bool, bodyless: bool) -> Result<Framing, Error> {
    let bad = |reason: &'static str| Error::because(Kind::BadResponse, reason);
    if fields.has(Known::TransferEncoding) {
        if fields.has(Known::ContentLength) {
            return Err(bad("both Content-Length and Transfer-Encoding"));
        }
        if http_10 || !is_chunked(fields) {
            return Err(bad("Transfer-Encoding other than one \"chunked\""));
        }
        return Ok(if bodyless { Framing::None } else { Framing::Chunked });
    }
    let length = length(fields).map_err(bad)?;
    Ok(match length {
        _ if bodyless => Framing::None,
        Some(length) => Framing::Length(length),
        None => Framing::Close,
    })
}

fn is_chunked(fields: &Fields) -> bool {
    let mut values = fields.known_all(Known::TransferEncoding);
    values.next().is_some_and(|value| value.eq_ignore_ascii_case(b"chunked")) && values.next().is_none()
}

fn length(fields: &Fields) -> Result<Option<u64>, &'static str> {
    let mut values = fields.known_all(Known::ContentLength);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err("more than one Content-Length");
    }
    decimal(value).map(Some).ok_or("Content-Length is not a number")
}

/// 1*DIGIT that fits 63 bits, since many servers keep a length in a signed number; no sign, no space.
pub fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 {
        return None;
    }
    text.iter()
        .try_fold(0_u64, |number, &byte| byte.is_ascii_digit().then(|| number * 10 + u64::from(byte - b'0')))
        .filter(|number| i64::try_from(*number).is_ok())
}

/// Does the sender of these fields keep the connection open behind the message? (RFC 9112 §9.3)
pub fn keeps_open(fields: &Fields, http_10: bool) -> bool {
    if !fields.has(Known::Connection) {
        return !http_10;
    }
    let named = |token: &str| {
        fields
            .known_all(Known::Connection)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .any(|value| value.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    };
    !named("close") && (!http_10 || named("keep-alive"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(fields: &[(&str, &str)]) -> Result<Framing, Kind> {
        of_request(&fields.iter().copied().collect(), false).map_err(|e| e.kind)
    }

    #[test]
    fn requests() {
        assert_eq!(request(&[]), Ok(Framing::None));
        assert_eq!(request(&[("content-length", "12")]), Ok(Framing::Length(12)));
        assert_eq!(request(&[("Transfer-Encoding", "Chunked")]), Ok(Framing::Chunked));
        for bad in [
            &[("content-length", "1"), ("transfer-encoding", "chunked")][..],
            &[("content-length", "1"), ("content-length", "1")],
            &[("content-length", "1, 1")],
            &[("content-length", "+1")],
            &[("content-length", "")],
            &[("content-length", "0x1")],
            &[("content-length", "99999999999999999999")],
            &[("content-length", "9223372036854775808")],
            &[("transfer-encoding", "gzip, chunked")],
            &[("transfer-encoding", "chunked, chunked")],
            &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "xchunked")],
            &[("transfer-encoding", "")],
        ] {
            assert_eq!(request(bad), Err(Kind::BadRequest), "{bad:?}");
        }
        let coded: Fields = [("transfer-encoding", "chunked")].into_iter().collect();
        assert!(of_request(&coded, true).is_err());
    }

    #[test]
    fn answers() {
        let plain = Fields::new();
        assert_eq!(of_answer(&plain, false, false).unwrap(), Framing::Close);
        assert_eq!(of_answer(&plain, false, true).unwrap(), Framing::None);
        let long: Fields = [("content-length", "5")].into_iter().collect();
        assert_eq!(of_answer(&long, true, false).unwrap(), Framing::Length(5));
        assert_eq!(of_answer(&long, false, true).unwrap(), Framing::None);
    }
}
