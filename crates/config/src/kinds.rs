//! What this crate asks of the crates that know middlewares and built-in services.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::model::{Name, Store};

/// The kinds of middleware and the built-in services that exist.
pub trait Kinds {
    /// Names of all kinds of middleware, with `_`.
    fn names(&self) -> Vec<&'static str>;

    /// Whether a kind accepts these settings beside these stores. Asked only for kinds that exist.
    fn check(&self, kind: &str, settings: &Value, stores: &BTreeMap<Name, Store>) -> Result<(), KindProblem>;

    /// Names of the built-in services, without `@`.
    fn builtins(&self) -> Vec<&'static str> {
        vec!["health", "healthz", "ready", "metrics", "stats", "circuit-breakers", "info", "echo"]
    }
}

/// Why a kind refuses its settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KindProblem {
    /// Path inside the settings, `rules[0].name`; empty for the whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What would be right; may be empty.
    pub help: String,
}

/// Every kind is known and accepts everything; for tools and tests that do not care about middlewares.
#[derive(Debug, Clone, Copy, Default)]
pub struct AnyKind;

impl Kinds for AnyKind {
    fn names(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn check(&self, _: &str, _: &Value, _: &BTreeMap<Name, Store>) -> Result<(), KindProblem> {
        Ok(())
    }
}
