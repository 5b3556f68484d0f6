//! How small values and short forms are read: a text (or a number, or a boolean) that stands for a value or for a
//! whole table.

use std::{fmt, marker::PhantomData, net::SocketAddr, time::Duration};

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeOwned, Error, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};

use crate::{
    model::{self, StatusRange},
    scalar::{self, Problem},
};

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

// What follows are the literals themselves.

/// Bytes: `512`, `"32 KiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

/// A share between 0 and 1: `0.2`, `"20%"`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio(pub f64);

/// A size, or `"unlimited"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaybeSize(pub Option<u64>);

/// The name of a header field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldName(pub String);

/// A method, upper-cased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodName(pub String);

/// A host: exact, `*.example.com`, or `*`.
#[derive(Debug, Clone, PartialEq)]
pub struct HostPattern(pub crate::rule::Matcher);

impl Literal for Duration {
    const EXPECTED: &'static str = "a duration such as \"10s\"";

    fn text(text: &str) -> Result<Self, Problem> {
        scalar::duration(text)
    }

    fn integer(value: i64) -> Option<Result<Self, Problem>> {
        Some(scalar::duration(&value.to_string()))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "title": "duration", "examples": ["10s", "1m30s", "250ms"] })
    }
}

impl Literal for Size {
    const EXPECTED: &'static str = "a size such as \"32 KiB\"";

    fn text(text: &str) -> Result<Self, Problem> {
        scalar::size(text).map(Size)
    }

    fn integer(value: i64) -> Option<Result<Self, Problem>> {
        Some(scalar::size(&value.to_string()).map(Size))
    }

    fn schema() -> Schema {
        json_schema!({ "type": ["string", "integer"], "title": "size", "examples": ["32 KiB", "10kB", 512] })
    }
}

impl Literal for MaybeSize {
    const EXPECTED: &'static str = "a size such as \"100 MiB\", or \"unlimited\"";

    fn text(text: &str) -> Result<Self, Problem> {
        if text.eq_ignore_ascii_case("unlimited") {
            return Ok(MaybeSize(None));
        }
        scalar::size(text).map(|size| MaybeSize(Some(size)))
    }

    fn integer(value: i64) -> Option<Result<Self, Problem>> {
        Some(scalar::size(&value.to_string()).map(|size| MaybeSize(Some(size))))
    }

    fn schema() -> Schema {
        json_schema!({ "type": ["string", "integer"], "title": "size or \"unlimited\"", "examples": ["100 MiB", "unlimited"] })
    }
}

impl Literal for Ratio {
    const EXPECTED: &'static str = "a share such as \"20%\" or 0.2";

    fn text(text: &str) -> Result<Self, Problem> {
        scalar::ratio(text).map(Ratio)
    }

    fn integer(value: i64) -> Option<Result<Self, Problem>> {
        Some(scalar::ratio_number(value as f64).map(Ratio))
    }

    fn float(value: f64) -> Option<Result<Self, Problem>> {
        Some(scalar::ratio_number(value).map(Ratio))
    }

    fn schema() -> Schema {
        json_schema!({ "type": ["string", "number"], "title": "share", "examples": ["20%", 0.2] })
    }
}

impl Literal for SocketAddr {
    const EXPECTED: &'static str = "an address such as \"0.0.0.0:8080\"";

    fn text(text: &str) -> Result<Self, Problem> {
        scalar::address(text)
    }

    fn integer(value: i64) -> Option<Result<Self, Problem>> {
        Some(scalar::address(&value.to_string()))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "title": "address", "examples": ["0.0.0.0:8080", "[::]:443", ":8080"] })
    }
}

impl Literal for IpNet {
    const EXPECTED: &'static str = "an address range such as \"10.0.0.0/8\"";

    fn text(text: &str) -> Result<Self, Problem> {
        scalar::net(text)
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "title": "address range", "examples": ["10.0.0.0/8", "192.168.1.7", "fd00::/8"] })
    }
}

impl Literal for StatusRange {
    const EXPECTED: &'static str = "a status such as 404, \"5xx\" or \"500-504\"";

    fn text(text: &str) -> Result<Self, Problem> {
        scalar::statuses(text)
    }

    fn integer(value: i64) -> Option<Result<Self, Problem>> {
        Some(scalar::statuses(&value.to_string()))
    }

    fn schema() -> Schema {
        json_schema!({ "type": ["string", "integer"], "title": "status", "examples": [404, "5xx", "500-504"] })
    }
}

impl Literal for FieldName {
    const EXPECTED: &'static str = "the name of a header";

    fn text(text: &str) -> Result<Self, Problem> {
        scalar::header_name(text).map(|name| FieldName(name.to_owned()))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "title": "header name" })
    }
}

impl Literal for MethodName {
    const EXPECTED: &'static str = "a method such as \"GET\"";

    fn text(text: &str) -> Result<Self, Problem> {
        scalar::method(text).map(MethodName)
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "title": "method", "examples": ["GET", "POST"] })
    }
}

impl Literal for HostPattern {
    const EXPECTED: &'static str = "a host such as \"example.com\" or \"*.example.com\"";

    fn text(text: &str) -> Result<Self, Problem> {
        crate::rule::matcher::host(text).map(HostPattern)
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "title": "host", "examples": ["example.com", "*.example.com"] })
    }
}

/// A choice by name: `_` or `-`, in any case. The first spelling of a value is the one that errors and the
/// schema show.
pub trait Choice: Sized + Copy + PartialEq + 'static {
    /// What is chosen, for errors: "a strategy".
    const WHAT: &'static str;
    /// Every spelling, in lower case with `_`.
    const ALL: &'static [(&'static str, Self)];
}

impl<T: Choice> Literal for T {
    const EXPECTED: &'static str = T::WHAT;

    fn text(text: &str) -> Result<Self, Problem> {
        let plain = text.trim().to_ascii_lowercase().replace('-', "_");
        if let Some((_, value)) = T::ALL.iter().find(|(name, _)| *name == plain) {
            return Ok(*value);
        }
        let help = crate::diagnostic::suggestion(text, shown::<T>(), "choices");
        Err(Problem::new(format!("`{text}` is not {}", T::WHAT), help))
    }

    fn integer(value: i64) -> Option<Result<Self, Problem>> {
        T::ALL.iter().any(|(name, _)| name.parse() == Ok(value)).then(|| T::text(&value.to_string()))
    }

    fn float(value: f64) -> Option<Result<Self, Problem>> {
        let text = value.to_string();
        T::ALL.iter().any(|(name, _)| *name == text).then(|| T::text(&text))
    }

    fn schema() -> Schema {
        let names: Vec<&str> = shown::<T>().collect();
        json_schema!({ "type": "string", "enum": names })
    }
}

/// The first spelling of each value.
fn shown<T: Choice>() -> impl Iterator<Item = &'static str> {
    let first = |at: usize, value: T| T::ALL.iter().position(|(_, other)| *other == value) == Some(at);
    T::ALL.iter().enumerate().filter(move |(at, (_, value))| first(*at, *value)).map(|(_, (name, _))| *name)
}

impl Choice for model::TlsVersion {
    const WHAT: &'static str = "a TLS version (\"1.2\" or \"1.3\")";
    const ALL: &'static [(&'static str, Self)] = &[
        ("1.2", Self::V12),
        ("1.3", Self::V13),
        ("tls1.2", Self::V12),
        ("tls1.3", Self::V13),
        ("tlsv1.2", Self::V12),
        ("tlsv1.3", Self::V13),
    ];
}

impl Choice for model::Doubtful {
    const WHAT: &'static str = "\"reject\" or \"keep\"";
    const ALL: &'static [(&'static str, Self)] = &[("reject", Self::Reject), ("keep", Self::Keep)];
}

impl Choice for model::SameSite {
    const WHAT: &'static str = "\"none\", \"lax\" or \"strict\"";
    const ALL: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("lax", Self::Lax), ("strict", Self::Strict)];
}

impl Choice for model::UpstreamHttp {
    const WHAT: &'static str = "\"auto\", \"1\" or \"2\"";
    const ALL: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        ("1", Self::Http1),
        ("2", Self::Http2),
        ("1.1", Self::Http1),
        ("h1", Self::Http1),
        ("h2", Self::Http2),
        ("http1", Self::Http1),
        ("http2", Self::Http2),
        ("http/1.1", Self::Http1),
        ("http/2", Self::Http2),
    ];
}

impl Choice for model::AccessLogFormat {
    const WHAT: &'static str = "\"json\", \"common\" or \"short\"";
    const ALL: &'static [(&'static str, Self)] =
        &[("json", Self::Json), ("common", Self::Common), ("short", Self::Short), ("clf", Self::Common)];
}

impl Choice for model::LogFormat {
    const WHAT: &'static str = "\"text\" or \"json\"";
    const ALL: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}
