//! Routes: their conditions as one rule, what they ask, where they lead.

use std::collections::BTreeSet;

use super::{
    Merger, Source, base, defaults,
    names::{slug, unique},
    shared,
};
use crate::{
    diagnostic::{Code, suggestion},
    document::{Node, Path, Value},
    model::{Cache, Doubtful, Name, Route, Target},
    rule::PathTemplate,
    scalar,
    written::{self, MiddlewareUse},
};

impl Merger<'_> {
    pub(super) fn routes(&mut self, everywhere: &[Name]) {
        for source in self.sources {
            let places = source.document.root.get("routes").map(Node::survivors).unwrap_or_default();
            let names = self.route_names(source, &places);
            for (at, (written, name)) in source.written.routes.iter().zip(names).enumerate() {
                let path = Path::root().key("routes").index(places.get(at).copied().unwrap_or(at));
                self.route(source, &path, &name, written, everywhere);
            }
        }
    }

    /// A name for each route: as written, or made from its path or rule.
    fn route_names(&mut self, source: &Source, places: &[usize]) -> Vec<String> {
        let others = self.routes.iter().filter(|route| route.origin.provider == source.provider);
        let mut taken: BTreeSet<String> = others.map(|route| base(&route.name).to_owned()).collect();
        for (at, route) in source.written.routes.iter().enumerate() {
            let Some(name) = &route.name else { continue };
            let path = Path::root().key("routes").index(places.get(at).copied().unwrap_or(at)).key("name");
            if let Err(problem) = scalar::name(name) {
                self.error(source, &path, Code::BadName, problem.message, problem.help);
            } else if !taken.insert(name.clone()) {
                let help = "give each route a name of its own";
                self.error(
                    source,
                    &path,
                    Code::DuplicateName,
                    format!("two routes are named `{name}`"),
                    help,
                );
            }
        }
        let mut names = Vec::new();
        for (at, route) in source.written.routes.iter().enumerate() {
            let name = route.name.clone().unwrap_or_else(|| {
                let text = route.path.as_deref().or(route.rule.as_deref()).unwrap_or("");
                let name = match slug(text) {
                    name if name.is_empty() && !text.is_empty() => "root".to_owned(),
                    name if name.is_empty() => format!("route-{}", at + 1),
                    name => name,
                };
                unique(&name, &taken)
            });
            taken.insert(name.clone());
            names.push(name);
        }
        names
    }

    fn route(
        &mut self,
        source: &Source,
        path: &Path,
        name: &str,
        written: &written::Route,
        everywhere: &[Name],
    ) {
        let listeners = self.route_listeners(source, path, written);
        let mut middlewares = everywhere.to_vec();
        middlewares.extend(self.uses(source, &path.key("middlewares"), name, &written.middlewares));
        let preflights = self.asks_cors(&middlewares, &listeners);
        let conditions = self.conditions(source, path, written, preflights);
        let target = self.target(source, path, name, written);
        let strip_prefix = self.strip_prefix(source, path, written, conditions.template.as_ref());
        if conditions.unreadable {
            return;
        }
        let all = &self.main().map(|main| main.written.timeouts.total).unwrap_or_default();
        let server =
            self.main().and_then(|main| main.written.server.as_ref()).and_then(|server| server.timeout_ms);
        let server = server.map(|ms| written::Lit(std::time::Duration::from_millis(ms)));
        let total = defaults::first([&written.timeouts.total, &server, all], std::time::Duration::ZERO);
        let route = Route {
            name: source.qualified(name),
            listeners,
            rule: conditions.rule,
            priority: written.priority.unwrap_or(conditions.priority),
            priority_is_explicit: written.priority.is_some(),
            middlewares,
            target,
            strip_prefix,
            total_timeout: (!total.is_zero()).then_some(total),
            response_header_timeout: written.timeouts.response_header.map(|lit| lit.0),
            body_bytes: written.limits.body_bytes.map(|lit| lit.0.0),
            body_idle_timeout: written.timeouts.body_idle.map(|lit| lit.0),
            stream_idle_timeout: written.timeouts.stream_idle.map(|lit| lit.0),
            tunnel_idle_timeout: written.timeouts.tunnel_idle.map(|lit| lit.0),
            encoded_delimiters: self.route_path_policy(source, path, written),
            pass_host: written.pass_host,
            policies: self.route_policies(source, path, name, written),
            cache: self.route_cache(source, path, written),
            importance: self.importance(source, path, written),
            origin: source.origin(path),
        };
        self.routes.push(route);
    }

    /// What a route may say about paths. Slashes are merged (or not) before there is a route.
    fn route_path_policy(
        &mut self,
        source: &Source,
        path: &Path,
        written: &written::Route,
    ) -> Option<Doubtful> {
        let policy = written.path_policy.as_ref()?;
        if policy.merge_slashes.is_some() {
            let message = "slashes are merged before the route is chosen: a route cannot choose it";
            let help = "write `path_policy.merge_slashes` at the listener";
            let path = path.key("path_policy").key("merge_slashes");
            self.error(source, &path, Code::BadValue, message, help);
        }
        policy.encoded_delimiters.map(|lit| lit.0)
    }

    /// What a route says about caching: nothing where there is no service.
    fn route_cache(&mut self, source: &Source, path: &Path, written: &written::Route) -> Option<Cache> {
        let cache = &written.cache.as_ref()?.0;
        if written.service.as_deref().is_some_and(|service| service.starts_with('@')) {
            let message = "built-in services are not cached";
            self.error(source, &path.key("cache"), Code::Conflict, message, "leave `cache` away");
        }
        Some(self.cache(source, path, cache))
    }

    fn route_listeners(&mut self, source: &Source, path: &Path, written: &written::Route) -> Vec<Name> {
        let mut names = Vec::new();
        let path = path.key("listeners");
        let Some(list) = &written.listeners else { return names };
        if list.0.is_empty() && !source.broken(&path) {
            let help = "leave `listeners` away for all of them";
            self.error(source, &path, Code::UnreachableRoute, "the route is reachable on no listener", help);
        }
        for (at, name) in list.0.iter().enumerate() {
            if !self.known_listeners.contains(name.as_str()) {
                let known: Vec<&str> = self.known_listeners.iter().map(|name| &**name).collect();
                let help = suggestion(name, known, "listeners");
                let at = element(source, &path, at);
                self.error(
                    source,
                    &at,
                    Code::UnknownListener,
                    format!("there is no listener `{name}`"),
                    help,
                );
            }
            names.push(shared(name));
        }
        names
    }

    /// Names of the middlewares asked for; those written in place get a name after their owner.
    pub(super) fn uses(
        &mut self,
        source: &Source,
        path: &Path,
        owner: &str,
        list: &[MiddlewareUse],
    ) -> Vec<Name> {
        let mut names = Vec::new();
        for (at, written) in list.iter().enumerate() {
            let at = element(source, path, at);
            match written {
                MiddlewareUse::Name(text) => {
                    let name = source.reference(text);
                    if !self.known_middlewares.contains(&name) {
                        let known: Vec<String> =
                            self.known_middlewares.iter().map(|n| short(source, n)).collect();
                        let kinds = self.kinds.names();
                        let help = if kinds.contains(&text.replace('-', "_").as_str()) {
                            format!("`{text}` is a kind; write it in place: {{ {text} = {{ … }} }}")
                        } else {
                            suggestion(text, known.iter().map(String::as_str), "middlewares")
                        };
                        let message = format!("there is no middleware `{text}`");
                        self.error(source, &at, Code::UnknownMiddleware, message, help);
                    }
                    if names.contains(&name) {
                        let message = format!("the middleware `{text}` is asked twice");
                        self.warning(source, &at, Code::Conflict, message, "once is enough");
                    }
                    self.used.insert(name.clone());
                    names.push(name);
                }
                MiddlewareUse::InPlace(middleware) => {
                    let kind = middleware.kind.to_ascii_lowercase().replace('-', "_");
                    let mut name = source.qualified(&format!("{owner}.{kind}"));
                    let mut number = 2;
                    while self.middlewares.contains_key(&name) || self.known_middlewares.contains(&name) {
                        name = source.qualified(&format!("{owner}.{kind}-{number}"));
                        number += 1;
                    }
                    self.middleware(source, name.clone(), &at, middleware);
                    self.used.insert(name.clone());
                    names.push(name);
                }
            }
        }
        names
    }

    /// Whether CORS is asked on the way to the route.
    fn asks_cors(&self, middlewares: &[Name], listeners: &[Name]) -> bool {
        let is_cors =
            |name: &Name| self.middlewares.get(name).is_some_and(|middleware| &*middleware.kind == "cors");
        let reachable = |name: &Name| listeners.is_empty() || listeners.contains(name);
        middlewares.iter().any(is_cors)
            || self.listeners.values().any(|l| reachable(&l.name) && l.middlewares.iter().any(is_cors))
    }

    fn target(&mut self, source: &Source, path: &Path, name: &str, written: &written::Route) -> Target {
        match (&written.service, &written.upstream) {
            (Some(_), Some(_)) => {
                let help = "`upstream` is a service written in place: keep one of the two";
                let message = "`service` and `upstream` are both written";
                self.error(source, &path.key("service"), Code::Conflict, message, help);
            }
            (Some(service), None) => return self.reference(source, &path.key("service"), service),
            (None, Some(upstream)) => {
                let qualified = source.qualified(name);
                if self.known_services.contains(&qualified) {
                    let message = format!(
                        "the service written in place is named after its route, `{name}`, like another service"
                    );
                    let help = "name the route differently, or lead it to the service by its name";
                    self.error(source, &path.key("upstream"), Code::DuplicateName, message, help);
                } else {
                    self.service(source, qualified.clone(), &path.key("upstream"), upstream);
                }
                self.used.insert(qualified.clone());
                return Target::Service(qualified);
            }
            (None, None) if source.broken(path) => {}
            (None, None) => {
                let help = "add service = \"name\", or [routes.upstream] with urls";
                self.error(source, path, Code::NoTarget, format!("the route `{name}` leads nowhere"), help);
            }
        }
        Target::Quarantined("it leads nowhere".into())
    }

    pub(super) fn reference(&mut self, source: &Source, path: &Path, service: &str) -> Target {
        if let Some(builtin) = service.strip_prefix('@') {
            let builtins = self.kinds.builtins();
            if !builtins.contains(&builtin) {
                let names: Vec<String> = builtins.iter().map(|name| format!("@{name}")).collect();
                let help = suggestion(service, names.iter().map(String::as_str), "built-in services");
                let message = format!("there is no built-in service `{service}`");
                self.error(source, path, Code::UnknownBuiltin, message, help);
            }
            return Target::Builtin(shared(builtin));
        }
        let name = source.reference(service);
        if !self.known_services.contains(&name) {
            let known: Vec<String> = self.known_services.iter().map(|name| short(source, name)).collect();
            let help = suggestion(service, known.iter().map(String::as_str), "services");
            self.error(source, path, Code::UnknownService, format!("there is no service `{service}`"), help);
        }
        self.used.insert(name.clone());
        Target::Service(name)
    }

    fn strip_prefix(
        &mut self,
        source: &Source,
        path: &Path,
        written: &written::Route,
        template: Option<&PathTemplate>,
    ) -> Option<Name> {
        if written.strip_path != Some(true) {
            return None;
        }
        match template {
            Some(template) => Some(template.literal_prefix()).filter(|prefix| !prefix.is_empty()),
            None => {
                if written.path.is_none() && !source.broken(path) {
                    let help = "add `path`, or use the middleware `strip_prefix`";
                    let at = path.key("strip_path");
                    self.error(source, &at, Code::Conflict, "`strip_path` without `path`", help);
                }
                None
            }
        }
    }
}

/// The path of the `at`-th element that was not taken out; of the value itself when it is no list.
pub(super) fn element(source: &Source, path: &Path, at: usize) -> Path {
    match source.document.root.at(path) {
        Some(node) if matches!(node.value, Value::List(_)) => {
            path.index(node.survivors().get(at).copied().unwrap_or(at))
        }
        _ => path.clone(),
    }
}

/// A name as this fragment would write it.
fn short(source: &Source, name: &Name) -> String {
    match name.split_once('@') {
        Some((base, provider)) if *provider == *source.provider => base.to_owned(),
        _ => name.to_string(),
    }
}
