//! Why a request goes where it goes, in words: for `portcullis explain` and the admin interface, not for the path of a
//! request.

use std::sync::Arc;

use super::{
    Compiled, Query, Router,
    condition::{Condition, Test, View},
    methods::Methods,
};

/// At most this many losers are told of.
const MAX_LOSERS: usize = 10;
/// At most this many things a route wants are listed.
const MAX_WANTS: usize = 8;

/// Why a request goes to a route, and why not to those nearby.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The path in the form that rules are matched against.
    pub path: String,
    /// The [`Entry::index`](super::Entry::index) of the route that takes the request.
    pub winner: Option<usize>,
    /// Routes whose host or path nearly fits, in the order in which they are considered.
    pub losers: Vec<Loser>,
}

/// A route that does not get the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loser {
    /// Its [`Entry::index`](super::Entry::index).
    pub index: usize,
    /// Its name.
    pub name: Arc<str>,
    /// Its priority.
    pub priority: i64,
    /// "method is POST, the route wants GET, PUT".
    pub reason: String,
}

impl Router {
    /// Which route takes a request, and why the nearest others do not. Asks every route.
    pub fn explain(&self, q: &Query<'_>) -> Explanation {
        let mut scratch = String::new();
        let view = self.view(q, &mut scratch);
        let winner = self.routes.iter().position(|route| route.condition.holds(view));
        let mut near: Vec<(usize, (bool, usize))> = (0..)
            .zip(&self.routes)
            .filter(|(rank, _)| Some(*rank) != winner)
            .filter_map(|(rank, route)| {
                let before = winner.is_none_or(|winner| rank < winner);
                Some((rank, nearness(&route.condition, view, before)?))
            })
            .collect();
        near.sort_by_key(|&(rank, nearness)| (std::cmp::Reverse(nearness), rank));
        near.truncate(MAX_LOSERS);
        near.sort_unstable();
        let won = winner.and_then(|rank| self.routes.get(rank));
        let losers = near.iter().filter_map(|&(rank, _)| {
            let route = self.routes.get(rank)?;
            let reason =
                failure(&route.condition, view, &self.methods).unwrap_or_else(|| overtaken(route, won));
            Some(Loser { index: route.index, name: route.name.clone(), priority: route.priority, reason })
        });
        Explanation {
            path: view.path.to_owned(),
            winner: won.map(|route| route.index),
            losers: losers.collect(),
        }
    }
}

/// How near a route is: do both host and path fit, and how many bytes of the path are common. `None` when it is far. One
/// that would have gone `before` is near when only the host is another, however little its path says.
fn nearness(condition: &Condition, view: View<'_>, before: bool) -> Option<(bool, usize)> {
    let may = |kind: fn(&Test) -> bool| {
        condition.decide(&|test| kind(test).then(|| test.holds(view))) != Some(false)
    };
    let (host, path) = (may(Test::is_host), may(Test::is_path));
    let (mut asks_path, mut common) = (false, 0);
    condition.each(&mut |test| {
        let text = match test {
            Test::Path(text) | Test::PathPrefix(text) => text,
            Test::PathTemplate(template) => &template.text,
            _ => return,
        };
        asks_path = true;
        common = common.max(text.bytes().zip(view.path.bytes()).take_while(|(a, b)| a == b).count());
    });
    match (host, path) {
        (true, true) => Some((true, common)),
        // The slash at the start is common to all.
        (true, false) if common > 1 => Some((false, common)),
        (false, true) if before || asks_path && common > 1 => Some((false, common)),
        _ => None,
    }
}

fn overtaken(route: &Compiled, winner: Option<&Compiled>) -> String {
    match winner {
        Some(winner) if winner.priority > route.priority => format!(
            "it fits too, but `{}` goes first: priority {} over {}",
            winner.name, winner.priority, route.priority
        ),
        Some(winner) => {
            format!("it fits too, but `{}` goes first: same priority, written earlier", winner.name)
        }
        None => "it fits".to_owned(),
    }
}

/// The first thing that is not as the route wants it; `None` when all is.
fn failure(condition: &Condition, view: View<'_>, methods: &Methods) -> Option<String> {
    if condition.holds(view) {
        return None;
    }
    match condition {
        Condition::Always => None,
        Condition::Never => Some("its rule never holds".to_owned()),
        Condition::All(parts) => parts.iter().find_map(|part| failure(part, view, methods)),
        Condition::One(parts) => alternatives(parts, view, methods),
        Condition::Test(test) => {
            Some(format!("{}, the route wants {}", subject(test, view), wanted(test, methods)))
        }
        Condition::Not(inner) => match &**inner {
            Condition::Test(test) => Some(format!(
                "{}, the route wants anything but {}",
                subject(test, view),
                wanted(test, methods)
            )),
            _ => Some("the request fits what the route excludes".to_owned()),
        },
    }
}

/// Why none of several alternatives holds: all of them, when they ask for the same thing; else the nearest.
fn alternatives(parts: &[Condition], view: View<'_>, methods: &Methods) -> Option<String> {
    let tests: Vec<&Test> = parts
        .iter()
        .filter_map(|part| match part {
            Condition::Test(test) => Some(test),
            _ => None,
        })
        .collect();
    let subjects: Vec<String> = tests.iter().map(|test| subject(test, view)).collect();
    if let Some(first) = subjects.first()
        && tests.len() == parts.len()
        && subjects.iter().all(|subject| subject == first)
    {
        let mut wants: Vec<String> = tests.iter().take(MAX_WANTS).map(|test| wanted(test, methods)).collect();
        if tests.len() > MAX_WANTS {
            wants.push(format!("or one of {} more", tests.len() - MAX_WANTS));
        }
        return Some(format!("{first}, the route wants {}", wants.join(", ")));
    }
    let nearest = parts.iter().max_by_key(|part| nearness(part, view, false).map_or((false, 0), |near| near));
    nearest.and_then(|part| failure(part, view, methods))
}

/// What of the request a test looks at, and what it is.
fn subject(test: &Test, view: View<'_>) -> String {
    let q = view.query;
    match test {
        Test::Host(_) | Test::HostSuffix(_) | Test::HostRegexp(_) if q.host.is_empty() => {
            "the request names no host".to_owned()
        }
        Test::Host(_) | Test::HostSuffix(_) | Test::HostRegexp(_) => format!("host is {}", q.host),
        Test::Path(_) | Test::PathPrefix(_) | Test::PathTemplate(_) | Test::PathRegexp(_) => {
            format!("path is {}", view.path)
        }
        Test::Methods(_) => format!("method is {}", q.method),
        Test::Header { name, .. } | Test::HeaderPresent(name) | Test::HeaderRegexp { name, .. } => {
            shown("header", name, q.fields.get_all(name))
        }
        Test::Query { name, .. } | Test::QueryPresent(name) | Test::QueryRegexp { name, .. } => {
            shown("query parameter", name, super::query_string::values(q.query, name))
        }
        Test::ClientIp { trusted: true, .. } => format!("client is {}", q.client.to_canonical()),
        Test::ClientIp { trusted: false, .. } => format!("peer is {}", q.peer.to_canonical()),
    }
}

fn shown<'a>(kind: &str, name: &str, values: impl Iterator<Item = &'a [u8]>) -> String {
    let values: Vec<String> = values.map(|value| format!("`{}`", String::from_utf8_lossy(value))).collect();
    if values.is_empty() {
        format!("{kind} {name} is missing")
    } else {
        format!("{kind} {name} is {}", values.join(", "))
    }
}

fn wanted(test: &Test, methods: &Methods) -> String {
    match test {
        Test::Host(host) => host.to_string(),
        Test::HostSuffix(suffix) => format!("*.{suffix}"),
        Test::HostRegexp(regex) | Test::PathRegexp(regex) => format!("a match of `{regex}`"),
        Test::Path(path) => path.to_string(),
        Test::PathPrefix(prefix) => format!("one that starts with {prefix}"),
        Test::PathTemplate(template) => template.text.to_string(),
        Test::Methods(set) => methods.written(*set).join(", "),
        Test::Header { value, .. } | Test::Query { value, .. } if value.is_empty() => "it empty".to_owned(),
        Test::Header { value, .. } | Test::Query { value, .. } => format!("`{value}`"),
        Test::HeaderPresent(_) | Test::QueryPresent(_) => "it present".to_owned(),
        Test::HeaderRegexp { regex, .. } | Test::QueryRegexp { regex, .. } => format!("a match of `{regex}`"),
        Test::ClientIp { net, .. } => net.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use portcullis_config::rule::{Matcher, Rule, parse};
    use portcullis_core::Fields;

    use super::*;
    use crate::route::Entry;

    fn explain(rules: &[(&str, i64)], q: &Query<'_>) -> Explanation {
        let parsed: Vec<(Rule, i64)> = rules.iter().map(|(rule, p)| (parse(rule).unwrap(), *p)).collect();
        let entries: Vec<Entry<'_>> = (0..)
            .zip(&parsed)
            .map(|(index, (rule, priority))| Entry { index, rule, priority: *priority, name: "r" })
            .collect();
        Router::compile(&entries).unwrap().explain(q)
    }

    #[test]
    fn every_loser_has_its_reason() {
        let fields: Fields = [("X-V", "1")].into_iter().collect();
        let ip = "10.0.0.1".parse().unwrap();
        let q = Query {
            host: "a.example",
            path: "/api/users",
            query: Some("page=2"),
            method: "POST",
            fields: &fields,
            peer: ip,
            client: ip,
        };
        let rules = [
            ("PathPrefix(`/api`) && (Method(`GET`) || Method(`PUT`))", 30),
            ("PathPrefix(`/api`) && !Method(`POST`)", 29),
            ("PathPrefix(`/api`) && Header(`X-V`, `2`)", 28),
            ("PathPrefix(`/api`) && HeaderRegexp(`X-W`, `^2`)", 27),
            ("PathPrefix(`/api`) && Query(`page`, `3`)", 26),
            ("PathPrefix(`/api`) && ClientIP(`192.168.0.0/16`)", 25),
            ("Host(`b.example`) && PathPrefix(`/api`)", 24),
            ("PathPrefix(`/api`)", 20),
            ("Path(`/api/user`)", 10),
            ("Path(`/elsewhere`) && Host(`c.example`)", 10),
            ("PathPrefix(`/`)", 5),
            ("Host(`d.example`)", 4),
        ];
        let told = explain(&rules, &q);
        assert_eq!(told.winner, Some(7));
        let reasons: Vec<(usize, &str)> = told.losers.iter().map(|l| (l.index, &*l.reason)).collect();
        assert_eq!(
            reasons,
            [
                (0, "method is POST, the route wants GET, PUT"),
                (1, "method is POST, the route wants anything but POST"),
                (2, "header X-V is `1`, the route wants `2`"),
                (3, "header X-W is missing, the route wants a match of `^2`"),
                (4, "query parameter page is `2`, the route wants `3`"),
                (5, "peer is 10.0.0.1, the route wants 192.168.0.0/16"),
                (6, "host is a.example, the route wants b.example"),
                (8, "path is /api/users, the route wants /api/user"),
                (10, "it fits too, but `r` goes first: priority 20 over 5"),
            ]
        );
    }

    /// The commonest reason for a 404: nothing but the host is another.
    #[test]
    fn a_route_of_another_host_is_near_when_nothing_goes_before_it() {
        let fields = Fields::new();
        let ip = "::1".parse().unwrap();
        let q = Query {
            host: "localhost",
            path: "/x",
            query: None,
            method: "GET",
            fields: &fields,
            peer: ip,
            client: ip,
        };
        let all =
            [("Host(`shop.example`)", 3), ("Host(`api.example`) && PathPrefix(`/`)", 2), ("Path(`/y`)", 1)];
        let reasons = |rules: &[(&str, i64)]| -> Vec<(usize, String)> {
            explain(rules, &q).losers.into_iter().map(|loser| (loser.index, loser.reason)).collect()
        };
        let hosts = [
            (0, "host is localhost, the route wants shop.example".to_owned()),
            (1, "host is localhost, the route wants api.example".to_owned()),
        ];
        assert_eq!(reasons(&all), hosts);
        // Before the one that takes it, too; behind it, it would not have been asked.
        assert_eq!(reasons(&[all[0], all[1], ("PathPrefix(`/`)", 1)]), hosts);
        assert_eq!(reasons(&[all[0], all[1], ("PathPrefix(`/`)", 9)]), []);
    }

    #[test]
    fn losers_are_bounded_and_the_nearest_stay() {
        let rules: Vec<Rule> =
            (0..500).map(|i| Rule::Match(Matcher::Path(format!("/api/{i}/x").as_str().into()))).collect();
        let entries: Vec<Entry<'_>> =
            (0..).zip(&rules).map(|(index, rule)| Entry { index, rule, priority: 1, name: "r" }).collect();
        let fields = Fields::new();
        let ip = "::1".parse().unwrap();
        let q = Query {
            host: "",
            path: "/api/123/y",
            query: None,
            method: "GET",
            fields: &fields,
            peer: ip,
            client: ip,
        };
        let told = Router::compile(&entries).unwrap().explain(&q);
        assert_eq!((told.winner, told.losers.len()), (None, MAX_LOSERS));
        assert!(told.losers.iter().any(|loser| loser.index == 123));
    }
}
