//! Routes that take nothing: contradictory ones, and those behind another that takes everything they would.

use std::collections::HashMap;

use super::Check;
use crate::{
    diagnostic::{Code, Finding},
    merge::base,
    model::{Cache, Fallback, Instead, Name, Origin, Route, Target},
    rule::{Matcher, Rule},
};

/// Text with which hosts and paths of a rule start; what a rule does not say is empty.
type Key = (String, String);

impl<'a> Check<'a> {
    pub(super) fn unreachable(&mut self) {
        for route in &self.model.routes {
            let Some((a, b)) = route.rule.contradiction() else { continue };
            let message = format!(
                "no request can satisfy the route `{}`: {a} and {b} exclude each other",
                base(&route.name)
            );
            let finding = Finding::error(Code::UnreachableRoute, message)
                .help("take one of the two away, or join them with `||`");
            self.at(&route.origin, &[], true, finding);
        }
    }

    /// How answers on a route are cached, and whose setting that is: its own, or its service's.
    pub(super) fn cache_of(&self, route: &'a Route) -> Option<(&'a Cache, &'a Name, &'a Origin)> {
        let of_route = route.cache.as_ref().map(|cache| (cache, &route.name, &route.origin));
        let of_service = || {
            let Target::Service(name) = &route.target else { return None };
            let service = self.model.services.get(name)?;
            Some((service.cache.as_ref()?, &service.name, &service.origin))
        };
        of_route.or_else(of_service).filter(|(cache, ..)| cache.enabled)
    }

    /// What is stale comes from a cache.
    pub(super) fn stale_fallbacks(&mut self) {
        let caches = |route: &Route| self.cache_of(route).is_some();
        let leads_to =
            |route: &Route, name: &Name| matches!(&route.target, Target::Service(to) if to == name);
        let routes = self.model.routes.iter();
        let routes = routes.filter(|route| route.policies.fallback_stale.is_some() && !caches(route));
        let services = self.model.services.values().filter(|service| {
            let is_cached = |route: &Route| leads_to(route, &service.name) && caches(route);
            let is_used = |route: &Route| leads_to(route, &service.name);
            service.policies.fallback_stale.is_some()
                && self.model.routes.iter().any(is_used)
                && !self.model.routes.iter().any(is_cached)
        });
        let origins = routes.map(|route| &route.origin).chain(services.map(|service| &service.origin));
        for origin in origins.collect::<Vec<_>>() {
            let message = "a stale answer comes from the cache, and nothing is cached here";
            let finding = Finding::error(Code::Conflict, message).help("add cache = true");
            self.at(origin, &["fallback", "stale"], false, finding);
        }
    }

    /// What failed is no help against its own failure: it would only be asked once more.
    pub(super) fn own_fallbacks(&mut self) {
        let same = |fallback: &Option<Fallback>, own: &Name| {
            let instead = fallback.as_ref().map(|fallback| &fallback.instead);
            matches!(instead, Some(Instead::Service(name)) if name == own)
        };
        let services = self.model.services.values();
        let services = services.filter(|service| same(&service.policies.fallback, &service.name));
        let routes = self.model.routes.iter().filter(|route| match &route.target {
            // What a split chose may well fall back to the route's own service.
            Target::Service(name) => route.policies.split.is_none() && same(&route.policies.fallback, name),
            _ => false,
        });
        let origins = services.map(|service| &service.origin).chain(routes.map(|route| &route.origin));
        for origin in origins.collect::<Vec<_>>() {
            let finding = Finding::error(Code::Conflict, "a service is no fallback for itself")
                .help("name another one, or write `retry` to ask it again");
            self.at(origin, &["fallback", "service"], false, finding);
        }
    }

    /// A cookie of a split must be nobody else's: each would write over the other.
    pub(super) fn split_cookies(&mut self) {
        for route in &self.model.routes {
            let Some(split) = &route.policies.split else { continue };
            let Some(own) = &split.sticky else { continue };
            let to = split.to.iter().map(|share| &share.service);
            let of_route = match &route.target {
                Target::Service(name) => Some(name),
                _ => None,
            };
            let same = to.chain(of_route).find(|name| {
                let service = self.model.services.get(*name);
                service.and_then(|service| service.sticky.as_ref()).is_some_and(|s| s.cookie == own.cookie)
            });
            let Some(service) = same else { continue };
            let message = format!(
                "the cookie `{}` keeps clients at a service, and at an endpoint of `{}`",
                own.cookie,
                base(service)
            );
            let finding = Finding::error(Code::Conflict, message).help("give the two different names");
            self.at(&route.origin, &["split", "sticky"], false, finding);
        }
    }

    /// Routes are tried by priority; among equals, in the order written. Each is compared only with earlier ones that
    /// share a start of host and path with it, so that ten thousand routes are compared in no time.
    pub(super) fn shadowed(&mut self) {
        let mut order: Vec<&Route> = self.model.routes.iter().collect();
        order.sort_by_key(|route| std::cmp::Reverse(route.priority));
        let mut before: HashMap<Key, Vec<&Route>> = HashMap::new();
        let mut found = Vec::new();
        for route in order {
            if route.rule.contradiction().is_none()
                && let Some(shadow) = candidates(&before, &route.rule).find(|earlier| covers(earlier, route))
            {
                found.push((shadow, route));
            }
            for key in keys(&route.rule) {
                before.entry(key).or_default().push(route);
            }
        }
        for (shadow, route) in found {
            let place = match (&shadow.origin.file, shadow.origin.line) {
                (Some(file), line) if line > 0 => format!("{file}:{line}"),
                _ => shadow.origin.path.to_string(),
            };
            let why = if shadow.priority == route.priority {
                format!("both have priority {}, and it is written first", route.priority)
            } else {
                format!("by priority {} over {}", shadow.priority, route.priority)
            };
            let message = format!(
                "the route `{}` never gets a request: `{}` ({place}) takes them all, {why}",
                base(&route.name),
                base(&shadow.name),
            );
            let help = if shadow.priority == route.priority {
                "write it before the other, give it a higher `priority`, or take it away"
            } else {
                "give it a higher `priority`, or take it away"
            };
            self.at(&route.origin, &[], true, Finding::warning(Code::ShadowedRoute, message).help(help));
        }
    }
}

/// Whether the earlier route takes every request of the later one.
fn covers(earlier: &Route, later: &Route) -> bool {
    let everywhere = earlier.listeners.is_empty()
        || !later.listeners.is_empty() && later.listeners.iter().all(|name| earlier.listeners.contains(name));
    everywhere && later.rule.implies(&earlier.rule)
}

/// Where a rule is filed: for each alternative, the host and the path that it demands.
fn keys(rule: &Rule) -> Vec<Key> {
    match rule {
        Rule::Or(parts) if parts.len() <= 16 => parts.iter().flat_map(keys).collect(),
        Rule::And(parts) => {
            let host = parts.iter().find_map(host_of).unwrap_or_default();
            let path = parts.iter().find_map(path_of).unwrap_or_default();
            // A list of hosts within: any of them would do.
            let hosts = parts.iter().find_map(|part| match part {
                Rule::Or(hosts) if host.is_empty() => {
                    hosts.iter().map(host_of).collect::<Option<Vec<String>>>()
                }
                _ => None,
            });
            match hosts {
                Some(hosts) => hosts.into_iter().map(|host| (host, path.clone())).collect(),
                None => vec![(host, path)],
            }
        }
        one => vec![(host_of(one).unwrap_or_default(), path_of(one).unwrap_or_default())],
    }
}

fn host_of(rule: &Rule) -> Option<String> {
    match rule {
        Rule::Match(Matcher::Host(host)) => Some(host.to_string()),
        Rule::Match(Matcher::HostSuffix(suffix)) => Some(format!("*.{suffix}")),
        _ => None,
    }
}

fn path_of(rule: &Rule) -> Option<String> {
    match rule {
        // A template may end before its slash (`/api/*` takes `/api`), and a prefix may be longer than it.
        Rule::Match(matcher) => matcher.path_start().map(|start| start.trim_end_matches('/').to_owned()),
        _ => None,
    }
}

/// Earlier routes that could take everything the rule takes.
fn candidates<'r>(before: &HashMap<Key, Vec<&'r Route>>, rule: &Rule) -> impl Iterator<Item = &'r Route> {
    let mut all: Vec<&'r Route> = Vec::new();
    // Whoever takes everything takes the first alternative.
    if let Some((host, path)) = keys(rule).into_iter().next() {
        let mut hosts = vec![String::new()];
        if let Some((_, suffix)) = host.split_once('.') {
            hosts.push(format!("*.{suffix}"));
        }
        if !host.is_empty() {
            hosts.push(host);
        }
        let ends = path.char_indices().map(|(at, _)| at).chain([path.len()]);
        for end in ends {
            let start = path.get(..end).unwrap_or("");
            for host in &hosts {
                if let Some(routes) = before.get(&(host.clone(), start.to_owned())) {
                    all.extend(routes);
                }
            }
        }
    }
    all.into_iter()
}
