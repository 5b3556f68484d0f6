//! From what providers published to the model and all findings. Reads files that the configuration names, opens
//! nothing else.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use portcullis_config::{
    Around, Code, Disk, Finding, Format, Fragment, Model, Outcome, ProcessEnv,
    document::{Document, DotEnv},
    load_text, render_all,
};
use portcullis_core::provider::Snapshot;

use crate::kinds::OurKinds;

/// A configuration that was read.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it means; `None` when it is refused.
    pub model: Option<Arc<Model>>,
    /// Everything found, errors and warnings.
    pub findings: Vec<Finding>,
    /// The texts, by the name of their file.
    pub texts: BTreeMap<Arc<str>, Arc<str>>,
    /// As written, variables not yet in their places.
    pub written: serde_json::Value,
    /// Was a source not even readable?
    pub unreadable: bool,
    /// Files that it names: certificates, keys, authorities, error pages, whether they could be read or not.
    pub files: Vec<PathBuf>,
    /// When reading those files began.
    pub since: SystemTime,
}

impl Loaded {
    /// All findings as text for people, each with its line.
    pub fn text(&self, colours: bool) -> String {
        render_all(&self.findings, &|file| self.texts.get(file).cloned(), colours)
    }

    /// The names of its listeners, in the order written.
    pub fn listeners_written(&self) -> Vec<String> {
        let written = self.written.get("listeners").and_then(serde_json::Value::as_object);
        written.map(|listeners| listeners.keys().cloned().collect()).unwrap_or_default()
    }

    /// Errors alone.
    pub fn errors(&self) -> usize {
        self.findings.iter().filter(|finding| finding.is_error()).count()
    }

    fn unreadable(source: &Arc<str>, reason: &str, help: &str) -> Loaded {
        let found = Finding::error(Code::MissingFile, format!("cannot be read: {reason}")).help(help);
        Loaded {
            model: None,
            findings: vec![Finding { file: source.clone(), ..found }],
            texts: BTreeMap::new(),
            written: serde_json::Value::Null,
            unreadable: true,
            files: Vec::new(),
            since: SystemTime::now(),
        }
    }
}

impl Loaded {
    fn of(outcome: Outcome, since: SystemTime) -> Loaded {
        Loaded {
            model: outcome.model.map(Arc::new),
            findings: outcome.findings,
            texts: outcome.texts.into_iter().collect(),
            written: outcome.written,
            unreadable: false,
            files: outcome.files,
            since,
        }
    }
}

/// Reads everything on the board. There is one provider so far: the one of the gateway's own configuration.
pub fn load_all(snapshots: &BTreeMap<Arc<str>, Snapshot>, folder: &Path) -> Loaded {
    match snapshots.first_key_value() {
        Some((provider, snapshot)) => load(provider, snapshot, folder),
        None => Loaded::unreadable(&"".into(), "no provider has published anything", ""),
    }
}

/// Reads what the provider of the gateway's own configuration published. Relative files are relative to the folder.
pub fn load(provider: &str, snapshot: &Snapshot, folder: &Path) -> Loaded {
    let kinds = OurKinds { folder };
    let now = SystemTime::now();
    match snapshot {
        Snapshot::Text { file, text, dot_env } => {
            let name = file.display().to_string();
            let Some(format) = Format::of_file(file) else {
                let reason = "its name does not tell its format";
                return Loaded::unreadable(
                    &name.into(),
                    reason,
                    "it must end with .toml, .yaml, .yml or .json",
                );
            };
            let (env, bad) = DotEnv::new(&ProcessEnv, dot_env.as_deref().unwrap_or(""));
            let mut loaded = Loaded::of(load_text(text, format, &name, &env, &kinds), now);
            if !bad.is_empty() {
                bad_lines(&mut loaded, &file.with_file_name(".env"), dot_env.as_ref(), &bad);
            }
            loaded
        }
        Snapshot::Value { source, value } => {
            let document = Document::of_value(source, value);
            let fragment = Fragment { provider: provider.into(), document, live: false };
            let around = Around { kinds: &kinds, files: &Disk, now };
            Loaded::of(portcullis_config::load(vec![fragment], &around), now)
        }
        Snapshot::Unreadable { source, reason } => Loaded::unreadable(source, reason, ""),
    }
}

/// Lines of a `.env` file that mean nothing refuse the configuration: what was meant to be set there is not.
fn bad_lines(loaded: &mut Loaded, file: &Path, text: Option<&Arc<str>>, bad: &[usize]) {
    let name: Arc<str> = file.display().to_string().into();
    if let Some(text) = text {
        loaded.texts.insert(name.clone(), text.clone());
    }
    let found = bad.iter().map(|line| Finding {
        file: name.clone(),
        line: u32::try_from(*line).unwrap_or(u32::MAX),
        column: 1,
        ..Finding::error(Code::BadDotEnv, "this line is no variable")
            .help("write NAME=value, or a comment after #")
    });
    loaded.findings.splice(0..0, found);
    loaded.model = None;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str, text: &str, dot_env: Option<&str>) -> Loaded {
        let snapshot =
            Snapshot::Text { file: name.into(), text: text.into(), dot_env: dot_env.map(Into::into) };
        load("file", &snapshot, Path::new("."))
    }

    #[test]
    fn variables_come_from_the_dot_env_file() {
        let document = "[[routes]]\npath = \"/*\"\nupstream = { urls = [\"http://127.0.0.1:${A_PORT}\"] }\n";
        let loaded = text("gateway.toml", document, Some("A_PORT=4711"));
        let model = loaded.model.expect("a model");
        let service = model.services.values().next().expect("a service");
        assert_eq!(&*service.endpoints[0].url, "http://127.0.0.1:4711");
        assert_eq!(text("gateway.toml", document, None).findings[0].code, Code::MissingVariable);
        let bad = text("gateway.toml", document, Some("A_PORT=1\nwhat"));
        assert_eq!((bad.findings[0].code, bad.findings[0].line), (Code::BadDotEnv, 2));
        assert!(bad.model.is_none() && bad.text(false).contains("what"), "{}", bad.text(false));
    }

    #[test]
    fn what_cannot_be_read_is_told_apart() {
        assert!(text("gateway.txt", "", None).unreadable);
        assert!(!text("gateway.toml", "a = ", None).unreadable);
    }
}
