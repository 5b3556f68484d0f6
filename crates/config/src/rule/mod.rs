//! The condition of a route as an expression: the short fields and Traefik's rule language meet here.

mod error;
mod implies;
mod lexer;
pub(crate) mod matcher;
mod parser;
mod template;
mod text;

use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;

pub use error::RuleError;
pub use parser::{MAX_DEPTH, MAX_LENGTH, parse};

/// A condition on a request. `Not` stands only before a `Match` (De Morgan is applied by the parser).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// True for every request.
    Any,
    /// All of them.
    And(Vec<Rule>),
    /// At least one of them.
    Or(Vec<Rule>),
    /// Not this matcher.
    Not(Box<Rule>),
    /// One predicate.
    Match(Matcher),
}

impl Rule {
    /// All of them; flat, and without the always true.
    pub fn all(parts: Vec<Rule>) -> Rule {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Rule::Any => {}
                Rule::And(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        if flat.len() == 1 {
            flat.pop().unwrap_or(Rule::Any)
        } else if flat.is_empty() {
            Rule::Any
        } else {
            Rule::And(flat)
        }
    }

    /// One of them; flat.
    pub fn any(parts: Vec<Rule>) -> Rule {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Rule::Any => return Rule::Any,
                Rule::Or(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        if flat.len() == 1 { flat.pop().unwrap_or(Rule::Any) } else { Rule::Or(flat) }
    }

    /// A matcher turned round; only for matchers, which is all that the parser needs.
    pub(crate) fn negated(self) -> Rule {
        match self {
            Rule::Not(inner) => *inner,
            other => Rule::Not(Box::new(other)),
        }
    }
}

/// One predicate.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Matcher {
    /// Lower-case ASCII host without port and without trailing dot.
    Host(Arc<str>),
    /// `*.example.com` written here as `example.com`: exactly one label before it.
    HostSuffix(Arc<str>),
    /// `Host(`*`)`: every host, the empty one included.
    HostAny,
    /// Unanchored, on the lower-case host.
    HostRegexp(Arc<str>),
    /// The whole path.
    Path(Arc<str>),
    /// Bytes, not segments: `/products` matches `/products-for-sale`.
    PathPrefix(Arc<str>),
    /// The native form `/users/{id}/files/*`: segments.
    PathTemplate(PathTemplate),
    /// Unanchored, on the routing path.
    PathRegexp(Arc<str>),
    /// Upper-case.
    Method(Arc<str>),
    /// Some value of the field equals.
    Header {
        /// Field name, compared without case.
        name: Arc<str>,
        /// Compared byte by byte.
        value: Arc<str>,
    },
    /// The header is there, whatever its value (native `headers = { X-Debug = true }`).
    HeaderPresent(Arc<str>),
    /// Some value of the field matches, unanchored.
    HeaderRegexp {
        /// Field name, compared without case.
        name: Arc<str>,
        /// The regular expression.
        regex: Arc<str>,
    },
    /// Some value of the key equals.
    Query {
        /// Key, decoded.
        name: Arc<str>,
        /// Value, decoded.
        value: Arc<str>,
    },
    /// The key is there, whatever its value.
    QueryPresent(Arc<str>),
    /// Some value of the key matches, unanchored.
    QueryRegexp {
        /// Key, decoded.
        name: Arc<str>,
        /// The regular expression.
        regex: Arc<str>,
    },
    /// In rules: the TCP peer. In the native `clients` field: the client after `trusted_proxies` (`trusted` true).
    ClientIp {
        /// The addresses that match.
        net: IpNet,
        /// Looks at the client after `trusted_proxies` instead of the TCP peer.
        trusted: bool,
    },
}

/// `/users/{id}/*` in segments. `/api/*` matches `/api`, `/api/` and everything below; `/*` matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathTemplate {
    /// As written.
    pub text: Arc<str>,
    /// Its segments, without the tail. A trailing `/` is a last literal that is empty: `/` is `[""]`, `/a/` is
    /// `["a", ""]`, `/*` is `[]`.
    pub segments: Vec<Segment>,
    /// Ends with `/*`: anything may follow, or nothing.
    pub tail: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
/// One part of a path between slashes.
pub enum Segment {
    /// Exactly this.
    Literal(Arc<str>),
    /// `{name}`: one non-empty segment.
    Parameter(Arc<str>),
}
