//! The tree: a value, and where it was written.

use super::path::{Path, Step};

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// From 1; 0 when there is no text.
    pub line: u32,
    /// In characters, from 1; 0 when there is no text.
    pub column: u32,
    /// Characters covered in that line, at least 1.
    pub width: u32,
}

impl Position {
    /// The first character.
    pub fn start() -> Self {
        Self { line: 1, column: 1, width: 1 }
    }
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What was written.
    pub value: Value,
    /// Where.
    pub position: Position,
    /// The text consisted of one substitution alone (`"${PORT}"`), so that it may become a number or a boolean
    /// where one is asked for.
    pub substituted: bool,
}

/// What can be written.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// YAML's and JSON's null.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// Text; TOML's dates arrive as their text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A table, in the order written.
    Table(Vec<Entry>),
    /// Something that was wrong and reported; readers pass over it, so that the rest can be judged.
    Removed,
}

/// One key of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// As written.
    pub key: String,
    /// Where the key stands.
    pub position: Position,
    /// Its value.
    pub node: Node,
}

impl Node {
    /// A value at a place.
    pub fn new(value: Value, position: Position) -> Self {
        Self { value, position, substituted: false }
    }

    /// A table without entries and without a place.
    pub fn empty() -> Self {
        Self::new(Value::Table(Vec::new()), Position::default())
    }

    /// The value of a key, if this is a table that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Table(entries) => {
                entries.iter().find(|e| e.key == key && e.node.value != Value::Removed).map(|e| &e.node)
            }
            _ => None,
        }
    }

    /// The entries of a table; nothing for anything else.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Table(entries) => entries,
            _ => &[],
        }
    }

    /// The elements of a list; nothing for anything else.
    pub fn elements(&self) -> &[Node] {
        match &self.value {
            Value::List(elements) => elements,
            _ => &[],
        }
    }

    /// Indices of the elements that were not removed.
    pub fn survivors(&self) -> Vec<usize> {
        let alive = |(at, node): (usize, &Node)| (node.value != Value::Removed).then_some(at);
        self.elements().iter().enumerate().filter_map(alive).collect()
    }

    fn step(&self, step: &Step) -> Option<(&Node, Position)> {
        match (step, &self.value) {
            (Step::Key(key), Value::Table(entries)) => {
                entries.iter().find(|entry| *entry.key == **key).map(|entry| (&entry.node, entry.position))
            }
            (Step::Index(index), Value::List(nodes)) => nodes.get(*index).map(|node| (node, node.position)),
            _ => None,
        }
    }

    /// The node at a path.
    pub fn at(&self, path: &Path) -> Option<&Node> {
        path.0.iter().try_fold(self, |node, step| node.step(step).map(|(node, _)| node))
    }

    /// The node at a path, to change it.
    pub fn at_mut(&mut self, path: &Path) -> Option<&mut Node> {
        path.0.iter().try_fold(self, |node, step| match (step, &mut node.value) {
            (Step::Key(key), Value::Table(entries)) => {
                entries.iter_mut().find(|entry| *entry.key == **key).map(|entry| &mut entry.node)
            }
            (Step::Index(index), Value::List(nodes)) => nodes.get_mut(*index),
            _ => None,
        })
    }

    /// Where the node at a path stands (with `key`, its key), or the nearest one around it.
    pub fn position_of(&self, path: &Path, key: bool) -> Position {
        let mut node = self;
        let mut position = Position { width: 1, ..self.position };
        for (at, step) in path.0.iter().enumerate() {
            let Some((next, key_position)) = node.step(step) else { break };
            node = next;
            let last = at + 1 == path.0.len();
            let container = matches!(node.value, Value::Table(_) | Value::List(_) | Value::Null);
            // A table is shown by its key: its own place is a brace, or nowhere at all.
            position = if (last && key) || container || node.position.line == 0 {
                key_position
            } else {
                node.position
            };
        }
        if position.line == 0 { Position { line: 0, column: 0, width: 1 } } else { position }
    }

    /// As JSON; what was removed is left out.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null | Value::Removed => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Integer(value) => Json::from(*value),
            Value::Float(value) => Json::from(*value),
            Value::Text(value) => Json::String(value.clone()),
            Value::List(nodes) => {
                Json::Array(nodes.iter().filter(|n| n.value != Value::Removed).map(Node::to_json).collect())
            }
            Value::Table(entries) => Json::Object(
                entries
                    .iter()
                    .filter(|entry| entry.node.value != Value::Removed)
                    .map(|entry| (entry.key.clone(), entry.node.to_json()))
                    .collect(),
            ),
        }
    }

    /// From JSON, without places.
    pub fn of_json(json: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        let value = match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => match number.as_i64() {
                Some(value) => Value::Integer(value),
                None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(value) => Value::Text(value.clone()),
            Json::Array(values) => Value::List(values.iter().map(Node::of_json).collect()),
            Json::Object(map) => Value::Table(
                map.iter()
                    .map(|(key, value)| Entry {
                        key: key.clone(),
                        position: Position::default(),
                        node: Node::of_json(value),
                    })
                    .collect(),
            ),
        };
        Self::new(value, Position::default())
    }
}
