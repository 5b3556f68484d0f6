//! From the tree to the written types, with every mistake and not only the first: when a value is refused, the
//! finding is noted, the value taken out of the tree, and reading starts again.

mod deserializer;
mod error;

use serde::de::DeserializeOwned;

pub(crate) use deserializer::value as deserialize_json;
pub use error::ReadError;

use crate::{
    diagnostic::{Code, Finding, suggestion},
    document::{Document, Node, Path, Step, Value},
};
use error::Kind;

/// Findings after which reading gives up.
const MAX_FINDINGS: usize = 200;

/// Keys of the design that a later version reads. Refused by name, so that nobody believes them to act.
const NOT_YET: &[&str] = &["circuit_breaker", "retry", "cache", "mirror", "fallback", "coalesce", "hedge"];

/// What was read of a document.
#[derive(Debug)]
pub struct Read<T> {
    /// The value; the default when nothing of it could be kept.
    pub value: T,
    /// What was taken out because it was wrong.
    pub removed: Vec<Path>,
    /// What was wrong.
    pub findings: Vec<Finding>,
}

impl<T> Read<T> {
    /// Whether something at or below that path was taken out, so that what is missing there is only a consequence.
    pub fn broken(&self, path: &Path) -> bool {
        self.removed.iter().any(|removed| path.contains(removed) || removed.contains(path))
    }
}

/// Reads the whole document. What is wrong is taken out of its tree.
pub fn read<T: DeserializeOwned + Default>(document: &mut Document) -> Read<T> {
    let mut out = Read { value: T::default(), removed: Vec::new(), findings: Vec::new() };
    while out.findings.len() < MAX_FINDINGS {
        let error = match T::deserialize(deserializer::Reader::new(&document.root)) {
            Ok(value) => {
                out.value = value;
                return out;
            }
            Err(error) => error,
        };
        let path = error.path();
        // A required key that was taken out before is missing now: that is no second mistake.
        let consequence =
            matches!(&error.kind, Kind::MissingField(key) if out.removed.contains(&path.key(key)));
        if !consequence {
            out.findings.push(finding(document, &error, &path));
        }
        let gone = document.root.at_mut(&path).map(|node| node.value = Value::Removed);
        out.removed.push(path.clone());
        if gone.is_none() || path == Path::root() {
            return out;
        }
    }
    out
}

fn finding(document: &Document, error: &ReadError, path: &Path) -> Finding {
    let on_key = matches!(error.kind, Kind::UnknownField { .. });
    let (code, message, help) = match &error.kind {
        Kind::UnknownField { key, known } if NOT_YET.contains(&key.as_str()) => {
            let help = "take it away; nothing reads it in this version";
            (Code::UnknownKey, format!("`{key}` is not yet part of this version"), help.to_owned())
        }
        Kind::UnknownField { key, known } => {
            let help = suggestion(key, known.iter().copied(), "keys here");
            (Code::UnknownKey, format!("unknown key `{key}`"), help)
        }
        Kind::MissingField(key) => (Code::MissingKey, format!("`{key}` is missing"), format!("add `{key}`")),
        Kind::WrongType { found, expected } => (
            Code::WrongType,
            format!("expected {expected}, found {found}"),
            type_help(document.root.at(path), expected),
        ),
        Kind::Said { message, help } => (Code::BadValue, message.clone(), help.clone()),
    };
    let finding = Finding::error(code, message).help(help).at(document.position(path, on_key));
    Finding { file: document.file.clone(), path: path.to_string(), ..finding }
}

/// A number in quotes, a single value instead of a list: the common slips.
fn type_help(node: Option<&Node>, expected: &str) -> String {
    match node.map(|node| &node.value) {
        Some(Value::Text(text)) if expected.contains("integer") || expected.contains("number") => {
            let number = text.trim().parse::<f64>().is_ok();
            if number { format!("write {} without quotes", text.trim()) } else { String::new() }
        }
        Some(Value::Text(text)) if expected.contains("boolean") => {
            match text.trim().to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => "write `true` without quotes".into(),
                "false" | "no" | "off" | "0" => "write `false` without quotes".into(),
                _ => "write `true` or `false`".into(),
            }
        }
        Some(Value::Integer(number)) if expected.contains("string") => {
            format!("write \"{number}\" in quotes")
        }
        Some(Value::Bool(value)) if expected.contains("string") => format!("write \"{value}\" in quotes"),
        Some(Value::Text(text)) if expected.contains("sequence") || expected.contains("list") => {
            format!("write [\"{text}\"]")
        }
        _ => String::new(),
    }
}

/// The last key of a path, or nothing.
pub(crate) fn last_key(path: &Path) -> Option<&str> {
    path.0.iter().rev().find_map(|step| match step {
        Step::Key(key) => Some(&**key),
        Step::Index(_) => None,
    })
}
