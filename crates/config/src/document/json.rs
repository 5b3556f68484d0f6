//! JSON into the tree: RFC 8259, strictly, with the place of every value. (serde_json knows the place of a
//! syntax error only.)

use std::collections::HashSet;

use super::{
    MAX_DEPTH, Trouble,
    lines::Lines,
    node::{Entry, Node, Value},
};

pub(super) fn read(text: &str, lines: &Lines<'_>, troubles: &mut Vec<Trouble>) -> Result<Node, Trouble> {
    let mut reader = Reader { text, at: 0, depth: 0, lines, troubles };
    let root = reader.value()?;
    reader.blank();
    if reader.at < text.len() {
        return Err(
            reader.trouble("something follows the end of the document", "a JSON file holds one value")
        );
    }
    Ok(root)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    lines: &'a Lines<'a>,
    troubles: &'a mut Vec<Trouble>,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn blank(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    fn trouble(&self, message: impl Into<String>, help: &str) -> Trouble {
        Trouble::new(self.lines.position(self.at..self.at + 1), message, help)
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.rest().starts_with(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    fn value(&mut self) -> Result<Node, Trouble> {
        self.blank();
        let start = self.at;
        let value = match self.rest().chars().next() {
            Some('{') => self.nested(Self::table)?,
            Some('[') => self.nested(Self::list)?,
            Some('"') => Value::Text(self.string()?),
            Some('-' | '0'..='9') => self.number()?,
            Some(c) if c.is_ascii_alphabetic() => self.word()?,
            Some('/') => {
                return Err(self.trouble("JSON has no comments", "take it away, or write TOML or YAML"));
            }
            Some('\'') => return Err(self.trouble("a string in single quotes", "write it in double quotes")),
            Some(c) => return Err(self.trouble(format!("{c:?} starts no value"), "")),
            None => return Err(self.trouble("the text ends where a value should stand", "")),
        };
        Ok(Node::new(value, self.lines.position(start..self.at)))
    }

    fn nested(&mut self, read: impl Fn(&mut Self) -> Result<Value, Trouble>) -> Result<Value, Trouble> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.trouble(format!("nested more than {MAX_DEPTH} deep"), ""));
        }
        self.at += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn table(&mut self) -> Result<Value, Trouble> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen = HashSet::new();
        self.blank();
        if self.eat('}') {
            return Ok(Value::Table(entries));
        }
        loop {
            self.blank();
            let start = self.at;
            if !self.rest().starts_with('"') {
                let help = "keys are written in double quotes, and no comma stands before `}`";
                return Err(self.trouble("expected a key", help));
            }
            let key = self.string()?;
            let position = self.lines.position(start..self.at);
            self.blank();
            if !self.eat(':') {
                return Err(self.trouble("expected `:` after the key", ""));
            }
            let node = self.value()?;
            if !seen.insert(key.clone()) {
                self.troubles.push(Trouble::duplicate(position, &key));
            } else {
                entries.push(Entry { key, position, node });
            }
            self.blank();
            if self.eat('}') {
                return Ok(Value::Table(entries));
            }
            if !self.eat(',') {
                return Err(self.trouble("expected `,` or `}`", ""));
            }
        }
    }

    fn list(&mut self) -> Result<Value, Trouble> {
        let mut elements = Vec::new();
        self.blank();
        if self.eat(']') {
            return Ok(Value::List(elements));
        }
        loop {
            elements.push(self.value()?);
            self.blank();
            if self.eat(']') {
                return Ok(Value::List(elements));
            }
            if !self.eat(',') {
                return Err(self.trouble("expected `,` or `]`", ""));
            }
        }
    }

    /// The end is found here; the escapes inside are serde_json's.
    fn string(&mut self) -> Result<String, Trouble> {
        let start = self.at;
        let mut escaped = false;
        for (offset, c) in self.rest().char_indices().skip(1) {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => {
                    self.at = start + offset + 1;
                    let literal = self.text.get(start..self.at).unwrap_or("");
                    return serde_json::from_str(literal).map_err(|_| {
                        self.at = start;
                        self.trouble("a bad escape in this string", "write `\\\\` for a backslash")
                    });
                }
                c if c.is_control() && c != '\u{7f}' && (c as u32) < 0x20 => {
                    self.at = start + offset;
                    return Err(self.trouble("a control character in a string", "write `\\n` for a new line"));
                }
                _ => {}
            }
        }
        Err(self.trouble("this string never ends", "close it with a double quote"))
    }

    fn number(&mut self) -> Result<Value, Trouble> {
        let length = self
            .rest()
            .find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'))
            .unwrap_or(self.rest().len());
        let literal = self.rest().get(..length).unwrap_or("");
        let number: serde_json::Number = serde_json::from_str(literal).map_err(|_| {
            self.trouble(format!("`{literal}` is not a number"), "write texts in double quotes")
        })?;
        self.at += length;
        Ok(match number.as_i64() {
            Some(value) => Value::Integer(value),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        })
    }

    fn word(&mut self) -> Result<Value, Trouble> {
        let length = self.rest().find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(self.rest().len());
        let word = self.rest().get(..length).unwrap_or("");
        let value = match word {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "null" => Value::Null,
            _ => return Err(self.trouble(format!("`{word}` is not a value"), "write texts in double quotes")),
        };
        self.at += length;
        Ok(value)
    }
}
