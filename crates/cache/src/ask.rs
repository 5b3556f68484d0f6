//! A request, as the cache sees it.

use http::Method;
use portcullis_core::{Known, Request};

use crate::{Policy, directives::Directives};

/// Why the cache is not asked at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bypass {
    /// Not GET or HEAD.
    Method,
    /// A GET with content: what it asks for is not in the key.
    Body,
    /// `If-Match` or `If-Unmodified-Since`, which only the origin can judge (RFC 9111 §4.3.2).
    Precondition,
    /// It wants to leave HTTP.
    Upgrade,
    /// A field by which some origins take another method or another target than the request's: what they answer is not
    /// what the key says (poisoning by unkeyed input).
    Override,
    /// A path that the configuration never caches.
    Path,
    /// `no-store` in the request (RFC 9111 §5.2.1.5).
    NoStore,
}

impl Bypass {
    /// For `Cache-Status` and the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Bypass::Method => "method",
            Bypass::Body => "body",
            Bypass::Precondition => "precondition",
            Bypass::Upgrade => "upgrade",
            Bypass::Override => "override",
            Bypass::Path => "path",
            Bypass::NoStore => "no-store",
        }
    }
}

/// What a request asks of the cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ask {
    /// Its directives; none where they are not listened to.
    pub directives: Directives,
    /// HEAD.
    pub is_head: bool,
    /// `Range` without or with `If-Range`.
    pub has_range: bool,
}

/// Fields that have no number of their own, by what they mean here.
#[derive(Default)]
struct Odd {
    precondition: bool,
    overrides: bool,
}

impl Odd {
    /// One pass over the names that are not well known.
    fn of(request: &Request) -> Odd {
        let mut odd = Odd::default();
        for (known, name, _) in request.fields.iter_known() {
            if known != Known::Other {
                continue;
            }
            let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
            match name.len() {
                6 => odd.overrides |= is(b"x-host"),
                8 => odd.precondition |= is(b"if-match"),
                13 => odd.overrides |= is(b"x-http-method") || is(b"x-rewrite-url"),
                14 => odd.overrides |= is(b"x-original-url"),
                15 => odd.overrides |= is(b"x-original-host"),
                17 => odd.overrides |= is(b"x-method-override"),
                19 => odd.precondition |= is(b"if-unmodified-since"),
                22 => odd.overrides |= is(b"x-http-method-override"),
                _ => {}
            }
        }
        odd
    }
}

impl Ask {
    /// Reads a request.
    ///
    /// # Errors
    /// Why the cache has nothing to do with it.
    pub fn of(request: &Request, policy: &Policy) -> Result<Ask, Bypass> {
        let is_head = request.method == Method::HEAD;
        if request.method != Method::GET && !is_head {
            return Err(Bypass::Method);
        }
        if request.upgrade.is_some() {
            return Err(Bypass::Upgrade);
        }
        if !request.body.is_empty() {
            return Err(Bypass::Body);
        }
        let odd = Odd::of(request);
        if odd.overrides {
            return Err(Bypass::Override);
        }
        if odd.precondition {
            return Err(Bypass::Precondition);
        }
        if policy.is_never(request.original_path()) {
            return Err(Bypass::Path);
        }
        let directives = match policy.ignore_request {
            true => Directives::default(),
            false => Directives::of_request(&request.fields),
        };
        if directives.has(crate::directives::Flag::NoStore) {
            return Err(Bypass::NoStore);
        }
        Ok(Ask { directives, is_head, has_range: request.fields.has(Known::Range) })
    }
}

/// May a request change what it is for, so that what is stored may be wrong afterwards (RFC 9110 §9.2.1)? Methods that
/// are not known may.
pub fn is_unsafe(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}
