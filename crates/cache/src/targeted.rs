//! Targeted cache control (RFC 9213): fields such as `CDN-Cache-Control`, which speak to one class of caches. They are
//! structured fields (RFC 9651 §3.2), and read as strictly: one mistake, and the whole field says nothing.

use portcullis_core::Fields;

use crate::directives::{Delta, Directives, Flag};

/// The directives of the first field of the list that is there, not empty and well formed (RFC 9213 §2.2).
pub fn of(fields: &Fields, names: &[Box<str>]) -> Option<Directives> {
    names.iter().find_map(|name| {
        let mut lines = fields.get_all(name).peekable();
        lines.peek()?;
        let joined = lines.collect::<Vec<_>>().join(&b", "[..]);
        let members = dictionary(&joined)?;
        (!members.is_empty()).then(|| directives(&members))
    })
}

/// A member's value, as far as caches care.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Integer(i64),
    Flag(bool),
    Text(Vec<u8>),
    /// Something well formed that no directive takes.
    Other,
}

fn directives(members: &[(&[u8], Value)]) -> Directives {
    let mut said = Directives::default();
    for (name, value) in members {
        let delta = || match value {
            Value::Integer(number) => {
                u32::try_from(*number).map_or(Delta::Invalid, |n| Delta::Given(n.min(1 << 31)))
            }
            _ => Delta::Invalid,
        };
        let is_on = *value == Value::Flag(true);
        match *name {
            b"max-age" => said.max_age = delta(),
            b"s-maxage" => said.s_maxage = delta(),
            b"stale-while-revalidate" => said.stale_while_revalidate = delta(),
            b"stale-if-error" => said.stale_if_error = delta(),
            b"no-cache" | b"private" => {
                let flag = if *name == b"private" { Flag::Private } else { Flag::NoCache };
                match value {
                    Value::Text(list) => said.qualified(flag, Some(list)),
                    Value::Flag(true) => said.set(flag),
                    _ => {}
                }
            }
            b"no-store" if is_on => said.set(Flag::NoStore),
            b"public" if is_on => said.set(Flag::Public),
            b"must-revalidate" if is_on => said.set(Flag::MustRevalidate),
            b"proxy-revalidate" if is_on => said.set(Flag::ProxyRevalidate),
            b"must-understand" if is_on => said.set(Flag::MustUnderstand),
            _ => {}
        }
    }
    said
}

/// Reads a dictionary; of members with one key, the last counts.
fn dictionary(text: &[u8]) -> Option<Vec<(&[u8], Value)>> {
    let mut reader = Reader { rest: text.trim_ascii_start() };
    let mut members: Vec<(&[u8], Value)> = Vec::new();
    while !reader.rest.is_empty() {
        let key = reader.key()?;
        let value = if reader.eat(b'=') { reader.value()? } else { Value::Flag(true) };
        reader.parameters()?;
        members.retain(|(name, _)| *name != key);
        members.push((key, value));
        reader.space();
        if reader.rest.is_empty() {
            break;
        }
        if !reader.eat(b',') {
            return None;
        }
        reader.space();
        // A comma at the end is a mistake.
        reader.rest.first()?;
    }
    Some(members)
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn eat(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Optional white space.
    fn space(&mut self) {
        while self.eat(b' ') || self.eat(b'\t') {}
    }

    fn spaces(&mut self) {
        while self.eat(b' ') {}
    }

    fn while_is(&mut self, is: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|&byte| !is(byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, &[]));
        self.rest = rest;
        taken
    }

    fn key(&mut self) -> Option<&'a [u8]> {
        let first = self.rest.first()?;
        if !first.is_ascii_lowercase() && *first != b'*' {
            return None;
        }
        Some(self.while_is(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.*".contains(&b)))
    }

    fn value(&mut self) -> Option<Value> {
        if !self.eat(b'(') {
            return self.item();
        }
        loop {
            self.spaces();
            if self.eat(b')') {
                return Some(Value::Other);
            }
            self.item()?;
            self.parameters()?;
            if !matches!(self.rest.first(), Some(b' ' | b')')) {
                return None;
            }
        }
    }

    fn item(&mut self) -> Option<Value> {
        match *self.rest.first()? {
            b'-' | b'0'..=b'9' => self.number(),
            b'"' => self.string(),
            b'A'..=b'Z' | b'a'..=b'z' | b'*' => {
                let token = self.while_is(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&b));
                Some(Value::Text(token.to_vec()))
            }
            b':' => {
                self.eat(b':');
                self.while_is(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
                self.eat(b':').then_some(Value::Other)
            }
            b'?' => {
                self.eat(b'?');
                let on = self.eat(b'1');
                (on || self.eat(b'0')).then_some(Value::Flag(on))
            }
            b'@' => {
                self.eat(b'@');
                matches!(self.number()?, Value::Integer(_)).then_some(Value::Other)
            }
            b'%' => {
                self.eat(b'%');
                self.string().map(|_| Value::Other)
            }
            _ => None,
        }
    }

    fn number(&mut self) -> Option<Value> {
        let negative = self.eat(b'-');
        let whole = self.while_is(|b| b.is_ascii_digit());
        if whole.is_empty() || whole.len() > 15 {
            return None;
        }
        if self.eat(b'.') {
            let part = self.while_is(|b| b.is_ascii_digit());
            return (whole.len() <= 12 && (1..=3).contains(&part.len())).then_some(Value::Other);
        }
        let number = whole.iter().fold(0_i64, |number, byte| number * 10 + i64::from(byte - b'0'));
        Some(Value::Integer(if negative { -number } else { number }))
    }

    fn string(&mut self) -> Option<Value> {
        if !self.eat(b'"') {
            return None;
        }
        let mut text = Vec::new();
        loop {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            match byte {
                b'"' => return Some(Value::Text(text)),
                b'\\' => {
                    let (&escaped, rest) = self.rest.split_first()?;
                    if !matches!(escaped, b'"' | b'\\') {
                        return None;
                    }
                    self.rest = rest;
                    text.push(escaped);
                }
                b' '..=b'~' => text.push(byte),
                _ => return None,
            }
        }
    }

    fn parameters(&mut self) -> Option<()> {
        while self.eat(b';') {
            self.spaces();
            self.key()?;
            if self.eat(b'=') {
                self.item()?;
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Directives> {
        let fields: Fields = [("CDN-Cache-Control", text)].into_iter().collect();
        of(&fields, &["cdn-cache-control".into()])
    }

    #[test]
    fn what_is_well_formed_counts() {
        let said = parse(
            "max-age=60;x=\"y\", private=\"a, b\";q, must-revalidate=?1, foo=(1 2.5 \"x\");p, d=@5, b=:YQ==:",
        )
        .unwrap();
        assert_eq!(said.max_age, Delta::Given(60));
        assert!(said.has(Flag::MustRevalidate) && said.fields.len() == 2);
        assert_eq!(parse("max-age=1, max-age=2").unwrap().max_age, Delta::Given(2), "the last counts");
        assert!(!parse("no-store=?0").unwrap().has(Flag::NoStore));
        assert_eq!(parse("max-age=\"60\"").unwrap().max_age, Delta::Invalid);
        assert_eq!(parse("max-age=-5").unwrap().max_age, Delta::Invalid);
    }

    #[test]
    fn one_mistake_and_it_says_nothing() {
        for bad in [
            "",
            "max-age=60,",
            "Max-Age=60",
            "max-age = 60",
            "max-age=60 no-store",
            "max-age=\"60",
            "max-age=1.2345",
            "max-age=",
            "a=\u{e9}",
            "a=?2",
            "a=(1",
            "a;=1",
            "max-age=1234567890123456",
            "a=\"\\n\"",
            "a=@1.5",
            "a=:x",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
