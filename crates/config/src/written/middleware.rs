//! `[middlewares.NAME]`, and middlewares written in place.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Unexpected, Visitor, value::MapAccessDeserializer},
};

use crate::scalar::Problem;

/// A middleware: a table with exactly one key, its kind, whose value are its settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Middleware {
    /// As written.
    pub kind: String,
    /// As written; judged by the kind.
    pub settings: Settings,
}

/// Settings that only a kind of middleware can read. `true` and nothing stand for an empty table.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings(pub serde_json::Value);

/// A middleware asked for: by name, or written in place.
#[derive(Debug, Clone, PartialEq)]
pub enum MiddlewareUse {
    /// `auth`, or `auth@docker` for one of another provider.
    Name(String),
    /// `{ strip_prefix = { … } }`.
    InPlace(Middleware),
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde_json::Value;
        let value = Value::deserialize(deserializer)?;
        match value {
            Value::Null | Value::Bool(true) => Ok(Settings(Value::Object(serde_json::Map::new()))),
            Value::Bool(false) => {
                let help = "leave it away where it is not wanted";
                Err(Problem::new("a middleware cannot be switched off by `false`", help).into_error())
            }
            other => Ok(Settings(other)),
        }
    }
}

struct MiddlewareVisitor;

impl<'de> Visitor<'de> for MiddlewareVisitor {
    type Value = Middleware;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table with the kind of the middleware as its key, such as { compress = {} }")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Middleware, A::Error> {
        let Some(kind) = map.next_key::<String>()? else {
            let help = "write its kind as the key: strip_prefix = { … }";
            return Err(Problem::new("a middleware without a kind", help).into_error());
        };
        let settings = map.next_value::<Settings>()?;
        if let Some(second) = map.next_key::<String>()? {
            let help =
                "give each a middleware of its own; a route asks them in the order of its `middlewares`";
            return Err(Problem::new(format!("two kinds in one middleware: `{kind}` and `{second}`"), help)
                .into_error());
        }
        Ok(Middleware { kind, settings })
    }
}

impl<'de> Deserialize<'de> for Middleware {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MiddlewareVisitor)
    }
}

struct UseVisitor;

impl<'de> Visitor<'de> for UseVisitor {
    type Value = MiddlewareUse;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a middleware, or a table with its kind")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<MiddlewareUse, E> {
        if name.is_empty() {
            return Err(E::invalid_value(Unexpected::Str(name), &self));
        }
        Ok(MiddlewareUse::Name(name.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<MiddlewareUse, A::Error> {
        Middleware::deserialize(MapAccessDeserializer::new(map)).map(MiddlewareUse::InPlace)
    }
}

impl<'de> Deserialize<'de> for MiddlewareUse {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UseVisitor)
    }
}

impl JsonSchema for Settings {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Settings".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object" })
    }
}

/// `schema()` puts the kinds with their settings here.
impl JsonSchema for Middleware {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Middleware".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A middleware: a table with exactly one key, its kind, whose value are its settings. The kinds, each with its\nsettings, are described in [middlewares](middlewares/).",
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1,
        })
    }
}

impl JsonSchema for MiddlewareUse {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MiddlewareUse".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "string", "title": "name of a middleware" },
                generator.subschema_for::<Middleware>(),
            ]
        })
    }
}
