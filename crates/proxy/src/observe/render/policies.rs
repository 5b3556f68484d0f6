//! What services and routes do about failure.

use std::sync::atomic::Ordering::Relaxed;

use super::{
    Gauges, Page,
    Type::{Counter, Gauge},
};
use crate::health::breaker::Snapshot;

/// Circuit breakers, of services and of single endpoints.
pub(super) fn breakers(page: &mut Page, gauges: &dyn Gauges) {
    let mut all: Vec<(String, Option<String>, Snapshot)> = Vec::new();
    gauges.breakers(&mut |at| {
        all.push((at.service.to_owned(), at.endpoint.map(ToOwned::to_owned), at.state));
    });
    let mut family = |name, kind, help, value: fn(&Snapshot) -> u64| {
        page.family(name, kind, help);
        for (service, endpoint, state) in &all {
            match endpoint {
                None => page.sample(&[("service", service)], value(state)),
                Some(endpoint) => {
                    page.sample(&[("service", service), ("endpoint", endpoint)], value(state));
                }
            }
        }
    };
    family("gateway_circuit_breaker_state", Gauge, "0 closed, 1 open, 2 half-open.", |state| {
        state.phase.number().into()
    });
    let failures = "gateway_circuit_breaker_failures_total";
    family(failures, Counter, "Failures that the circuit breaker saw.", |state| state.failures);
    let rejected = "gateway_circuit_breaker_rejected_total";
    family(rejected, Counter, "Requests that the circuit breaker turned away.", |state| state.rejected);
}

/// Copies of requests.
pub(super) fn mirrors(page: &mut Page, gauges: &dyn Gauges) {
    let mut all: Vec<(String, &str, u64)> = Vec::new();
    gauges.mirrors(&mut |route, counts| {
        all.push((route.to_owned(), "sent", counts.sent.load(Relaxed)));
        all.push((route.to_owned(), "failed", counts.failed.load(Relaxed)));
        all.push((route.to_owned(), "dropped", counts.dropped.load(Relaxed)));
    });
    let help = "Copies of requests: sent, of those without an answer, and not made.";
    page.family("gateway_mirrored_requests_total", Counter, help);
    for (route, result, count) in &all {
        page.sample(&[("route", route), ("result", result)], *count);
    }
}

/// Requests of routes that several services take.
pub(super) fn splits(page: &mut Page, gauges: &dyn Gauges) {
    let mut all: Vec<(String, String, u64)> = Vec::new();
    gauges.splits(&mut |route, service, taken| all.push((route.to_owned(), service.to_owned(), taken)));
    let help = "Requests of a route that a service of its split took.";
    page.family("gateway_split_requests_total", Counter, help);
    for (route, service, count) in &all {
        page.sample(&[("route", route), ("service", service)], *count);
    }
}
