//! Where a condition is filed: the hosts and paths without which it cannot hold.
//!
//! A condition of any shape (and, or, not, nested) gets a set of keys such that every request that meets the condition
//! meets one of the keys. The keys may promise too little, never too much: what they leave open stays with the candidate
//! as the rest of its condition.

use std::{collections::HashSet, sync::Arc};

use portcullis_config::rule::PathTemplate;

use super::condition::{Condition, Test, parent};

/// More keys than this are not worth their memory; the condition is then filed under "anything".
const MAX_KEYS: usize = 4096;

/// A necessary condition that can be looked up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) host: HostKey,
    pub(super) path: PathKey,
}

/// The host's part of a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum HostKey {
    Any,
    Exact(Arc<str>),
    /// One label, then this.
    Suffix(Arc<str>),
}

/// The path's part of a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum PathKey {
    Any,
    Exact(Arc<str>),
    Prefix(Arc<str>),
    Template(TemplateKey),
}

/// A template, compared by its text.
#[derive(Debug, Clone)]
pub(super) struct TemplateKey(pub(super) Arc<PathTemplate>);

impl PartialEq for TemplateKey {
    fn eq(&self, other: &TemplateKey) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for TemplateKey {}

impl std::hash::Hash for TemplateKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.text.hash(state);
    }
}

impl Key {
    const ANY: Key = Key { host: HostKey::Any, path: PathKey::Any };

    /// The keys of a condition, each once. None at all when it can never hold.
    pub(super) fn of(condition: &Condition) -> Vec<Key> {
        let keys = of(condition).unwrap_or_else(|| vec![Key::ANY]);
        let mut seen = HashSet::with_capacity(keys.len());
        keys.into_iter().filter(|key| seen.insert(key.clone())).collect()
    }

    /// Does a test hold for every request that meets this key (`Some(true)`), for none (`Some(false)`)?
    pub(super) fn answers(&self, test: &Test) -> Option<bool> {
        match test {
            Test::Host(_) | Test::HostSuffix(_) | Test::HostRegexp(_) => self.host.answers(test),
            _ => self.path.answers(test),
        }
    }

    /// The key of what meets both; `None` when nothing does.
    fn and(&self, other: &Key) -> Option<Key> {
        Some(Key { host: self.host.and(&other.host)?, path: self.path.and(&other.path)? })
    }
}

/// `None` for "too many, or anything".
fn of(condition: &Condition) -> Option<Vec<Key>> {
    match condition {
        Condition::Always | Condition::Not(_) => None,
        Condition::Never => Some(Vec::new()),
        Condition::Test(test) => Some(vec![of_test(test)?]),
        Condition::One(parts) => {
            let mut keys = Vec::new();
            for part in parts {
                keys.extend(of(part)?);
                if keys.len() > MAX_KEYS {
                    return None;
                }
            }
            Some(keys)
        }
        Condition::All(parts) => {
            let mut keys = vec![Key::ANY];
            for part in parts.iter().filter_map(of) {
                // Leaving a part out makes the keys promise less, which is allowed.
                if keys.len().saturating_mul(part.len()) <= MAX_KEYS {
                    keys = keys.iter().flat_map(|a| part.iter().filter_map(|b| a.and(b))).collect();
                }
            }
            Some(keys)
        }
    }
}

fn of_test(test: &Test) -> Option<Key> {
    let host = |host| Some(Key { host, path: PathKey::Any });
    let path = |path| Some(Key { host: HostKey::Any, path });
    match test {
        Test::Host(text) => host(HostKey::Exact(text.clone())),
        Test::HostSuffix(suffix) => host(HostKey::Suffix(suffix.clone())),
        Test::Path(text) => path(PathKey::Exact(text.clone())),
        Test::PathPrefix(prefix) => path(PathKey::Prefix(prefix.clone())),
        Test::PathTemplate(template) => path(PathKey::Template(TemplateKey(template.clone()))),
        _ => None,
    }
}

impl HostKey {
    fn answers(&self, test: &Test) -> Option<bool> {
        match (self, test) {
            (HostKey::Exact(host), Test::Host(wanted)) => Some(host == wanted),
            (HostKey::Exact(host), Test::HostSuffix(suffix)) => Some(parent(host) == Some(suffix)),
            (HostKey::Exact(host), Test::HostRegexp(regex)) => Some(regex.is_match(host.as_bytes())),
            (HostKey::Suffix(suffix), Test::HostSuffix(wanted)) => Some(suffix == wanted),
            (HostKey::Suffix(suffix), Test::Host(wanted)) if parent(wanted) != Some(suffix) => Some(false),
            _ => None,
        }
    }

    fn and(&self, other: &HostKey) -> Option<HostKey> {
        use HostKey::{Any, Exact, Suffix};
        match (self, other) {
            (Any, key) | (key, Any) => Some(key.clone()),
            (Exact(host), Suffix(suffix)) | (Suffix(suffix), Exact(host)) => {
                (parent(host) == Some(suffix)).then(|| Exact(host.clone()))
            }
            // A host has one parent, so that equal kinds must be equal.
            (Exact(_), Exact(_)) | (Suffix(_), Suffix(_)) => (self == other).then(|| self.clone()),
        }
    }
}

impl PathKey {
    fn answers(&self, test: &Test) -> Option<bool> {
        match (self, test) {
            (PathKey::Exact(path), Test::Path(wanted)) => Some(path == wanted),
            (PathKey::Exact(path), Test::PathPrefix(prefix)) => Some(path.starts_with(&**prefix)),
            (PathKey::Exact(path), Test::PathTemplate(template)) => Some(template.matches(path)),
            (PathKey::Exact(path), Test::PathRegexp(regex)) => Some(regex.is_match(path.as_bytes())),
            (PathKey::Prefix(prefix), Test::PathPrefix(wanted)) if prefix.starts_with(&**wanted) => {
                Some(true)
            }
            (PathKey::Prefix(prefix), Test::PathPrefix(wanted)) if !wanted.starts_with(&**prefix) => {
                Some(false)
            }
            (PathKey::Prefix(prefix), Test::Path(wanted)) if !wanted.starts_with(&**prefix) => Some(false),
            (PathKey::Template(key), Test::PathTemplate(wanted)) if key.0.text == wanted.text => Some(true),
            (PathKey::Template(key), Test::Path(wanted)) if !key.0.matches(wanted) => Some(false),
            _ => None,
        }
    }

    fn and(&self, other: &PathKey) -> Option<PathKey> {
        use PathKey::{Any, Exact, Prefix, Template};
        match (self, other) {
            (Any, key) | (key, Any) => Some(key.clone()),
            (Exact(_), Exact(_)) => (self == other).then(|| self.clone()),
            (Exact(path), Prefix(prefix)) | (Prefix(prefix), Exact(path)) => {
                path.starts_with(&**prefix).then(|| Exact(path.clone()))
            }
            (Exact(path), Template(key)) | (Template(key), Exact(path)) => {
                key.0.matches(path).then(|| Exact(path.clone()))
            }
            (Prefix(a), Prefix(b)) if a.starts_with(&**b) => Some(self.clone()),
            (Prefix(a), Prefix(b)) => b.starts_with(&**a).then(|| other.clone()),
            // Either will do; the rest of the condition asks for the other.
            (Template(_), _) => Some(self.clone()),
            (_, Template(_)) => Some(other.clone()),
        }
    }
}
