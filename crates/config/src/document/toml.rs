//! TOML into the tree, by `toml_edit`, which keeps the place of every value. It stops at the first mistake; where there is
//! one, `toml` looks for the others.

use std::ops::Range;

use toml_edit::{Array, Item, TableLike, Value as Toml};

use super::{
    Trouble,
    lines::Lines,
    node::{Entry, Node, Position, Value},
};
use crate::diagnostic::Code;

/// Syntax errors told at most: a file that is no TOML at all is wrong in every line.
const MAX_TROUBLES: usize = 20;

/// Every mistake but the first goes into `others`.
pub(super) fn read(text: &str, lines: &Lines<'_>, others: &mut Vec<Trouble>) -> Result<Node, Trouble> {
    let document = toml_edit::Document::parse(text).map_err(|error| {
        let first = trouble(error.message(), error.span(), lines);
        others.extend(all_others(text, lines, &first));
        first
    })?;
    let value = Value::Table(table(document.as_table(), lines));
    Ok(Node::new(value, Position::start()))
}

/// What is wrong beside the first mistake, one for each line: what follows on a line is most often a consequence.
fn all_others(text: &str, lines: &Lines<'_>, first: &Trouble) -> Vec<Trouble> {
    let (_, errors) = toml::de::DeTable::parse_recoverable(text);
    let mut found: Vec<Trouble> =
        errors.iter().map(|error| trouble(error.message(), error.span(), lines)).collect();
    found.sort_by_key(|trouble| (trouble.position.line, trouble.position.column));
    found.dedup_by_key(|trouble| trouble.position.line);
    found.retain(|trouble| trouble.position.line != first.position.line);
    // A bracket that is never closed takes all that follows for its elements, each of which misses a comma.
    let open = |trouble: &Trouble| {
        trouble.message.contains("inline table") || trouble.message.contains("missing comma")
    };
    let mut seen = open(first);
    found.retain(|trouble| {
        let consequence = seen && open(trouble);
        seen |= open(trouble);
        !consequence
    });
    found.truncate(MAX_TROUBLES - 1);
    found
}

fn trouble(message: &str, span: Option<Range<usize>>, lines: &Lines<'_>) -> Trouble {
    let span = span.unwrap_or(0..0);
    let is_nothing = span.is_empty();
    let mut trouble = Trouble::new(lines.position(span), message.trim().replace('\n', "; "), "");
    let told: Option<(&str, &str)> = match trouble.message.as_str() {
        text if text.starts_with("duplicate key") => {
            trouble.code = Code::DuplicateKey;
            Some(("this key or table is written twice", "keep one of the two, or put both under one heading"))
        }
        text if text.starts_with("string values must be quoted") && is_nothing => {
            Some(("a key without a value", "write a value after the `=`, or take the key away"))
        }
        text if text.starts_with("string values must be quoted") => {
            Some(("a text without quotes", "put it into quotes: \"…\""))
        }
        text if text.starts_with("unclosed table") => {
            Some(("this heading is not closed", "write `]` at its end, or `]]` where it began with `[[`"))
        }
        text if text.starts_with("integer number overflowed") => {
            Some(("this number is too large", "whole numbers go up to 9223372036854775807"))
        }
        _ => None,
    };
    if let Some((message, expected)) = trouble.message.split_once(", expected ") {
        (trouble.message, trouble.help) = (message.to_owned(), format!("{expected} is expected here"));
    } else {
        trouble.help = "TOML's syntax is described at toml.io".into();
    }
    if let Some((message, help)) = told {
        trouble.message = message.into();
        trouble.help = help.into();
    }
    trouble
}

fn place(span: Option<Range<usize>>, lines: &Lines<'_>) -> Position {
    span.map(|span| lines.position(span)).unwrap_or_default()
}

fn table(table: &dyn TableLike, lines: &Lines<'_>) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (name, item) in table.iter() {
        let position = place(table.key(name).and_then(|key| key.span()), lines);
        if let Some(node) = node(item, lines) {
            entries.push(Entry { key: name.to_owned(), position, node });
        }
    }
    entries
}

fn node(item: &Item, lines: &Lines<'_>) -> Option<Node> {
    let position = place(item.span(), lines);
    let value = match item {
        Item::None => return None,
        Item::Value(value) => return Some(of_value(value, lines)),
        Item::Table(inner) => Value::Table(table(inner, lines)),
        Item::ArrayOfTables(tables) => Value::List(
            tables.iter().map(|t| Node::new(Value::Table(table(t, lines)), place(t.span(), lines))).collect(),
        ),
    };
    Some(Node::new(value, position))
}

fn of_value(value: &Toml, lines: &Lines<'_>) -> Node {
    let position = place(value.span(), lines);
    let value = match value {
        Toml::String(text) => Value::Text(text.value().clone()),
        Toml::Integer(number) => Value::Integer(*number.value()),
        Toml::Float(number) => Value::Float(*number.value()),
        Toml::Boolean(boolean) => Value::Bool(*boolean.value()),
        Toml::Datetime(date) => Value::Text(date.value().to_string()),
        Toml::Array(array) => Value::List(elements(array, lines)),
        Toml::InlineTable(inner) => Value::Table(table(inner, lines)),
    };
    Node::new(value, position)
}

fn elements(array: &Array, lines: &Lines<'_>) -> Vec<Node> {
    array.iter().map(|value| of_value(value, lines)).collect()
}
