//! `${NAME}` and `${NAME:-default}` in values. It happens after parsing, so a variable's value can never add
//! keys or quotes. `$$` is a `$`; a `$` before anything but `{` and `$`, and a `${1}` (a group of a regular
//! expression), stay as they are.

use super::{
    Document,
    env::{Env, is_name},
    node::{Node, Position, Value},
    path::{Path, Step},
};
use crate::diagnostic::{Code, Finding};

/// Deepest nesting of `${A:-${B:-…}}`.
const MAX_DEPTH: usize = 8;

pub(super) fn all(document: &mut Document, env: &dyn Env) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut steps = Vec::new();
    walk(&mut document.root, &mut steps, Position::default(), env, &mut |finding, path, position| {
        let finding = Finding { file: document.file.clone(), path: path.to_string(), ..finding };
        findings.push(finding.at(position));
    });
    findings
}

type Report<'a> = dyn FnMut(Finding, Path, Position) + 'a;

fn walk(node: &mut Node, steps: &mut Vec<Step>, near: Position, env: &dyn Env, report: &mut Report<'_>) {
    let position = if node.position.line == 0 { near } else { node.position };
    match &mut node.value {
        Value::Text(text) if text.contains('$') => match expand(text, env, 0) {
            Ok(expanded) => {
                node.substituted = is_single(text);
                *text = expanded;
            }
            Err(finding) => {
                report(finding, Path(steps.clone()), position);
                node.value = Value::Removed;
            }
        },
        Value::List(nodes) => {
            for (index, node) in nodes.iter_mut().enumerate() {
                steps.push(Step::Index(index));
                walk(node, steps, position, env, report);
                steps.pop();
            }
        }
        Value::Table(entries) => {
            for entry in entries {
                steps.push(Step::Key(entry.key.as_str().into()));
                walk(&mut entry.node, steps, entry.position, env, report);
                steps.pop();
            }
        }
        _ => {}
    }
}

/// The text is one `${…}` and nothing else.
fn is_single(text: &str) -> bool {
    text.starts_with("${") && closing(text.get(2..).unwrap_or("")).is_some_and(|end| end + 3 == text.len())
}

/// Where the `}` stands that belongs to an already open `${`.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut previous = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '{' if previous == '$' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
        previous = c;
    }
    None
}

fn expand(text: &str, env: &dyn Env, depth: usize) -> Result<String, Finding> {
    let bad = |message: String, help: &str| Err(Finding::error(Code::BadSubstitution, message).help(help));
    if depth > MAX_DEPTH {
        return bad(
            format!("defaults within defaults, more than {MAX_DEPTH} deep"),
            "write the default itself",
        );
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(rest.get(..at).unwrap_or(""));
        let after = rest.get(at + 1..).unwrap_or("");
        match after.chars().next() {
            Some('$') => {
                out.push('$');
                rest = after.get(1..).unwrap_or("");
            }
            Some('{') if !after.get(1..).unwrap_or("").starts_with(|c: char| c.is_ascii_digit()) => {
                let inside = after.get(1..).unwrap_or("");
                let Some(end) = closing(inside) else {
                    return bad(
                        "`${` without `}`".into(),
                        "write `${NAME}`, or `$${` for the characters themselves",
                    );
                };
                let body = inside.get(..end).unwrap_or("");
                let (name, default) = match body.split_once(":-") {
                    Some((name, default)) => (name, Some(default)),
                    None => (body, None),
                };
                if !is_name(name) {
                    let help =
                        "write `${NAME}` or `${NAME:-default}`, or `$${` for the characters themselves";
                    return bad(format!("`{name}` is not the name of a variable"), help);
                }
                match (env.get(name), default) {
                    (Some(value), None) => out.push_str(&value),
                    (Some(value), Some(_)) if !value.is_empty() => out.push_str(&value),
                    (_, Some(default)) => out.push_str(&expand(default, env, depth + 1)?),
                    (None, None) => {
                        let message = format!("the variable `{name}` is not set");
                        let mut help = format!("set it, put it into `.env`, or write `${{{name}:-default}}`");
                        // Variables are seldom written in lower case; groups of a regular expression are.
                        if name.chars().any(|c| c.is_ascii_lowercase()) {
                            help.push_str(&format!("; `$${{{name}}}` leaves the characters as they are"));
                        }
                        return Err(Finding::error(Code::MissingVariable, message).help(help));
                    }
                }
                rest = inside.get(end + 1..).unwrap_or("");
            }
            _ => {
                out.push('$');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "A" => Some("x".into()),
            "EMPTY" => Some(String::new()),
            "NASTY" => Some("\"]\nadmin = false # ${A}".into()),
            _ => None,
        }
    }

    #[test]
    fn expands() {
        for (text, expected) in [
            ("${A}", "x"),
            ("a${A}b${A}", "axbx"),
            ("${NO:-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY}", ""),
            ("${NO:-}", ""),
            ("${NO:-${A}y}", "xy"),
            ("$${A}", "${A}"),
            ("^/a$", "^/a$"),
            ("$1/${1}", "$1/${1}"),
            ("$$", "$"),
            // A value is never looked at again.
            ("${NASTY}", "\"]\nadmin = false # ${A}"),
        ] {
            assert_eq!(expand(text, &env, 0).map_err(|f| f.message), Ok(expected.to_owned()), "{text}");
        }
        for bad in ["${NO}", "${A", "${}", "${A B}", "${a-b}"] {
            assert!(expand(bad, &env, 0).is_err(), "{bad}");
        }
        let deep = format!("{}x{}", "${NO:-".repeat(20), "}".repeat(20));
        assert!(expand(&deep, &env, 0).is_err());
    }

    #[test]
    fn knows_a_single_substitution() {
        assert!(is_single("${A}") && is_single("${A:-${B}}"));
        assert!(!is_single("${A}${B}") && !is_single("a${A}") && !is_single("$A"));
    }
}
