//! A field prepared when the configuration is compiled, so that adding it to a message is one copy.

use crate::{fields::Span, known::Known};

/// A field as it goes out, `name: value CRLF`, with its name classified.
#[derive(Clone, PartialEq, Eq)]
pub struct Line {
    text: Box<str>,
    name: Span,
    value: Span,
    known: Known,
}

impl Line {
    /// Prepares a field. `None` when the name is not a token (RFC 9110 §5.6.2), or the value holds a control character
    /// or begins or ends with white space (§5.5).
    pub fn new(name: &str, value: &str) -> Option<Line> {
        if !is_token(name) || !is_value(value) {
            return None;
        }
        let text = format!("{name}: {value}\r\n").into_boxed_str();
        let name_span = Span { start: 0, end: name.len() as u32 };
        let value_span = Span { start: name_span.end + 2, end: name_span.end + 2 + value.len() as u32 };
        Some(Line { text, name: name_span, value: value_span, known: Known::of(name.as_bytes()) })
    }

    /// The name as written.
    pub fn name(&self) -> &str {
        self.text.get(..self.name.end as usize).unwrap_or_default()
    }

    /// The value.
    pub fn value(&self) -> &str {
        self.text.get(self.value.start as usize..self.value.end as usize).unwrap_or_default()
    }

    /// The name, classified.
    pub fn known(&self) -> Known {
        self.known
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    pub(crate) fn spans(&self) -> (Span, Span) {
        (self.name, self.value)
    }
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text.trim_end())
    }
}

/// Is this a token (RFC 9110 §5.6.2): a method, a field name?
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// May this stand as a field's value (RFC 9110 §5.5)? Text beyond ASCII may, as opaque bytes.
pub fn is_value(text: &str) -> bool {
    let padded = |c: Option<char>| matches!(c, Some(' ' | '\t'));
    !padded(text.chars().next())
        && !padded(text.chars().next_back())
        && text.bytes().all(|b| b == b'\t' || (b >= b' ' && b != 0x7f))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fields;

    #[test]
    fn a_line_is_what_append_would_have_written() {
        let mut plain: Fields = [("X-Request-Id", "old"), ("A", "1")].into_iter().collect();
        let mut lined = plain.clone();
        plain.set("X-Request-Id", "new");
        plain.set("a", "");
        lined.set_line(&Line::new("X-Request-Id", "new").unwrap());
        lined.set_line(&Line::new("a", "").unwrap());
        let written = |fields: &Fields| {
            let mut out = Vec::new();
            fields.write_to(&mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(&lined), written(&plain));
        assert_eq!(written(&lined), "X-Request-Id: new\r\na: \r\n");
        assert_eq!(lined.known_str(Known::XRequestId), Some("new"));
    }

    #[test]
    fn what_could_break_a_message_is_no_line() {
        for (name, value) in
            [("", "x"), ("a b", "x"), ("a:", "x"), ("a", "x\r\ny: z"), ("a", " x"), ("a", "x\t"), ("a", "\0")]
        {
            assert!(Line::new(name, value).is_none(), "{name:?}: {value:?}");
        }
        assert!(Line::new("a", "tab\tin and ümlaut").is_some());
    }
}
