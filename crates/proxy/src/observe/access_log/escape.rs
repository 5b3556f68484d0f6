//! Text of strangers in a log: it must not end a line, start a field, or speak to a terminal; and what is secret in a
//! query does not belong there at all.

use std::borrow::Cow;

/// The longest text taken over from one header field.
pub(super) const LONGEST: usize = 1024;

/// Names of query parameters whose values are secrets more often than not.
const SECRET: [&str; 16] = [
    "access_token",
    "api_key",
    "apikey",
    "auth",
    "client_secret",
    "code",
    "id_token",
    "key",
    "passwd",
    "password",
    "refresh_token",
    "secret",
    "sig",
    "signature",
    "token",
    "x-amz-signature",
];

/// The query with the values of secret parameters replaced by `***`.
pub(super) fn redacted(query: &str) -> Cow<'_, str> {
    let is_secret = |pair: &str| {
        pair.split_once('=').is_some_and(|(name, value)| {
            !value.is_empty() && SECRET.iter().any(|secret| name.eq_ignore_ascii_case(secret))
        })
    };
    if !query.split('&').any(is_secret) {
        return Cow::Borrowed(query);
    }
    let mut out = String::with_capacity(query.len());
    for (index, pair) in query.split('&').enumerate() {
        if index > 0 {
            out.push('&');
        }
        match pair.split_once('=') {
            Some((name, _)) if is_secret(pair) => {
                out.push_str(name);
                out.push_str("=***");
            }
            _ => out.push_str(pair),
        }
    }
    Cow::Owned(out)
}

/// A URL with the secrets of its query replaced, and without a fragment.
pub(super) fn redacted_url(url: &str) -> Cow<'_, str> {
    let url = url.split_once('#').map_or(url, |(before, _)| before);
    match url.split_once('?') {
        Some((before, query)) => match redacted(query) {
            Cow::Borrowed(_) => Cow::Borrowed(url),
            Cow::Owned(query) => Cow::Owned(format!("{before}?{query}")),
        },
        None => Cow::Borrowed(url),
    }
}

/// A header value as text: at most [`LONGEST`] bytes, with U+FFFD for what is not UTF-8.
pub(super) fn text(value: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(value.get(..LONGEST).unwrap_or(value))
}

/// The inside of a JSON string. Beside what RFC 8259 §7 demands, DEL and the C1 controls are escaped, which terminals
/// obey.
pub(super) fn json(text: &str, out: &mut Vec<u8>) {
    let plain = |b: u8| matches!(b, 0x20..=0x7e) && b != b'"' && b != b'\\';
    if text.bytes().all(plain) {
        return out.extend_from_slice(text.as_bytes());
    }
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            c if c.is_control() => {
                out.extend_from_slice(b"\\u00");
                hex(c as u8, out);
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// The inside of a quoted string of the common log format, as Apache writes it: quote and backslash escaped, and `\xHH`
/// for every byte that is not printable ASCII.
pub(super) fn common(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0x20..=0x7e => out.push(byte),
            _ => {
                out.extend_from_slice(b"\\x");
                hex(byte, out);
            }
        }
    }
}

fn hex(byte: u8, out: &mut Vec<u8>) {
    for nibble in [byte >> 4, byte & 15] {
        out.push(if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 });
    }
}

/// Milliseconds with three decimals.
pub(super) fn millis(duration: std::time::Duration, out: &mut Vec<u8>) {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let mut number = itoa::Buffer::new();
    out.extend_from_slice(number.format(micros / 1000).as_bytes());
    let rest = (micros % 1000) as u16;
    out.extend_from_slice(&[
        b'.',
        b'0' + (rest / 100) as u8,
        b'0' + (rest / 10 % 10) as u8,
        b'0' + (rest % 10) as u8,
    ]);
}

/// A number.
pub(super) fn number(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn written(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_can_be_read_back_and_holds_no_control_character() {
        for original in ["plain", "a\"b\\c", "\r\n\t\0\u{1b}[2J\u{7f}\u{9b}1m", "ünïcödé \u{2028} 😀", ""]
        {
            let text = written(|out| json(original, out));
            assert!(!text.chars().any(char::is_control), "{text:?}");
            assert_eq!(serde_json::from_str::<String>(&format!("\"{text}\"")).unwrap(), original);
        }
    }

    #[test]
    fn bytes_that_are_no_text_become_replacement_characters() {
        assert_eq!(text(b"a\xffb"), "a\u{fffd}b");
        assert_eq!(text(&[b'x'; 5000]).len(), LONGEST);
    }

    #[test]
    fn common_is_printable_ascii() {
        let out = written(|out| common("a\"b\\c\n\u{1b}é".as_bytes(), out));
        assert_eq!(out, "a\\\"b\\\\c\\x0a\\x1b\\xc3\\xa9");
    }

    #[test]
    fn secrets_in_queries_are_not_logged() {
        assert_eq!(redacted("a=1&token=abc&b=&Code=x&token="), "a=1&token=***&b=&Code=***&token=");
        assert!(matches!(redacted("tokens=1&x"), Cow::Borrowed("tokens=1&x")));
        assert_eq!(redacted_url("https://a/?password=p#frag"), "https://a/?password=***");
        assert_eq!(redacted_url("https://a/#token=1"), "https://a/");
    }

    #[test]
    fn milliseconds_have_three_decimals() {
        for (micros, expected) in [(0, "0.000"), (1, "0.001"), (12_345, "12.345"), (1_000_000, "1000.000")] {
            assert_eq!(written(|out| millis(Duration::from_micros(micros), out)), expected);
        }
    }
}
