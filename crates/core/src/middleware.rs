//! Middlewares: they look at or change a request or its answer, or answer themselves.

use std::{path::Path, sync::Arc};

use schemars::{JsonSchema, Schema};
use serde::de::DeserializeOwned;

use crate::{Answer, BoxFuture, Error, Exchange};

/// One configured middleware. Shared by all requests; its state is its own business.
pub trait Middleware: Send + Sync + 'static {
    /// Asked before forwarding, in the order written.
    ///
    /// # Errors
    /// An error ends the request; `answer.rs` says how.
    fn on_request<'a>(&'a self, x: &'a mut Exchange) -> Result<Flow<'a>, Error> {
        let _ = x;
        Ok(Flow::Next)
    }

    /// Told of the answer, in reverse order, if it was asked: also when another middleware answered or an error did.
    ///
    /// # Errors
    /// An error replaces the answer.
    fn on_response<'a>(&'a self, x: &'a mut Exchange, answer: &'a mut Answer) -> Result<Done<'a>, Error> {
        let _ = (x, answer);
        Ok(Done::Now)
    }
}

/// What a middleware says to a request.
pub enum Flow<'a> {
    /// Go on.
    Next,
    /// This is the answer; nothing further is asked.
    Answer(Answer),
    /// It must wait for something first.
    Wait(BoxFuture<'a, Result<Decision, Error>>),
}

/// What a middleware says after waiting.
pub enum Decision {
    /// Go on.
    Next,
    /// This is the answer.
    Answer(Answer),
}

/// What a middleware says to an answer.
pub enum Done<'a> {
    /// Done.
    Now,
    /// It must wait for something first.
    Wait(BoxFuture<'a, Result<(), Error>>),
}

/// The settings of one kind of middleware, and how to build it: everything that the kind's row needs.
pub trait MiddlewareKind: DeserializeOwned + JsonSchema {
    /// As written in the configuration, `strip_prefix`.
    const NAME: &'static str;
    /// One sentence for the reference.
    const SUMMARY: &'static str;
    /// Settings in TOML that build, for the reference and for the table's test.
    const EXAMPLE: &'static str;

    /// Compiles the settings.
    ///
    /// # Errors
    /// What is wrong, and where in the settings.
    fn build(self, around: &Around<'_>) -> Result<Arc<dyn Middleware>, Problem>;
}

/// What a middleware may know about its place when it is built.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// The instance's qualified name.
    pub name: &'a str,
    /// Relative files are relative to this folder.
    pub folder: &'a Path,
    /// State carried over from the last configuration, by identity.
    pub keep: &'a crate::keep::Keep,
    /// Stores that the configuration names.
    pub stores: &'a crate::store::Stores,
    /// Where it can count what shall be seen.
    pub meters: &'a crate::meter::Meters,
}

/// Something wrong in settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct Problem {
    /// Path inside the settings, `request.set.X-A`; empty for the whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
}

impl Problem {
    /// A problem at a path.
    pub fn at(path: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem { path: path.into(), message: message.into(), help: None }
    }

    /// With what would be right.
    pub fn help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into());
        self
    }
}

/// Reads and compiles the settings of one kind.
pub type Build = fn(&serde_json::Value, &Around<'_>) -> Result<Arc<dyn Middleware>, Problem>;

/// A row of the table of middleware kinds: from it come the parser, the schema, the reference and the tests.
#[derive(Clone, Copy)]
pub struct Row {
    /// As written in the configuration.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// TOML that builds.
    pub example: &'static str,
    /// JSON Schema of the settings.
    pub schema: fn() -> Schema,
    /// Reads and compiles settings.
    pub build: Build,
}

/// The row of a kind.
pub const fn row<K: MiddlewareKind>() -> Row {
    Row { name: K::NAME, summary: K::SUMMARY, example: K::EXAMPLE, schema: schema_of::<K>, build: build::<K> }
}

fn schema_of<K: JsonSchema>() -> Schema {
    schemars::SchemaGenerator::default().into_root_schema_for::<K>()
}

fn build<K: MiddlewareKind>(
    settings: &serde_json::Value,
    around: &Around<'_>,
) -> Result<Arc<dyn Middleware>, Problem> {
    let read: Result<K, _> = serde_path_to_error::deserialize(settings);
    let kind = read.map_err(|error| {
        let path = error.path().to_string();
        Problem::at(if path == "." { String::new() } else { path }, for_people(&error.inner().to_string()))
    })?;
    kind.build(around)
}

/// serde names our types where it expected a table; who writes a file does not know them.
fn for_people(message: &str) -> String {
    match message.split_once("expected struct ") {
        Some((before, _)) => format!("{before}expected a table"),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_names_of_types() {
        let told = for_people("invalid type: string \"x\", expected struct BodyLimit");
        assert_eq!(told, "invalid type: string \"x\", expected a table");
        assert_eq!(for_people("missing field `prefixes`"), "missing field `prefixes`");
    }
}
