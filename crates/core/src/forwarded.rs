//! What proxies tell each other about the client: `X-Forwarded-*`, `X-Real-IP`, `Forwarded` (RFC 7239), `Via`, and the
//! fields that end at each hop.
//!
//! [`receive`] runs when a request has arrived: it takes away what an untrusted peer may not say, under whatever
//! spelling, and reads what a trusted one says. [`send`] runs once before forwarding and writes all of those fields
//! afresh from the one result. [`strip_hop_by_hop`] serves requests and answers alike.
//!
//! Whom to believe: the connection's peer is known. If it is a trusted proxy, the entry that it wrote (the rightmost) is
//! believed; if the address in that entry is a trusted proxy too, so is the next one to the left, and so on. The first
//! address that is no trusted proxy is the client. Whatever stands further left anybody may have made up.

mod hops;
mod node;
mod write;

use std::cmp::Ordering;

use ipnet::IpNet;

use crate::{Error, Exchange, Fields, Kind, Known, forwarded::node::list};

pub use write::{Prepared, send};

/// How often a request may pass gateways of our name before it is taken for a loop. More than one, since a gateway at
/// the edge and one inside may well carry the same (default) name.
pub const MAX_PASSES: usize = 5;

/// Whom a listener believes, and what it lets in.
#[derive(Debug, Clone, Copy)]
pub struct Trust<'a> {
    /// Proxies whose entries are believed.
    pub proxies: &'a [IpNet],
    /// Fields whose names hold `_` or `.` are let through (unless they are spellings of fields that matter to us).
    pub odd_names: bool,
    /// The gateway's own name in `Via`.
    pub gateway: &'a str,
}

/// Cleans a request that has just arrived, and sets the exchange's client address and scheme from what trusted peers
/// say. The chain of a trusted peer (`X-Forwarded-For` or `Forwarded`) stays for [`send`] to carry on, so do its
/// `X-Forwarded-Host`, `-Port` and others.
///
/// # Errors
/// [`Kind::Loop`] when the request has been here too often.
pub fn receive(x: &mut Exchange, trust: &Trust<'_>) -> Result<(), Error> {
    if x.request.fields.has(Known::Via) && passes(&x.request.fields, trust.gateway) >= MAX_PASSES {
        return Err(Kind::Loop.into());
    }
    let trusted = x.connection.trusted;
    clean(&mut x.request.fields, trusted, trust.odd_names);
    if !trusted && x.request.fields.has(Known::XRequestId) {
        x.claimed_id = claimed_id(&x.request.fields);
        x.request.fields.remove_known(Known::XRequestId);
    }
    if trusted && x.request.fields.has_any(Known::FORWARDING) {
        hops::believe(x, trust.proxies);
    }
    Ok(())
}

/// The identifier that a request came with, if it came alone and is text.
fn claimed_id(fields: &Fields) -> Option<Box<str>> {
    let mut all = fields.known_all(Known::XRequestId);
    let (first, second) = (all.next()?, all.next());
    let text = std::str::from_utf8(first).ok()?;
    second.is_none().then(|| text.into())
}

/// How many entries of `Via` carry this name (RFC 9110 §7.6.3).
pub fn passes(fields: &Fields, gateway: &str) -> usize {
    let by = |entry: &[u8]| {
        let mut words = entry.split(|b| b.is_ascii_whitespace()).filter(|word| !word.is_empty());
        words.nth(1).is_some_and(|by| by.eq_ignore_ascii_case(gateway.as_bytes()))
    };
    fields.known_all(Known::Via).flat_map(list).filter(|entry| by(entry)).count()
}

/// Takes away the gateway's own fields when the peer is not trusted, other spellings of important fields and `Proxy`
/// always, and odd names unless they are allowed.
fn clean(fields: &mut Fields, trusted: bool, odd_names: bool) {
    if !trusted {
        fields.remove_set(Known::FORWARDING);
    }
    // No field of HTTP, but `HTTP_PROXY` in the environment of a CGI program, whose own requests would then go through
    // a stranger's proxy (CVE-2016-5385).
    fields.remove_known(Known::Proxy);
    let doomed = |known: Known, name: &[u8]| {
        if known != Known::Other {
            return false;
        }
        if memchr::memchr2(b'_', b'.', name).is_some() {
            return !odd_names || is_alias(name);
        }
        !trusted && is_owned(name)
    };
    if fields.iter_known().any(|(known, name, _)| doomed(known, name)) {
        fields.retain(|known, name, _| !doomed(known, name));
    }
}

/// Takes away other spellings of important fields, and names that only gateways set, from a request's trailers.
pub fn clean_trailers(fields: &mut Fields) {
    fields.retain(|known, name, _| known != Known::Other || !is_alias(name));
}

/// Beginnings of names that only gateways set.
const OWNED: [&[u8]; 4] = [b"x-forwarded-", b"x-consumer-", b"x-real-ip", b"x-scheme"];

/// Is this a name that only gateways set: a certificate's data, a consumer's name? `_` and `.` count as `-`.
fn is_owned(name: &[u8]) -> bool {
    let begins = |owned: &&[u8]| {
        let start = name.get(..owned.len()).unwrap_or_default();
        start.len() == owned.len() && start.iter().zip(*owned).all(|(&a, &b)| plain(a) == b)
    };
    matches!(name.first(), Some(b'x' | b'X')) && OWNED.iter().any(begins)
}

/// Is this, with `_` or `.` for `-`, the name of a field that means something to a gateway or to an HTTP server? CGI and
/// its descendants (WSGI, Rack, PHP) take `X_Real_Ip` and `Content_Length` for the real ones.
fn is_alias(name: &[u8]) -> bool {
    let mut buffer = [0; 32];
    let Some(normal) = buffer.get_mut(..name.len()) else { return is_owned(name) };
    normal.iter_mut().zip(name).for_each(|(to, &from)| *to = plain(from));
    Known::of(normal) != Known::Other || is_owned(name)
}

/// Are these one name for servers that take `_` and `.` for `-`, whatever the case?
pub fn is_spelling_of(name: &[u8], other: &[u8]) -> bool {
    name.len() == other.len() && name.iter().zip(other).all(|(&a, &b)| plain(a) == plain(b))
}

fn plain(byte: u8) -> u8 {
    if matches!(byte, b'_' | b'.') { b'-' } else { byte.to_ascii_lowercase() }
}

/// Removes what belongs to one hop: the standard fields and what `Connection` names (RFC 9110 §7.6.1). `Connection` may
/// not name away fields that others rely on: those of the gateway, credentials, `Host`, cookies, `Content-*`
/// (CVE-2024-45410). With `te_trailers`, a `TE` that asks for trailers leaves as `te: trailers`, without which gRPC
/// servers refuse to speak.
pub fn strip_hop_by_hop(fields: &mut Fields, te_trailers: bool) {
    if !fields.has_any(Known::HOP_BY_HOP) {
        return;
    }
    let trailers = te_trailers
        && fields.known_all(Known::Te).flat_map(list).any(|entry| entry.eq_ignore_ascii_case(b"trailers"));
    let mut named: Vec<Vec<u8>> = Vec::new();
    for token in fields.known_all(Known::Connection).flat_map(list) {
        let standard = token.is_empty() || token.eq_ignore_ascii_case(b"close");
        let known = Known::of(token);
        if !standard && known.bit() & Known::HOP_BY_HOP == 0 && !is_protected(known, token) {
            named.push(token.to_ascii_lowercase());
        }
    }
    fields.remove_set(Known::HOP_BY_HOP);
    if !named.is_empty() {
        named.sort_unstable();
        fields.retain(|_, name, _| named.binary_search_by(|token| compare(token, name)).is_err());
    }
    if trailers {
        fields.append("te", "trailers");
    }
}

/// A lower-case name against one in any case.
fn compare(lower: &[u8], name: &[u8]) -> Ordering {
    lower.iter().copied().cmp(name.iter().map(u8::to_ascii_lowercase))
}

/// May `Connection` never name this field?
fn is_protected(known: Known, name: &[u8]) -> bool {
    const PROTECTED: u64 = Known::FORWARDING
        | Known::Host.bit()
        | Known::Authorization.bit()
        | Known::Cookie.bit()
        | Known::SetCookie.bit()
        | Known::Via.bit()
        | Known::XRequestId.bit();
    (known != Known::Other && known.bit() & PROTECTED != 0)
        || is_owned(name)
        || name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"content-"))
}

#[cfg(test)]
mod tests;
