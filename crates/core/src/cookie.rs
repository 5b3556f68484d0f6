//! Reading cookies of a request where they stand (RFC 6265 §4.2.1), without copying.

use crate::{Fields, Known};

/// The values of a cookie, in order. Its name is compared exactly; blanks around pairs are not part of them, anything
/// else is. A request may name a cookie more than once, for other paths or domains.
pub fn cookies<'a>(fields: &'a Fields, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let pairs = fields.known_all(Known::Cookie).flat_map(|line| line.split(|&byte| byte == b';'));
    pairs.filter_map(move |pair| pair.trim_ascii().strip_prefix(name)?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_the_exact_name() {
        let fields: Fields =
            [("Cookie", "a=1; ab=2;  b=3=4 ;A=5;a =6; =7; a"), ("accept", "*/*"), ("cookie", "a=; c=\"8\"")]
                .into_iter()
                .collect();
        let all = |name: &str| -> Vec<String> {
            let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
            cookies(&fields, name.as_bytes()).map(text).collect()
        };
        assert_eq!(all("a"), ["1", ""]);
        assert_eq!(all("ab"), ["2"]);
        assert_eq!(all("b"), ["3=4"]);
        assert_eq!(all("c"), ["\"8\""]);
        assert!(all("x").is_empty());
    }
}
