//! The middlewares, and who asks them.

use serde_json::{Value, json};

use super::{View, redact::redacted, shape::origin};

/// All of them, by name.
pub(super) fn document(view: &View) -> Value {
    let model = &view.runtime.model;
    let middlewares = model.middlewares.values().map(|middleware| {
        let name = &middleware.name;
        let routes = model.routes.iter().filter(|route| route.middlewares.contains(name));
        let listeners = model.listeners.values().filter(|listener| listener.middlewares.contains(name));
        json!({
            "name": &**name,
            "kind": &*middleware.kind,
            "settings": redacted(&middleware.settings),
            "routes": routes.map(|route| &*route.name).collect::<Vec<_>>(),
            "listeners": listeners.map(|listener| &*listener.name).collect::<Vec<_>>(),
            "origin": origin(&middleware.origin),
        })
    });
    json!({ "middlewares": middlewares.collect::<Vec<_>>() })
}
