//! The JSON Schema of what people write, with the settings of every kind of middleware in their place.

use serde_json::Value;

/// The schema, from the types that the reader uses.
pub fn schema() -> Value {
    schemars::schema_for!(portcullis_config::written::Configuration).to_value()
}
