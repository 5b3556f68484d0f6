//! A rule made ready to be asked: regular expressions compiled, always-true parts gone.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use portcullis_config::rule::{Matcher, PathTemplate, Rule};
use regex::bytes::Regex;

use super::{Query, Reason, methods::Methods, query_string};

/// A compiled rule.
#[derive(Debug, Clone)]
pub(super) enum Condition {
    Always,
    Never,
    All(Box<[Condition]>),
    One(Box<[Condition]>),
    Not(Box<Condition>),
    Test(Test),
}

/// One question to a request.
#[derive(Debug, Clone)]
pub(super) enum Test {
    Host(Arc<str>),
    HostSuffix(Arc<str>),
    HostRegexp(Regex),
    Path(Arc<str>),
    PathPrefix(Arc<str>),
    PathTemplate(Arc<PathTemplate>),
    PathRegexp(Regex),
    /// One of a set of methods.
    Methods(u64),
    Header {
        name: Arc<str>,
        value: Arc<str>,
    },
    HeaderPresent(Arc<str>),
    HeaderRegexp {
        name: Arc<str>,
        regex: Regex,
    },
    Query {
        name: Arc<str>,
        value: Arc<str>,
    },
    QueryPresent(Arc<str>),
    QueryRegexp {
        name: Arc<str>,
        regex: Regex,
    },
    ClientIp {
        net: IpNet,
        trusted: bool,
    },
}

/// A request as conditions see it: the query, and its path in the form that rules are matched against.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) query: &'a Query<'a>,
    pub(super) path: &'a str,
    /// The method's bit.
    pub(super) method: u64,
}

impl Condition {
    /// Compiles a rule; `methods` learns the methods that it speaks of.
    pub(super) fn compile(rule: &Rule, methods: &mut Methods) -> Result<Condition, Reason> {
        let mut parts = |rules: &[Rule]| -> Result<Vec<_>, _> {
            rules.iter().map(|rule| Condition::compile(rule, methods)).collect()
        };
        Ok(match rule {
            Rule::Any | Rule::Match(Matcher::HostAny) => Condition::Always,
            Rule::And(rules) => Condition::all(parts(rules)?),
            Rule::Or(rules) => Condition::one(parts(rules)?),
            Rule::Not(rule) => Condition::compile(rule, methods)?.negated(),
            Rule::Match(matcher) => Condition::Test(Test::compile(matcher, methods)?),
        })
    }

    fn all(parts: Vec<Condition>) -> Condition {
        let mut parts = merged(parts, |a, b| a & b);
        if parts.iter().any(|part| matches!(part, Condition::Never)) {
            return Condition::Never;
        }
        parts.retain(|part| !matches!(part, Condition::Always));
        match parts.len() {
            0 => Condition::Always,
            1 => parts.remove(0),
            _ => Condition::All(parts.into()),
        }
    }

    fn one(parts: Vec<Condition>) -> Condition {
        let mut parts = merged(parts, |a, b| a | b);
        if parts.iter().any(|part| matches!(part, Condition::Always)) {
            return Condition::Always;
        }
        parts.retain(|part| !matches!(part, Condition::Never));
        match parts.len() {
            0 => Condition::Never,
            1 => parts.remove(0),
            _ => Condition::One(parts.into()),
        }
    }

    /// The set, if this is a test of the method.
    fn methods(&self) -> Option<u64> {
        if let Condition::Test(Test::Methods(set)) = self { Some(*set) } else { None }
    }

    fn negated(self) -> Condition {
        match self {
            Condition::Always => Condition::Never,
            Condition::Never => Condition::Always,
            Condition::Not(inner) => *inner,
            other => Condition::Not(Box::new(other)),
        }
    }

    /// What is left of the condition when some tests are already known.
    pub(super) fn given(&self, known: &impl Fn(&Test) -> Option<bool>) -> Condition {
        match self {
            Condition::Always => Condition::Always,
            Condition::Never => Condition::Never,
            Condition::All(parts) => Condition::all(parts.iter().map(|part| part.given(known)).collect()),
            Condition::One(parts) => Condition::one(parts.iter().map(|part| part.given(known)).collect()),
            Condition::Not(inner) => inner.given(known).negated(),
            Condition::Test(test) => match known(test) {
                Some(true) => Condition::Always,
                Some(false) => Condition::Never,
                None => self.clone(),
            },
        }
    }

    /// Does it hold?
    pub(super) fn holds(&self, view: View<'_>) -> bool {
        match self {
            Condition::Always => true,
            Condition::Never => false,
            Condition::All(parts) => parts.iter().all(|part| part.holds(view)),
            Condition::One(parts) => parts.iter().any(|part| part.holds(view)),
            Condition::Not(inner) => !inner.holds(view),
            Condition::Test(test) => test.holds(view),
        }
    }

    /// Does it hold, when only some tests can be answered? `None` when that depends on the others.
    pub(super) fn decide(&self, judge: &impl Fn(&Test) -> Option<bool>) -> Option<bool> {
        let fold = |parts: &[Condition], decisive: bool| {
            let mut open = false;
            for part in parts {
                match part.decide(judge) {
                    Some(value) if value == decisive => return Some(decisive),
                    Some(_) => {}
                    None => open = true,
                }
            }
            if open { None } else { Some(!decisive) }
        };
        match self {
            Condition::Always => Some(true),
            Condition::Never => Some(false),
            Condition::All(parts) => fold(parts, false),
            Condition::One(parts) => fold(parts, true),
            Condition::Not(inner) => inner.decide(judge).map(|value| !value),
            Condition::Test(test) => judge(test),
        }
    }

    /// Calls `each` with every test, also with those under a "not".
    pub(super) fn each<'a>(&'a self, each: &mut impl FnMut(&'a Test)) {
        match self {
            Condition::Always | Condition::Never => {}
            Condition::All(parts) | Condition::One(parts) => parts.iter().for_each(|part| part.each(each)),
            Condition::Not(inner) => inner.each(each),
            Condition::Test(test) => each(test),
        }
    }

    /// The template by which a condition that holds took the path: from it come the parameters.
    pub(super) fn template(&self, view: View<'_>) -> Option<&PathTemplate> {
        match self {
            Condition::All(parts) => parts.iter().find_map(|part| part.template(view)),
            Condition::One(parts) => parts.iter().find(|part| part.holds(view))?.template(view),
            Condition::Test(Test::PathTemplate(template)) => Some(template),
            Condition::Always | Condition::Never | Condition::Not(_) | Condition::Test(_) => None,
        }
    }
}

/// All tests of the method as one, at the place of the first.
fn merged(mut parts: Vec<Condition>, merge: fn(u64, u64) -> u64) -> Vec<Condition> {
    let sets = parts.iter().filter_map(Condition::methods);
    if let Some(set) = sets.reduce(merge) {
        let mut first = true;
        parts.retain_mut(|part| match part {
            Condition::Test(Test::Methods(old)) => {
                *old = set;
                std::mem::take(&mut first)
            }
            _ => true,
        });
    }
    parts
}

impl Test {
    fn compile(matcher: &Matcher, methods: &mut Methods) -> Result<Test, Reason> {
        let regex = |text: &str| Regex::new(text);
        Ok(match matcher {
            Matcher::Host(host) => Test::Host(host.clone()),
            Matcher::HostSuffix(suffix) => Test::HostSuffix(suffix.clone()),
            // Always true, and compiled as such where it stands.
            Matcher::HostAny => Test::HostRegexp(regex("")?),
            Matcher::HostRegexp(text) => Test::HostRegexp(regex(text)?),
            Matcher::Path(path) => Test::Path(path.clone()),
            Matcher::PathPrefix(prefix) => Test::PathPrefix(prefix.clone()),
            Matcher::PathTemplate(template) => Test::PathTemplate(Arc::new(template.clone())),
            Matcher::PathRegexp(text) => Test::PathRegexp(regex(text)?),
            Matcher::Method(method) => Test::Methods(methods.taken_by(method).ok_or(Reason::TooManyMethods)?),
            Matcher::Header { name, value } => Test::Header { name: name.clone(), value: value.clone() },
            Matcher::HeaderPresent(name) => Test::HeaderPresent(name.clone()),
            Matcher::HeaderRegexp { name, regex: text } => {
                Test::HeaderRegexp { name: name.clone(), regex: regex(text)? }
            }
            Matcher::Query { name, value } => Test::Query { name: name.clone(), value: value.clone() },
            Matcher::QueryPresent(name) => Test::QueryPresent(name.clone()),
            Matcher::QueryRegexp { name, regex: text } => {
                Test::QueryRegexp { name: name.clone(), regex: regex(text)? }
            }
            Matcher::ClientIp { net, trusted } => Test::ClientIp { net: *net, trusted: *trusted },
        })
    }

    pub(super) fn holds(&self, view: View<'_>) -> bool {
        let q = view.query;
        match self {
            Test::Host(host) => **host == *q.host,
            Test::HostSuffix(suffix) => parent(q.host) == Some(suffix),
            Test::HostRegexp(regex) => regex.is_match(q.host.as_bytes()),
            Test::Path(path) => **path == *view.path,
            Test::PathPrefix(prefix) => view.path.starts_with(&**prefix),
            Test::PathTemplate(template) => template.matches(view.path),
            Test::PathRegexp(regex) => regex.is_match(view.path.as_bytes()),
            Test::Methods(set) => view.method & set != 0,
            Test::Header { name, value } => q.fields.get_all(name).any(|found| found == value.as_bytes()),
            Test::HeaderPresent(name) => q.fields.contains(name),
            Test::HeaderRegexp { name, regex } => q.fields.get_all(name).any(|found| regex.is_match(found)),
            Test::Query { name, value } => {
                query_string::values(q.query, name).any(|found| query_string::means(found, value))
            }
            Test::QueryPresent(name) => query_string::values(q.query, name).next().is_some(),
            Test::QueryRegexp { name, regex } => {
                query_string::values(q.query, name).any(|found| regex.is_match(&query_string::decoded(found)))
            }
            Test::ClientIp { net, trusted } => holds_ip(net, if *trusted { q.client } else { q.peer }),
        }
    }

    /// Does it look at the host?
    pub(super) fn is_host(&self) -> bool {
        matches!(self, Test::Host(_) | Test::HostSuffix(_) | Test::HostRegexp(_))
    }

    /// Does it look at the path?
    pub(super) fn is_path(&self) -> bool {
        matches!(self, Test::Path(_) | Test::PathPrefix(_) | Test::PathTemplate(_) | Test::PathRegexp(_))
    }
}

/// The host without its first label; `None` when it has but one.
pub(super) fn parent(host: &str) -> Option<&str> {
    host.split_once('.').filter(|(label, _)| !label.is_empty()).map(|(_, parent)| parent)
}

/// An IPv4 address that came over an IPv6 socket is an IPv4 address.
fn holds_ip(net: &IpNet, ip: IpAddr) -> bool {
    net.contains(&ip.to_canonical())
}
