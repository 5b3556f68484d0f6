//! Findings: what is wrong in a configuration, where, and what would be right.

use std::{fmt::Write as _, sync::Arc};

use schemars::JsonSchema;
use serde::Serialize;

use crate::document::Position;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration is refused (or, from a live provider, the object is quarantined).
    Error,
    /// It runs, but is probably not what was meant.
    Warning,
}

/// What kind of mistake; the text form is stable and may be matched by programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The text is not TOML, YAML or JSON.
    Syntax,
    /// The same key twice in one table.
    DuplicateKey,
    /// A variable without value and without default.
    MissingVariable,
    /// `${…}` that names no variable.
    BadSubstitution,
    /// A line of the `.env` file that is no `KEY=VALUE`.
    BadDotEnv,
    /// A key that does not exist.
    UnknownKey,
    /// A key that must be there is not.
    MissingKey,
    /// A value of another type than the key takes.
    WrongType,
    /// A value of the right type that cannot be.
    BadValue,
    /// Settings that contradict each other.
    Conflict,
    /// A rule that cannot be read; the column points into it.
    BadRule,
    /// A path template that cannot be read.
    BadPath,
    /// An object called what an object cannot be called.
    BadName,
    /// Two objects of one name.
    DuplicateName,
    /// A service that does not exist.
    UnknownService,
    /// A middleware that does not exist.
    UnknownMiddleware,
    /// A listener that does not exist.
    UnknownListener,
    /// A built-in service that does not exist.
    UnknownBuiltin,
    /// A kind of middleware that does not exist.
    UnknownKind,
    /// Settings that a kind of middleware refuses.
    BadSettings,
    /// A route that leads nowhere.
    NoTarget,
    /// A service without endpoints.
    NoEndpoints,
    /// All endpoints of a service have weight 0.
    ZeroWeight,
    /// The same endpoint twice in a service.
    DuplicateEndpoint,
    /// Another route takes every request first.
    ShadowedRoute,
    /// No request can satisfy the route.
    UnreachableRoute,
    /// A service that nothing uses.
    UnusedService,
    /// A middleware that nothing uses.
    UnusedMiddleware,
    /// Two listeners on one address.
    AddressInUse,
    /// A file that is named but cannot be read.
    MissingFile,
    /// A certificate or key that cannot be read.
    BadCertificate,
    /// A certificate that is no longer, or not yet, valid.
    ExpiredCertificate,
    /// A certificate that does not belong to its key.
    KeyMismatch,
    /// A host for which no certificate of the listener stands.
    UncoveredHost,
    /// Upstream certificates are not verified.
    InsecureUpstream,
    /// Forwarding headers of everybody are believed.
    TrustsEverybody,
    /// The admin listener can be reached from elsewhere.
    ExposedAdmin,
}

impl Code {
    /// The stable text form, `unknown-key`.
    pub fn as_text(self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(text)) => text,
            _ => String::new(),
        }
    }
}

/// One thing wrong in a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Stable identification of the kind of mistake.
    pub code: Code,
    /// The provider whose fragment it is in; empty before fragments are known.
    #[serde(skip_serializing_if = "str::is_empty")]
    #[schemars(with = "String")]
    pub provider: Arc<str>,
    /// The file (or whatever the provider calls its source).
    #[schemars(with = "String")]
    pub file: Arc<str>,
    /// From 1; 0 when the source has no lines.
    pub line: u32,
    /// In characters, from 1; 0 when the source has no lines.
    pub column: u32,
    /// Characters covered in that line; at least 1.
    pub width: u32,
    /// Path in the document, `routes[2].upstream.urls[0]`; empty for the document itself.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What would be right; may be empty.
    pub help: String,
}

impl Finding {
    /// An error without a place yet.
    pub fn error(code: Code, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            provider: "".into(),
            file: "".into(),
            line: 0,
            column: 0,
            width: 1,
            path: String::new(),
            message: message.into(),
            help: String::new(),
        }
    }

    /// A warning without a place yet.
    pub fn warning(code: Code, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// With what would be right.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    /// At a place.
    pub fn at(mut self, position: Position) -> Self {
        self.line = position.line;
        self.column = position.column;
        self.width = position.width.max(1);
        self
    }

    /// Whether it refuses the configuration.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The finding as text for people. `source` is the text of its file (the line is shown with a caret) or empty;
    /// `colours` adds ANSI colours.
    ///
    /// ```text
    /// error[unknown-key]: unknown key `pth`
    ///   --> gateway.toml:7:1 (routes[0].pth)
    ///    |
    ///  7 | pth = "/api/*"
    ///    | ^^^
    ///    = help: did you mean `path`?
    /// ```
    pub fn render(&self, source: &str, colours: bool) -> String {
        let paint = |code: &str, text: &str| {
            if colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
        };
        let (word, colour) = match self.severity {
            Severity::Error => ("error", "1;31"),
            Severity::Warning => ("warning", "1;33"),
        };
        let mut out = String::new();
        let head = paint(colour, &format!("{word}[{}]", self.code.as_text()));
        let _ = writeln!(out, "{head}: {}", paint("1", &one_line(&self.message)));
        let line = usize::try_from(self.line).unwrap_or(0);
        let shown = line.checked_sub(1).and_then(|index| source.lines().nth(index));
        let gutter = " ".repeat(self.line.to_string().len());
        let mut place = self.file.to_string();
        if self.line > 0 {
            let _ = write!(place, ":{}:{}", self.line, self.column);
        }
        if !self.path.is_empty() {
            let _ = write!(place, " ({})", one_line(&self.path));
        }
        let _ = writeln!(out, "{gutter} {} {place}", paint("1;34", "-->"));
        if let Some(text) = shown {
            let bar = paint("1;34", "|");
            let (text, column, width) = window(text, self.column, self.width);
            let carets = paint(colour, &"^".repeat(width));
            let _ = writeln!(out, "{gutter}  {bar}");
            let _ = writeln!(out, " {} {bar} {text}", paint("1;34", &self.line.to_string()));
            let _ = writeln!(out, "{gutter}  {bar} {}{carets}", " ".repeat(column.saturating_sub(1)));
        }
        if !self.help.is_empty() {
            let _ = writeln!(out, "{gutter}  {} help: {}", paint("1;34", "="), one_line(&self.help));
        }
        out
    }
}

/// Control characters of what was written must not reach a terminal.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The part of a long line around the place, with the column and the width in it.
fn window(line: &str, column: u32, width: u32) -> (String, usize, usize) {
    const WIDEST: usize = 140;
    let column = usize::try_from(column).unwrap_or(1).max(1);
    let width = usize::try_from(width).unwrap_or(1).max(1);
    let clean: Vec<char> = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let skip = if clean.len() > WIDEST && column > WIDEST / 2 { column - WIDEST / 2 } else { 0 };
    let text: String = clean.iter().skip(skip).take(WIDEST).collect();
    let text = text.trim_end().to_owned();
    let column = column - skip;
    let room = (text.chars().count() + 1).saturating_sub(column).max(1);
    (text, column, width.min(room))
}

/// All findings as text, each with its line, followed by a count. `source_of` gives the text of a file.
pub fn render_all(
    findings: &[Finding],
    source_of: &dyn Fn(&str) -> Option<Arc<str>>,
    colours: bool,
) -> String {
    let mut out = String::new();
    for finding in findings {
        let source = source_of(&finding.file);
        out.push_str(&finding.render(source.as_deref().unwrap_or(""), colours));
        out.push('\n');
    }
    let errors = findings.iter().filter(|finding| finding.is_error()).count();
    let count = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    let _ = writeln!(out, "{}, {}", count(errors, "error"), count(findings.len() - errors, "warning"));
    out
}

/// The candidate that was probably meant.
pub fn closest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let written = plain(written);
    let best = candidates
        .into_iter()
        .map(|candidate| {
            let other = plain(candidate);
            let mut score = strsim::jaro_winkler(&written, &other);
            // Jaro misses a swapped start and an ending left away; the number of edits does not.
            let edits = strsim::osa_distance(&written, &other);
            if edits <= 1 && other.len() > 2 {
                score = score.max(0.95);
            }
            (candidate, score)
        })
        .filter(|(_, score)| *score > 0.8)
        // The first of equals.
        .reduce(|best, other| if other.1 > best.1 { other } else { best });
    best.map(|(candidate, _)| candidate)
}

/// `did you mean …?`, or the list of what there is, or nothing when there is nothing.
pub fn suggestion<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>, what: &str) -> String {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    if let Some(near) = closest(written, candidates.iter().copied()) {
        return format!("did you mean `{near}`?");
    }
    match candidates.len() {
        0 => format!("there are no {what}"),
        1..=24 => {
            let list: Vec<String> = candidates.iter().map(|name| format!("`{name}`")).collect();
            format!("the {what} are {}", list.join(", "))
        }
        n => format!("there are {n} {what}, none of a similar name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_the_line_with_a_caret() {
        let position = Position { line: 2, column: 1, width: 3 };
        let finding =
            Finding::error(Code::UnknownKey, "unknown key `pth`").help("did you mean `path`?").at(position);
        let finding = Finding { file: "gateway.toml".into(), path: "routes[0].pth".into(), ..finding };
        let expected = "error[unknown-key]: unknown key `pth`\n  --> gateway.toml:2:1 (routes[0].pth)\n   |\n 2 | pth = 1\n   | ^^^\n   = help: did you mean `path`?\n";
        assert_eq!(finding.render("[[routes]]\npth = 1\n", false), expected);
        assert!(finding.render("", true).contains("\u{1b}[1;31merror"));
        // A place outside of the text, and text meant for the terminal, do no harm.
        let odd = Finding { line: 99, column: 7, message: "a\u{1b}[2Jb".into(), ..finding };
        assert!(!odd.render("x", false).contains('\u{1b}'));
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let line = "x".repeat(1000);
        let (text, column, width) = window(&line, 900, 50);
        assert!(text.len() <= 140 && column + width <= 141, "{column} {width}");
    }

    #[test]
    fn suggests_what_is_near() {
        assert_eq!(closest("pth", ["path", "name"]), Some("path"));
        assert_eq!(closest("strip-path", ["strip_path", "path"]), Some("strip_path"));
        assert_eq!(closest("zebra", ["path", "name"]), None);
        assert_eq!(suggestion("zebra", ["a"], "services"), "the services are `a`");
        assert_eq!(suggestion("zebra", [], "services"), "there are no services");
    }
}
