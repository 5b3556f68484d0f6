//! `Cache-Control` (RFC 9111 §5.2), of requests and of answers.

use portcullis_core::{Fields, Known};

/// A directive's number of seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Delta {
    /// Not said.
    #[default]
    Absent,
    /// So many seconds.
    Given(u32),
    /// Said, but not as a number, or twice and differently: whoever asks must assume the worst (RFC 9111 §4.2.1).
    Invalid,
}

impl Delta {
    /// The number, when there is one.
    pub fn given(self) -> Option<u32> {
        match self {
            Delta::Given(seconds) => Some(seconds),
            _ => None,
        }
    }

    /// Said, well or badly.
    pub fn is_said(self) -> bool {
        self != Delta::Absent
    }

    fn say(&mut self, new: Delta) {
        *self = if *self == Delta::Absent || *self == new { new } else { Delta::Invalid };
    }
}

/// Directives that are there or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
#[allow(missing_docs)] // each is the directive it says
pub enum Flag {
    NoStore = 1,
    NoCache = 1 << 1,
    Private = 1 << 2,
    Public = 1 << 3,
    MustRevalidate = 1 << 4,
    ProxyRevalidate = 1 << 5,
    MustUnderstand = 1 << 6,
    OnlyIfCached = 1 << 7,
}

/// What one message says to caches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directives {
    flags: u16,
    /// `max-age`
    pub max_age: Delta,
    /// `s-maxage`
    pub s_maxage: Delta,
    /// `min-fresh` (requests)
    pub min_fresh: Delta,
    /// `max-stale` (requests); without a value it is unbounded.
    pub max_stale: Delta,
    /// `stale-while-revalidate` (RFC 5861 §3)
    pub stale_while_revalidate: Delta,
    /// `stale-if-error` (RFC 5861 §4)
    pub stale_if_error: Delta,
    /// Fields named by `no-cache="…"` and `private="…"`, in lower case: they are not stored, the rest may be.
    pub fields: Vec<Box<str>>,
}

impl Directives {
    /// What `Cache-Control` says.
    pub fn of(fields: &Fields) -> Directives {
        Directives::parse(fields.known_all(Known::CacheControl))
    }

    /// What a request says: without `Cache-Control`, `Pragma: no-cache` counts (RFC 9111 §5.4).
    pub fn of_request(fields: &Fields) -> Directives {
        if fields.has(Known::CacheControl) {
            return Directives::of(fields);
        }
        let mut directives = Directives::default();
        let is_no_cache = |value: &[u8]| {
            value.split(|&byte| byte == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(b"no-cache"))
        };
        if fields.get_all("pragma").any(is_no_cache) {
            directives.set(Flag::NoCache);
        }
        directives
    }

    /// Reads field lines.
    pub fn parse<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Directives {
        let mut directives = Directives::default();
        for line in lines {
            let mut rest = line;
            while !rest.is_empty() {
                let (member, after) = member(rest);
                directives.take(member);
                rest = after;
            }
        }
        directives
    }

    /// Is it said?
    pub fn has(&self, flag: Flag) -> bool {
        self.flags & flag as u16 != 0
    }

    /// Says it.
    pub fn set(&mut self, flag: Flag) {
        self.flags |= flag as u16;
    }

    /// Nothing said at all.
    pub fn is_empty(&self) -> bool {
        *self == Directives::default()
    }

    fn take(&mut self, member: &[u8]) {
        let (name, value) = match memchr::memchr(b'=', member) {
            Some(at) => (member.get(..at).unwrap_or_default(), member.get(at + 1..)),
            None => (member, None),
        };
        let name = name.trim_ascii();
        let value = value.map(unquote);
        self.say(&name.to_ascii_lowercase(), value.as_deref());
    }

    /// One directive, by its name in lower case.
    fn say(&mut self, name: &[u8], value: Option<&[u8]>) {
        let delta = || value.map_or(Delta::Invalid, delta);
        match name {
            b"max-age" => self.max_age.say(delta()),
            b"s-maxage" => self.s_maxage.say(delta()),
            b"min-fresh" => self.min_fresh.say(delta()),
            b"max-stale" => {
                self.max_stale.say(value.map_or(Delta::Given(u32::MAX), crate::directives::delta))
            }
            b"stale-while-revalidate" => self.stale_while_revalidate.say(delta()),
            b"stale-if-error" => self.stale_if_error.say(delta()),
            b"no-store" => self.set(Flag::NoStore),
            b"no-cache" => self.qualified(Flag::NoCache, value),
            b"private" => self.qualified(Flag::Private, value),
            b"public" => self.set(Flag::Public),
            b"must-revalidate" => self.set(Flag::MustRevalidate),
            b"proxy-revalidate" => self.set(Flag::ProxyRevalidate),
            b"must-understand" => self.set(Flag::MustUnderstand),
            b"only-if-cached" => self.set(Flag::OnlyIfCached),
            _ => {}
        }
    }

    /// `no-cache` and `private`: alone for the whole answer, with a list for those fields (RFC 9111 §5.2.2.4, §5.2.2.7).
    /// A list in which something is no field's name counts for the whole.
    pub(crate) fn qualified(&mut self, flag: Flag, value: Option<&[u8]>) {
        let Some(value) = value.and_then(|value| std::str::from_utf8(value).ok()) else {
            return self.set(flag);
        };
        let names: Vec<&str> = value.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        if names.is_empty() || !names.iter().all(|name| portcullis_core::line::is_token(name)) {
            return self.set(flag);
        }
        self.fields.extend(names.iter().map(|name| name.to_ascii_lowercase().into_boxed_str()));
    }
}

/// The first member of a list and what follows its comma. Commas in quotes do not count; a quote that is not closed
/// takes the rest.
pub(crate) fn member(list: &[u8]) -> (&[u8], &[u8]) {
    let (mut quoted, mut escaped) = (false, false);
    for (at, &byte) in list.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                return (list.get(..at).unwrap_or_default(), list.get(at + 1..).unwrap_or_default());
            }
            _ => {}
        }
    }
    (list, &[])
}

/// A token as it is, or what stands in quotes.
fn unquote(value: &[u8]) -> Vec<u8> {
    let value = value.trim_ascii_end();
    let Some(inner) = value.strip_prefix(b"\"") else { return value.to_vec() };
    let Some(inner) = inner.strip_suffix(b"\"") else { return b"\"".to_vec() };
    let mut plain = Vec::with_capacity(inner.len());
    let mut escaped = false;
    for &byte in inner {
        if byte == b'\\' && !escaped {
            escaped = true;
            continue;
        }
        escaped = false;
        plain.push(byte);
    }
    plain
}

/// `delta-seconds` (RFC 9111 §1.2.2): digits; what is too large is 2³¹.
fn delta(text: &[u8]) -> Delta {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Delta::Invalid;
    }
    const MOST: u32 = 1 << 31;
    let number = text.iter().fold(0_u32, |number, byte| {
        number.saturating_mul(10).saturating_add(u32::from(byte - b'0')).min(MOST)
    });
    Delta::Given(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Directives {
        Directives::parse([text.as_bytes()].into_iter())
    }

    #[test]
    fn numbers() {
        assert_eq!(parse("max-age=10").max_age, Delta::Given(10));
        assert_eq!(parse("MAX-AGE=\"10\"").max_age, Delta::Given(10));
        assert_eq!(parse("max-age=99999999999").max_age, Delta::Given(1 << 31));
        assert_eq!(parse("max-age=10, max-age=10").max_age, Delta::Given(10));
        for bad in [
            "max-age",
            "max-age=",
            "max-age=-1",
            "max-age=1.5",
            "max-age=1a",
            "max-age=1, max-age=2",
            "max-age= 1",
        ] {
            assert_eq!(parse(bad).max_age, Delta::Invalid, "{bad}");
        }
        assert_eq!(parse("max-stale").max_stale, Delta::Given(u32::MAX));
    }

    #[test]
    fn lists_of_fields() {
        let both = parse("private=\"Set-Cookie, X-A\", no-cache=x-b, max-age=5");
        assert_eq!(both.fields.iter().map(|f| &**f).collect::<Vec<_>>(), ["set-cookie", "x-a", "x-b"]);
        assert!(!both.has(Flag::Private) && !both.has(Flag::NoCache));
        assert_eq!(both.max_age, Delta::Given(5));
        for whole in ["private", "private=\"\"", "private=\"a b\"", "private=\"x", "private=\"é\""] {
            assert!(parse(whole).has(Flag::Private), "{whole}");
        }
    }

    #[test]
    fn commas_in_quotes_and_unknown_directives() {
        let odd = parse("foo=\"a, no-store\", , public,bar;no-store");
        assert!(odd.has(Flag::Public) && !odd.has(Flag::NoStore));
        assert!(parse("foo=\"\\\", no-store\"").is_empty());
    }
}
