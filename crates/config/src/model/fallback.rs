//! What clients get in place of an error.

use std::sync::Arc;

use serde::Serialize;

use super::{Name, StatusRange};

/// What clients get in place of an error.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fallback {
    /// Errors of the gateway, by their slugs.
    pub errors: Vec<Arc<str>>,
    /// Answers of endpoints with these statuses.
    pub statuses: Vec<StatusRange>,
    /// What there is instead.
    pub instead: Instead,
}

/// What there is instead of an error.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Instead {
    /// What another service answers.
    Service(Name),
    /// Always the same.
    Answer {
        /// Its status.
        status: u16,
        /// Its fields.
        headers: Vec<(Arc<str>, Arc<str>)>,
        /// Its body.
        body: Arc<str>,
    },
}

/// The slugs of all errors that the gateway answers with, and whether they come from behind it: from an endpoint, or from
/// the way to it.
pub const ERRORS: &[(&str, bool)] = &[
    ("bad-request", false),
    ("bad-path", false),
    ("headers-too-large", false),
    ("uri-too-long", false),
    ("body-too-large", false),
    ("request-timeout", false),
    ("client-gone", false),
    ("length-required", false),
    ("no-route", false),
    ("method-not-allowed", false),
    ("unauthenticated", false),
    ("denied", false),
    ("rate-limited", false),
    ("misdirected", false),
    ("expectation-failed", false),
    ("too-early", false),
    ("not-implemented", false),
    ("version-not-supported", false),
    ("loop", false),
    ("no-endpoints", true),
    ("no-healthy-endpoints", true),
    ("dns-error", true),
    ("connection-refused", true),
    ("connect-timeout", true),
    ("connect-failed", true),
    ("tls-certificate", true),
    ("tls-protocol", true),
    ("connection-terminated", true),
    ("response-timeout", true),
    ("read-timeout", true),
    ("write-timeout", true),
    ("bad-response", true),
    ("response-headers-too-large", true),
    ("response-incomplete", true),
    ("upgrade-failed", true),
    ("circuit-open", true),
    ("retries-exhausted", true),
    ("connection-limit", true),
    ("overloaded", false),
    ("shed", false),
    ("total-timeout", true),
    ("misconfigured", false),
    ("shutting-down", false),
    ("internal", false),
];
