//! `Vary` (RFC 9110 §12.5.5): which request fields an answer depends on.

use portcullis_core::{Fields, Known};

/// Adds a name to `Vary`, unless it is there or `*` is.
pub fn add(fields: &mut Fields, name: &str) {
    let listed = |line: &[u8]| {
        line.split(|b| *b == b',')
            .map(<[u8]>::trim_ascii)
            .any(|n| n == b"*" || n.eq_ignore_ascii_case(name.as_bytes()))
    };
    if !fields.known_all(Known::Vary).any(listed) {
        fields.append("vary", name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_and_never_beside_a_star() {
        for (before, lines) in
            [("", 2), ("Accept", 2), ("accept , ORIGIN", 1), ("*", 1), ("x-origin", 2), ("Origin-Trial", 2)]
        {
            let mut fields: Fields = [("Vary", before)].into_iter().collect();
            add(&mut fields, "Origin");
            add(&mut fields, "origin");
            assert_eq!(fields.get_all("vary").count(), lines, "{before}");
        }
    }
}
