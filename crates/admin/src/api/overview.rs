//! The gateway at a glance.

use portcullis_core::endpoint::Endpoint;
use portcullis_proxy::{observe::rfc3339, runtime::Target};
use serde_json::{Value, json};

use super::View;
use crate::health::Services;

/// Counts of everything, and how the last reload went.
pub(super) fn document(view: &View) -> Value {
    let (runtime, model) = (&view.runtime, &view.runtime.model);
    let services = Services::of(runtime);
    let endpoints = || runtime.services.values().flat_map(|service| &service.endpoints);
    let unusable = runtime.routes.iter().filter(|route| matches!(route.target, Target::Unusable(_))).count();
    let (mut requests, mut errors, mut in_progress) = (0, 0, 0);
    for route in runtime.routes.iter().take(model.routes.len()) {
        let totals = route.metrics.totals();
        requests += totals.requests();
        errors += totals.errors().map(|(_, count)| count).sum::<u64>();
        in_progress += totals.in_progress;
    }
    let last = view.gateway.last_reload();
    json!({
        "name": &*runtime.gateway_name,
        "version": env!("CARGO_PKG_VERSION"),
        "state": view.gateway.state().as_str(),
        "generation": runtime.generation,
        "uptime_seconds": view.born.elapsed().as_secs(),
        "listeners": model.listeners.len(),
        "routes": { "total": model.routes.len(), "unusable": unusable },
        "services": { "total": services.total, "available": services.available },
        "endpoints": { "total": endpoints().count(), "available": endpoints().filter(|e| Endpoint::is_available(e)).count() },
        "middlewares": model.middlewares.len(),
        "requests": { "total": requests, "errors": errors, "in_progress": in_progress.max(0) },
        "connections": runtime.listeners.values().map(|listener| listener.metrics.open()).sum::<u64>(),
        "last_reload": last.map(|last| json!({ "at": rfc3339(last.at), "cause": last.cause, "ok": last.ok, "findings": last.findings.len() })),
    })
}
