//! The pieces of forwarding fields: list entries, addresses, schemes, authorities, `Forwarded` elements.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The entries of a comma-separated list, without the blanks around them. Not for values with quoted strings.
pub(super) fn list(value: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim)
}

/// Without the blanks around it.
pub(super) fn trim(text: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = text.iter().position(|byte| !blank(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    text.get(start..end).unwrap_or_default()
}

/// An address as `X-Forwarded-For` writes it: IPv4 or IPv6, perhaps with a port, IPv6 perhaps in brackets (and always
/// when a port follows). Strict; nothing else is an address.
pub(super) fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, after) = rest.split_once(']')?;
        let port_fits = after.is_empty() || after.strip_prefix(':').is_some_and(is_port);
        return inside.parse::<Ipv6Addr>().ok().filter(|_| port_fits).map(|ip| IpAddr::V6(ip).to_canonical());
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ip.to_canonical());
    }
    let (ip, port) = text.split_once(':')?;
    ip.parse::<Ipv4Addr>().ok().filter(|_| is_port(port)).map(IpAddr::V4)
}

/// A port number, or an obfuscated port (RFC 7239 §6).
fn is_port(text: &str) -> bool {
    let digits = !text.is_empty() && text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit());
    digits && text.parse::<u16>().is_ok()
        || text.len() > 1 && text.starts_with('_') && text.bytes().all(is_obfuscated)
}

/// May stand in an obfuscated identifier (RFC 7239 §6.3).
pub(super) fn is_obfuscated(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// Is this scheme a secure one? `None` when it is no scheme of ours.
pub(super) fn is_secure(scheme: &[u8]) -> Option<bool> {
    let is = |name: &str| scheme.eq_ignore_ascii_case(name.as_bytes());
    if is("https") || is("wss") {
        Some(true)
    } else if is("http") || is("ws") {
        Some(false)
    } else {
        None
    }
}

/// Could this be a host with an optional port? Only its letters are looked at.
pub(super) fn is_authority(text: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:[]".contains(byte);
    !text.is_empty() && text.len() <= 259 && text.iter().all(fits)
}

/// Is this a port number?
pub(super) fn is_port_number(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| !text.starts_with('_') && is_port(text))
}

/// One element of `Forwarded`: what one proxy said (RFC 7239 §4).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    /// Who spoke to that proxy, when it is an address (and not `unknown` or `_hidden`).
    pub(super) node: Option<IpAddr>,
    /// `proto=`
    pub(super) secure: Option<bool>,
    /// `host=`
    pub(super) host: Option<Vec<u8>>,
}

/// The elements of a `Forwarded` field as text, in order; `None` when its quotes do not pair.
pub(super) fn elements(value: &[u8]) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    split_unquoted(value, b',', |element| found.push(element))?;
    Some(found)
}

/// Reads one element; `None` when it is malformed (a parameter twice, no `=`, a bad token, an address that is none).
pub(super) fn element(text: &[u8]) -> Option<Element> {
    let (mut read, mut seen, mut sound) = (Element::default(), Vec::new(), true);
    split_unquoted(text, b';', |pair| {
        let parsed = parameter(pair).and_then(|(name, value)| {
            let fresh = !seen.contains(&name);
            take(&mut read, &name, value).filter(|()| fresh)?;
            seen.push(name);
            Some(())
        });
        sound &= parsed.is_some();
    })?;
    sound.then_some(read)
}

/// Puts a parameter in its place. Unknown ones are ignored, as extensions must be.
fn take(element: &mut Element, name: &[u8], value: Vec<u8>) -> Option<()> {
    match name {
        b"for" => {
            let hidden = value.eq_ignore_ascii_case(b"unknown") || value.first() == Some(&b'_');
            element.node = if hidden { None } else { Some(quoted_address(&value)?) };
        }
        b"proto" => element.secure = is_secure(&value),
        b"host" => element.host = Some(value).filter(|host| is_authority(host)),
        _ => {}
    }
    Some(())
}

/// In `Forwarded`, IPv6 always stands in brackets.
fn quoted_address(text: &[u8]) -> Option<IpAddr> {
    address(text).filter(|_| text.first() == Some(&b'[') || text.iter().filter(|&&b| b == b':').count() <= 1)
}

/// `name=token` or `name="quoted"`; the name in lower case, the value without quotes.
fn parameter(pair: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let pair = trim(pair);
    let at = pair.iter().position(|&byte| byte == b'=')?;
    let (name, value) = (pair.get(..at)?, pair.get(at + 1..)?);
    if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let Some(quoted) = value.strip_prefix(b"\"") else {
        let sound = !value.is_empty() && value.iter().all(|&byte| is_token(byte));
        return sound.then(|| (name, value.to_vec()));
    };
    let inside = quoted.strip_suffix(b"\"")?;
    let (mut text, mut bytes) = (Vec::with_capacity(inside.len()), inside.iter());
    while let Some(&byte) = bytes.next() {
        match byte {
            b'\\' => text.push(*bytes.next()?),
            b'"' => return None,
            _ => text.push(byte),
        }
    }
    Some((name, text))
}

/// RFC 9110 §5.6.2
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Calls `each` with the pieces between separators that stand outside quotes; `None` when the quotes do not pair.
fn split_unquoted<'a>(text: &'a [u8], separator: u8, mut each: impl FnMut(&'a [u8])) -> Option<()> {
    let (mut start, mut at, mut quoted) = (0, 0, false);
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => quoted = !quoted,
            b'\\' if quoted => at += 1,
            _ if byte == separator && !quoted => {
                each(trim(text.get(start..at)?));
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    each(trim(text.get(start..)?));
    (!quoted && at <= text.len()).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_strict() {
        for (text, ip) in [
            ("1.2.3.4", "1.2.3.4"),
            ("1.2.3.4:80", "1.2.3.4"),
            ("::1", "::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("[::ffff:1.2.3.4]:_p", "1.2.3.4"),
        ] {
            assert_eq!(address(text.as_bytes()), Some(ip.parse().unwrap()), "{text}");
        }
        for bad in [
            "",
            "unknown",
            "_x",
            "1.2.3",
            "1.2.3.04",
            "1.2.3.4:",
            "1.2.3.4:99999",
            "1.2.3.4:+1",
            "[1.2.3.4]",
            "[::1",
            "::1]",
            "[::1]x",
            "[::1]:",
            "[::1]:x",
            "fe80::1%eth0",
            "1.2.3.4 5",
            "\"1.2.3.4\"",
            "1.2.3.4:80:80",
        ] {
            assert_eq!(address(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn elements_of_forwarded() {
        let read = |text: &str| element(text.as_bytes());
        let full =
            read("For=\"[2001:db8::1]:4711\"; proto=HTTPS;host=\"a.example:8443\";by=_gw;ext=1").unwrap();
        assert_eq!(full.node, Some("2001:db8::1".parse().unwrap()));
        assert_eq!((full.secure, full.host.as_deref()), (Some(true), Some(&b"a.example:8443"[..])));
        assert_eq!(read("for=unknown").unwrap(), Element::default());
        assert_eq!(read("for=_hidden;proto=http").unwrap().secure, Some(false));
        for bad in [
            "",
            "for",
            "for=",
            "=1",
            "for=1.2.3.4;for=1.2.3.4",
            "for=\"1.2.3.4",
            "for=[::1]",
            "for=\"::1\"",
            "for=1.2.3",
            "for=1.2.3.4;",
            "f or=1.2.3.4",
            "for=\"1.2.3.4\\\"",
            "for=\"1.2\"3.4\"",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        let value = b"for=1.2.3.4;x=\"a,b;\\\"c\", for=5.6.7.8";
        assert_eq!(elements(value).unwrap().len(), 2);
        assert_eq!(elements(b"for=\"1, for=2"), None);
        assert_eq!(elements(b"a=\"\\"), None);
    }
}
