//! The conditions of a route: the short fields and `rule`, as one expression.

use super::{Merger, Source, priority::Specificity, shared};
use crate::{
    diagnostic::{Code, Finding},
    document::Path,
    rule::{self, Matcher, PathTemplate, Rule, Segment},
    scalar,
    written::{self, Condition, OrTable},
};

/// The conditions of a route, before they are one rule.
pub(super) struct Conditions {
    pub(super) rule: Rule,
    pub(super) priority: i64,
    pub(super) template: Option<PathTemplate>,
    /// The rule could not be read: nobody knows what the route would take.
    pub(super) unreadable: bool,
}

impl Merger<'_> {
    /// The conditions of a route as one rule, and how specific they are.
    pub(super) fn conditions(
        &mut self,
        source: &Source,
        path: &Path,
        written: &written::Route,
        preflights: bool,
    ) -> Conditions {
        let mut parts = Vec::new();
        let mut weight = Specificity::default();
        let mut unreadable = false;
        if let Some(hosts) = &written.hosts {
            weight.hosts(hosts.0.iter().map(|host| &host.0.0));
            parts.push(one_of(hosts.0.iter().map(|host| Rule::Match(host.0.0.clone()))));
            self.not_empty(source, &path.key("hosts"), hosts.0.is_empty());
        }
        let mut template = None;
        if let Some(text) = &written.path {
            match PathTemplate::parse(text) {
                Ok(parsed) => {
                    weight.path(&parsed);
                    parts.push(path_rule(&parsed));
                    template = Some(parsed);
                }
                Err(problem) => {
                    self.error(source, &path.key("path"), Code::BadPath, problem.message, problem.help);
                    unreadable = true;
                }
            }
        }
        if let Some(methods) = &written.methods {
            weight.further(1);
            self.not_empty(source, &path.key("methods"), methods.0.is_empty());
            parts.push(methods_rule(methods, preflights));
        }
        for (section, list) in [("headers", &written.headers), ("query", &written.query)] {
            for (name, OrTable(condition)) in list {
                weight.further(1);
                let at = path.key(section).key(name);
                parts.extend(self.condition(source, &at, section == "headers", name, condition));
            }
        }
        if let Some(clients) = &written.clients {
            weight.further(1);
            self.not_empty(source, &path.key("clients"), clients.0.is_empty());
            let client = |net: &written::Lit<ipnet::IpNet>| {
                Rule::Match(Matcher::ClientIp { net: net.0, trusted: true })
            };
            parts.push(one_of(clients.0.iter().map(client)));
        }
        if let Some(text) = &written.rule {
            match rule::parse(text) {
                Ok(rule) => {
                    weight.rule(text);
                    parts.push(rule);
                }
                Err(error) => {
                    self.bad_rule(source, &path.key("rule"), text, &error);
                    unreadable = true;
                }
            }
        }
        // What was taken out might have been a condition: the route must not take more than was meant.
        let keys = ["path", "hosts", "methods", "headers", "query", "clients", "rule"];
        unreadable |= keys.iter().any(|key| source.broken(&path.key(key)));
        Conditions { rule: Rule::all(parts), priority: weight.sum(), template, unreadable }
    }

    fn not_empty(&mut self, source: &Source, path: &Path, empty: bool) {
        if empty && !source.broken(path) {
            let help = "leave it away to take all";
            self.error(source, path, Code::UnreachableRoute, "an empty list takes no request", help);
        }
    }

    fn condition(
        &mut self,
        source: &Source,
        path: &Path,
        header: bool,
        name: &str,
        condition: &Condition,
    ) -> Option<Rule> {
        if header && let Err(problem) = scalar::header_name(name) {
            self.error(source, path, Code::BadValue, problem.message, problem.help);
            return None;
        }
        let key = shared(name);
        let present =
            if header { Matcher::HeaderPresent(key.clone()) } else { Matcher::QueryPresent(key.clone()) };
        let matcher = match (condition.present, &condition.value, &condition.regex) {
            (Some(true), None, None) => present,
            (Some(false), None, None) => return Some(Rule::Match(present).negated()),
            (None, Some(value), None) => {
                let value = shared(value);
                if header {
                    Matcher::Header { name: key, value }
                } else {
                    Matcher::Query { name: key, value }
                }
            }
            (None, None, Some(regex)) => {
                if let Err(problem) = scalar::regex(regex) {
                    self.error(source, &path.key("regex"), Code::BadValue, problem.message, problem.help);
                    return None;
                }
                let regex = shared(regex);
                if header {
                    Matcher::HeaderRegexp { name: key, regex }
                } else {
                    Matcher::QueryRegexp { name: key, regex }
                }
            }
            _ if source.broken(path) => return None,
            (None, None, None) => {
                self.error(
                    source,
                    path,
                    Code::MissingKey,
                    "a condition without content",
                    "write `true`, or a value",
                );
                return None;
            }
            _ => {
                let help = "write one of `present`, `value`, `regex`";
                self.error(source, path, Code::Conflict, "a condition of several kinds", help);
                return None;
            }
        };
        Some(Rule::Match(matcher))
    }

    /// The finding points into the rule when the rule stands in the file as it was read.
    fn bad_rule(&mut self, source: &Source, path: &Path, text: &str, error: &rule::RuleError) {
        self.points_into(source, path, text, error, (Code::BadRule, "the rule"));
    }

    /// A mistake within a text, which is what this says.
    pub(super) fn points_into(
        &mut self,
        source: &Source,
        path: &Path,
        text: &str,
        error: &rule::RuleError,
        (code, what): (Code, &str),
    ) {
        let finding = Finding::error(code, format!("in {what}, column {}: {}", error.column, error.message));
        let mut finding = source.place(finding.help(error.help.clone()), path, false);
        let line = usize::try_from(finding.line).unwrap_or(0).checked_sub(1);
        let line = line.and_then(|line| source.document.text.lines().nth(line)).unwrap_or("");
        let start = usize::try_from(finding.column).unwrap_or(1).saturating_sub(1);
        let from: String = line.chars().skip(start).collect();
        let quotes = from.len() - from.trim_start_matches(['"', '\'']).len();
        let quotes = quotes.min(3);
        if from.get(quotes..).is_some_and(|rest| rest.starts_with(text)) {
            let number = |n: usize| u32::try_from(n).unwrap_or(1);
            finding.column = number(start + 1 + quotes + error.column - 1);
            finding.width = number(error.width);
        }
        self.findings.push(finding);
    }
}

fn one_of(parts: impl Iterator<Item = Rule>) -> Rule {
    Rule::any(parts.collect())
}

/// A template without parameters and tail is a plain path.
fn path_rule(template: &PathTemplate) -> Rule {
    let plain =
        !template.tail && template.segments.iter().all(|segment| matches!(segment, Segment::Literal(_)));
    Rule::Match(if plain {
        Matcher::Path(template.text.clone())
    } else {
        Matcher::PathTemplate(template.clone())
    })
}

/// A route that asks CORS takes the preflight requests of its methods too: they are OPTIONS requests with an origin
/// and the method asked about (Fetch standard, §4.8), and would be answered 405 otherwise.
fn methods_rule(
    methods: &written::OneOrMany<written::Lit<written::literal::MethodName>>,
    preflights: bool,
) -> Rule {
    let method = |name: &str| Rule::Match(Matcher::Method(shared(name)));
    let mut parts: Vec<Rule> = methods.0.iter().map(|name| method(&name.0.0)).collect();
    let options = methods.0.iter().any(|name| name.0.0 == "OPTIONS");
    if preflights && !options && !parts.is_empty() {
        let present = |name: &str| Rule::Match(Matcher::HeaderPresent(shared(name)));
        parts.push(Rule::all(vec![
            method("OPTIONS"),
            present("Origin"),
            present("Access-Control-Request-Method"),
        ]));
    }
    Rule::any(parts)
}
