//! The routes, in the order in which they were written.

use std::sync::atomic::Ordering::Relaxed;

use portcullis_config::model;
use portcullis_proxy::runtime::{Route, Target};
use serde_json::{Value, json};

use super::{
    View,
    shape::{latency, origin},
};

/// All of them.
pub(super) fn document(view: &View) -> Value {
    let routes = view.runtime.model.routes.iter().zip(view.runtime.routes.iter());
    json!({ "routes": routes.map(|(settings, route)| show(settings, route)).collect::<Vec<_>>() })
}

fn show(settings: &model::Route, route: &Route) -> Value {
    let totals = route.metrics.totals();
    let target = match &route.target {
        Target::Service(service) => json!({ "kind": "service", "name": &*service.name }),
        Target::Split(split) => json!({
            "kind": "split",
            "name": split.own().map(|service| &*service.name),
            "services": split.places().iter().map(|place| json!({
                "name": &*place.service.name,
                "share": place.share,
                "requests": place.taken.iter().map(|count| count.load(Relaxed)).sum::<u64>(),
            })).collect::<Vec<_>>(),
        }),
        Target::Builtin(name, _) => json!({ "kind": "builtin", "name": name }),
        Target::Unusable(reason) => json!({ "kind": "unusable", "reason": &**reason }),
    };
    let asked: Vec<&str> = route.middlewares.iter().map(|asked| &*asked.name).collect();
    let listeners: Vec<&str> = settings.listeners.iter().map(|name| &**name).collect();
    json!({
        "name": &*settings.name,
        "rule": settings.rule.to_string(),
        "priority": settings.priority,
        "importance": settings.importance.name(),
        "listeners": listeners,
        "middlewares": asked,
        "target": target,
        "strip_prefix": settings.strip_prefix.as_deref(),
        "origin": origin(&settings.origin),
        "traffic": {
            "requests": totals.requests(),
            "in_progress": totals.in_progress.max(0),
            "errors": totals.errors().map(|(_, count)| count).sum::<u64>(),
            "received_bytes": totals.received,
            "sent_bytes": totals.sent,
            "latency": latency(&totals.duration()),
        },
    })
}
