//! What a route's configuration says beside what the origin says.

use portcullis_core::exchange::Identity;

use crate::pattern::Pattern;

/// The policy of one route (or of one service).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Lifetimes by path; the first that matches counts.
    pub lifetimes: Vec<(Pattern, u32)>,
    /// Lifetime of answers that say nothing of theirs; `None`: such answers are not stored, or by heuristics.
    pub default_lifetime: Option<u32>,
    /// `lifetimes` and `default_lifetime` count whatever the origin says (but for `no-store` and `private`).
    pub force: bool,
    /// At least this long, where the origin gives a lifetime.
    pub min_lifetime: u32,
    /// At most this long.
    pub max_lifetime: u32,
    /// Guess a lifetime from `Last-Modified` (RFC 9111 §4.2.2).
    pub heuristics: bool,
    /// Paths that are never cached.
    pub never: Vec<Pattern>,
    /// What else makes the key.
    pub key: KeyParts,
    /// Where the answer says nothing of it, in seconds.
    pub stale_while_revalidate: u32,
    /// Where the answer says nothing of it, in seconds.
    pub stale_if_error: u32,
    /// So long past its lifetime an answer may stand in for an error, whatever it says of that itself, in seconds.
    pub in_need: u32,
    /// Answers with `Set-Cookie` may be stored (as they are, cookie and all).
    pub store_cookies: bool,
    /// `Cache-Control` and `Pragma` of requests are not listened to.
    pub ignore_request: bool,
    /// Error statuses that may be stored beside 404, 410 and 451.
    pub errors: Vec<u16>,
    /// Fields that are asked before `Cache-Control`, in lower case, the first first (RFC 9213 §2.2).
    pub targeted: Vec<Box<str>>,
    /// Largest body.
    pub max_object: u64,
}

/// What beside scheme, authority, path and query makes the key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyParts {
    /// Who asks: the request's credentials.
    pub identity: bool,
    /// Request fields, in lower case.
    pub headers: Vec<Box<str>>,
    /// Cookies.
    pub cookies: Vec<Box<str>>,
    /// What is known of an authenticated client, by name.
    pub claims: Vec<Box<str>>,
    /// Which parameters of the query count.
    pub query: QueryParts,
    /// The service that answers, where a route has several: what one says is not what another would.
    pub service: Option<std::sync::Arc<str>>,
}

impl KeyParts {
    /// Has who sends this request answers of his own, so that what credentials led to may be kept for him? `authorized`:
    /// it has `Authorization`, which must be what he is known by, else it is credentials that no claim tells apart.
    pub fn tell_apart(&self, identity: Option<&Identity>, authorized: bool) -> bool {
        let Some(identity) = identity.filter(|identity| !authorized || identity.by_authorization) else {
            return self.identity;
        };
        let known = |name: &str| identity.claim_value(name).is_some();
        self.identity || (!self.claims.is_empty() && self.claims.iter().all(|name| known(name)))
    }
}

/// Which parameters of the query count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum QueryParts {
    /// All, as they came.
    #[default]
    All,
    /// Only these, in order of their names: see [`QueryParts::only`].
    Only {
        /// As written.
        exact: Vec<Pattern>,
        /// As the loosest of frameworks reads names.
        loose: Vec<Pattern>,
    },
    /// All but these, in the order in which they came.
    Without(Vec<Pattern>),
}

impl QueryParts {
    /// Only these. What some framework would take for one of them counts as well (`id[]`, `ID`, `user.id` for `user_id`):
    /// else its value would choose the answer without being part of the key.
    pub fn only(names: Vec<Pattern>) -> QueryParts {
        let loose = names.iter().map(|name| Pattern::new(&crate::key::loose(name.text()))).collect();
        QueryParts::Only { exact: names, loose }
    }

    /// Are keys for several URIs one?
    pub fn selects(&self) -> bool {
        *self != QueryParts::All
    }
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            lifetimes: Vec::new(),
            default_lifetime: None,
            force: false,
            min_lifetime: 0,
            max_lifetime: u32::MAX,
            heuristics: true,
            never: Vec::new(),
            key: KeyParts::default(),
            stale_while_revalidate: 0,
            stale_if_error: 0,
            in_need: 0,
            store_cookies: false,
            ignore_request: false,
            errors: Vec::new(),
            targeted: vec!["portcullis-cache-control".into(), "cdn-cache-control".into()],
            max_object: 8 << 20,
        }
    }
}

impl Policy {
    /// The lifetime that the configuration has for a path.
    pub fn lifetime(&self, path: &str) -> Option<u32> {
        let of_path = self.lifetimes.iter().find(|(pattern, _)| pattern.matches(path));
        of_path.map(|(_, seconds)| *seconds).or(self.default_lifetime)
    }

    /// Is this path never cached?
    pub fn is_never(&self, path: &str) -> bool {
        self.never.iter().any(|pattern| pattern.matches(path))
    }
}
