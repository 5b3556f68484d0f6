//! The matchers of the rule language: their names, their arguments, what each becomes.

use super::{Matcher, Rule, RuleError};
use crate::scalar;

/// A string between the parentheses of a matcher.
pub(super) struct Argument {
    pub(super) text: String,
    pub(super) offset: usize,
    pub(super) length: usize,
}

/// One matcher of the language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    ClientIp,
    Header,
    HeaderRegexp,
    Host,
    HostRegexp,
    Method,
    Path,
    PathPrefix,
    PathRegexp,
    Query,
    QueryRegexp,
}

/// Every matcher: how it is written, fewest and most arguments, an example.
const ALL: &[(Name, &str, usize, usize, &str)] = &[
    (Name::ClientIp, "ClientIP", 1, 1, "ClientIP(`10.0.0.0/8`)"),
    (Name::Header, "Header", 2, 2, "Header(`X-Version`, `2`)"),
    (Name::HeaderRegexp, "HeaderRegexp", 2, 2, "HeaderRegexp(`X-Version`, `^2`)"),
    (Name::Host, "Host", 1, 1, "Host(`example.com`)"),
    (Name::HostRegexp, "HostRegexp", 1, 1, "HostRegexp(`^.+\\.example\\.com$`)"),
    (Name::Method, "Method", 1, 1, "Method(`GET`)"),
    (Name::Path, "Path", 1, 1, "Path(`/users`)"),
    (Name::PathPrefix, "PathPrefix", 1, 1, "PathPrefix(`/users`)"),
    (Name::PathRegexp, "PathRegexp", 1, 1, "PathRegexp(`^/v[0-9]+/`)"),
    (Name::Query, "Query", 1, 2, "Query(`page`, `1`)"),
    (Name::QueryRegexp, "QueryRegexp", 1, 2, "QueryRegexp(`page`, `^[0-9]+$`)"),
];

/// Matchers of the old (v2) syntax and of TCP routers, with what to write instead.
const OTHERS: &[(&str, &str)] = &[
    ("Headers", "that is the old name; write Header(`name`, `value`)"),
    ("HeadersRegexp", "that is the old name; write HeaderRegexp(`name`, `regex`)"),
    ("HostHeader", "that is the old name; write Host(`example.com`)"),
    ("HostSNI", "that is a matcher of TCP routers; write Host(`example.com`)"),
    ("HostSNIRegexp", "that is a matcher of TCP routers; write HostRegexp(`regex`)"),
    ("ALPN", "that is a matcher of TCP routers"),
    // What `show` and `explain` call the conditions that are written beside a rule.
    ("PathTemplate", "write it beside the rule, path = \"/users/{id}\""),
    ("HeaderPresent", "write it beside the rule, headers = { X-Version = true }"),
    ("QueryPresent", "write it beside the rule, query = { page = true }"),
    ("Client", "write it beside the rule, clients = [\"10.0.0.0/8\"]"),
];

impl Name {
    fn row(self) -> (&'static str, usize, usize, &'static str) {
        ALL.iter().find(|row| row.0 == self).map_or(("", 0, 0, ""), |row| (row.1, row.2, row.3, row.4))
    }

    pub(super) fn example(self) -> &'static str {
        self.row().3
    }
}

/// The matcher of that name: as written in the table, all lower, all upper, or only the first letter upper,
/// as Traefik accepts them. Otherwise the help for the error.
pub(super) fn find(name: &str) -> Result<Name, String> {
    let lower = name.to_ascii_lowercase();
    for (matcher, written, ..) in ALL {
        let title = title(written);
        if name == *written
            || lower == written.to_ascii_lowercase()
                && (name == lower || name == written.to_ascii_uppercase() || name == title)
        {
            return Ok(*matcher);
        }
    }
    if let Some((_, help)) = OTHERS.iter().find(|(old, _)| old.eq_ignore_ascii_case(name)) {
        return Err((*help).to_owned());
    }
    let names = ALL.iter().map(|row| row.1);
    Err(match crate::diagnostic::closest(name, names.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the matchers are {}", names.collect::<Vec<_>>().join(", ")),
    })
}

fn title(name: &str) -> String {
    let (first, rest) = name.split_at_checked(1).unwrap_or((name, ""));
    format!("{first}{}", rest.to_ascii_lowercase())
}

/// Checks the arguments and makes the predicate. `word` is where the name stands (offset, length).
pub(super) fn build(
    rule: &str,
    name: Name,
    arguments: &[Argument],
    word: (usize, usize),
) -> Result<Rule, RuleError> {
    let (written, least, most, example) = name.row();
    if arguments.len() < least || arguments.len() > most {
        let range = match (least, most) {
            (1, 1) => "one argument".to_owned(),
            (2, 2) => "two arguments".to_owned(),
            _ => format!("{least} or {most} arguments"),
        };
        let message = format!("`{written}` takes {range}, not {}", arguments.len());
        return Err(RuleError::new(rule, word.0, word.1, message, format!("write {example}")));
    }
    if let Some(empty) = arguments.iter().find(|a| a.text.is_empty()) {
        let message = format!("an empty argument for `{written}`");
        return Err(RuleError::new(rule, empty.offset, empty.length, message, format!("write {example}")));
    }
    let [first, rest @ ..] = arguments else {
        return Err(RuleError::new(rule, word.0, word.1, "no argument", format!("write {example}")));
    };
    let second = rest.first();
    let at = |argument: &Argument, problem: scalar::Problem| {
        RuleError::new(rule, argument.offset, argument.length, problem.message, problem.help)
    };
    let matcher = match name {
        Name::Host => host(&first.text).map_err(|p| at(first, p))?,
        Name::HostRegexp => Matcher::HostRegexp(regex(&first.text).map_err(|p| at(first, p))?),
        Name::Path => Matcher::Path(absolute(&first.text).map_err(|p| at(first, p))?),
        Name::PathPrefix => Matcher::PathPrefix(absolute(&first.text).map_err(|p| at(first, p))?),
        Name::PathRegexp => Matcher::PathRegexp(regex(&first.text).map_err(|p| at(first, p))?),
        Name::Method => Matcher::Method(scalar::method(&first.text).map_err(|p| at(first, p))?.into()),
        Name::ClientIp => {
            let net = scalar::net(&first.text).map_err(|p| at(first, p))?;
            Matcher::ClientIp { net, trusted: false }
        }
        Name::Header | Name::HeaderRegexp => {
            let key = scalar::header_name(&first.text).map_err(|p| at(first, p))?;
            let Some(second) = second else {
                return Err(RuleError::new(rule, word.0, word.1, "no value", format!("write {example}")));
            };
            match name {
                Name::Header => Matcher::Header { name: key.into(), value: second.text.as_str().into() },
                _ => Matcher::HeaderRegexp {
                    name: key.into(),
                    regex: regex(&second.text).map_err(|p| at(second, p))?,
                },
            }
        }
        Name::Query | Name::QueryRegexp => {
            let key = first.text.as_str().into();
            match second {
                // One argument means a key with an empty value, as Traefik has it.
                None => Matcher::Query { name: key, value: "".into() },
                Some(second) if name == Name::Query => {
                    Matcher::Query { name: key, value: second.text.as_str().into() }
                }
                Some(second) => {
                    Matcher::QueryRegexp { name: key, regex: regex(&second.text).map_err(|p| at(second, p))? }
                }
            }
        }
    };
    Ok(Rule::Match(matcher))
}

/// A host as a rule or the `hosts` of a route write it: exact, `*.example.com`, or `*`.
pub(crate) fn host(text: &str) -> Result<Matcher, scalar::Problem> {
    if text == "*" {
        return Ok(Matcher::HostAny);
    }
    match text.strip_prefix("*.") {
        Some(suffix) => Ok(Matcher::HostSuffix(scalar::host(suffix)?.into())),
        None => Ok(Matcher::Host(scalar::host(text)?.into())),
    }
}

/// A regular expression that compiles.
pub(crate) fn regex(text: &str) -> Result<std::sync::Arc<str>, scalar::Problem> {
    scalar::regex(text).map(|()| text.into())
}

fn absolute(path: &str) -> Result<std::sync::Arc<str>, scalar::Problem> {
    if path.starts_with('/') {
        return Ok(path.into());
    }
    Err(scalar::Problem::new(format!("the path `{path}` must start with `/`"), format!("write `/{path}`")))
}
