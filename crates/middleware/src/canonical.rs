//! Rewritten paths: what a middleware makes of a canonical path must be canonical again, or the request is refused.
//! Otherwise a rewriting could build what the listener would have refused (`/a` stripped from `/a../x`).

use portcullis_core::{Error, Exchange, Kind, middleware::Problem};

/// What is not canonical about a path; `None` when it is. `double_slashes` tells whether empty segments are allowed
/// (they are when the path had some already: the listener let them pass).
pub fn fault(path: &str, double_slashes: bool) -> Option<&'static str> {
    if !path.starts_with('/') {
        return Some("does not start with `/`");
    }
    if !double_slashes && path.contains("//") {
        return Some("has an empty segment (`//`)");
    }
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Some("has a `.` or `..` segment");
    }
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => match (rest.next().and_then(upper_hex), rest.next().and_then(upper_hex)) {
                (Some(high), Some(low)) if is_unreserved(high << 4 | low) => {
                    return Some("percent-encodes a character that needs no encoding");
                }
                (Some(_), Some(_)) => {}
                _ => return Some("has a `%` that is not followed by two upper-case hexadecimal digits"),
            },
            b'?' | b'#' => return Some("has a `?` or `#`, which end a path"),
            b'\\' => return Some("has a backslash"),
            0..=b' ' | 0x7f.. => return Some("has a character that must be percent-encoded"),
            _ => {}
        }
    }
    None
}

fn upper_hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// A path in settings, judged.
pub fn setting(path: &str, value: &str) -> Result<(), Problem> {
    match fault(value, false) {
        None => Ok(()),
        Some(fault) => {
            let message = format!("the path `{}` {fault}", value.escape_debug());
            Err(Problem::at(path, message).help("a path as it is sent, such as `/api/caf%C3%A9`"))
        }
    }
}

/// Is there a path to rewrite? `OPTIONS *` has none.
pub fn has_path(x: &Exchange) -> bool {
    x.request.path().starts_with('/')
}

/// Puts a rewritten path in place.
///
/// # Errors
/// `Kind::BadPath` when it is not canonical.
pub fn rewrite(x: &mut Exchange, path: &str) -> Result<(), Error> {
    let double_slashes = x.request.path().contains("//");
    if let Some(fault) = fault(path, double_slashes) {
        return Err(refused(fault));
    }
    x.request.set_path(path);
    Ok(())
}

/// The error for a rewritten path that is not canonical.
pub fn refused(fault: &'static str) -> Error {
    Error::because(Kind::BadPath, format!("the rewritten path {fault}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_or_not() {
        for path in ["/", "/a", "/a/", "/a.b/..c/...", "/caf%C3%A9", "/a%2Fb", "/a;b=c,d", "/~x/@:!$&'()*+"] {
            assert_eq!(fault(path, false), None, "{path}");
        }
        for path in [
            "", "a", "/a//b", "/..", "/a/./b", "/a/..", "/%2e", "/%41", "/%2f", "/%", "/%2", "/%zz", "/a?b",
            "/a#b", "/a b", "/é", "/a\\b", "/a\nb",
        ] {
            assert!(fault(path, false).is_some(), "{path}");
        }
        assert_eq!(fault("/a//b", true), None);
    }
}
