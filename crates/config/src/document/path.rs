//! Paths within a document: `routes[2].upstream.urls[0]`.

use std::{fmt, sync::Arc};

/// One step down.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// Into a table.
    Key(Arc<str>),
    /// Into a list; the first is 0.
    Index(usize),
}

/// Steps from the root of a document; none is the root itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Path(pub Vec<Step>);

impl Path {
    /// The root.
    pub fn root() -> Self {
        Self::default()
    }

    /// The value of that key within.
    pub fn key(&self, key: &str) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Key(key.into()));
        Self(steps)
    }

    /// The element of that index within.
    pub fn index(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Index(index));
        Self(steps)
    }

    /// `other` lies at or below this.
    pub fn contains(&self, other: &Path) -> bool {
        other.0.starts_with(&self.0)
    }

    /// This path and then the other's steps.
    pub fn join(&self, other: &Path) -> Self {
        Self([self.0.as_slice(), other.0.as_slice()].concat())
    }

    /// Reads the text form back; what cannot be read is taken as keys. `.` and the empty text are the root.
    pub fn parse(text: &str) -> Self {
        let mut steps = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            match first {
                '.' => rest = rest.get(1..).unwrap_or(""),
                '[' => {
                    let (index, after) = rest.get(1..).and_then(|r| r.split_once(']')).unwrap_or((rest, ""));
                    steps.push(index.parse().map_or_else(|_| Step::Key(index.into()), Step::Index));
                    rest = after;
                }
                '"' => {
                    let body = rest.get(1..).unwrap_or("");
                    let (key, after) = body.split_once('"').unwrap_or((body, ""));
                    steps.push(Step::Key(key.into()));
                    rest = after;
                }
                _ => {
                    let end = rest.find(['.', '[']).unwrap_or(rest.len());
                    let (key, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
                    steps.push(Step::Key(key.into()));
                    rest = after;
                }
            }
        }
        Self(steps)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    if at > 0 {
                        f.write_str(".")?;
                    }
                    let plain = !key.is_empty() && !key.contains(['.', '[', ']', '"', ' ']);
                    if plain { f.write_str(key)? } else { write!(f, "{key:?}")? }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back() {
        for text in ["routes[2].upstream.urls[0]", "", "a", "a[0][1].b", "services.\"a.b\".endpoints[0]"] {
            assert_eq!(Path::parse(text).to_string(), text);
        }
        assert_eq!(Path::parse("."), Path::root());
        assert_eq!(Path::root().key("error_pages").key("a.b").to_string(), "error_pages.\"a.b\"");
    }
}
