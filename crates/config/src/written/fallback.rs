//! `fallback` and `errors`.

use std::{collections::BTreeMap, time::Duration};

use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;

use super::{Lit, OneOrMany, literal::Literal};
use crate::{
    model::{ERRORS, StatusRange},
    scalar::{self, Problem},
};

/// What clients get in place of an error: a stale answer, what another service answers, or a fixed answer.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fallback {
    /// In place of what: `error` (no answer, whatever the reason), slugs of errors (`circuit_open`, `response_timeout`),
    /// statuses of endpoints (`503`, `5xx`). Default `error`.
    pub on: Option<OneOrMany<Lit<FallbackCause>>>,
    /// A stale answer, where the route's cache has one that is past its lifetime for no longer than this. It comes first,
    /// for every error and for 500, 502, 503 and 504, whatever the answer itself said of that. Default: as the cache says.
    pub stale: Option<Lit<Duration>>,
    /// Name of the service that answers instead.
    pub service: Option<String>,
    /// Status of the fixed answer. Default 200.
    pub status: Option<u16>,
    /// Body of the fixed answer. Default empty.
    pub body: Option<String>,
    /// `Content-Type` of the fixed answer. Default: JSON or plain text, as the body looks.
    pub content_type: Option<String>,
    /// Further fields of the fixed answer.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

/// What a fallback stands in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FallbackCause {
    /// Every error from behind the gateway.
    Any,
    /// The error with this slug.
    Error(&'static str),
    /// These statuses.
    Statuses(StatusRange),
}

/// The slug of an error, `_` and `-` alike.
pub(crate) fn slug(text: &str) -> Option<(&'static str, bool)> {
    let plain = text.to_ascii_lowercase().replace('_', "-");
    ERRORS.iter().find(|(slug, _)| *slug == plain).copied()
}

impl Literal for FallbackCause {
    const EXPECTED: &'static str = "\"error\", an error such as \"circuit_open\", or a status";

    fn text(text: &str) -> Result<Self, Problem> {
        if text.eq_ignore_ascii_case("error") {
            return Ok(FallbackCause::Any);
        }
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            return scalar::statuses(text).map(FallbackCause::Statuses);
        }
        let behind = ERRORS.iter().filter(|(_, is_behind)| *is_behind).map(|(slug, _)| *slug);
        match slug(text) {
            Some((slug, true)) => Ok(FallbackCause::Error(slug)),
            Some((slug, false)) => Err(Problem::new(
                format!("`{slug}` does not come from behind the gateway"),
                format!(
                    "nothing else can stand in for it; errors = {{ {slug} = 503 }} gives it another status"
                ),
            )),
            None => {
                let names = std::iter::once("error").chain(behind);
                let help = crate::diagnostic::suggestion(&text.replace('_', "-"), names, "errors");
                Err(Problem::new(format!("there is no error `{text}`"), help))
            }
        }
    }

    fn integer(value: i64) -> Option<Result<Self, Problem>> {
        Some(scalar::statuses(&value.to_string()).map(FallbackCause::Statuses))
    }

    fn schema() -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "title": "error or status",
            "examples": ["error", "circuit_open", 503, "5xx"],
        })
    }
}
