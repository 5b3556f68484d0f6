//! From text to model: read, merge, check. The one way in for the command line, the reload, the tests and the
//! library's builder.

use std::{
    io,
    path::{Path as FilePath, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use crate::{
    check,
    diagnostic::{Code, Finding},
    document::{Document, DotEnv, Env, Format, Path, Position},
    kinds::Kinds,
    merge::{self, Fragment, Source},
    model::Model,
    quarantine::{Quarantine, quarantine},
    read,
    source::{Disk, Files, Remembered},
};

/// What a configuration is judged with.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// Middlewares and built-in services that exist.
    pub kinds: &'a dyn Kinds,
    /// Where certificates and error pages are read.
    pub files: &'a dyn Files,
    /// The time by which certificates are judged.
    pub now: SystemTime,
}

/// What came of a configuration.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// There exactly when no finding refuses the configuration. (Errors in live fragments quarantine instead.)
    pub model: Option<Model>,
    /// Everything that is wrong or doubtful, in the order of the files.
    pub findings: Vec<Finding>,
    /// Objects of live providers that were left out.
    pub quarantined: Vec<Quarantine>,
    /// The gateway's own file as it was written, variables not substituted.
    pub written: serde_json::Value,
    /// Files that were asked for: certificates, keys, error pages. Whoever reloads watches them too.
    pub files: Vec<PathBuf>,
    /// The texts by file name, for showing findings with their lines.
    pub texts: Vec<(Arc<str>, Arc<str>)>,
}

impl Outcome {
    /// Whether some finding refuses the configuration.
    pub fn refused(&self) -> bool {
        self.model.is_none()
    }

    /// All findings as text, with their lines.
    pub fn render(&self, colours: bool) -> String {
        let text_of =
            |file: &str| self.texts.iter().find(|(name, _)| **name == *file).map(|(_, text)| text.clone());
        crate::diagnostic::render_all(&self.findings, &text_of, colours)
    }
}

/// What came of a file.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The outcome; its `files` hold the configuration and the `.env` beside it too.
    pub outcome: Outcome,
    /// The fragment, to be merged with those of other providers.
    pub fragment: Fragment,
}

/// A file that cannot be read at all.
#[derive(Debug)]
pub struct Failure {
    /// Which file.
    pub path: PathBuf,
    /// Why.
    pub error: io::Error,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot read {}: {}", self.path.display(), self.error)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Loads a configuration file, with the `.env` beside it behind `env`.
pub fn load_file(path: &FilePath, env: &dyn Env, kinds: &dyn Kinds) -> Result<Loaded, Failure> {
    let failure = |path: &FilePath, error| Failure { path: path.to_owned(), error };
    let unsupported = |message: &str| io::Error::new(io::ErrorKind::InvalidInput, message.to_owned());
    let format = Format::of_file(path)
        .ok_or_else(|| failure(path, unsupported("its name must end with .toml, .yaml, .yml or .json")))?;
    let bytes = Disk.read(path).map_err(|error| failure(path, error))?;
    let text = String::from_utf8(bytes).map_err(|_| failure(path, unsupported("it is not UTF-8")))?;
    let beside = path.parent().unwrap_or(FilePath::new("")).join(".env");
    let (dot_env_text, has_dot_env) = match Disk.read(&beside) {
        Ok(bytes) => (String::from_utf8_lossy(&bytes).into_owned(), true),
        Err(_) => (String::new(), false),
    };
    let (env, bad_lines) = DotEnv::new(env, &dot_env_text);
    let mut findings: Vec<Finding> = bad_lines.iter().map(|line| bad_dot_env(&beside, *line)).collect();
    let name = path.display().to_string();
    let (fragment, read) = fragment(&name, &text, format, &env);
    findings.extend(read);
    let around = Around { kinds, files: &Disk, now: SystemTime::now() };
    let mut outcome = judge(vec![fragment.clone()], &around, findings, written_of(&name, &text, format));
    outcome.files.push(path.to_owned());
    if has_dot_env {
        outcome.files.push(beside.clone());
        outcome.texts.push((beside.display().to_string().into(), dot_env_text.into()));
    }
    Ok(Loaded { outcome, fragment })
}

fn bad_dot_env(file: &FilePath, line: usize) -> Finding {
    let position = Position { line: u32::try_from(line).unwrap_or(0), column: 1, width: 1 };
    let finding = Finding::error(Code::BadDotEnv, "this line is no variable").help("write NAME=value");
    Finding { file: file.display().to_string().into(), ..finding }.at(position)
}

/// Loads a configuration from its text. Relative paths in it start at the directory of `file_name`.
pub fn load_text(text: &str, format: Format, file_name: &str, env: &dyn Env, kinds: &dyn Kinds) -> Outcome {
    let (fragment, findings) = fragment(file_name, text, format, env);
    let around = Around { kinds, files: &Disk, now: SystemTime::now() };
    judge(vec![fragment], &around, findings, written_of(file_name, text, format))
}

/// Reads a text as a fragment of the provider `file`.
fn fragment(name: &str, text: &str, format: Format, env: &dyn Env) -> (Fragment, Vec<Finding>) {
    let (mut document, mut findings) = Document::parse(name, text, format);
    findings.extend(document.substitute(env));
    (Fragment { provider: "file".into(), document, live: false }, findings)
}

/// As written: before any variable was put in, so that no secret is shown.
fn written_of(name: &str, text: &str, format: Format) -> serde_json::Value {
    Document::parse(name, text, format).0.root.to_json()
}

/// Judges fragments of several providers together: what a reload does.
pub fn load(fragments: Vec<Fragment>, around: &Around<'_>) -> Outcome {
    let main = fragments.iter().find(|fragment| !fragment.live);
    let written = main.map_or(serde_json::Value::Null, |fragment| fragment.document.root.to_json());
    judge(fragments, around, Vec::new(), written)
}

fn judge(
    fragments: Vec<Fragment>,
    around: &Around<'_>,
    mut findings: Vec<Finding>,
    written: serde_json::Value,
) -> Outcome {
    let files = Remembered::new(around.files);
    let mut sources = Vec::new();
    for Fragment { provider, mut document, live } in fragments {
        let read = read::read(&mut document);
        let mark = |finding| Finding { provider: provider.clone(), ..finding };
        findings.extend(read.findings.into_iter().map(mark));
        // A value that a variable should have filled is gone already, and what misses it is a consequence.
        let mut removed = read.removed;
        removed.extend(
            findings
                .iter()
                .filter(|f| f.file == document.file)
                .map(|f| Path::parse(&f.path))
                .filter(|path| *path != Path::root()),
        );
        sources.push(Source { provider, live, document, written: read.value, removed });
    }
    let unread = findings.iter().any(|finding| finding.code == Code::Syntax);
    let merged = merge::merge(&sources, around.kinds, &files);
    // A file that could not be read has no routes, which is no second mistake.
    if !unread {
        findings.extend(merged.findings);
    }
    let mut model = merged.model;
    if !unread {
        findings.extend(check::check(&model, &sources, &merged.used, &files, around.now));
    }
    let quarantined = quarantine(&mut model, &sources, &findings);
    sort(&mut findings, &sources);
    let live = |finding: &Finding| {
        sources.iter().any(|s| s.live && s.provider == finding.provider && !s.provider.is_empty())
    };
    let refused = findings.iter().any(|finding| finding.is_error() && !live(finding));
    let texts = sources.iter().map(|s| (s.document.file.clone(), s.document.text.clone())).collect();
    Outcome {
        model: (!refused).then_some(model),
        findings,
        quarantined,
        written,
        files: files.paths(),
        texts,
    }
}

fn sort(findings: &mut Vec<Finding>, sources: &[Source]) {
    let rank = |finding: &Finding| sources.iter().position(|source| source.document.file == finding.file);
    findings.sort_by_cached_key(|finding| (rank(finding), finding.line, finding.column, finding.code));
    findings.dedup();
}
