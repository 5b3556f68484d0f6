//! Regular expressions and their replacements (`$1`, `${name}`), both compiled once.

use portcullis_core::middleware::Problem;
use regex::{Captures, Regex};

/// Compiles an expression that stands at `path` in the settings. The syntax is that of the `regex` crate, which like
/// Go's has no look-around and takes linear time.
pub fn compile(path: &str, expression: &str) -> Result<Regex, Problem> {
    portcullis_config::scalar::regex(expression)
        .map_err(|problem| Problem::at(path, problem.message).help(problem.help))?;
    Regex::new(expression).map_err(|error| Problem::at(path, error.to_string()))
}

/// A replacement, taken apart: text and groups.
#[derive(Debug, PartialEq, Eq)]
pub struct Replacement {
    parts: Vec<Part>,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Group(usize),
}

impl Replacement {
    /// Compiles a replacement for an expression. `$1`, `${1}`, `$name`, `${name}` are groups, `$$` is a dollar.
    pub fn compile(path: &str, replacement: &str, regex: &Regex) -> Result<Replacement, Problem> {
        let (mut parts, mut text, mut rest) = (Vec::new(), String::new(), replacement);
        while let Some((before, after)) = rest.split_once('$') {
            text.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                text.push('$');
                rest = after;
                continue;
            }
            let (name, after) = match after.strip_prefix('{') {
                Some(inside) => inside.split_once('}').ok_or_else(|| {
                    Problem::at(path, "`${` without its `}`").help("`${1}`, or `$$` for a dollar sign")
                })?,
                None => after.split_at_checked(name_length(after)).unwrap_or((after, "")),
            };
            let group = group(name, regex).ok_or_else(|| unknown_group(path, name, regex))?;
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text)));
            }
            parts.push(Part::Group(group));
            rest = after;
        }
        text.push_str(rest);
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Replacement { parts })
    }

    /// The text between groups, for checks at build time.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Group(_) => None,
        })
    }

    /// What the replacement certainly starts with; empty when it starts with a group.
    pub fn beginning(&self) -> &str {
        match self.parts.first() {
            Some(Part::Text(text)) => text,
            _ => "",
        }
    }

    /// Appends `text` to `out` with every match replaced; tells whether there was one (if not, nothing is appended).
    pub fn replace_all(&self, regex: &Regex, text: &str, out: &mut String) -> bool {
        let mut copied = 0;
        let mut found = false;
        for captures in regex.captures_iter(text) {
            let Some(whole) = captures.get(0) else { continue };
            found = true;
            out.push_str(text.get(copied..whole.start()).unwrap_or_default());
            self.expand(&captures, out);
            copied = whole.end();
        }
        if found {
            out.push_str(text.get(copied..).unwrap_or_default());
        }
        found
    }

    fn expand(&self, captures: &Captures<'_>, out: &mut String) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Group(group) => out.push_str(captures.get(*group).map_or("", |found| found.as_str())),
            }
        }
    }
}

fn name_length(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len())
}

fn group(name: &str, regex: &Regex) -> Option<usize> {
    match name.parse::<usize>() {
        Ok(number) => Some(number).filter(|number| *number < regex.captures_len()),
        Err(_) => regex.capture_names().position(|known| known == Some(name)),
    }
}

fn unknown_group(path: &str, name: &str, regex: &Regex) -> Problem {
    let problem = Problem::at(path, format!("the expression has no group `{name}`"));
    let digits = name.find(|c: char| !c.is_ascii_digit()).unwrap_or(name.len());
    match name.split_at_checked(digits) {
        Some((number, rest)) if digits > 0 && !rest.is_empty() => {
            problem.help(format!("`${{{number}}}{rest}` if group {number} is meant"))
        }
        _ => problem.help(format!(
            "groups are numbered from 1 to {}; `$$` is a dollar sign",
            regex.captures_len().saturating_sub(1)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(regex: &str, replacement: &str, text: &str) -> Option<String> {
        let regex = compile("regex", regex).unwrap();
        let replacement = Replacement::compile("replacement", replacement, &regex).unwrap();
        let mut out = String::new();
        replacement.replace_all(&regex, text, &mut out).then_some(out)
    }

    #[test]
    fn replacements() {
        assert_eq!(replaced("^/a/(.*)", "/b/$1", "/a/x").as_deref(), Some("/b/x"));
        assert_eq!(replaced("^/a/(.*)", "/b/${1}y", "/a/x").as_deref(), Some("/b/xy"));
        assert_eq!(replaced("(?P<n>[0-9]+)", "<${n}$$>", "a1b22").as_deref(), Some("a<1$>b<22$>"));
        assert_eq!(replaced("x(y)?", "[$0$1]", "x-xy").as_deref(), Some("[x]-[xyy]"));
        assert_eq!(replaced("a", "b", "ccc"), None);
    }

    #[test]
    fn the_same_as_the_library_does() {
        let mut random = fastrand::Rng::with_seed(3);
        let regex = Regex::new("(a+)(b)?").unwrap();
        for template in ["$1-$2", "${2}${1}x", "$$", "", "a$0-b"] {
            let ours = Replacement::compile("", template, &regex).unwrap();
            for _ in 0..100 {
                let text: String =
                    (0..random.usize(0..12)).map(|_| random.choice(['a', 'b', 'c']).unwrap()).collect();
                let mut out = String::new();
                let found = ours.replace_all(&regex, &text, &mut out);
                let expected = regex.replace_all(&text, template).into_owned();
                assert_eq!(if found { out } else { text.clone() }, expected);
            }
        }
    }

    #[test]
    fn mistakes_are_explained() {
        let regex = Regex::new("(a)").unwrap();
        let problem = |text| Replacement::compile("replacement", text, &regex).unwrap_err();
        assert_eq!(problem("$1x").help.unwrap(), "`${1}x` if group 1 is meant");
        assert_eq!(problem("$2").message, "the expression has no group `2`");
        assert_eq!(problem("${1").message, "`${` without its `}`");
        assert_eq!(problem("a $ b").message, "the expression has no group ``");
        assert_eq!(compile("regex", "(").unwrap_err().path, "regex");
    }
}
