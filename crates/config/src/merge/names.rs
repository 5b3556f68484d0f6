//! Names: which exist, which may be, and those that nobody wrote.

use std::collections::BTreeSet;

use super::{Merger, Source};
use crate::{
    diagnostic::{Code, Finding},
    document::Path,
    scalar,
};

impl Merger<'_> {
    /// Every name in the trees, before anything is judged.
    pub(super) fn collect_names(&mut self) {
        for source in self.sources {
            let keys = |section: &str| {
                let entries =
                    source.document.root.get(section).map(|node| node.entries()).unwrap_or_default();
                entries.iter().map(|entry| entry.key.clone()).collect::<Vec<_>>()
            };
            for name in keys("services") {
                let new = self.known_services.insert(source.qualified(&name));
                self.judge_name(source, "services", &name, new);
            }
            for name in keys("middlewares") {
                let new = self.known_middlewares.insert(source.qualified(&name));
                self.judge_name(source, "middlewares", &name, new);
            }
            for name in keys("stores") {
                self.judge_name(source, "stores", &name, true);
            }
            for name in keys("listeners") {
                if !source.live {
                    self.known_listeners.insert(name.as_str().into());
                }
                self.judge_name(source, "listeners", &name, true);
            }
        }
    }

    /// `new` is false when another fragment of the same provider has the name already.
    fn judge_name(&mut self, source: &Source, section: &str, name: &str, new: bool) {
        if !new {
            let message = format!("two {section} of the provider `{}` are named `{name}`", source.provider);
            let finding = Finding::error(Code::DuplicateName, message).help("give each a name of its own");
            self.note_key(source, &Path::root().key(section).key(name), finding);
        }
        if let Err(problem) = scalar::name(name) {
            let finding = Finding::error(Code::BadName, problem.message).help(problem.help);
            self.note_key(source, &Path::root().key(section).key(name), finding);
        }
    }
}

/// A name from a text: letters, digits and dots stay, everything else becomes `-`.
pub(super) fn slug(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars().flat_map(char::to_lowercase) {
        if name.len() >= 60 {
            break;
        }
        if c.is_alphanumeric() || c == '.' || c == '_' {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    name.trim_matches(['-', '.']).to_owned()
}

/// The name, or the name with the first number that makes it new.
pub(super) fn unique(name: &str, taken: &BTreeSet<String>) -> String {
    if !taken.contains(name) {
        return name.to_owned();
    }
    let mut number = 2_usize;
    loop {
        let candidate = format!("{name}-{number}");
        if !taken.contains(&candidate) {
            return candidate;
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs() {
        assert_eq!(slug("/api/users/*"), "api-users");
        assert_eq!(
            slug("Host(`shop.example`) && PathPrefix(`/orders`)"),
            "host-shop.example-pathprefix-orders"
        );
        assert_eq!(slug("/*"), "");
        let taken = BTreeSet::from(["a".to_owned(), "a-2".to_owned()]);
        assert_eq!(unique("a", &taken), "a-3");
        assert_eq!(unique("b", &taken), "b");
    }
}
