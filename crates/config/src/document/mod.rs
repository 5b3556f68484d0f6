//! The text of a configuration as one tree, whatever the format: values in the order written, each knowing its
//! line and column. TOML, YAML and JSON meet here, and nothing after this asks for the format.

mod env;
mod json;
mod lines;
mod node;
mod path;
mod substitute;
mod toml;
mod yaml;

use std::{path::PathBuf, sync::Arc};

pub use env::{DotEnv, Env, NoEnv, ProcessEnv};
pub use node::{Entry, Node, Position, Value};
pub use path::{Path, Step};

use crate::diagnostic::{Code, Finding};

/// Deepest nesting of tables and lists accepted.
pub const MAX_DEPTH: usize = 64;
/// Longest text accepted, bytes.
pub const MAX_BYTES: usize = 32 * 1024 * 1024;

/// How a configuration is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// TOML 1.0, the first choice.
    Toml,
    /// YAML 1.2, one document.
    Yaml,
    /// JSON, strict.
    Json,
}

impl Format {
    /// By the end of the file's name; `None` for an unknown one.
    pub fn of_file(name: &std::path::Path) -> Option<Self> {
        match name.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "toml" => Some(Format::Toml),
            "yaml" | "yml" => Some(Format::Yaml),
            "json" => Some(Format::Json),
            _ => None,
        }
    }
}

/// A text that was read.
#[derive(Debug, Clone)]
pub struct Document {
    /// Name of the file, for findings; a provider without files names its source.
    pub file: Arc<str>,
    /// Where relative paths in it start.
    pub directory: PathBuf,
    /// The text, for showing the line of a finding; empty when there is none.
    pub text: Arc<str>,
    /// The tree.
    pub root: Node,
}

impl Document {
    /// Reads a text. A text that cannot be read at all gives an empty tree; whatever is wrong is in the findings.
    pub fn parse(file: &str, text: &str, format: Format) -> (Self, Vec<Finding>) {
        let mut findings = Vec::new();
        let lines = lines::Lines::new(text);
        let parsed = if text.len() > MAX_BYTES {
            let message = format!("the text is {} bytes long, more than {MAX_BYTES}", text.len());
            Err(Trouble::new(Position::start(), message, ""))
        } else {
            let mut troubles = Vec::new();
            let text = text.strip_prefix('\u{feff}').unwrap_or(text);
            let root = match format {
                Format::Toml => toml::read(text, &lines, &mut troubles),
                Format::Yaml => yaml::read(text, &mut troubles),
                Format::Json => json::read(text, &lines, &mut troubles),
            };
            findings.extend(troubles.into_iter().map(|trouble| trouble.finding(file)));
            root
        };
        let root = parsed.unwrap_or_else(|trouble| {
            findings.push(trouble.finding(file));
            Node::empty()
        });
        let directory = std::path::Path::new(file).parent().map(PathBuf::from).unwrap_or_default();
        (Self { file: file.into(), directory, text: text.into(), root }, findings)
    }

    /// A document that was never text: labels, rows, a program's own values.
    pub fn of_value(file: &str, value: &serde_json::Value) -> Self {
        Self { file: file.into(), directory: PathBuf::new(), text: "".into(), root: Node::of_json(value) }
    }

    /// Lets every text stand for a number or a boolean where one is asked for: labels and rows know only texts.
    pub fn of_texts(mut self) -> Self {
        fn mark(node: &mut Node) {
            match &mut node.value {
                Value::Text(_) => node.substituted = true,
                Value::List(nodes) => nodes.iter_mut().for_each(mark),
                Value::Table(entries) => entries.iter_mut().for_each(|entry| mark(&mut entry.node)),
                _ => {}
            }
        }
        mark(&mut self.root);
        self
    }

    /// Puts the values of variables in the place of `${NAME}`.
    pub fn substitute(&mut self, env: &dyn Env) -> Vec<Finding> {
        substitute::all(self, env)
    }

    /// Where the object at that path stands, or the nearest one around it; with `key`, its key.
    pub fn position(&self, path: &Path, key: bool) -> Position {
        self.root.position_of(path, key)
    }
}

/// A mistake in a text, before there is a tree.
struct Trouble {
    position: Position,
    code: Code,
    message: String,
    help: String,
}

impl Trouble {
    fn new(position: Position, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { position, code: Code::Syntax, message: message.into(), help: help.into() }
    }

    fn duplicate(position: Position, key: &str) -> Self {
        let message = format!("the key `{key}` is written twice");
        Self { position, code: Code::DuplicateKey, message, help: "keep one of the two".into() }
    }

    fn finding(self, file: &str) -> Finding {
        let finding = Finding::error(self.code, self.message).help(self.help);
        Finding { file: file.into(), ..finding }.at(self.position)
    }
}
