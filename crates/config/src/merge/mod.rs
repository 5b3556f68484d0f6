//! Fragments become the model: names get their provider, references are resolved, every default is filled in.

mod breaker;
mod cache;
mod capacity;
mod conditions;
mod deadline;
mod defaults;
mod fallback;
mod globals;
mod health;
mod listeners;
mod middlewares;
mod mirror;
mod names;
mod policies;
mod priority;
mod retry;
mod routes;
mod said;
mod services;
mod shedding;
mod source;
mod split;
mod stores;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub(crate) use services::base;
pub use source::Fragment;
pub(crate) use source::Source;

use crate::{
    diagnostic::{Code, Finding},
    document::Path,
    kinds::Kinds,
    model::{Listener, Middleware, Model, Name, Route, Service, Store},
    source::Files,
};

/// What is being put together.
pub(crate) struct Merger<'a> {
    pub(crate) sources: &'a [Source],
    pub(crate) kinds: &'a dyn Kinds,
    pub(crate) files: &'a dyn Files,
    pub(crate) findings: Vec<Finding>,
    listeners: BTreeMap<Name, Listener>,
    routes: Vec<Route>,
    services: BTreeMap<Name, Service>,
    middlewares: BTreeMap<Name, Middleware>,
    /// Before the middlewares, whose kinds may look for theirs.
    stores: BTreeMap<Name, Store>,
    /// Every name that was written, even of objects that were taken out: a reference to one of those is no mistake
    /// of its own.
    known_services: BTreeSet<Name>,
    known_middlewares: BTreeSet<Name>,
    known_listeners: BTreeSet<Name>,
    /// Names used by some route or listener.
    pub(crate) used: BTreeSet<Name>,
}

/// What came out.
pub(crate) struct Merged {
    pub(crate) model: Model,
    pub(crate) findings: Vec<Finding>,
    pub(crate) used: BTreeSet<Name>,
}

/// Puts the fragments together. The first that is not live is the gateway's own file; only it says what concerns
/// the whole process.
pub(crate) fn merge(sources: &[Source], kinds: &dyn Kinds, files: &dyn Files) -> Merged {
    let mut merger = Merger {
        sources,
        kinds,
        files,
        findings: Vec::new(),
        listeners: BTreeMap::new(),
        routes: Vec::new(),
        services: BTreeMap::new(),
        middlewares: BTreeMap::new(),
        stores: BTreeMap::new(),
        known_services: BTreeSet::new(),
        known_middlewares: BTreeSet::new(),
        known_listeners: BTreeSet::new(),
        used: BTreeSet::new(),
    };
    merger.collect_names();
    merger.stores();
    merger.middlewares();
    let everywhere = merger.switched_on();
    merger.listeners();
    merger.services();
    merger.routes(&everywhere);
    merger.globals()
}

impl<'a> Merger<'a> {
    /// The gateway's own file.
    fn main(&self) -> Option<&'a Source> {
        self.sources.iter().find(|source| !source.live)
    }

    fn note(&mut self, source: &Source, path: &Path, finding: Finding) {
        self.findings.push(source.place(finding, path, false));
    }

    fn note_key(&mut self, source: &Source, path: &Path, finding: Finding) {
        self.findings.push(source.place(finding, path, true));
    }

    fn error(
        &mut self,
        source: &Source,
        path: &Path,
        code: Code,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.note(source, path, Finding::error(code, message).help(help));
    }

    fn warning(
        &mut self,
        source: &Source,
        path: &Path,
        code: Code,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.note(source, path, Finding::warning(code, message).help(help));
    }
}

/// A text as the model keeps it.
fn shared(text: &str) -> Arc<str> {
    text.into()
}
