//! What goes by who clients are, where nothing finds that out.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Check;
use crate::{
    diagnostic::{Code, Finding},
    merge::base,
    model::{Middleware, Name, Route},
};

/// Kinds of middlewares that find out who a client is.
const KNOWING: [&str; 1] = ["jwt"];
/// Kinds whose keys may go by that.
const COUNTING: [&str; 2] = ["rate_limit", "concurrency"];

impl Check<'_> {
    /// Limits by `identity` or by a claim, and cache keys with claims.
    pub(super) fn identities(&mut self) {
        let mut told: BTreeSet<Name> = BTreeSet::new();
        for route in &self.model.routes {
            let mut known = self.is_known_before(route);
            for middleware in route.middlewares.iter().filter_map(|name| self.model.middlewares.get(name)) {
                if KNOWING.contains(&&*middleware.kind) {
                    known = true;
                } else if !known && goes_by_identity(middleware) && told.insert(middleware.name.clone()) {
                    let message = format!(
                        "nothing before this on the route `{}` finds out who a client is",
                        base(&route.name)
                    );
                    let help = "all count by address; write a middleware before it that knows, such as `jwt`";
                    let finding = Finding::warning(Code::Conflict, message).help(help);
                    self.at(&middleware.origin, &[], true, finding);
                }
            }
            if let Some((cache, name, origin)) = self.cache_of(route)
                && !cache.key.claims.is_empty()
                && !known
                && told.insert(name.clone())
            {
                let message =
                    format!("nothing on the route `{}` finds out whose claims these are", base(&route.name));
                let help =
                    "answers to requests with credentials are not stored; add a middleware such as `jwt`";
                let finding = Finding::warning(Code::Conflict, message).help(help);
                self.at(origin, &["cache", "key", "claims"], false, finding);
            }
        }
    }

    /// Does a listener of the route know?
    fn is_known_before(&self, route: &Route) -> bool {
        let serves = |name: &Name| route.listeners.is_empty() || route.listeners.contains(name);
        let listeners = self.model.listeners.iter().filter(|(name, _)| serves(name));
        let mut asked = listeners.flat_map(|(_, listener)| &listener.middlewares);
        asked.any(|name| self.model.middlewares.get(name).is_some_and(|m| KNOWING.contains(&&*m.kind)))
    }
}

fn goes_by_identity(middleware: &Middleware) -> bool {
    let settings = &middleware.settings;
    let limits = settings.get("limits").and_then(Value::as_array);
    let keys = limits.into_iter().flatten().map(|limit| limit.get("key"));
    let mut keys = keys.chain([settings.get("key")]).flatten();
    COUNTING.contains(&&*middleware.kind) && keys.any(is_identity)
}

fn is_identity(key: &Value) -> bool {
    match key {
        Value::String(text) => text == "identity",
        Value::Array(parts) => parts.iter().any(is_identity),
        Value::Object(part) => part.contains_key("claim"),
        _ => false,
    }
}
