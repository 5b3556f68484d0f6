//! Why a tree was refused by a type, and at which path.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use crate::{
    document::{Path, Step},
    scalar::Problem,
};

/// Between message and help in a text that went through `serde::de::Error::custom`.
const SEPARATOR: char = '\u{1f}';

/// A refusal. The path is built from the inside out while the error travels up.
#[derive(Debug, Clone)]
pub struct ReadError {
    pub(super) kind: Kind,
    /// Innermost step first.
    steps: Vec<Step>,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    UnknownField { key: String, known: &'static [&'static str] },
    MissingField(&'static str),
    WrongType { found: String, expected: String, keys: &'static [&'static str] },
    Said { message: String, help: String },
}

impl ReadError {
    fn new(kind: Kind) -> Self {
        Self { kind, steps: Vec::new() }
    }

    pub(super) fn within(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// With the keys that the table expected here has.
    pub(super) fn with_keys(mut self, known: &'static [&'static str]) -> Self {
        if let Kind::WrongType { keys, .. } = &mut self.kind {
            *keys = known;
        }
        self
    }

    /// Where it happened.
    pub fn path(&self) -> Path {
        Path(self.steps.iter().rev().cloned().collect())
    }
}

impl Problem {
    /// As an error of any deserializer; ours finds the help again.
    pub fn into_error<E: de::Error>(self) -> E {
        if self.help.is_empty() {
            return E::custom(self.message);
        }
        E::custom(format_args!("{}{SEPARATOR}{}", self.message, self.help))
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::UnknownField { key, .. } => write!(f, "unknown key `{key}`"),
            Kind::MissingField(key) => write!(f, "`{key}` is missing"),
            Kind::WrongType { found, expected, .. } => write!(f, "expected {expected}, found {found}"),
            Kind::Said { message, .. } => f.write_str(message),
        }
    }
}

impl std::error::Error for ReadError {}

fn shown(unexpected: Unexpected<'_>) -> String {
    match unexpected {
        Unexpected::Bool(value) => format!("the boolean `{value}`"),
        Unexpected::Unsigned(value) => format!("the number {value}"),
        Unexpected::Signed(value) => format!("the number {value}"),
        Unexpected::Float(value) => format!("the number {value}"),
        Unexpected::Str(text) if text.chars().count() > 60 => "a text".to_owned(),
        Unexpected::Str(text) => format!("the text \"{text}\""),
        Unexpected::Unit => "nothing".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

fn wanted(expected: &dyn Expected) -> String {
    let text = expected.to_string();
    match text.as_str() {
        "a string" => "a text".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "a table".to_owned(),
        "a boolean" => "`true` or `false`".to_owned(),
        "u8" | "u16" | "u32" | "u64" | "usize" => {
            let most = match text.as_str() {
                "u8" => " to 255",
                "u16" => " to 65535",
                "u32" => " to 4294967295",
                _ => "",
            };
            format!("a whole number from 0{most}")
        }
        "i8" | "i16" | "i32" | "i64" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        _ if text.starts_with("struct ") => "a table".to_owned(),
        _ => text,
    }
}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(text: T) -> Self {
        let text = text.to_string();
        let (message, help) = text.split_once(SEPARATOR).unwrap_or((&text, ""));
        Self::new(Kind::Said { message: message.to_owned(), help: help.to_owned() })
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(Kind::WrongType { found: shown(unexpected), expected: wanted(expected), keys: &[] })
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Kind::UnknownField { key: field.to_owned(), known: expected })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Kind::MissingField(field))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(Kind::Said {
            message: format!("`{field}` is written twice"),
            help: "keep one of the two".into(),
        })
    }
}
