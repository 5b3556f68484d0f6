//! How small values and short forms are read: a text (or a number, or a boolean) that stands for a value or for a
//! whole table.

mod choices;
mod values;

use std::{fmt, marker::PhantomData};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeOwned, Error, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};

pub use choices::Choice;
pub use values::{CookieAge, FieldName, HostPattern, MaybeSize, MethodName, Ratio, Size};

use crate::scalar::Problem;

/// A value that a text, and sometimes a number or a boolean, can stand for.
pub trait Literal: Sized {
    /// What an error says was expected.
    const EXPECTED: &'static str;

    /// From a text.
    fn text(text: &str) -> Result<Self, Problem>;

    /// From a whole number; `None` when there is no such form.
    fn integer(_: i64) -> Option<Result<Self, Problem>> {
        None
    }

    /// From another number; `None` when there is no such form.
    fn float(_: f64) -> Option<Result<Self, Problem>> {
        None
    }

    /// From a boolean; `None` when there is no such form.
    fn boolean(_: bool) -> Option<Result<Self, Problem>> {
        None
    }

    /// The JSON Schema of these forms.
    fn schema() -> Schema;
}

/// A value written as a literal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lit<T>(pub T);

/// A table, or the short form that stands for one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OrTable<T>(pub T);

/// One value, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

struct Forms<T> {
    table: bool,
    of: PhantomData<T>,
}

/// What is read from a table, when a table is allowed.
trait Table: Sized {
    fn table<'de, A: MapAccess<'de>>(map: A) -> Result<Self, A::Error>;
}

fn said<T, E: Error>(
    result: Option<Result<T, Problem>>,
    found: Unexpected<'_>,
    expected: &dyn Expected,
) -> Result<T, E> {
    match result {
        Some(result) => result.map_err(Problem::into_error),
        None => Err(E::invalid_type(found, expected)),
    }
}

impl<T: DeserializeOwned> Table for OrTable<T> {
    fn table<'de, A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(OrTable)
    }
}

impl<T: Literal> Table for Lit<T> {
    fn table<'de, A: MapAccess<'de>>(_: A) -> Result<Self, A::Error> {
        Err(A::Error::invalid_type(Unexpected::Map, &T::EXPECTED))
    }
}

impl<T> From<T> for Lit<T> {
    fn from(value: T) -> Self {
        Lit(value)
    }
}

impl<T> From<T> for OrTable<T> {
    fn from(value: T) -> Self {
        OrTable(value)
    }
}

struct LiteralVisitor<T, W>(Forms<(T, W)>);

impl<'de, T: Literal, W: From<T> + Table> Visitor<'de> for LiteralVisitor<T, W> {
    type Value = W;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)?;
        if self.0.table { f.write_str(" or a table") } else { Ok(()) }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<W, E> {
        T::text(text).map(W::from).map_err(Problem::into_error)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<W, E> {
        said(T::integer(value), Unexpected::Signed(value), &self).map(W::from)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<W, E> {
        let known = i64::try_from(value).ok().and_then(T::integer);
        said(known, Unexpected::Unsigned(value), &self).map(W::from)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<W, E> {
        said(T::float(value), Unexpected::Float(value), &self).map(W::from)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<W, E> {
        said(T::boolean(value), Unexpected::Bool(value), &self).map(W::from)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<W, A::Error> {
        W::table(map)
    }
}

impl<'de, T: Literal> Deserialize<'de> for Lit<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LiteralVisitor::<T, Self>(Forms { table: false, of: PhantomData }))
    }
}

impl<'de, T: Literal + DeserializeOwned> Deserialize<'de> for OrTable<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LiteralVisitor::<T, Self>(Forms { table: true, of: PhantomData }))
    }
}

struct OneOrManyVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrManyVisitor<T> {
    type Value = OneOrMany<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or a list of values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(seq)).map(OneOrMany)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        T::deserialize(text.into_deserializer()).map(|one| OneOrMany(vec![one]))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        T::deserialize(value.into_deserializer()).map(|one| OneOrMany(vec![one]))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        T::deserialize(value.into_deserializer()).map(|one| OneOrMany(vec![one]))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|one| OneOrMany(vec![one]))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrManyVisitor(PhantomData))
    }
}

impl<T: Literal> JsonSchema for Lit<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::EXPECTED.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        T::schema()
    }
}

impl<T: Literal + JsonSchema> JsonSchema for OrTable<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("{} or short", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [T::schema(), generator.subschema_for::<T>()] })
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("one or many {}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}
