//! The services, with the live state of each endpoint.

use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed};

use portcullis_config::model::{self, Probe};
use portcullis_core::endpoint::{Endpoint, Health};
use portcullis_proxy::{
    forward::capacity::{Capacity, Level},
    runtime::Service,
};
use serde_json::{Value, json};

use super::{
    View,
    redact::is_secret,
    shape::{latency, millis, origin},
};
use crate::circuit_breakers;

/// All of them, by name.
pub(super) fn document(view: &View) -> Value {
    json!({ "services": view.runtime.services.values().map(|service| show(service)).collect::<Vec<_>>() })
}

fn show(service: &Service) -> Value {
    let (settings, totals) = (&service.settings, service.metrics.totals());
    let endpoints: Vec<Value> =
        service.endpoints.iter().enumerate().map(|(index, at)| endpoint(service, index, at)).collect();
    json!({
        "name": &*service.name,
        "strategy": service.balancer.name(),
        "state": state(&service.endpoints),
        "sticky_cookie": settings.sticky.as_ref().map(|sticky| &*sticky.cookie),
        "health_check": settings.health_check.as_ref().map(check),
        "passive_health": settings.passive_health.is_some(),
        "circuit_breakers": circuit_breakers::states(service, &service.name),
        "capacity": capacity(service).map(|capacity| {
            let (queued, queue) = capacity.queued();
            let (full, timed_out) = capacity.refused();
            json!({
                "concurrency": level(capacity.level()),
                "queued": queued,
                "queue": queue,
                "refused": { "full": full, "timeout": timed_out },
            })
        }),
        "endpoints": endpoints,
        "origin": origin(&settings.origin),
        "traffic": {
            "statuses": totals.statuses().collect::<BTreeMap<_, _>>(),
            "errors": totals.errors().collect::<BTreeMap<_, _>>(),
            "retries": totals.retries,
            "hedges": totals.hedges,
            "latency": latency(&totals.duration),
        },
    })
}

/// `up`: every endpoint that has a weight is in service; `down`: none is; `degraded`: some are.
fn state(endpoints: &[Endpoint]) -> &'static str {
    let weighted = endpoints.iter().filter(|endpoint| endpoint.weight > 0).count();
    match endpoints.iter().filter(|endpoint| endpoint.is_available()).count() {
        0 => "down",
        available if available == weighted => "up",
        _ => "degraded",
    }
}

fn capacity(service: &Service) -> Option<&Capacity> {
    service.policies.as_ref()?.capacity.as_ref()
}

fn level(level: Option<Level>) -> Option<Value> {
    level.map(|Level { limit, adaptive, in_flight }| {
        json!({ "limit": limit, "adaptive": adaptive, "in_flight": in_flight })
    })
}

fn check(check: &model::HealthCheck) -> Value {
    let (kind, path) = match &check.kind {
        Probe::Http { path, .. } => ("http", Some(&**path)),
        Probe::Tcp => ("tcp", None),
    };
    json!({
        "kind": kind,
        "path": path,
        "interval_seconds": check.interval.as_secs_f64(),
        "timeout_seconds": check.timeout.as_secs_f64(),
        "unhealthy_after": check.unhealthy_after,
        "healthy_after": check.healthy_after,
    })
}

fn endpoint(service: &Service, index: usize, at: &Endpoint) -> Value {
    let state = &at.state;
    let health = match (state.health(), state.is_ejected()) {
        (Health::Starting, _) => "starting",
        (Health::Unhealthy, _) => "unhealthy",
        (Health::Healthy, true) => "ejected",
        (Health::Healthy, false) => "healthy",
    };
    let ewma = state.ewma_ns.load(Relaxed);
    let idle = service.upstreams.get(index).map_or(0, |upstream| upstream.pools.idle());
    let metadata: BTreeMap<&str, &str> = service
        .settings
        .endpoints
        .get(index)
        .into_iter()
        .flat_map(|settings| &settings.metadata)
        .map(|(key, value)| (&**key, if is_secret(key) { "***" } else { &**value }))
        .collect();
    json!({
        "url": &*at.url,
        "weight": at.weight,
        "health": health,
        "in_flight": state.in_flight.load(Relaxed),
        "concurrency": level(capacity(service).and_then(|capacity| capacity.endpoint_level(index))),
        "connections": state.connections.load(Relaxed),
        "idle_connections": idle,
        "latency_ms": (ewma > 0).then(|| millis(ewma as f64 / 1e6)),
        "requests": state.requests.load(Relaxed),
        "failures": state.failures.load(Relaxed),
        "consecutive_failures": state.consecutive_failures.load(Relaxed),
        "metadata": metadata,
    })
}
