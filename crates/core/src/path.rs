//! The canonical form of a path: what is routed is what is forwarded.
//!
//! A path that two programs read differently is how access rules are walked around (`/admin/..%2f`, `//admin`,
//! `/%61dmin`). So every path is put into one form before anything looks at it, and exactly that form goes to the
//! endpoint (RFC 3986 §6.2.2):
//!
//! * percent-escapes in upper case, and none for the unreserved letters `A-Z a-z 0-9 - . _ ~`;
//! * `.` and `..` resolved after that decoding; `..` above the root stays at the root;
//! * `//` merged to `/` unless the policy says otherwise; a slash at the end is kept;
//! * bytes that may not stand in a path but that clients send (`|`, `"`, `^`, non-ASCII …) percent-encoded;
//! * refused: raw space, control bytes, `#`, `?` and backslash; broken escapes; escaped control characters; bytes
//!   that are not UTF-8, raw or escaped (overlong forms hide slashes); segments such as `..;x`, which servlet
//!   containers read as `..`; and, unless the policy keeps them, the escapes of `/ \ ; % ? #`.
//!
//! Nearly all paths arrive in that form: one pass over the bytes finds so and nothing is copied.

use http::Method;

use crate::{
    error::{Error, Kind},
    request::Request,
};

/// What is done with the doubtful.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// `//` becomes `/`.
    pub merge_slashes: bool,
    /// What happens to `%2F`, `%5C`, `%3B`, `%25`, `%3F` and `%23`.
    pub delimiters: Delimiters,
}

/// What happens to an escaped delimiter, which some servers decode and others do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delimiters {
    /// The path is refused.
    Reject,
    /// The escape stays, in upper case.
    Keep,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy { merge_slashes: true, delimiters: Delimiters::Reject }
    }
}

impl Policy {
    /// Only what holds for every policy: for code that rewrites paths and does not know the listener's policy.
    pub const LENIENT: Policy = Policy { merge_slashes: false, delimiters: Delimiters::Keep };
}

/// Why a path or query is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not start with `/`.
    #[error("the path does not start with `/`")]
    NotAbsolute,
    /// A byte that may not stand there.
    #[error("byte 0x{0:02x} may not stand in a request target")]
    Byte(u8),
    /// `%` without two hexadecimal digits.
    #[error("a `%` starts no percent-escape")]
    Percent,
    /// An escaped control character.
    #[error("escaped control character %{0:02X}")]
    Control(u8),
    /// Bytes that are not UTF-8.
    #[error("the path is not UTF-8")]
    Utf8,
    /// An escaped delimiter that the policy refuses.
    #[error("escaped delimiter %{0:02X}")]
    Delimiter(u8),
    /// A segment that some servers read as `.`, `..` or nothing.
    #[error("a segment that some servers resolve and others do not")]
    Ambiguous,
}

impl From<PathError> for Error {
    fn from(error: PathError) -> Error {
        Error::because(Kind::BadPath, error.to_string())
    }
}

/// What a raw byte of a path is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Stands as it is.
    Plain,
    /// `/`
    Slash,
    /// `%`
    Percent,
    /// Not allowed in a URI, but sent: percent-encoded.
    Encode,
    /// Refused.
    Bad,
}

const fn class(byte: u8) -> Class {
    match byte {
        b'/' => Class::Slash,
        b'%' => Class::Percent,
        // `#` and `?` end a path, a backslash is a slash to some.
        0..=b' ' | 0x7f | b'#' | b'?' | b'\\' => Class::Bad,
        b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x80.. => Class::Encode,
        // `[` and `]` belong here: RFC 3986 has them escaped in paths, clients send them both ways, and the two are
        // not the same resource.
        _ => Class::Plain,
    }
}

#[allow(clippy::indexing_slicing)] // at compile time, over a constant
const CLASSES: [Class; 256] = {
    let mut table = [Class::Bad; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = class(byte as u8);
        byte += 1;
    }
    table
};

fn class_of(byte: u8) -> Class {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(Class::Bad)
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

const fn is_delimiter(byte: u8) -> bool {
    matches!(byte, b'/' | b'\\' | b';' | b'%' | b'?' | b'#')
}

/// RFC 3986 §2.2, and `%`: escapes of these mean something else than the character.
fn is_reserved(byte: u8) -> bool {
    b":/?#[]@!$&'()*+,;=%".contains(&byte)
}

/// The canonical form of a path: the path itself when it already is in that form, else text written into `out`.
///
/// # Errors
/// The path is refused; see [`PathError`].
pub fn canonical<'a>(raw: &'a [u8], policy: Policy, out: &'a mut String) -> Result<&'a str, PathError> {
    if raw.first() != Some(&b'/') {
        return Err(PathError::NotAbsolute);
    }
    if is_plain(raw, policy) {
        return std::str::from_utf8(raw).map_err(|_| PathError::Utf8);
    }
    rewrite(raw, policy, out)?;
    Ok(out)
}

/// Is this path in canonical form? For whoever rewrites paths: a rewritten path that is not must be put into it (see
/// [`canonical`]) or refused, since taking `/a` away from `/a../b` leaves `../b`.
pub fn is_canonical(path: &str, policy: Policy) -> bool {
    let mut out = String::new();
    canonical(path.as_bytes(), policy, &mut out).is_ok_and(|canonical| canonical == path)
}

/// Does a canonical path hold one of the escapes that [`Delimiters::Reject`] refuses? By this a route that refuses them
/// can share a listener with one that keeps them.
pub fn has_escaped_delimiter(path: &str) -> bool {
    let bytes = path.as_bytes();
    memchr::memchr_iter(b'%', bytes).any(|at| escape(bytes, at).is_ok_and(is_delimiter))
}

/// Certainly canonical, without anything that needs a closer look. One pass.
fn is_plain(raw: &[u8], policy: Policy) -> bool {
    let mut rest = raw;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match class_of(byte) {
            Class::Plain => {}
            Class::Slash => match after.first() {
                Some(b'.' | b';') => return false,
                Some(b'/') if policy.merge_slashes => return false,
                _ => {}
            },
            Class::Percent => {
                let Some((&[high, low], after)) = after.split_first_chunk() else { return false };
                if high.is_ascii_lowercase() || low.is_ascii_lowercase() {
                    return false;
                }
                let Some(byte) = hex(high, low) else { return false };
                if !(0x20..0x7f).contains(&byte) || is_unreserved(byte) || is_delimiter(byte) {
                    return false;
                }
                rest = after;
            }
            Class::Encode | Class::Bad => return false,
        }
    }
    true
}

/// Writes the canonical form of an absolute path into `out`.
fn rewrite(raw: &[u8], policy: Policy, out: &mut String) -> Result<(), PathError> {
    out.clear();
    out.reserve(raw.len() + 16);
    out.push('/');
    let (mut at, mut segment) = (1, 1);
    loop {
        let Some(&byte) = raw.get(at) else { return end_segment(segment, None, policy, out).map(drop) };
        match class_of(byte) {
            Class::Bad => return Err(PathError::Byte(byte)),
            Class::Slash => {
                segment = end_segment(segment, Some('/'), policy, out)?;
                at += 1;
            }
            Class::Plain => {
                out.push(char::from(byte));
                at += 1;
            }
            Class::Percent | Class::Encode => at = rewrite_character(raw, at, policy, out)?,
        }
    }
}

/// Writes the character that starts at `at`, an escape or a byte to be escaped; returns where the next one starts.
fn rewrite_character(
    raw: &[u8],
    mut at: usize,
    policy: Policy,
    out: &mut String,
) -> Result<usize, PathError> {
    let (byte, width) = decoded(raw, at)?;
    at += width;
    if byte < 0x80 {
        if is_unreserved(byte) {
            out.push(char::from(byte));
            return Ok(at);
        }
        if byte < 0x20 || byte == 0x7f {
            return Err(PathError::Control(byte));
        }
        if is_delimiter(byte) && policy.delimiters == Delimiters::Reject {
            return Err(PathError::Delimiter(byte));
        }
        push_escape(out, byte);
        return Ok(at);
    }
    let length = match byte {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return Err(PathError::Utf8),
    };
    let mut character = [byte, 0, 0, 0];
    for slot in character.iter_mut().take(length).skip(1) {
        let (byte, width) = decoded(raw, at)?;
        *slot = byte;
        at += width;
    }
    let character = character.get(..length).unwrap_or_default();
    std::str::from_utf8(character).map_err(|_| PathError::Utf8)?;
    character.iter().for_each(|&byte| push_escape(out, byte));
    Ok(at)
}

/// Ends the segment that starts at `start` of `out`: resolves dots, merges slashes. Returns where the next starts.
fn end_segment(
    start: usize,
    slash: Option<char>,
    policy: Policy,
    out: &mut String,
) -> Result<usize, PathError> {
    let segment = out.get(start..).unwrap_or_default();
    match segment {
        "." => out.truncate(start),
        ".." => {
            // `out` ends with the slash before this segment; the root's stays.
            out.truncate(start);
            if out.len() > 1 {
                out.pop();
                let parent = out.rfind('/').map_or(0, |slash| slash + 1);
                out.truncate(parent);
            }
        }
        "" if policy.merge_slashes => {}
        _ => {
            if is_ambiguous(segment, slash.is_none()) {
                return Err(PathError::Ambiguous);
            }
            out.extend(slash);
        }
    }
    Ok(out.len())
}

/// Would a server that drops `;parameters` of segments (Tomcat, Jetty), or decodes escaped slashes early, find a dot
/// segment or an empty one here? An empty name at the very end is `/;jsessionid=1` and leads nowhere else.
fn is_ambiguous(segment: &str, last: bool) -> bool {
    let name = |piece: &str| piece.find(';').and_then(|end| piece.get(..end)).map(str::len);
    let dots = |piece: &str| {
        let end = [piece.find(';'), piece.find("%3B")].into_iter().flatten().min().unwrap_or(piece.len());
        matches!(piece.get(..end), Some("." | ".."))
    };
    if name(segment) == Some(0) && !last {
        return true;
    }
    if !segment.contains('%') {
        return dots(segment);
    }
    segment.split("%2F").flat_map(|piece| piece.split("%5C")).any(dots)
}

/// The byte at `at`, raw or escaped, and how many bytes of `raw` it takes. Only what may be escaped: else an error.
fn decoded(raw: &[u8], at: usize) -> Result<(u8, usize), PathError> {
    match raw.get(at) {
        Some(b'%') => escape(raw, at).map(|byte| (byte, 3)),
        Some(&byte) if class_of(byte) == Class::Encode => Ok((byte, 1)),
        _ => Err(PathError::Utf8),
    }
}

/// The byte that the escape at `at` stands for.
fn escape(raw: &[u8], at: usize) -> Result<u8, PathError> {
    let digits = raw.get(at + 1..).and_then(|rest| rest.first_chunk::<2>());
    digits.and_then(|&[high, low]| hex(high, low)).ok_or(PathError::Percent)
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

fn push_escape(out: &mut String, byte: u8) {
    let digit = |value: u8| char::from(if value < 10 { b'0' + value } else { b'A' + value - 10 });
    out.extend(['%', digit(byte >> 4), digit(byte & 15)]);
}

/// The form of a canonical path that rules are matched against: every escape decoded but those of reserved characters,
/// so that `/a b` in a rule meets `/a%20b`, while `%2F` stays apart from `/`. Borrows when there is no escape. It has as
/// many segments as the path it came from.
pub fn routing<'a>(canonical: &'a str, scratch: &'a mut String) -> &'a str {
    let bytes = canonical.as_bytes();
    if memchr::memchr(b'%', bytes).is_none() {
        return canonical;
    }
    let mut text = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let decoded = if byte == b'%' { escape(bytes, at).ok() } else { None };
        match decoded.filter(|&byte| !is_reserved(byte) && byte >= 0x20 && byte != 0x7f) {
            Some(decoded) => {
                text.push(decoded);
                at += 3;
            }
            None => {
                text.push(byte);
                at += 1;
            }
        }
    }
    match String::from_utf8(text) {
        Ok(text) => {
            *scratch = text;
            scratch
        }
        // Only a path that is not canonical gets here; it is matched as it stands.
        Err(_) => canonical,
    }
}

/// The query as it is forwarded: as it came, but for `"`, `<`, `>` and non-ASCII bytes, which are percent-encoded (the
/// query set of the WHATWG URL standard). A `%` that starts no escape stays: queries are full of them.
///
/// # Errors
/// Raw control bytes, space and `#` are refused.
pub fn canonical_query<'a>(raw: &'a [u8], out: &'a mut String) -> Result<&'a str, PathError> {
    let encoded = |byte: u8| matches!(byte, b'"' | b'<' | b'>' | 0x80..);
    let mut clean = true;
    for &byte in raw {
        if byte <= b' ' || byte == 0x7f || byte == b'#' {
            return Err(PathError::Byte(byte));
        }
        clean &= !encoded(byte);
    }
    if clean {
        return std::str::from_utf8(raw).map_err(|_| PathError::Utf8);
    }
    out.clear();
    for &byte in raw {
        if encoded(byte) {
            push_escape(out, byte);
        } else {
            out.push(char::from(byte));
        }
    }
    Ok(out)
}

/// Sets a request's path and query from the origin-form of its target (`/path?query`), or from `*`, which only
/// `OPTIONS` may ask for (RFC 9110 §7.1).
///
/// # Errors
/// The path or query is refused.
pub fn arrive(request: &mut Request, target: &[u8], policy: Policy) -> Result<(), PathError> {
    if target == b"*" && request.method == Method::OPTIONS {
        request.arrive("*", None);
        return Ok(());
    }
    let (path, query) = match memchr::memchr(b'?', target) {
        Some(at) => (target.get(..at).unwrap_or_default(), target.get(at + 1..)),
        None => (target, None),
    };
    let (mut path_text, mut query_text) = (String::new(), String::new());
    let path = canonical(path, policy, &mut path_text)?;
    let query = query.map(|query| canonical_query(query, &mut query_text)).transpose()?;
    request.arrive(path, query);
    Ok(())
}

#[cfg(test)]
mod tests;
