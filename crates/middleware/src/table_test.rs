//! Proves every row of the table.

use portcullis_core::middleware::Row;
use serde_json::{Map, Value, json};

use crate::{TABLE, find, testing::try_build};

fn example(row: &Row) -> Value {
    toml::from_str::<Value>(row.example).unwrap_or_else(|error| panic!("{}: {error}", row.name))
}

#[test]
fn rows_are_sorted_and_unique() {
    for pair in TABLE.windows(2) {
        assert!(pair[0].name < pair[1].name, "{} stands before {}", pair[0].name, pair[1].name);
    }
    for row in TABLE {
        assert!(row.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", row.name);
        assert!(row.summary.ends_with('.'), "{}: {}", row.name, row.summary);
        assert_eq!(find(row.name).map(|found| found.name), Some(row.name));
    }
    assert!(find("nonsense").is_none());
}

#[test]
fn every_example_builds() {
    for row in TABLE {
        if let Err(problem) = try_build(row.name, example(row)) {
            panic!("{}: {problem}", row.name);
        }
    }
}

#[test]
fn unknown_fields_are_refused_at_every_depth() {
    for row in TABLE {
        refuse_unknown(row, &example(row), &mut Vec::new());
    }
}

/// Puts an unknown key into the table at `path` of an example, and into those below it.
fn refuse_unknown(row: &Row, whole: &Value, path: &mut Vec<String>) {
    let pointer: String = path.iter().map(|key| format!("/{key}")).collect();
    let Some(Value::Object(table)) = whole.pointer(&pointer) else { return };
    if !is_free(row, path) {
        let mut wrong = whole.clone();
        let place = wrong.pointer_mut(&pointer).and_then(Value::as_object_mut).unwrap();
        place.insert("no_such_key".into(), json!(true));
        let problem =
            try_build(row.name, wrong).err().unwrap_or_else(|| panic!("{} took it at {pointer:?}", row.name));
        assert!(problem.message.contains("unknown field `no_such_key`"), "{}: {problem}", row.name);
    }
    for key in table.keys() {
        path.push(key.clone());
        refuse_unknown(row, whole, path);
        path.pop();
    }
}

/// Are the keys of this table the user's own (header names)?
fn is_free(row: &Row, path: &[String]) -> bool {
    let schema = (row.schema)().to_value();
    let mut at = &schema;
    for key in path {
        match resolve(&schema, at).get("properties").and_then(|all| all.get(key)) {
            Some(next) => at = next,
            None => return true,
        }
    }
    resolve(&schema, at).get("properties").is_none()
}

/// Follows `$ref`, and takes what is not null of `anyOf`.
fn resolve<'a>(root: &'a Value, at: &'a Value) -> &'a Value {
    if let Some(reference) = at.get("$ref").and_then(Value::as_str) {
        return resolve(root, root.pointer(reference.trim_start_matches('#')).unwrap());
    }
    let alternatives = at.get("anyOf").and_then(Value::as_array);
    let real = alternatives.and_then(|all| all.iter().find(|one| one.get("$ref").is_some()));
    real.map_or(at, |one| resolve(root, one))
}

#[test]
fn every_field_is_described() {
    for row in TABLE {
        let schema = (row.schema)().to_value();
        let mut tables: Vec<&Value> = vec![&schema];
        tables.extend(schema.get("$defs").and_then(Value::as_object).into_iter().flat_map(Map::values));
        for table in tables {
            for (key, field) in table.get("properties").and_then(Value::as_object).into_iter().flatten() {
                let text = field.get("description").and_then(Value::as_str).unwrap_or_default();
                assert!(
                    text.ends_with('.') && text.len() > 10,
                    "{}: `{key}` is described as {text:?}",
                    row.name
                );
            }
        }
        assert_eq!(schema.get("additionalProperties"), Some(&json!(false)), "{}", row.name);
    }
}
