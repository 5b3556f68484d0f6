//! YAML 1.2 into the tree, over the events of `saphyr-parser`. Anchors and merge keys (`<<`) are expanded, within
//! a bound, so that a few lines cannot become gigabytes.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::{
    MAX_DEPTH, Trouble,
    node::{Entry, Node, Position, Value},
};

/// Nodes that aliases may add to a document.
const MAX_EXPANDED: usize = 100_000;

pub(super) fn read(text: &str, troubles: &mut Vec<Trouble>) -> Result<Node, Trouble> {
    let parser = Parser::new_from_str(text);
    let mut reader = Reader { parser, anchors: HashMap::new(), expanded: 0, troubles };
    let mut root = None;
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => break,
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            _ if root.is_some() => {
                let help = "put everything into one document";
                return Err(Trouble::new(place(span), "a second document in the file", help));
            }
            event => root = Some(reader.node(event, span, 0)?),
        }
    }
    Ok(root.unwrap_or_else(Node::empty))
}

struct Reader<'a, 't> {
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, (Node, usize)>,
    expanded: usize,
    troubles: &'t mut Vec<Trouble>,
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn place(span: Span) -> Position {
    let width = if span.start.line() == span.end.line() {
        span.end.col().saturating_sub(span.start.col())
    } else {
        1
    };
    Position {
        line: number(span.start.line()),
        column: number(span.start.col() + 1),
        width: number(width.max(1)),
    }
}

fn scan_error(error: &ScanError) -> Trouble {
    let marker = error.marker();
    let position = Position { line: number(marker.line()), column: number(marker.col() + 1), width: 1 };
    Trouble::new(position, error.info().to_owned(), "")
}

impl<'a> Reader<'a, '_> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Trouble> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(scan_error(&error)),
            None => Err(Trouble::new(Position::start(), "the text ends too early", "")),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Trouble> {
        let position = place(span);
        if depth > MAX_DEPTH {
            return Err(Trouble::new(position, format!("nested more than {MAX_DEPTH} deep"), ""));
        }
        let (anchor, node) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let forced = tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
                let plain = style == ScalarStyle::Plain && !forced;
                let value = if plain { plain_scalar(&text) } else { Value::Text(text.into_owned()) };
                (anchor, Node::new(value, position))
            }
            Event::SequenceStart(anchor, _) => (anchor, Node::new(self.list(depth)?, position)),
            Event::MappingStart(anchor, _) => (anchor, Node::new(self.table(depth)?, position)),
            Event::Alias(id) => return self.alias(id, position),
            _ => return Err(Trouble::new(position, "expected a value", "")),
        };
        if anchor != 0 {
            let size = size(&node);
            self.anchors.insert(anchor, (node.clone(), size));
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, position: Position) -> Result<Node, Trouble> {
        let Some((node, size)) = self.anchors.get(&id) else {
            return Err(Trouble::new(position, "an alias of an anchor that is not finished", ""));
        };
        self.expanded = self.expanded.saturating_add(*size);
        if self.expanded > MAX_EXPANDED {
            let message = format!("the aliases of this file expand to more than {MAX_EXPANDED} values");
            return Err(Trouble::new(position, message, "write the values out"));
        }
        let depth = depth_of(node);
        if depth > MAX_DEPTH {
            return Err(Trouble::new(position, format!("nested more than {MAX_DEPTH} deep"), ""));
        }
        Ok(node.clone())
    }

    fn list(&mut self, depth: usize) -> Result<Value, Trouble> {
        let mut elements = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(Value::List(elements));
            }
            elements.push(self.node(event, span, depth + 1)?);
        }
    }

    fn table(&mut self, depth: usize) -> Result<Value, Trouble> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen = HashSet::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let position = place(span);
            let key = match &event {
                Event::Scalar(text, ..) => text.to_string(),
                _ => return Err(Trouble::new(position, "a key must be a plain text", "")),
            };
            let plain = matches!(event, Event::Scalar(_, ScalarStyle::Plain, ..));
            let (event, span) = self.next()?;
            let node = self.node(event, span, depth + 1)?;
            if plain && key == "<<" {
                merged.push(node);
            } else if !seen.insert(key.clone()) {
                self.troubles.push(Trouble::duplicate(position, &key));
            } else {
                entries.push(Entry { key, position, node });
            }
        }
        for node in merged {
            merge(&mut entries, node)?;
        }
        Ok(Value::Table(entries))
    }
}

/// `<<: *base` and `<<: [*a, *b]`: keys that are not written here come from there.
fn merge(entries: &mut Vec<Entry>, node: Node) -> Result<(), Trouble> {
    match node.value {
        Value::Table(more) => {
            for entry in more {
                if !entries.iter().any(|own| own.key == entry.key) {
                    entries.push(entry);
                }
            }
            Ok(())
        }
        Value::List(nodes) => nodes.into_iter().try_for_each(|node| match node.value {
            Value::Table(_) => merge(entries, node),
            _ => Err(Trouble::new(node.position, "`<<` takes tables", "write `<<: *anchor`")),
        }),
        _ => Err(Trouble::new(node.position, "`<<` takes a table", "write `<<: *anchor`")),
    }
}

fn size(node: &Node) -> usize {
    1 + node.elements().iter().map(size).sum::<usize>()
        + node.entries().iter().map(|e| size(&e.node)).sum::<usize>()
}

fn depth_of(node: &Node) -> usize {
    let below = node.elements().iter().chain(node.entries().iter().map(|e| &e.node)).map(depth_of).max();
    1 + below.unwrap_or(0)
}

/// The core schema of YAML 1.2 §10.3.2: `yes`, `on` and `0777` are not what they were in 1.1.
fn plain_scalar(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.trim_start_matches(['+', '-']);
    let decimal =
        !digits.is_empty() && text.len() - digits.len() <= 1 && digits.bytes().all(|b| b.is_ascii_digit());
    if decimal && let Ok(value) = text.parse() {
        return Value::Integer(value);
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(value) =
            text.strip_prefix(prefix).and_then(|digits| i64::from_str_radix(digits, radix).ok())
        {
            return Value::Integer(value);
        }
    }
    let float = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'-' | b'+'))
        && digits.bytes().any(|b| b.is_ascii_digit());
    if float && let Ok(value) = text.parse() {
        return Value::Float(value);
    }
    Value::Text(text.to_owned())
}
