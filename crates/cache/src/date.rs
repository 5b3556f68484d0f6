//! Dates of HTTP (RFC 9110 §5.6.7) as seconds since 1970.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use portcullis_core::{Fields, Known};

/// A point in time, in seconds since 1970.
pub type Seconds = u64;

/// A date in any of the three forms; `None` for anything else.
pub fn parse(text: &[u8]) -> Option<Seconds> {
    let text = std::str::from_utf8(text).ok()?;
    let time = httpdate::parse_http_date(text.trim()).ok()?;
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// The form that is sent.
pub fn format(at: Seconds) -> String {
    // Beyond the year 9999 there is no such form.
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(at.min(253_402_300_799)))
}

/// Now.
pub fn now() -> Seconds {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// `Date`, when there is exactly one that can be read.
pub fn of(fields: &Fields) -> Option<Seconds> {
    single(fields.known_all(Known::Date)).and_then(parse)
}

/// `Last-Modified`, when there is exactly one that can be read.
pub fn last_modified(fields: &Fields) -> Option<Seconds> {
    single(fields.known_all(Known::LastModified)).and_then(parse)
}

/// The only one of some values.
pub(crate) fn single<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_forms_one_time() {
        for text in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(parse(text.as_bytes()), Some(784_111_777), "{text}");
        }
        for bad in
            ["", "0", "-1", "tomorrow", "Sun, 06 Nov 1994 08:49:37 CET", "Thu, 99 Nov 1994 08:49:37 GMT"]
        {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(format(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert!(format(u64::MAX).contains("9999"));
    }
}
