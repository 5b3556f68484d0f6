//! What an unsafe request makes invalid (RFC 9111 §4.4).

use http::StatusCode;
use portcullis_core::{Exchange, Fields, Known, path};

use crate::{ask::is_unsafe, key::write_uri};

/// URIs (as they stand in keys) whose stored answers may not be used any longer without asking: that of the request, and
/// those that the answer names in `Location` and `Content-Location`, where they have the same origin. Another origin's
/// are not ours to throw away: any server could empty the cache of all the others.
pub fn targets(x: &Exchange, status: StatusCode, fields: &Fields) -> Vec<Vec<u8>> {
    if !is_unsafe(&x.request.method) || !(status.is_success() || status.is_redirection()) {
        return Vec::new();
    }
    let request = &x.request;
    let mut all = vec![uri(x, request.original_path(), request.original_query())];
    let located = fields.known_all(Known::Location).chain(fields.get_all("content-location"));
    for value in located {
        let Some(target) = std::str::from_utf8(value).ok().and_then(|text| resolve(x, text.trim())) else {
            continue;
        };
        if !all.contains(&target) {
            all.push(target);
        }
    }
    all
}

fn uri(x: &Exchange, path: &str, query: Option<&str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    write_uri(&mut out, x.secure, x.request.authority(), path, query);
    out
}

/// A reference of the same origin, against the request's URI (RFC 3986 §5).
fn resolve(x: &Exchange, reference: &str) -> Option<Vec<u8>> {
    let reference = reference.split('#').next().unwrap_or_default();
    let scheme = if x.secure { "https:" } else { "http:" };
    let own = reference.get(..scheme.len()).filter(|start| start.eq_ignore_ascii_case(scheme));
    let rest = match own {
        Some(own) => reference.get(own.len()..)?,
        None => reference,
    };
    let target = match rest.strip_prefix("//") {
        Some(rest) => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (authority, target) = rest.split_at_checked(end)?;
            let port = if x.secure { ":443" } else { ":80" };
            let plain = |text: &str| text.strip_suffix(port).unwrap_or(text).to_ascii_lowercase();
            if plain(authority) != plain(x.request.authority()) {
                return None;
            }
            if target.starts_with('/') { target.to_owned() } else { format!("/{target}") }
        }
        // `mailto:x`, or `http:x`, which nobody means.
        None if own.is_some() || rest.split(['/', '?']).next().is_some_and(|start| start.contains(':')) => {
            return None;
        }
        None if rest.starts_with('/') => rest.to_owned(),
        None if rest.starts_with('?') => format!("{}{rest}", x.request.original_path()),
        None => {
            let base = x.request.original_path();
            let folder = base.rfind('/').and_then(|at| base.get(..=at)).unwrap_or("/");
            format!("{folder}{rest}")
        }
    };
    let (path, query) = target.split_once('?').map_or((&*target, None), |(path, query)| (path, Some(query)));
    let (mut path_buffer, mut query_buffer) = (String::new(), String::new());
    let path = path::canonical(path.as_bytes(), path::Policy::LENIENT, &mut path_buffer).ok()?;
    let query = match query {
        Some(query) => Some(path::canonical_query(query.as_bytes(), &mut query_buffer).ok()?),
        None => None,
    };
    Some(uri(x, path, query))
}
