//! The compiled router against an evaluator that walks every rule: they must agree on everything.

mod naive;

use std::net::IpAddr;

use fastrand::Rng;
use portcullis_config::rule::{Matcher, PathTemplate, parse};
use portcullis_core::path::Policy;

use super::*;

/// A request of its own.
#[derive(Debug, Clone)]
struct Asked {
    host: String,
    path: String,
    query: Option<String>,
    method: String,
    fields: Fields,
    peer: IpAddr,
    client: IpAddr,
}

impl Asked {
    fn get(host: &str, path: &str) -> Asked {
        Asked {
            host: host.into(),
            path: path.into(),
            query: None,
            method: "GET".into(),
            fields: Fields::new(),
            peer: "10.0.0.1".parse().unwrap(),
            client: "192.0.2.1".parse().unwrap(),
        }
    }

    fn query(&self) -> Query<'_> {
        Query {
            host: &self.host,
            path: &self.path,
            query: self.query.as_deref(),
            method: &self.method,
            fields: &self.fields,
            peer: self.peer,
            client: self.client,
        }
    }
}

/// What both sides say, to be compared: route and parameters, or allowed methods.
#[derive(Debug, PartialEq)]
enum Said {
    Route(usize, Vec<(String, String)>),
    Methods(Vec<String>),
    Nothing,
}

fn said(found: Found<'_>) -> Said {
    match found {
        Found::Route { index, parameters } => {
            Said::Route(index, parameters.map(|(name, value)| (name.to_string(), value.to_owned())).collect())
        }
        Found::MethodNotAllowed(methods) => Said::Methods(methods.into_iter().map(str::to_owned).collect()),
        Found::None => Said::Nothing,
    }
}

const HOSTS: [&str; 7] = ["a.example", "b.example", "example", "x.a.example", "y.x.a.example", "", "c.test"];
const SUFFIXES: [&str; 3] = ["example", "a.example", "test"];
const SEGMENTS: [&str; 8] = ["a", "b", "api", "users", "ap", "a b", "é", "x%2Fy"];
const METHODS_ASKED: [&str; 6] = ["GET", "HEAD", "POST", "DELETE", "PURGE", "OPTIONS"];
const REGEXES: [&str; 6] = ["^a", "a$", "[0-9]", "^/api/.*b", "", "é"];

fn one<'a>(random: &mut Rng, from: &[&'a str]) -> &'a str {
    from[random.usize(..from.len())]
}

fn path(random: &mut Rng) -> String {
    let mut path = String::new();
    for _ in 0..random.usize(..5) {
        path.push('/');
        path.push_str(one(random, &SEGMENTS));
    }
    if path.is_empty() || random.u8(..6) == 0 {
        path.push('/');
    }
    path
}

fn template(random: &mut Rng) -> PathTemplate {
    let (mut text, mut names) = (String::new(), ["{p}", "{q}", "{r}"].into_iter());
    for _ in 0..random.usize(..4) {
        text.push('/');
        text.push_str(if random.u8(..3) == 0 { names.next().unwrap() } else { one(random, &SEGMENTS) });
    }
    match random.u8(..4) {
        _ if text.is_empty() => text.push_str("/*"),
        0 => text.push('/'),
        1 => text.push_str("/*"),
        _ => {}
    }
    PathTemplate::parse(&text).unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

fn matcher(random: &mut Rng) -> Matcher {
    match random.u8(..28) {
        0..=3 => Matcher::Host(one(random, &HOSTS[..5]).into()),
        4..=5 => Matcher::HostSuffix(one(random, &SUFFIXES).into()),
        6 => Matcher::HostRegexp(one(random, &REGEXES).into()),
        7 => Matcher::HostAny,
        8..=10 => Matcher::Path(path(random).as_str().into()),
        11..=13 => {
            let path = path(random);
            let cut =
                (1..=path.len()).rev().find(|&cut| path.is_char_boundary(cut) && random.bool()).unwrap_or(1);
            Matcher::PathPrefix(path[..cut].into())
        }
        14..=17 => Matcher::PathTemplate(template(random)),
        18 => Matcher::PathRegexp(one(random, &REGEXES).into()),
        19..=21 => Matcher::Method(one(random, &METHODS_ASKED).into()),
        22 => Matcher::Header { name: "X-A".into(), value: one(random, &["1", "2"]).into() },
        23 => Matcher::HeaderPresent("x-b".into()),
        24 => Matcher::HeaderRegexp { name: "x-a".into(), regex: one(random, &REGEXES).into() },
        25 => match random.u8(..3) {
            0 => Matcher::Query { name: "k".into(), value: one(random, &["", "a b"]).into() },
            1 => Matcher::QueryPresent("é".into()),
            _ => Matcher::QueryRegexp { name: "k".into(), regex: one(random, &REGEXES).into() },
        },
        _ => Matcher::ClientIp {
            net: one(random, &["10.0.0.0/8", "192.0.2.1/32", "::/0"]).parse().unwrap(),
            trusted: random.bool(),
        },
    }
}

fn rule(random: &mut Rng, depth: usize) -> Rule {
    let parts = |random: &mut Rng| (0..random.usize(1..4)).map(|_| rule(random, depth - 1)).collect();
    match random.u8(..12) {
        0..=4 if depth > 0 => Rule::And(parts(random)),
        5..=6 if depth > 0 => Rule::Or(parts(random)),
        7 => Rule::Not(Box::new(if depth > 0 && random.bool() {
            rule(random, depth - 1)
        } else {
            Rule::Match(matcher(random))
        })),
        8 if random.u8(..8) == 0 => Rule::Any,
        _ => Rule::Match(matcher(random)),
    }
}

fn asked(random: &mut Rng) -> Asked {
    let raw = path(random).replace(' ', "%20");
    let mut out = String::new();
    let mut asked =
        Asked::get(one(random, &HOSTS), path::canonical(raw.as_bytes(), Policy::LENIENT, &mut out).unwrap());
    if random.u8(..20) == 0 {
        asked.path = "*".into();
    }
    asked.method = one(random, &METHODS_ASKED).into();
    if random.bool() {
        asked.query = Some(one(random, &["k", "k=a+b&%C3%A9=", "j=1&k=%61%20b", "&&k=%zz", "k=7"]).into());
    }
    for _ in 0..random.usize(..3) {
        asked.fields.append(one(random, &["X-A", "x-a", "X-B"]), one(random, &["1", "2", "a"]));
    }
    asked.peer = one(random, &["10.0.0.1", "::1", "192.0.2.1"]).parse().unwrap();
    asked
}

fn router(rules: &[(Rule, i64)]) -> Router {
    let entries: Vec<Entry<'_>> = (0..)
        .zip(rules)
        .map(|(index, (rule, priority))| Entry { index, rule, priority: *priority, name: "r" })
        .collect();
    Router::compile(&entries).unwrap()
}

#[test]
fn it_agrees_with_walking_all_rules() {
    let mut random = Rng::with_seed(20);
    let (mut routes, mut methods, mut nothing, mut with_parameters) = (0, 0, 0, 0);
    for round in 0..3_000 {
        let count = if round % 50 == 0 { 60 } else { random.usize(1..7) };
        let rules: Vec<(Rule, i64)> = (0..count).map(|_| (rule(&mut random, 3), random.i64(-2..3))).collect();
        let router = router(&rules);
        for _ in 0..12 {
            let asked = asked(&mut random);
            let (found, wanted) = (said(router.find(&asked.query())), naive::find(&rules, &asked));
            assert_eq!(found, wanted, "round {round}, {asked:?}\n{rules:#?}");
            let explained = router.explain(&asked.query());
            match wanted {
                Said::Route(index, parameters) => {
                    routes += 1;
                    with_parameters += usize::from(!parameters.is_empty());
                    assert_eq!(explained.winner, Some(index));
                }
                Said::Methods(_) => methods += 1,
                Said::Nothing => nothing += 1,
            }
        }
    }
    // Every kind of outcome came about often enough to mean something.
    assert!(
        routes > 5_000 && methods > 500 && nothing > 5_000 && with_parameters > 300,
        "{routes} {methods} {nothing} {with_parameters}"
    );
}

/// Simple rules of the kind that people write, many of them, so that the trees get deep.
#[test]
fn it_agrees_among_many_simple_rules() {
    let mut random = Rng::with_seed(21);
    for _ in 0..60 {
        let simple = |random: &mut Rng| {
            let mut parts = Vec::new();
            if random.bool() {
                parts.push(Rule::any(
                    (0..random.usize(1..3))
                        .map(|_| Rule::Match(Matcher::Host(one(random, &HOSTS[..5]).into())))
                        .collect(),
                ));
            }
            parts.push(Rule::Match(match random.u8(..3) {
                0 => Matcher::Path(path(random).as_str().into()),
                1 => Matcher::PathPrefix(path(random).as_str().into()),
                _ => Matcher::PathTemplate(template(random)),
            }));
            if random.u8(..4) == 0 {
                parts.push(Rule::Match(Matcher::Method(one(random, &METHODS_ASKED).into())));
            }
            (Rule::all(parts), random.i64(..40))
        };
        let rules: Vec<(Rule, i64)> = (0..400).map(|_| simple(&mut random)).collect();
        let router = router(&rules);
        for _ in 0..100 {
            let asked = asked(&mut random);
            assert_eq!(said(router.find(&asked.query())), naive::find(&rules, &asked), "{asked:?}");
        }
    }
}

fn rules(texts: &[(&str, i64)]) -> Vec<(Rule, i64)> {
    texts.iter().map(|(text, priority)| (parse(text).unwrap(), *priority)).collect()
}

#[test]
fn priority_goes_before_everything_and_order_breaks_ties() {
    let rules = rules(&[("Host(`a`) && Path(`/x`)", 1), ("PathPrefix(`/`)", 2), ("PathPrefix(`/x`)", 2)]);
    let router = router(&rules);
    assert_eq!(said(router.find(&Asked::get("a", "/x").query())), Said::Route(1, vec![]));
}

#[test]
fn a_route_for_get_takes_head_and_allow_says_so() {
    let rules = rules(&[
        ("Path(`/a`) && Method(`GET`)", 1),
        ("Path(`/a`) && (Method(`POST`) || Method(`PURGE`))", 1),
        ("Path(`/a`) && Method(`PUT`) && Header(`X-No`, `1`)", 1),
        ("Path(`/b`) && Method(`POST`) || Path(`/b`) && Method(`HEAD`)", 1),
    ]);
    let router = router(&rules);
    let ask = |method: &str, path: &str| {
        said(router.find(&Asked { method: method.into(), ..Asked::get("a", path) }.query()))
    };
    assert_eq!(ask("HEAD", "/a"), Said::Route(0, vec![]));
    let allow = |methods: &[&str]| Said::Methods(methods.iter().map(|m| (*m).to_owned()).collect());
    assert_eq!(ask("DELETE", "/a"), allow(&["GET", "HEAD", "POST", "PURGE"]));
    assert_eq!(ask("GET", "/b"), allow(&["HEAD", "POST"]));
    assert_eq!(ask("GET", "/c"), Said::Nothing);
}

#[test]
fn escapes_are_matched_decoded_and_parameters_stay_as_they_came() {
    let template = PathTemplate::parse("/f/{a}/{b}/*").unwrap();
    let mut rules = rules(&[("PathPrefix(`/foo bar`)", 1), ("Path(`/a%2Fb`)", 1)]);
    rules.push((Rule::Match(Matcher::PathTemplate(template)), 1));
    let router = router(&rules);
    assert_eq!(said(router.find(&Asked::get("a", "/foo%20bar/x").query())), Said::Route(0, vec![]));
    assert_eq!(said(router.find(&Asked::get("a", "/a%2Fb").query())), Said::Route(1, vec![]));
    assert_eq!(said(router.find(&Asked::get("a", "/a/b").query())), Said::Nothing);
    let parameters = vec![("a".into(), "x%20y".into()), ("b".into(), "p%2Fq".into())];
    assert_eq!(
        said(router.find(&Asked::get("a", "/f/x%20y/p%2Fq/rest").query())),
        Said::Route(2, parameters)
    );
}

#[test]
fn a_regex_that_does_not_compile_names_its_route() {
    let rule = Rule::Match(Matcher::PathRegexp("(".into()));
    let entries = [Entry { index: 7, rule: &rule, priority: 1, name: "bad@file" }];
    let error = Router::compile(&entries).unwrap_err();
    assert_eq!(error.index, 7);
    assert!(error.to_string().starts_with("route `bad@file`: "), "{error}");
}

/// More branches at a node than are kept in a plain list, at two depths.
#[test]
fn broad_trees_keep_every_branch() {
    let templates: Vec<String> = (0..40).map(|i| format!("/s{}/{{x}}/t{i}", i / 20)).collect();
    let matcher = |text: &String| Rule::Match(Matcher::PathTemplate(PathTemplate::parse(text).unwrap()));
    let roots = (0..40).map(|i| format!("/r{i}/*"));
    let texts: Vec<String> = templates.into_iter().chain(roots).collect();
    let rules: Vec<(Rule, i64)> = texts.iter().map(|text| (matcher(text), 1)).collect();
    let router = router(&rules);
    for (index, text) in texts.iter().enumerate() {
        let path = text.replace("{x}", "7").replace('*', "a/b");
        let parameters = if index < 40 { vec![("x".into(), "7".into())] } else { vec![] };
        assert_eq!(
            said(router.find(&Asked::get("a", &path).query())),
            Said::Route(index, parameters),
            "{path}"
        );
    }
    assert_eq!(said(router.find(&Asked::get("a", "/s0/7/t20").query())), Said::Nothing);
}

#[test]
fn methods_are_as_many_as_bits() {
    let rule = |count: usize| {
        Rule::Or((0..count).map(|i| Rule::Match(Matcher::Method(format!("M{i}").as_str().into()))).collect())
    };
    let compile =
        |rule: &Rule| Router::compile(&[Entry { index: 0, rule, priority: 1, name: "r" }]).map(drop);
    assert!(compile(&rule(57)).is_ok());
    assert!(matches!(compile(&rule(58)).unwrap_err().reason, Reason::TooManyMethods));
}

/// Ten hosts times ten paths times three methods in one rule, and a rule with more keys than are kept.
#[test]
fn wide_rules_are_filed_without_blowing_up() {
    let or = |count: usize, make: &dyn Fn(usize) -> Matcher| {
        Rule::Or((0..count).map(|i| Rule::Match(make(i))).collect())
    };
    let hosts = |count| or(count, &|i| Matcher::Host(format!("h{i}.example").as_str().into()));
    let paths = |count| or(count, &|i| Matcher::PathPrefix(format!("/p{i}/").as_str().into()));
    let rules =
        vec![(Rule::And(vec![hosts(10), paths(10)]), 2), (Rule::And(vec![hosts(3000), paths(3000)]), 1)];
    let router = router(&rules);
    for (host, path, route) in [
        ("h3.example", "/p4/x", Some(0)),
        ("h2999.example", "/p2999/", Some(1)),
        ("h3000.example", "/p1/", None),
    ] {
        let wanted = route.map_or(Said::Nothing, |index| Said::Route(index, vec![]));
        assert_eq!(said(router.find(&Asked::get(host, path).query())), wanted, "{host}{path}");
    }
}
