//! The JSON Schema of what people write, from the types that the reader uses, with the settings of every kind of
//! middleware in their place.

use std::collections::BTreeMap;

use serde_json::Value;

/// The schema.
pub fn schema() -> Value {
    let kinds: BTreeMap<String, Value> = portcullis_middleware::TABLE
        .iter()
        .map(|row| (row.name.to_owned(), (row.schema)().to_value()))
        .collect();
    portcullis_config::schema(&kinds)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every reference in the schema.
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(object) => {
                found.extend(object.get("$ref").and_then(Value::as_str));
                object.values().for_each(|value| references(value, found));
            }
            Value::Array(all) => all.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_kind_is_in_it_and_every_reference_leads_somewhere() {
        let schema = schema();
        let kinds = schema["$defs"]["Middleware"]["properties"].as_object().expect("kinds");
        assert_eq!(kinds.len(), portcullis_middleware::TABLE.len());
        assert!(schema["properties"]["routes"].is_object());
        let mut found = Vec::new();
        references(&schema, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let pointer = reference.strip_prefix('#').expect("a reference within the schema");
            assert!(schema.pointer(pointer).is_some(), "{reference}");
        }
    }
}
