//! Where `${NAME}` finds its value: the environment, and a `.env` file beside the configuration.

use std::collections::BTreeMap;

/// Variables by name.
pub trait Env {
    /// The value of a variable; `None` when it is not set.
    fn get(&self, name: &str) -> Option<String>;
}

/// No variable is set.
#[derive(Debug, Clone, Copy)]
pub struct NoEnv;

impl Env for NoEnv {
    fn get(&self, _: &str) -> Option<String> {
        None
    }
}

/// The environment of this process.
#[derive(Debug, Clone, Copy)]
pub struct ProcessEnv;

impl Env for ProcessEnv {
    fn get(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

impl Env for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        BTreeMap::get(self, name).cloned()
    }
}

impl<F: Fn(&str) -> Option<String>> Env for F {
    fn get(&self, name: &str) -> Option<String> {
        self(name)
    }
}

/// A `.env` file behind another environment: the other one wins.
pub struct DotEnv<'a> {
    first: &'a dyn Env,
    file: BTreeMap<String, String>,
}

impl<'a> DotEnv<'a> {
    /// Reads the text of a `.env` file: `KEY=VALUE` per line, `export` before it, `#` comments, single quotes
    /// (as it stands) and double quotes (`\n`, `\"`, `\\`, `\$`). Also returns the lines (from 1) that are none of these.
    pub fn new(first: &'a dyn Env, text: &str) -> (Self, Vec<usize>) {
        let mut file = BTreeMap::new();
        let mut bad = Vec::new();
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match entry(line) {
                Some((name, value)) => {
                    file.insert(name, value);
                }
                None => bad.push(index + 1),
            }
        }
        (Self { first, file }, bad)
    }
}

impl Env for DotEnv<'_> {
    fn get(&self, name: &str) -> Option<String> {
        self.first.get(name).or_else(|| self.file.get(name).cloned())
    }
}

/// Whether a variable can be called that.
pub(super) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn entry(line: &str) -> Option<(String, String)> {
    let line = line.strip_prefix("export ").map_or(line, str::trim_start);
    let (name, value) = line.split_once('=')?;
    let name = name.trim_end();
    if !is_name(name) {
        return None;
    }
    let value = value.trim_start();
    let value = match value.chars().next() {
        Some('\'') => {
            let (inner, after) = value.get(1..)?.split_once('\'')?;
            ends(after).then(|| inner.to_owned())?
        }
        Some('"') => double_quoted(value.get(1..)?)?,
        // A `#` after a blank starts a comment.
        _ => match value.find(" #").or_else(|| value.find("\t#")) {
            _ if value.starts_with('#') => String::new(),
            Some(at) => value.get(..at)?.trim_end().to_owned(),
            None => value.to_owned(),
        },
    };
    Some((name.to_owned(), value))
}

fn ends(after: &str) -> bool {
    let after = after.trim_start();
    after.is_empty() || after.starts_with('#')
}

fn double_quoted(text: &str) -> Option<String> {
    let mut value = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next()? {
            '"' => return ends(chars.as_str()).then_some(value),
            '\\' => match chars.next()? {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_dot_env_file_and_the_environment_wins() {
        let real = BTreeMap::from([("A".to_owned(), "real".to_owned())]);
        let text = "# comment\nA=file\n export B = two words # comment\nC='si#ngle' # c\nD=\"a\\n\\\"b\\\"\"\nE=\nF=a#b\nbad line\n1X=1\nG=\"open\n";
        let (env, bad) = DotEnv::new(&real, text);
        let get = |name: &str| env.get(name).unwrap_or("-".into());
        assert_eq!(get("A"), "real");
        assert_eq!(get("B"), "two words");
        assert_eq!(get("C"), "si#ngle");
        assert_eq!(get("D"), "a\n\"b\"");
        assert_eq!(get("E"), "");
        assert_eq!(get("F"), "a#b");
        assert_eq!(get("H"), "-");
        assert_eq!(bad, [8, 9, 10]);
    }
}
