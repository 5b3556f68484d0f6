//! What can be proved about rules without a request: that one takes everything another takes (shadowed routes),
//! and that one can take nothing (unreachable routes). Both answers are safe: "yes" is a proof, "no" means that
//! none was found.

use std::{cell::RefCell, collections::HashMap};

use super::{Matcher, PathTemplate, Rule, Segment};

/// Terms to which a rule is multiplied out when looking for contradictions.
const MAX_TERMS: usize = 64;

impl Rule {
    /// Whether every request that `self` takes is taken by `other` too.
    pub fn implies(&self, other: &Rule) -> bool {
        if self == other || matches!(other, Rule::Any) {
            return true;
        }
        match (self, other) {
            (Rule::Or(parts), _) => parts.iter().all(|part| part.implies(other)),
            (_, Rule::And(parts)) => parts.iter().all(|part| self.implies(part)),
            (Rule::And(mine), Rule::Or(theirs)) => {
                theirs.iter().any(|part| self.implies(part)) || mine.iter().any(|part| part.implies(other))
            }
            (_, Rule::Or(parts)) => parts.iter().any(|part| self.implies(part)),
            (Rule::And(parts), _) => parts.iter().any(|part| part.implies(other)),
            (Rule::Match(a), Rule::Match(b)) => a.implies(b),
            (Rule::Not(a), Rule::Not(b)) => b.implies(a),
            (Rule::Match(a), Rule::Not(b)) => matches!(&**b, Rule::Match(b) if a.excludes(b)),
            _ => false,
        }
    }

    /// Two conditions within the rule that cannot both hold, when they are found in every way to satisfy it.
    pub fn contradiction(&self) -> Option<(Rule, Rule)> {
        let mut first = None;
        for term in terms(self)? {
            let clash = term
                .iter()
                .enumerate()
                .find_map(|(at, a)| term.iter().skip(at + 1).find(|b| clash(a, b)).map(|b| (*a, *b)))?;
            first.get_or_insert((clash.0.clone(), clash.1.clone()));
        }
        first
    }
}

/// The rule as alternatives of conjunctions; `None` when that would be too many.
fn terms(rule: &Rule) -> Option<Vec<Vec<&Rule>>> {
    match rule {
        Rule::Any => Some(vec![Vec::new()]),
        Rule::Match(_) | Rule::Not(_) => Some(vec![vec![rule]]),
        Rule::Or(parts) => {
            let mut all = Vec::new();
            for part in parts {
                all.extend(terms(part)?);
                if all.len() > MAX_TERMS {
                    return None;
                }
            }
            Some(all)
        }
        Rule::And(parts) => {
            let mut product: Vec<Vec<&Rule>> = vec![Vec::new()];
            for part in parts {
                let factor = terms(part)?;
                if product.len().saturating_mul(factor.len()) > MAX_TERMS {
                    return None;
                }
                product = product
                    .iter()
                    .flat_map(|left| factor.iter().map(move |right| [left.as_slice(), right].concat()))
                    .collect();
            }
            Some(product)
        }
    }
}

fn clash(a: &Rule, b: &Rule) -> bool {
    match (a, b) {
        (Rule::Match(a), Rule::Match(b)) => a.excludes(b),
        (Rule::Match(a), Rule::Not(b)) | (Rule::Not(b), Rule::Match(a)) => {
            matches!(&**b, Rule::Match(b) if a.implies(b))
        }
        _ => false,
    }
}

impl Matcher {
    /// Whether whatever `self` matches is matched by `other` too.
    pub fn implies(&self, other: &Matcher) -> bool {
        use Matcher as M;
        if self == other {
            return true;
        }
        match (self, other) {
            (M::Host(_) | M::HostSuffix(_), M::HostAny) => true,
            (M::Host(host), M::HostSuffix(suffix)) => one_label_before(host, suffix),
            (M::Host(host), M::HostRegexp(regex)) => found(regex, host),
            (_, M::PathPrefix(prefix)) => self.path_start().is_some_and(|start| start.starts_with(&**prefix)),
            (M::Path(path), M::PathTemplate(template)) => template.matches(path),
            (M::PathTemplate(a), M::PathTemplate(b)) => within(a, b),
            (M::PathPrefix(prefix), M::PathTemplate(template)) => {
                template.tail && holds_below(template, prefix)
            }
            (M::Path(path), M::PathRegexp(regex)) => found(regex, path),
            (M::PathTemplate(template), M::PathRegexp(regex)) => {
                plain_path(template).is_some_and(|path| found(regex, &path))
            }
            (M::PathTemplate(template), M::Path(path)) => {
                plain_path(template).is_some_and(|own| own == **path)
            }
            (M::Header { name, .. } | M::HeaderRegexp { name, .. }, M::HeaderPresent(other)) => {
                name.eq_ignore_ascii_case(other)
            }
            (M::Header { name, value }, M::Header { name: n, value: v }) => {
                name.eq_ignore_ascii_case(n) && value == v
            }
            (M::Header { name, value }, M::HeaderRegexp { name: n, regex }) => {
                name.eq_ignore_ascii_case(n) && found(regex, value)
            }
            (M::Query { name, .. } | M::QueryRegexp { name, .. }, M::QueryPresent(other)) => name == other,
            (M::Query { name, value }, M::QueryRegexp { name: n, regex }) => name == n && found(regex, value),
            (M::ClientIp { net, trusted }, M::ClientIp { net: n, trusted: t }) => {
                trusted == t && n.contains(net)
            }
            _ => false,
        }
    }

    /// Whether no request matches both. (Fields and query keys may have several values, so two values of one
    /// name exclude nothing.)
    pub fn excludes(&self, other: &Matcher) -> bool {
        one_excludes(self, other) || one_excludes(other, self)
    }

    /// Text with which every path that it matches starts; the whole path for `Path`.
    pub(crate) fn path_start(&self) -> Option<String> {
        match self {
            Matcher::Path(path) | Matcher::PathPrefix(path) => Some(path.to_string()),
            Matcher::PathTemplate(template) => Some(start_of(template)),
            _ => None,
        }
    }
}

fn one_excludes(a: &Matcher, b: &Matcher) -> bool {
    use Matcher as M;
    match (a, b) {
        (M::Host(x), M::Host(y)) => x != y,
        (M::HostSuffix(x), M::HostSuffix(y)) => x != y,
        (M::Host(host), M::HostSuffix(suffix)) => !one_label_before(host, suffix),
        (M::Host(host), M::HostRegexp(regex)) => regex_is_good(regex) && !found(regex, host),
        (M::Method(x), M::Method(y)) => x != y,
        (M::Path(x), M::Path(y)) => x != y,
        (M::Path(path), M::PathTemplate(template)) => !template.matches(path),
        (M::Path(path), M::PathRegexp(regex)) => regex_is_good(regex) && !found(regex, path),
        (M::ClientIp { net, trusted }, M::ClientIp { net: n, trusted: t }) => {
            trusted == t && !n.contains(net) && !net.contains(n)
        }
        (M::Path(path), M::PathPrefix(prefix)) => !path.starts_with(&**prefix),
        (M::PathPrefix(_) | M::PathTemplate(_), M::PathPrefix(_) | M::PathTemplate(_)) => {
            match (a.path_start(), b.path_start()) {
                (Some(x), Some(y)) => !x.starts_with(&y) && !y.starts_with(&x),
                _ => false,
            }
        }
        _ => false,
    }
}

fn one_label_before(host: &str, suffix: &str) -> bool {
    host.strip_suffix(suffix)
        .and_then(|rest| rest.strip_suffix('.'))
        .is_some_and(|label| !label.is_empty() && !label.contains('.'))
}

fn regex_is_good(regex: &str) -> bool {
    with_regex(regex, |_| true)
}

fn found(regex: &str, text: &str) -> bool {
    with_regex(regex, |regex| regex.is_match(text))
}

/// Compiling costs thousands of times what matching does, and a few expressions meet every other route.
fn with_regex(text: &str, ask: impl Fn(&regex::Regex) -> bool) -> bool {
    thread_local! {
        static COMPILED: RefCell<HashMap<String, Option<regex::Regex>>> = RefCell::new(HashMap::new());
    }
    COMPILED.with_borrow_mut(|compiled| {
        if let Some(known) = compiled.get(text) {
            return known.as_ref().is_some_and(&ask);
        }
        if compiled.len() >= 64 {
            compiled.clear();
        }
        let regex = regex::Regex::new(text).ok();
        let answer = regex.as_ref().is_some_and(&ask);
        compiled.insert(text.to_owned(), regex);
        answer
    })
}

/// Every path of `a` is one of `b`.
fn within(a: &PathTemplate, b: &PathTemplate) -> bool {
    let fits = |x: &Segment, y: &Segment| match (x, y) {
        (Segment::Literal(x), Segment::Literal(y)) => x == y,
        (Segment::Literal(x), Segment::Parameter(_)) => !x.is_empty(),
        (Segment::Parameter(_), Segment::Parameter(_)) => true,
        (Segment::Parameter(_), Segment::Literal(_)) => false,
    };
    let long_enough = if b.tail {
        a.segments.len() >= b.segments.len()
    } else {
        !a.tail && a.segments.len() == b.segments.len()
    };
    long_enough && a.segments.iter().zip(&b.segments).all(|(x, y)| fits(x, y))
}

/// Every path that starts with `prefix` lies at or below the template's literal part.
fn holds_below(template: &PathTemplate, prefix: &str) -> bool {
    if template.segments.iter().any(|segment| matches!(segment, Segment::Parameter(_))) {
        return false;
    }
    let base = template.literal_prefix();
    prefix.strip_prefix(&*base).is_some_and(|rest| rest.starts_with('/'))
}

fn start_of(template: &PathTemplate) -> String {
    let mut start = String::new();
    for segment in &template.segments {
        start.push('/');
        match segment {
            Segment::Literal(text) => start.push_str(text),
            Segment::Parameter(_) => return start,
        }
    }
    // `/api/*` also matches `/api`, and `/*` starts with its slash.
    if start.is_empty() { "/".to_owned() } else { start }
}

/// The one path that the template matches, when it is only one.
fn plain_path(template: &PathTemplate) -> Option<String> {
    let literal = template.segments.iter().all(|segment| matches!(segment, Segment::Literal(_)));
    (literal && !template.tail).then(|| start_of(template))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::parse;

    fn template(text: &str) -> Rule {
        Rule::Match(Matcher::PathTemplate(PathTemplate::parse(text).unwrap()))
    }

    #[test]
    fn implication() {
        let yes = [
            ("Host(`a.x`) && Path(`/b`)", "Host(`a.x`)"),
            ("Host(`a.x`)", "Host(`*.x`)"),
            ("Host(`a.x`)", "Host(`b.x`) || Host(`a.x`)"),
            ("Host(`a.x`) || Host(`b.x`)", "Host(`*.x`)"),
            ("PathPrefix(`/api/v1`)", "PathPrefix(`/api`)"),
            ("Path(`/api`)", "PathRegexp(`^/a`)"),
            ("Host(`a`) && Method(`GET`)", "Host(`a`) && !Method(`POST`)"),
            ("ClientIP(`10.1.0.0/16`)", "ClientIP(`10.0.0.0/8`)"),
            ("!PathPrefix(`/a`)", "!PathPrefix(`/a/b`)"),
            ("Header(`x-a`, `1`)", "Header(`X-A`, `1`)"),
            ("(Host(`a`) || Host(`b`)) && Method(`GET`)", "Host(`a`) || Host(`b`)"),
        ];
        let no = [
            ("Host(`a.x`)", "Host(`a.x`) && Path(`/b`)"),
            ("Host(`a.b.x`)", "Host(`*.x`)"),
            ("PathPrefix(`/api`)", "PathPrefix(`/api/v1`)"),
            ("Header(`X`, `1`)", "!Header(`X`, `2`)"),
            ("Method(`GET`)", "Method(`POST`)"),
        ];
        for (a, b) in yes {
            assert!(parse(a).unwrap().implies(&parse(b).unwrap()), "{a} => {b}");
        }
        for (a, b) in no {
            assert!(!parse(a).unwrap().implies(&parse(b).unwrap()), "{a} => {b}");
        }
    }

    #[test]
    fn templates_contain_each_other() {
        for (a, b, expected) in [
            ("/api/users/*", "/api/*", true),
            ("/api/*", "/api/users/*", false),
            ("/api", "/api/*", true),
            ("/users/me", "/users/{id}", true),
            ("/users/{id}", "/users/me", false),
            ("/users/{id}/*", "/users/{x}", false),
            ("/users/", "/users/{x}", false),
            ("/a", "/*", true),
        ] {
            assert_eq!(template(a).implies(&template(b)), expected, "{a} {b}");
        }
        assert!(parse("PathPrefix(`/api/v1`)").unwrap().implies(&template("/api/*")));
        assert!(!parse("PathPrefix(`/apix`)").unwrap().implies(&template("/api/*")));
        assert!(!parse("PathPrefix(`/api`)").unwrap().implies(&template("/api/*")), "/apix");
        assert!(template("/api/*").implies(&parse("PathPrefix(`/api`)").unwrap()));
        assert!(!template("/api/*").implies(&parse("PathPrefix(`/api/`)").unwrap()), "/api");
    }

    #[test]
    fn contradictions() {
        for rule in [
            "Host(`a`) && Host(`b`)",
            "Method(`GET`) && Method(`POST`)",
            "Path(`/a`) && PathPrefix(`/b`)",
            "PathPrefix(`/a`) && !PathPrefix(`/`)",
            "(Host(`a`) || Host(`b`)) && Host(`c`)",
            "Host(`a.x.y`) && Host(`*.y`)",
            "ClientIP(`10.0.0.0/8`) && ClientIP(`11.0.0.1`)",
        ] {
            assert!(parse(rule).unwrap().contradiction().is_some(), "{rule}");
        }
        for rule in [
            "Host(`a`) || Host(`b`)",
            "(Host(`a`) || Host(`b`)) && Host(`b`)",
            "Header(`x`, `1`) && Header(`x`, `2`)",
            "PathPrefix(`/a`) && PathPrefix(`/a/b`)",
            "Host(`a`)",
        ] {
            assert!(parse(rule).unwrap().contradiction().is_none(), "{rule}");
        }
    }
}
