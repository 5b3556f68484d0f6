//! What can be wrong with a model that could be put together: all findings, not the first.

mod certificates;
mod identities;
mod listeners;
mod logs;
mod routes;
mod services;
mod stores;

use std::{collections::BTreeSet, time::SystemTime};

use crate::{
    diagnostic::Finding,
    document::Path,
    merge::Source,
    model::{Model, Name, Origin},
    source::Files,
};

/// What is judged, and with what.
pub(crate) struct Check<'a> {
    model: &'a Model,
    sources: &'a [Source],
    used: &'a BTreeSet<Name>,
    files: &'a dyn Files,
    now: SystemTime,
    findings: Vec<Finding>,
}

/// Judges the model.
pub(crate) fn check(
    model: &Model,
    sources: &[Source],
    used: &BTreeSet<Name>,
    files: &dyn Files,
    now: SystemTime,
) -> Vec<Finding> {
    let mut check = Check { model, sources, used, files, now, findings: Vec::new() };
    check.addresses();
    check.bounds();
    check.trust();
    check.access_log_file();
    check.listener_certificates();
    check.services();
    check.split_cookies();
    check.stale_fallbacks();
    check.own_fallbacks();
    check.identities();
    check.stores();
    check.unused();
    check.unreachable();
    check.shadowed();
    check.findings
}

impl<'a> Check<'a> {
    /// The gateway's own file, which writes all listeners.
    fn main(&self) -> Option<&'a Source> {
        self.sources.iter().find(|source| !source.live)
    }

    fn source_of(&self, origin: &Origin) -> Option<&'a Source> {
        let same_file =
            |source: &&Source| origin.file.as_ref().is_none_or(|file| *file == source.document.file);
        self.sources.iter().find(|source| source.provider == origin.provider && same_file(source))
    }

    /// A finding about an object of the main file.
    fn in_main(&mut self, path: &Path, finding: Finding) {
        let finding = match self.main() {
            Some(source) => source.place(finding, path, false),
            None => finding,
        };
        self.findings.push(finding);
    }

    /// A finding at a place below an object.
    fn at(&mut self, origin: &Origin, below: &[&str], on_key: bool, finding: Finding) {
        let mut path = Path::parse(&origin.path);
        for key in below {
            path = path.key(key);
        }
        let finding = match self.source_of(origin) {
            Some(source) => source.place(finding, &path, on_key),
            None => Finding { provider: origin.provider.clone(), path: path.to_string(), ..finding },
        };
        self.findings.push(finding);
    }
}

/// The path of what a listener was written as.
fn listener_path(source: Option<&Source>, name: &str) -> Path {
    let listed = source.is_some_and(|source| source.written.listeners.contains_key(name));
    if listed { Path::root().key("listeners").key(name) } else { Path::root().key("server") }
}
