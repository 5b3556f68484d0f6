//! The JSON Schema of what people write, from the same types, and the reference made from it.

use std::{collections::BTreeMap, fmt::Write as _};

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::written::Configuration;

/// The JSON Schema (draft 2020-12) of a configuration file. `kinds` are the schemas of the settings of each kind of
/// middleware; without any, every kind is allowed.
pub fn schema(kinds: &BTreeMap<String, Value>) -> Value {
    let mut root = plain();
    if !kinds.is_empty() {
        add_kinds(&mut root, kinds);
    }
    let substitution = json!({
        "title": "variable",
        "description": "A variable that brings the value: `${NAME}` or `${NAME:-default}`.",
        "type": "string",
        "pattern": "^\\$\\{[A-Za-z_][A-Za-z0-9_]*(:-.*)?\\}$",
    });
    allow_variables(&mut root);
    if let Some(Value::Object(definitions)) = root.get_mut("$defs") {
        definitions.insert("Variable".into(), substitution);
    }
    root
}

/// Where a number, a boolean or a choice is expected, a text that is one variable will do.
fn allow_variables(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                match key.as_str() {
                    "enum" | "const" | "type" | "examples" | "default" | "required" => {}
                    _ => allow_variables(value),
                }
            }
            let of = |name: &str| {
                map.get("type").is_some_and(|kind| {
                    kind == name || kind.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == name))
                })
            };
            let text = of("string") && !map.contains_key("enum");
            if !text && (of("integer") || of("number") || of("boolean") || map.contains_key("enum")) {
                let mut outer = Map::new();
                for key in ["description", "title", "default"] {
                    if let Some(value) = map.shift_remove(key) {
                        outer.insert(key.into(), value);
                    }
                }
                let inner = Value::Object(std::mem::take(map));
                outer.insert("anyOf".into(), json!([inner, { "$ref": "#/$defs/Variable" }]));
                *map = outer;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(allow_variables),
        _ => {}
    }
}

fn add_kinds(root: &mut Value, kinds: &BTreeMap<String, Value>) {
    let mut properties = Map::new();
    let mut shared = Map::new();
    for (kind, schema) in kinds {
        let mut schema = schema.clone();
        if let Value::Object(map) = &mut schema {
            map.shift_remove("$schema");
            if let Some(Value::Object(own)) = map.shift_remove("$defs") {
                for (name, mut definition) in own {
                    rename(&mut definition, kind);
                    shared.insert(format!("{kind}.{name}"), definition);
                }
            }
        }
        rename(&mut schema, kind);
        // Settings may be left away where all have defaults.
        properties.insert(kind.clone(), json!({ "anyOf": [schema, { "const": true }] }));
    }
    if let Some(Value::Object(definitions)) = root.get_mut("$defs") {
        if let Some(Value::Object(middleware)) = definitions.get_mut("Middleware") {
            middleware.insert("properties".into(), Value::Object(properties));
            middleware.insert("additionalProperties".into(), json!(false));
        }
        definitions.extend(shared);
    }
}

/// The schema of the types, without the kinds of middleware.
fn plain() -> Value {
    let generator: SchemaGenerator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = Value::from(generator.into_root_schema_for::<Configuration>());
    if let Value::Object(map) = &mut schema {
        map.insert("title".into(), json!("Portcullis"));
    }
    schema
}

/// The definitions of a kind live beside those of the others, under its name.
fn rename(schema: &mut Value, kind: &str) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                match value {
                    Value::String(target) if key == "$ref" => {
                        if let Some(name) = target.strip_prefix("#/$defs/") {
                            *target = format!("#/$defs/{kind}.{name}");
                        }
                    }
                    other => rename(other, kind),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| rename(value, kind)),
        _ => {}
    }
}

/// What stands before the tables of the reference.
const INTRODUCTION: &str = include_str!("reference.md");

/// The configuration reference as Markdown: each table with its keys, their forms and what they mean.
pub fn reference_markdown() -> String {
    let root = plain();
    let mut reference = Reference { root: &root, out: INTRODUCTION.to_owned(), done: Vec::new() };
    reference.table("The whole file", &root);
    reference.out
}

struct Reference<'a> {
    root: &'a Value,
    out: String,
    done: Vec<String>,
}

impl Reference<'_> {
    /// A section for a table, then those for the tables that it mentions.
    fn table(&mut self, title: &str, schema: &Value) {
        let _ = writeln!(self.out, "\n## {title}\n");
        if let Some(text) =
            schema.get("description").and_then(Value::as_str).filter(|_| title != "The whole file")
        {
            let _ = writeln!(self.out, "{}\n", text.replace("\n\n", "\n").trim());
        }
        let mut mentioned = Vec::new();
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        self.out.push_str("| Key | Form | Meaning |\n|---|---|---|\n");
        for (key, property) in properties {
            let mut forms = Vec::new();
            forms_of(property, &mut forms, &mut mentioned);
            forms.dedup();
            let text = property.get("description").and_then(Value::as_str).unwrap_or("");
            let text = text.replace('\n', " ").replace('|', "\\|");
            let mark = if required.contains(&key.as_str()) { " (required)" } else { "" };
            let _ = writeln!(self.out, "| `{key}`{mark} | {} | {text} |", forms.join(", "));
        }
        for name in mentioned {
            if self.done.contains(&name) {
                continue;
            }
            self.done.push(name.clone());
            let root = self.root;
            if let Some(definition) = root.get("$defs").and_then(|definitions| definitions.get(&name)) {
                self.table(&words(&name), definition);
            }
        }
    }
}

/// How a value can be written, in words; definitions that it refers to are collected.
fn forms_of(schema: &Value, forms: &mut Vec<String>, mentioned: &mut Vec<String>) {
    let add = |forms: &mut Vec<String>, form: String| {
        if !forms.contains(&form) {
            forms.push(form);
        }
    };
    if let Some(name) =
        schema.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix("#/$defs/"))
    {
        mentioned.push(name.to_owned());
        add(
            forms,
            format!("[{}](#{})", words(name).to_lowercase(), words(name).to_lowercase().replace(' ', "-")),
        );
        return;
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        for part in schema.get(key).and_then(Value::as_array).into_iter().flatten() {
            forms_of(part, forms, mentioned);
        }
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        values.iter().filter_map(Value::as_str).for_each(|value| add(forms, format!("`{value}`")));
        return;
    }
    if let Some(value) = schema.get("const") {
        add(forms, format!("`{value}`"));
        return;
    }
    if let Some(title) = schema.get("title").and_then(Value::as_str) {
        add(forms, title.to_owned());
        return;
    }
    let types: Vec<&str> = match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    for kind in types {
        match kind {
            "null" => {}
            "boolean" => add(forms, "true/false".into()),
            "integer" => add(forms, "whole number".into()),
            "number" => add(forms, "number".into()),
            "string" => add(forms, "text".into()),
            "array" => {
                let mut items = Vec::new();
                if let Some(of) = schema.get("items") {
                    forms_of(of, &mut items, mentioned);
                }
                add(forms, format!("list of {}", items.join(" or ")));
            }
            "object" => match schema.get("additionalProperties") {
                Some(of) if of.is_object() => {
                    let mut values = Vec::new();
                    forms_of(of, &mut values, mentioned);
                    add(forms, format!("table of {}", values.join(" or ")));
                }
                _ => add(forms, "table".into()),
            },
            _ => {}
        }
    }
}

/// `ListenerTls` as a title: `Listener tls`.
fn words(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !text.is_empty() {
            text.push(' ');
            text.extend(c.to_lowercase());
        } else {
            text.push(c);
        }
    }
    text
}

/// The schema of one type, for whoever documents settings of its own.
pub fn schema_of<T: JsonSchema>() -> Value {
    Value::from(SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every object with named properties in the schema.
    fn objects<'a>(schema: &'a Value, out: &mut Vec<&'a Map<String, Value>>) {
        match schema {
            Value::Object(map) => {
                if let Some(Value::Object(properties)) = map.get("properties") {
                    out.push(properties);
                }
                map.values().for_each(|value| objects(value, out));
            }
            Value::Array(values) => values.iter().for_each(|value| objects(value, out)),
            _ => {}
        }
    }

    #[test]
    fn every_key_is_described() {
        let schema = plain();
        let mut all = Vec::new();
        objects(&schema, &mut all);
        assert!(all.len() > 20, "{}", all.len());
        for (key, property) in all.into_iter().flatten().filter(|(key, _)| *key != "key") {
            let text = property.get("description").and_then(Value::as_str).unwrap_or("");
            assert!(text.len() > 15, "`{key}` has no doc comment");
        }
    }

    #[test]
    fn kinds_get_their_place() {
        let kind = json!({
            "$schema": "x", "type": "object",
            "properties": { "a": { "$ref": "#/$defs/A" } },
            "$defs": { "A": { "type": "string" } }
        });
        let schema = schema(&BTreeMap::from([("demo".to_owned(), kind)]));
        let at = |pointer: &str| schema.pointer(pointer).cloned();
        let own = at("/$defs/Middleware/properties/demo/anyOf/0/properties/a/$ref");
        assert_eq!(own, Some(json!("#/$defs/demo.A")));
        assert_eq!(at("/$defs/demo.A"), Some(json!({ "type": "string" })));
        assert_eq!(at("/$defs/Middleware/additionalProperties"), Some(json!(false)));
    }

    #[test]
    fn a_variable_may_stand_for_a_number() {
        let schema = schema(&BTreeMap::new());
        let port = schema.pointer("/$defs/Server/properties/port").cloned().unwrap_or_default();
        assert_eq!(port.pointer("/anyOf/1/$ref"), Some(&json!("#/$defs/Variable")), "{port}");
        assert!(port.get("description").is_some());
        let host = schema.pointer("/$defs/Server/properties/host/anyOf");
        assert_eq!(host, None, "a text needs no second form");
    }
}
