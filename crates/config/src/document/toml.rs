//! TOML into the tree, by `toml_edit`, which keeps the place of every value.

use std::ops::Range;

use toml_edit::{Array, Item, TableLike, Value as Toml};

use super::{
    Trouble,
    lines::Lines,
    node::{Entry, Node, Position, Value},
};
use crate::diagnostic::Code;

pub(super) fn read(text: &str, lines: &Lines<'_>) -> Result<Node, Trouble> {
    let document = toml_edit::Document::parse(text).map_err(|error| {
        let position = lines.position(error.span().unwrap_or(0..0));
        let message = error.message().trim().replace('\n', "; ");
        let mut trouble = Trouble::new(position, message, "");
        if trouble.message.starts_with("duplicate key") {
            trouble.code = Code::DuplicateKey;
            trouble.message = "this key or table is written twice".into();
            trouble.help = "keep one of the two, or put both under one heading".into();
        }
        trouble
    })?;
    let value = Value::Table(table(document.as_table(), lines));
    Ok(Node::new(value, Position::start()))
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
