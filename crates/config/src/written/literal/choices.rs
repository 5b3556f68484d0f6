//! Choices by name, and those of the model.

use schemars::{Schema, json_schema};
use serde_json::Value;

use super::Literal;
use crate::{model, scalar::Problem};

/// A choice by name: `_` or `-`, in any case. The first spelling of a value is the one that errors and the
/// schema show.
pub trait Choice: Sized + Copy + PartialEq + 'static {
    /// What is chosen, for errors: "a strategy".
    const WHAT: &'static str;
    /// Every spelling, in lower case with `_`.
    const ALL: &'static [(&'static str, Self)];
}

impl<T: Choice> Literal for T {
    const EXPECTED: &'static str = T::WHAT;

    fn text(text: &str) -> Result<Self, Problem> {
        let plain = text.trim().to_ascii_lowercase().replace('-', "_");
        if let Some((_, value)) = T::ALL.iter().find(|(name, _)| *name == plain) {
            return Ok(*value);
        }
        let help = crate::diagnostic::suggestion(text, shown::<T>(), "choices");
        Err(Problem::new(format!("`{text}` is not {}", T::WHAT), help))
    }

    fn integer(value: i64) -> Option<Result<Self, Problem>> {
        T::ALL.iter().any(|(name, _)| name.parse() == Ok(value)).then(|| T::text(&value.to_string()))
    }

    fn float(value: f64) -> Option<Result<Self, Problem>> {
        let text = value.to_string();
        T::ALL.iter().any(|(name, _)| *name == text).then(|| T::text(&text))
    }

    fn schema() -> Schema {
        let names: Vec<&str> = shown::<T>().collect();
        let numbers: Vec<i64> = names.iter().filter_map(|name| name.parse().ok()).collect();
        let all: Vec<Value> =
            names.into_iter().map(Value::from).chain(numbers.into_iter().map(Value::from)).collect();
        json_schema!({ "enum": all })
    }
}

/// The first spelling of each value.
fn shown<T: Choice>() -> impl Iterator<Item = &'static str> {
    let first = |at: usize, value: T| T::ALL.iter().position(|(_, other)| *other == value) == Some(at);
    T::ALL.iter().enumerate().filter(move |(at, (_, value))| first(*at, *value)).map(|(_, (name, _))| *name)
}

impl Choice for model::TlsVersion {
    const WHAT: &'static str = "a TLS version (\"1.2\" or \"1.3\")";
    const ALL: &'static [(&'static str, Self)] = &[
        ("1.2", Self::V12),
        ("1.3", Self::V13),
        ("tls1.2", Self::V12),
        ("tls1.3", Self::V13),
        ("tlsv1.2", Self::V12),
        ("tlsv1.3", Self::V13),
    ];
}

impl Choice for model::Doubtful {
    const WHAT: &'static str = "\"reject\" or \"keep\"";
    const ALL: &'static [(&'static str, Self)] = &[("reject", Self::Reject), ("keep", Self::Keep)];
}

impl Choice for model::SameSite {
    const WHAT: &'static str = "\"none\", \"lax\" or \"strict\"";
    const ALL: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("lax", Self::Lax), ("strict", Self::Strict)];
}

impl Choice for model::UpstreamHttp {
    const WHAT: &'static str = "\"auto\", \"1\" or \"2\"";
    const ALL: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        ("1", Self::Http1),
        ("2", Self::Http2),
        ("1.1", Self::Http1),
        ("h1", Self::Http1),
        ("h2", Self::Http2),
        ("http1", Self::Http1),
        ("http2", Self::Http2),
        ("http/1.1", Self::Http1),
        ("http/2", Self::Http2),
    ];
}

impl Choice for model::Importance {
    const WHAT: &'static str = "\"critical\", \"normal\" or \"background\"";
    const ALL: &'static [(&'static str, Self)] =
        &[("critical", Self::Critical), ("normal", Self::Normal), ("background", Self::Background)];
}

impl Choice for model::ProxyProtocol {
    const WHAT: &'static str = "\"v1\" or \"v2\"";
    const ALL: &'static [(&'static str, Self)] =
        &[("v1", Self::V1), ("v2", Self::V2), ("1", Self::V1), ("2", Self::V2)];
}

impl Choice for model::AccessLogFormat {
    const WHAT: &'static str = "\"json\", \"common\" or \"short\"";
    const ALL: &'static [(&'static str, Self)] =
        &[("json", Self::Json), ("common", Self::Common), ("short", Self::Short), ("clf", Self::Common)];
}

impl Choice for model::LogFormat {
    const WHAT: &'static str = "\"text\" or \"json\"";
    const ALL: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}
