//! Looking for parameters in a query: pairs between `&`, `+` and percent-escapes decoded, in both name and value
//! (the `application/x-www-form-urlencoded` parser of the WHATWG URL standard). Nothing is copied unless a regular
//! expression must see a value that holds an escape.

use std::borrow::Cow;

/// The values of a parameter, still encoded. A name without `=` has the empty value.
pub(super) fn values<'a>(query: Option<&'a str>, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let pairs = query.unwrap_or_default().as_bytes().split(|&byte| byte == b'&');
    pairs.filter(|pair| !pair.is_empty()).filter_map(move |pair| {
        let (key, value) = match memchr::memchr(b'=', pair) {
            Some(at) => (pair.get(..at)?, pair.get(at + 1..)?),
            None => (pair, &b""[..]),
        };
        means(key, name).then_some(value)
    })
}

/// Does this encoded text stand for that one?
pub(super) fn means(encoded: &[u8], text: &str) -> bool {
    bytes(encoded).eq(text.bytes())
}

/// The text that this encoded one stands for.
pub(super) fn decoded(encoded: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'%', b'+', encoded).is_none() {
        return Cow::Borrowed(encoded);
    }
    Cow::Owned(bytes(encoded).collect())
}

/// The decoded bytes. A `%` that starts no escape stands for itself.
fn bytes(encoded: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = encoded;
    std::iter::from_fn(move || {
        let (&first, after) = rest.split_first()?;
        rest = after;
        Some(match first {
            b'+' => b' ',
            b'%' => match after.split_first_chunk::<2>().and_then(|(&[high, low], after)| {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                Some((u8::try_from(digit(high)? << 4 | digit(low)?).ok()?, after))
            }) {
                Some((byte, after)) => {
                    rest = after;
                    byte
                }
                None => b'%',
            },
            byte => byte,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(query: &str, name: &str) -> Vec<String> {
        values(Some(query), name).map(|value| String::from_utf8_lossy(&decoded(value)).into_owned()).collect()
    }

    #[test]
    fn values_are_found_decoded() {
        assert_eq!(found("a=1&b=2&a=3", "a"), ["1", "3"]);
        assert_eq!(found("a&a=&&=x&b=a=b", "a"), ["", ""]);
        assert_eq!(found("b=a=b", "b"), ["a=b"]);
        assert_eq!(found("%61+b=c%20d%2Be%zz%", "a b"), ["c d+e%zz%"]);
        assert_eq!(found("", "a"), Vec::<String>::new());
        assert!(values(None, "a").next().is_none());
        assert!(means(b"%C3%A9", "é") && !means(b"%C3%A", "é") && !means(b"ab", "a"));
    }
}
