//! A fragment that was read, and the findings about it.

use std::{path::PathBuf, sync::Arc};

use crate::{
    diagnostic::Finding,
    document::{Document, Path},
    model::Origin,
    written::Configuration,
};

/// What a provider published: a whole snapshot, never a difference.
#[derive(Debug, Clone)]
pub struct Fragment {
    /// Name of the provider: `file`, `command-line`, `docker` …
    pub provider: Arc<str>,
    /// What it wrote, variables already substituted.
    pub document: Document,
    /// From a source that changes by itself: an object with a mistake is quarantined instead of refusing everything,
    /// and only routes, services and middlewares are taken.
    pub live: bool,
}

/// A fragment that was read.
pub(crate) struct Source {
    pub(crate) provider: Arc<str>,
    pub(crate) live: bool,
    pub(crate) document: Document,
    pub(crate) written: Configuration,
    pub(crate) removed: Vec<Path>,
}

impl Source {
    /// `name@provider`.
    pub(crate) fn qualified(&self, name: &str) -> Arc<str> {
        format!("{name}@{}", self.provider).into()
    }

    /// What a reference means: one without `@` means this provider.
    pub(crate) fn reference(&self, name: &str) -> Arc<str> {
        if name.contains('@') { name.into() } else { self.qualified(name) }
    }

    /// The finding at a place of this fragment; `on_key` points at the key instead of the value.
    pub(crate) fn place(&self, finding: Finding, path: &Path, on_key: bool) -> Finding {
        let position = self.document.position(path, on_key);
        Finding {
            provider: self.provider.clone(),
            file: self.document.file.clone(),
            path: path.to_string(),
            ..finding
        }
        .at(position)
    }

    /// Where an object was written.
    pub(crate) fn origin(&self, path: &Path) -> Origin {
        let position = self.document.position(path, true);
        Origin {
            provider: self.provider.clone(),
            file: (!self.document.file.is_empty()).then(|| self.document.file.clone()),
            path: path.to_string().into(),
            line: position.line,
            column: position.column,
        }
    }

    /// Whether something there was already found wrong, so that what is missing is only a consequence.
    pub(crate) fn broken(&self, path: &Path) -> bool {
        self.removed.iter().any(|removed| path.contains(removed) || removed.contains(path))
    }

    /// A path of a file as it is meant: relative ones start at the configuration's directory.
    pub(crate) fn file(&self, path: &std::path::Path) -> PathBuf {
        self.document.directory.join(path)
    }
}
