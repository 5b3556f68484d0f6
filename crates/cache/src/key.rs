//! The key: what an answer is an answer to.
//!
//! Scheme and authority are always part of it, so is the route: two routes may ask different middlewares and services
//! for one URI. Whatever else reaches the origin and could change its answer must be named by the configuration, by
//! `Vary`, or stands here on its own (what trusted proxies say about the client's side, a rewritten path).

use std::borrow::Cow;

use portcullis_core::{Exchange, Known, cookie::cookies, exchange::Identity};

use crate::policy::{KeyParts, QueryParts};

/// Fields of trusted proxies that origins build links from.
const SAID_OF_CLIENT: [Known; 3] = [Known::XForwardedHost, Known::XForwardedPort, Known::XForwardedPrefix];

/// Writes the URI part of a key: `https://example.com/users?x=1`.
pub fn write_uri(out: &mut Vec<u8>, secure: bool, authority: &str, path: &str, query: Option<&str>) {
    let (scheme, port) = if secure { ("https://", ":443") } else { ("http://", ":80") };
    out.extend_from_slice(scheme.as_bytes());
    out.extend_from_slice(authority.strip_suffix(port).unwrap_or(authority).as_bytes());
    out.extend_from_slice(path.as_bytes());
    if let Some(query) = query {
        out.push(b'?');
        out.extend_from_slice(query.as_bytes());
    }
}

/// Writes the key of a request; returns the length of its URI part.
///
/// Behind the URI and the route, each part is written with its length, so that no value can look like another part.
pub fn write_key(out: &mut Vec<u8>, x: &Exchange, parts: &KeyParts) -> usize {
    let request = &x.request;
    let start = out.len();
    let query = request.original_query();
    let query = query.map(|query| select(query, &parts.query)).filter(|query| {
        // A query of which nothing counts is none; an empty one that was sent is one.
        !query.is_empty() || !parts.query.selects()
    });
    write_uri(out, x.secure, request.authority(), request.original_path(), query.as_deref());
    let uri = out.len() - start;
    out.push(b'\n');
    out.extend_from_slice(x.route.as_bytes());
    if let Some(service) = &parts.service {
        out.extend_from_slice(b"\n%");
        out.extend_from_slice(service.as_bytes());
    }
    if request.path() != request.original_path() {
        write_part(out, b'>', request.path().as_bytes());
    }
    if request.query() != request.original_query() {
        match request.query() {
            Some(query) => write_part(out, b'?', query.as_bytes()),
            None => out.extend_from_slice(b"\n!"),
        }
    }
    for known in SAID_OF_CLIENT {
        for value in request.fields.known_all(known) {
            out.extend_from_slice(&[b'\n', b'^', known as u8]);
            write_part(out, b'=', value);
        }
    }
    write_chosen(out, x, parts);
    uri
}

/// A part, told apart from all others by its kind and length.
fn write_part(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    out.extend_from_slice(&[b'\n', kind]);
    out.extend_from_slice(&(value.len() as u32).to_le_bytes());
    out.extend_from_slice(value);
}

/// What the configuration names.
fn write_chosen(out: &mut Vec<u8>, x: &Exchange, parts: &KeyParts) {
    let fields = &x.request.fields;
    if parts.identity {
        out.extend_from_slice(b"\n@");
        fields.known_all(Known::Authorization).for_each(|value| write_part(out, b'=', value));
        let parts = x.identity().into_iter().flat_map(Identity::parts);
        parts.for_each(|part| write_part(out, b'-', part.as_bytes()));
    }
    for name in &parts.headers {
        out.extend_from_slice(b"\n#");
        fields.get_all(name).for_each(|value| write_part(out, b'=', value));
    }
    for name in &parts.cookies {
        out.extend_from_slice(b"\n$");
        cookies(fields, name.as_bytes()).for_each(|value| write_part(out, b'=', value));
    }
    for name in &parts.claims {
        write_part(out, b'&', name.as_bytes());
        if let Some(value) = x.identity().and_then(|identity| identity.claim(name)) {
            write_part(out, b'=', value.as_bytes());
        }
    }
}

/// The parameters that count.
fn select<'a>(query: &'a str, parts: &QueryParts) -> Cow<'a, str> {
    match parts {
        QueryParts::All => Cow::Borrowed(query),
        QueryParts::Only { exact, loose: loosely } => {
            let counts = |parameter: &&str| {
                let name = decoded(name_of(parameter));
                exact.iter().any(|pattern| pattern.matches(&name)) || {
                    let name = loose(&name);
                    loosely.iter().any(|pattern| pattern.matches(&name))
                }
            };
            let hides = |parameter: &str| parameter.contains(';');
            let mut kept: Vec<&str> = query.split('&').filter(|each| counts(each) || hides(each)).collect();
            // By name alone, however it is spelled: of several values of one parameter the order may matter. What is hidden
            // behind a `;`, which some origins read as `&`, has no name that could be sorted by.
            if !kept.iter().any(|each| hides(each)) {
                kept.sort_by_cached_key(|each| loose(&decoded(name_of(each))).into_owned());
            }
            Cow::Owned(kept.join("&"))
        }
        QueryParts::Without(patterns) => {
            let named = |parameter: &str| {
                let name = decoded(name_of(parameter));
                patterns.iter().any(|pattern| pattern.matches(&name))
            };
            let kept: Vec<&str> =
                query.split('&').filter(|each| !named(each) || each.contains(';')).collect();
            Cow::Owned(kept.join("&"))
        }
    }
}

fn name_of(parameter: &str) -> &str {
    parameter.split_once('=').map_or(parameter, |(name, _)| name)
}

/// A name as the loosest of frameworks reads it: `id[]`, `id[0]`, `[id]`, `ID`, `+id` are all `id`, and `user.id` is
/// `user_id`.
pub(crate) fn loose(name: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| !(byte.is_ascii_uppercase() || b"[]+. \0".contains(&byte));
    if name.bytes().all(is_plain) {
        return Cow::Borrowed(name);
    }
    let name = name.replace('+', " ").trim_start_matches([' ', '[']).to_ascii_lowercase();
    let end = name.find(['[', ']', '\0']).unwrap_or(name.len());
    let name = name.get(..end).unwrap_or_default().trim_end();
    Cow::Owned(name.replace(['.', ' '], "_"))
}

/// A name as the origin reads it: another spelling must not be another parameter.
fn decoded(name: &str) -> Cow<'_, str> {
    if !name.contains('%') {
        return Cow::Borrowed(name);
    }
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match digits.filter(|_| byte == b'%').and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(value) => {
                bytes.push(value);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use http::Method;
    use portcullis_core::Request;

    use super::*;
    use crate::pattern::Pattern;

    fn key(target: &str, fields: &[(&str, &str)], parts: &KeyParts) -> String {
        let mut request = Request::with_fields(Method::GET, fields.iter().copied().collect());
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        request.arrive(path, query);
        request.set_authority("Example.com:80");
        let mut out = Vec::new();
        write_key(&mut out, &Exchange::for_test(request), parts);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn scheme_and_authority_always() {
        assert_eq!(key("/a?b=1", &[], &KeyParts::default()), "http://example.com/a?b=1\n");
        assert_ne!(key("/a?", &[], &KeyParts::default()), key("/a", &[], &KeyParts::default()));
    }

    #[test]
    fn chosen_parameters() {
        let only = KeyParts {
            query: QueryParts::only(vec![Pattern::new("a"), Pattern::new("b")]),
            ..KeyParts::default()
        };
        assert_eq!(key("/x?b=2&c=3&a=1", &[], &only), "http://example.com/x?a=1&b=2\n");
        assert_eq!(key("/x?c=3", &[], &only), key("/x", &[], &only));
        assert!(key("/x?%61=1", &[], &only).contains("%61=1"), "another spelling of a name counts");
        for other in ["/x?a[]=9", "/x?a%5B%5D=9", "/x?A=9", "/x?+a=9", "/x?[a]=9", "/x?a%00z=9", "/x?a[0]=9"]
        {
            assert_ne!(key(other, &[], &only), key("/x", &[], &only), "{other}: some take it for a");
        }
        assert_ne!(key("/x?a=1&a[]=2", &[], &only), key("/x?a[]=2&a=1", &[], &only), "the last may win");
        assert_ne!(key("/x?a=1&%61=2", &[], &only), key("/x?%61=2&a=1", &[], &only));
        let dotted =
            KeyParts { query: QueryParts::only(vec![Pattern::new("User_Id")]), ..KeyParts::default() };
        assert_ne!(key("/x?user.id=1", &[], &dotted), key("/x", &[], &dotted));
        let without =
            KeyParts { query: QueryParts::Without(vec![Pattern::new("utm_*")]), ..KeyParts::default() };
        assert_eq!(key("/x?utm_source=a&b=2", &[], &without), "http://example.com/x?b=2\n");
        assert!(key("/x?utm_a=1;b=evil", &[], &without).contains("evil"), "cloaked parameters count");
    }

    #[test]
    fn named_parts_cannot_be_mixed_up() {
        let parts = KeyParts {
            headers: vec!["x-a".into(), "x-b".into()],
            cookies: vec!["sid".into()],
            ..KeyParts::default()
        };
        let keys = [
            key("/", &[("X-A", "1")], &parts),
            key("/", &[("X-B", "1")], &parts),
            key("/", &[("X-A", "1"), ("X-A", "")], &parts),
            key("/", &[("X-A", "1:2")], &parts),
            key("/", &[("X-A", "1"), ("X-A", "2")], &parts),
            key("/", &[("X-A", "1\n#")], &parts),
            key("/", &[("X-A", "1"), ("Cookie", "sid=1; sid=2")], &parts),
            key("/", &[("X-A", "1"), ("Cookie", "sid=1:2")], &parts),
            key("/", &[("Cookie", "x=2; sid=1")], &parts),
            key("/", &[("Cookie", "xsid=1")], &parts),
            key("/", &[("X-Forwarded-Host", "evil")], &parts),
        ];
        let different: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len(), "{keys:?}");
    }
}
