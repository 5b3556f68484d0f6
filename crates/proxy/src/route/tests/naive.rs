//! The evaluator: no index, no compilation, another way to do each thing.

use std::{cell::RefCell, collections::HashMap};

use super::*;

pub fn find(rules: &[(Rule, i64)], asked: &Asked) -> Said {
    let mut order: Vec<usize> = (0..rules.len()).collect();
    order.sort_by(|&a, &b| rules[b].1.cmp(&rules[a].1).then(a.cmp(&b)));
    let routed = routed(&asked.path);
    if let Some(&index) = order.iter().find(|&&index| holds(&rules[index].0, asked, &routed)) {
        return Said::Route(index, parameters(&rules[index].0, asked, &routed).unwrap_or_default());
    }
    let mut methods: Vec<String> =
        "GET HEAD POST PUT PATCH DELETE OPTIONS".split(' ').map(str::to_owned).collect();
    order.iter().for_each(|&index| mentioned(&rules[index].0, &mut methods));
    methods.retain(|method| {
        let asked = Asked { method: method.clone(), ..asked.clone() };
        rules.iter().any(|(rule, _)| holds(rule, &asked, &routed))
    });
    if methods.is_empty() { Said::Nothing } else { Said::Methods(methods) }
}

fn mentioned(rule: &Rule, methods: &mut Vec<String>) {
    match rule {
        Rule::And(parts) | Rule::Or(parts) => parts.iter().for_each(|part| mentioned(part, methods)),
        Rule::Not(inner) => mentioned(inner, methods),
        Rule::Match(Matcher::Method(method)) if !methods.contains(&method.to_string()) => {
            methods.push(method.to_string());
        }
        _ => {}
    }
}

/// The path with all but reserved characters decoded.
fn routed(path: &str) -> String {
    let mut out = Vec::new();
    let mut pieces = path.split('%');
    out.extend_from_slice(pieces.next().unwrap().as_bytes());
    for piece in pieces {
        let byte = u8::from_str_radix(&piece[..2], 16).unwrap();
        if ":/?#[]@!$&'()*+,;=%".contains(char::from(byte)) {
            out.extend_from_slice(format!("%{}", &piece[..2]).as_bytes());
        } else {
            out.push(byte);
        }
        out.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(out).unwrap()
}

fn decode(text: &str) -> String {
    let text = text.replace('+', " ");
    let mut out = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let escaped = text.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped.filter(|_| text.as_bytes()[at] == b'%') {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(text.as_bytes()[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn pairs(asked: &Asked) -> Vec<(String, String)> {
    let query = asked.query.clone().unwrap_or_default();
    let pieces = query.split('&').filter(|piece| !piece.is_empty());
    pieces
        .map(|piece| piece.split_once('=').unwrap_or((piece, "")))
        .map(|(k, v)| (decode(k), decode(v)))
        .collect()
}

fn fits(template: &PathTemplate, routed: &str) -> bool {
    let mut text = "(?s)^".to_owned();
    for segment in &template.segments {
        match segment {
            Segment::Literal(literal) => text.push_str(&format!("/{}", regex::escape(literal))),
            Segment::Parameter(_) => text.push_str("/([^/]+)"),
        }
    }
    text.push_str(if template.tail { "(?:/.*)?$" } else { "$" });
    found(&text, routed)
}

fn found(regex: &str, text: &str) -> bool {
    thread_local!(static MADE: RefCell<HashMap<String, regex::Regex>> = RefCell::default());
    MADE.with_borrow_mut(|made| {
        let make = || regex::Regex::new(regex).unwrap();
        made.entry(regex.to_owned()).or_insert_with(make).is_match(text)
    })
}

fn holds(rule: &Rule, asked: &Asked, routed: &str) -> bool {
    match rule {
        Rule::Any => true,
        Rule::And(parts) => parts.iter().all(|part| holds(part, asked, routed)),
        Rule::Or(parts) => parts.iter().any(|part| holds(part, asked, routed)),
        Rule::Not(inner) => !holds(inner, asked, routed),
        Rule::Match(matcher) => matches(matcher, asked, routed),
    }
}

fn matches(matcher: &Matcher, asked: &Asked, routed: &str) -> bool {
    let values = |name: &str| -> Vec<String> {
        let all = asked.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()));
        all.map(|(_, value)| String::from_utf8(value.to_vec()).unwrap()).collect()
    };
    let parameters = |name: &str| -> Vec<String> {
        pairs(asked).into_iter().filter(|(key, _)| key == name).map(|(_, value)| value).collect()
    };
    match matcher {
        Matcher::Host(host) => asked.host == **host,
        Matcher::HostSuffix(suffix) => {
            let labels: Vec<&str> = asked.host.split('.').collect();
            labels.len() > 1 && !labels[0].is_empty() && labels[1..].join(".") == **suffix
        }
        Matcher::HostAny => true,
        Matcher::HostRegexp(regex) => found(regex, &asked.host),
        Matcher::Path(path) => routed == &**path,
        Matcher::PathPrefix(prefix) => {
            routed.len() >= prefix.len() && routed.as_bytes()[..prefix.len()] == *prefix.as_bytes()
        }
        Matcher::PathTemplate(template) => fits(template, routed),
        Matcher::PathRegexp(regex) => found(regex, routed),
        Matcher::Method(method) => asked.method == **method || asked.method == "HEAD" && **method == *"GET",
        Matcher::Header { name, value } => values(name).contains(&value.to_string()),
        Matcher::HeaderPresent(name) => !values(name).is_empty(),
        Matcher::HeaderRegexp { name, regex } => values(name).iter().any(|value| found(regex, value)),
        Matcher::Query { name, value } => parameters(name).contains(&value.to_string()),
        Matcher::QueryPresent(name) => !parameters(name).is_empty(),
        Matcher::QueryRegexp { name, regex } => parameters(name).iter().any(|value| found(regex, value)),
        Matcher::ClientIp { net, trusted } => {
            net.contains(if *trusted { &asked.client } else { &asked.peer })
        }
    }
}

/// Of the template in the branch that holds.
fn parameters(rule: &Rule, asked: &Asked, routed: &str) -> Option<Vec<(String, String)>> {
    match rule {
        Rule::And(parts) => parts.iter().find_map(|part| parameters(part, asked, routed)),
        Rule::Or(parts) => parameters(parts.iter().find(|part| holds(part, asked, routed))?, asked, routed),
        Rule::Match(Matcher::PathTemplate(template)) => {
            let names = template.segments.iter().filter_map(|segment| match segment {
                Segment::Parameter(name) => Some(name.to_string()),
                Segment::Literal(_) => None,
            });
            let parts: Vec<&str> = asked.path[1..].split('/').collect();
            let at = template.segments.iter().enumerate().filter(|(_, s)| matches!(s, Segment::Parameter(_)));
            Some(names.zip(at.map(|(index, _)| parts[index].to_owned())).collect())
        }
        _ => None,
    }
}
