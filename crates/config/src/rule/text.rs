//! The canonical text of a rule: what `show` and `explain` print. For everything that the rule language can say,
//! it reads back as the same rule. The predicates of the native fields are printed in the same manner, under
//! names of their own (`PathTemplate`, `HeaderPresent`, `QueryPresent`, `Client`).

use std::fmt;

use super::{Matcher, Rule};

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Any => f.write_str("Any()"),
            Rule::Match(matcher) => write!(f, "{matcher}"),
            Rule::Not(inner) => match **inner {
                Rule::Match(_) | Rule::Any => write!(f, "!{inner}"),
                _ => write!(f, "!({inner})"),
            },
            Rule::Or(parts) => joined(f, parts, " || ", |_| false),
            Rule::And(parts) => joined(f, parts, " && ", |part| matches!(part, Rule::Or(p) if p.len() > 1)),
        }
    }
}

fn joined(
    f: &mut fmt::Formatter<'_>,
    parts: &[Rule],
    between: &str,
    enclose: impl Fn(&Rule) -> bool,
) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            f.write_str(between)?;
        }
        if enclose(part) { write!(f, "({part})")? } else { write!(f, "{part}")? }
    }
    Ok(())
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Matcher::Host(host) => write!(f, "Host({})", Quoted(host)),
            Matcher::HostSuffix(suffix) => write!(f, "Host({})", Quoted(&format!("*.{suffix}"))),
            Matcher::HostAny => f.write_str("Host(`*`)"),
            Matcher::HostRegexp(regex) => write!(f, "HostRegexp({})", Quoted(regex)),
            Matcher::Path(path) => write!(f, "Path({})", Quoted(path)),
            Matcher::PathPrefix(path) => write!(f, "PathPrefix({})", Quoted(path)),
            Matcher::PathTemplate(template) => write!(f, "PathTemplate({})", Quoted(&template.text)),
            Matcher::PathRegexp(regex) => write!(f, "PathRegexp({})", Quoted(regex)),
            Matcher::Method(method) => write!(f, "Method({})", Quoted(method)),
            Matcher::Header { name, value } => write!(f, "Header({}, {})", Quoted(name), Quoted(value)),
            Matcher::HeaderPresent(name) => write!(f, "HeaderPresent({})", Quoted(name)),
            Matcher::HeaderRegexp { name, regex } => {
                write!(f, "HeaderRegexp({}, {})", Quoted(name), Quoted(regex))
            }
            Matcher::Query { name, value } if value.is_empty() => write!(f, "Query({})", Quoted(name)),
            Matcher::Query { name, value } => write!(f, "Query({}, {})", Quoted(name), Quoted(value)),
            Matcher::QueryPresent(name) => write!(f, "QueryPresent({})", Quoted(name)),
            Matcher::QueryRegexp { name, regex } => {
                write!(f, "QueryRegexp({}, {})", Quoted(name), Quoted(regex))
            }
            Matcher::ClientIp { net, trusted: false } => write!(f, "ClientIP(`{net}`)"),
            Matcher::ClientIp { net, trusted: true } => write!(f, "Client(`{net}`)"),
        }
    }
}

/// Between backticks where that is possible, else between double quotes with escapes.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.contains(['`', '\r']) {
            return write!(f, "`{}`", self.0);
        }
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                c if c.is_control() => write!(f, "\\u{:04x}", c as u32)?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}
