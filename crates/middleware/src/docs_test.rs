//! Holds `docs/middlewares/` to the table: each kind has a page, its example and settings are those of the code, and the
//! index names them all. `UPDATE_GOLDEN=1 cargo test -p portcullis-middleware docs` writes the generated parts anew.

use std::{fmt::Write, fs, path::PathBuf};

use portcullis_core::middleware::Row;
use serde_json::{Map, Value};

use crate::TABLE;

const BEGIN: &str = "<!-- generated from the code: do not edit -->\n";
const END: &str = "<!-- end of the generated part -->\n";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/middlewares")
}

/// The text between the marks of a page is what the code says, or becomes it.
fn hold(page: &str, generated: &str) {
    let path = folder().join(page);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?)));
    let Some((before, (now, behind))) = parts else {
        panic!("{page} has no generated part: {BEGIN}…{END}")
    };
    if now == generated {
        return;
    }
    assert!(
        std::env::var_os("UPDATE_GOLDEN").is_some(),
        "{page} is not up to date: run again with UPDATE_GOLDEN=1"
    );
    fs::write(&path, format!("{before}{BEGIN}{generated}{END}{behind}")).unwrap();
}

#[test]
fn docs_have_a_page_for_each_kind() {
    for row in TABLE {
        let page = format!("{}.md", row.name);
        let mut text = format!("\n```toml\n[middlewares.example.{}]\n{}\n```\n\n", row.name, row.example);
        text.push_str("## Settings\n\n| Setting | Type | Default | Meaning |\n|---|---|---|---|\n");
        let schema = (row.schema)().to_value();
        settings(&schema, &schema, "", &mut text);
        text.push('\n');
        hold(&page, &text);
        let whole = fs::read_to_string(folder().join(&page)).unwrap();
        assert!(
            whole.starts_with(&format!("# {}\n\n{}", row.name, row.summary)),
            "{page}: title and summary"
        );
        assert!(whole.contains("\n## Order\n"), "{page} says nothing about order");
    }
}

#[test]
fn docs_index_names_all_kinds() {
    let mut text = String::from("\n| Kind | What it does |\n|---|---|\n");
    for row in TABLE {
        let Row { name, summary, .. } = row;
        writeln!(text, "| [`{name}`]({name}.md) | {summary} |").unwrap();
    }
    text.push('\n');
    hold("README.md", &text);
}

#[test]
fn docs_have_no_page_of_a_kind_that_is_gone() {
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let kind = name.strip_suffix(".md").unwrap();
        assert!(kind == "README" || crate::find(kind).is_some(), "{name}");
    }
}

/// One line per setting; those of inner tables by their path.
fn settings(root: &Value, table: &Value, prefix: &str, out: &mut String) {
    let required: Vec<&str> = table
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for (key, field) in table.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let inner = resolve(root, field);
        if inner.get("properties").is_some() {
            settings(root, inner, &format!("{prefix}{key}."), out);
            continue;
        }
        let default = match field.get("default") {
            _ if required.contains(&key.as_str()) => "required".to_owned(),
            None | Some(Value::Null) => "none".to_owned(),
            Some(Value::Array(all)) if all.is_empty() => "none".to_owned(),
            Some(Value::Object(all)) if all.is_empty() => "none".to_owned(),
            Some(value) => format!("`{value}`"),
        };
        let meaning = field.get("description").and_then(Value::as_str).unwrap_or_default().replace('\n', " ");
        let kind = kind_of(root, inner).replace('|', "\\|");
        writeln!(out, "| `{prefix}{key}` | {kind} | {default} | {} |", meaning.replace('|', "\\|")).unwrap();
    }
}

fn resolve<'a>(root: &'a Value, at: &'a Value) -> &'a Value {
    if let Some(reference) = at.get("$ref").and_then(Value::as_str) {
        return resolve(root, root.pointer(reference.trim_start_matches('#')).unwrap());
    }
    at
}

/// A type in words.
fn kind_of(root: &Value, schema: &Value) -> String {
    let schema = resolve(root, schema);
    if let Some(format @ ("size" | "time")) = schema.get("format").and_then(Value::as_str) {
        return format.to_owned();
    }
    if let Some(value) = schema.get("const") {
        return format!("`{value}`");
    }
    if let Some(all) = schema.get("enum").and_then(Value::as_array) {
        return all.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
    }
    for choice in ["oneOf", "anyOf"] {
        if let Some(all) = schema.get(choice).and_then(Value::as_array) {
            let null = |one: &&Value| one.get("type").is_none_or(|kind| kind != "null");
            let kinds: Vec<_> = all.iter().filter(null).map(|one| kind_of(root, one)).collect();
            if let [one, many] = kinds.as_slice()
                && *many == format!("list of {one}")
            {
                return format!("{one}; or a list of these");
            }
            return kinds.join(if choice == "oneOf" { ", " } else { " or " });
        }
    }
    let kind = match schema.get("type") {
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).find(|kind| *kind != "null"),
        kind => kind.and_then(Value::as_str),
    };
    match kind.unwrap_or_default() {
        "array" => format!("list of {}", kind_of(root, schema.get("items").unwrap())),
        "object" => table_kind(root, schema),
        other => other.to_owned(),
    }
}

fn table_kind(root: &Value, schema: &Value) -> String {
    match schema.get("properties").and_then(Value::as_object).map(Map::iter) {
        Some(fields) => {
            let fields: Vec<_> =
                fields.map(|(key, field)| format!("{key} = {}", kind_of(root, field))).collect();
            format!("`{{ {} }}`", fields.join(", "))
        }
        None => format!("table of {}", kind_of(root, schema.get("additionalProperties").unwrap())),
    }
}
