//! From the tree to the written types, with every mistake and not only the first: when a value is refused, the
//! finding is noted, the value taken out of the tree, and reading starts again.

mod deserializer;
mod error;

use serde::de::DeserializeOwned;

pub use error::ReadError;

use crate::{
    diagnostic::{Code, Finding, suggestion},
    document::{Document, Node, Path, Step, Value},
};
use error::Kind;

/// Findings after which reading gives up.
const MAX_FINDINGS: usize = 200;

/// Keys of the design that a later version reads. Refused by name, so that nobody believes them to act.
const NOT_YET: &[&str] = &["cache", "coalesce"];

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
            let help = elsewhere(key, known, path)
                .map_or_else(|| suggestion(key, known.iter().copied(), "keys here"), str::to_owned);
            (Code::UnknownKey, format!("unknown key `{key}`"), help)
        }
        Kind::MissingField(key) => (Code::MissingKey, format!("`{key}` is missing"), format!("add `{key}`")),
        Kind::WrongType { found, expected, keys } => {
            let line = usize::try_from(document.position(path, false).line).unwrap_or(0);
            let line = line.checked_sub(1).and_then(|line| document.text.lines().nth(line)).unwrap_or("");
            let help = type_help(document.root.at(path), expected, line);
            let number = found.starts_with("the number");
            let help = if help.is_empty() { shape_help(expected, keys, path, number) } else { help };
            (Code::WrongType, format!("expected {expected}, found {found}"), help)
        }
        Kind::Said { message, help } => (Code::BadValue, message.clone(), help.clone()),
    };
    let finding = Finding::error(code, message).help(help).at(document.position(path, on_key));
    Finding { file: document.file.clone(), path: path.to_string(), ..finding }
}

/// Words of other gateways, and keys that stand one level off.
fn elsewhere(key: &str, known: &[&str], path: &Path) -> Option<&'static str> {
    let in_route = matches!(path.0.as_slice(), [Step::Key(section), Step::Index(_), Step::Key(_)] if **section == *"routes");
    let plain = key.to_ascii_lowercase().replace(['_', '-'], "");
    let (needs, help) = match plain.as_str() {
        "url" | "urls" | "endpoints" | "strategy" | "sticky" | "healthcheck" | "passivehealth"
        | "weightby" | "pool" | "tls" | "http" | "upgrade"
            if in_route =>
        {
            return Some(
                "that is a setting of a service: write it in [routes.upstream], or in [services.NAME]",
            );
        }
        "entrypoints" | "entrypoint" | "listen" | "listener" => ("listeners", "the word here is `listeners`"),
        "routers" | "router" | "route" => ("routes", "the word here is `routes`"),
        "upstreams" | "backends" | "backend" | "clusters" | "cluster" => {
            ("services", "the word here is `services`")
        }
        "servers" | "targets" => ("endpoints", "the word here is `endpoints`"),
        "plugins" | "filters" | "plugin" => ("middlewares", "the word here is `middlewares`"),
        "weight" | "percent" | "percentage" | "traffic" => ("share", "the word here is `share`"),
        "host" => ("hosts", "the word here is `hosts`"),
        "method" => ("methods", "the word here is `methods`"),
        "level" => ("filter", "the word here is `filter`"),
        "verify" | "insecure" | "tlsverify" => {
            ("insecure_skip_verify", "the word here is `insecure_skip_verify`")
        }
        "kind" | "type" | "algorithm" | "name" if path_ends(path, "strategy") => {
            ("hash", "write its name alone: strategy = \"least_connections\"")
        }
        "name" if path_ends(path, "sticky") => ("cookie", "the word here is `cookie`"),
        "timeout" | "timeoutms" => ("timeouts", "write timeouts = { … }"),
        _ => return None,
    };
    known.contains(&needs).then_some(help)
}

/// Whether the table around this key is written under that key.
fn path_ends(path: &Path, table: &str) -> bool {
    matches!(path.0.as_slice(), [.., Step::Key(around), Step::Key(_)] if **around == *table)
}

/// How what was expected is written.
fn shape_help(expected: &str, keys: &[&str], path: &Path, is_number: bool) -> String {
    let last = match path.0.last() {
        Some(Step::Key(key)) => &**key,
        _ => "…",
    };
    match expected {
        "a table" if keys.is_empty() => format!("write a table: {last} = {{ name = … }}"),
        "a table" if keys.len() <= 24 => {
            let list: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
            format!("write a table, {{ key = … }}; its keys are {}", list.join(", "))
        }
        "a list" if matches!(last, "routes" | "certificates" | "endpoints") => {
            format!("write {last} = [ … ], or one table each under the heading [[{path}]]")
        }
        "a list" => format!("write {last} = [ … ]"),
        "a text" => format!("write {last} = \"…\""),
        // Which numbers would be right, the message says.
        _ if is_number && expected.contains("number") => String::new(),
        _ if expected.starts_with("a whole number") => format!("write a whole number, such as {last} = 1"),
        "a number" => format!("write a number, such as {last} = 1.5"),
        "`true` or `false`" => format!("write {last} = true or {last} = false"),
        _ => String::new(),
    }
}

/// A number in quotes, a single value instead of a list: the common slips.
fn type_help(node: Option<&Node>, expected: &str, line: &str) -> String {
    match node.map(|node| &node.value) {
        // What a variable brought is not in quotes in the file.
        Some(Value::Text(text)) if expected.contains("number") && line.contains(text.as_str()) => {
            let number = text.trim().parse::<f64>().is_ok();
            if number { format!("write {} without quotes", text.trim()) } else { String::new() }
        }
        Some(Value::Text(text)) if expected.contains("`true`") => {
            match text.trim().to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => "write true, without quotes".into(),
                "false" | "no" | "off" | "0" => "write false, without quotes".into(),
                _ => String::new(),
            }
        }
        Some(Value::Integer(number)) if expected.contains("text") => format!("write \"{number}\" in quotes"),
        Some(Value::Bool(value)) if expected.contains("text") => format!("write \"{value}\" in quotes"),
        Some(Value::Text(text)) if expected.contains("list") => format!("write [\"{text}\"]"),
        _ => String::new(),
    }
}
