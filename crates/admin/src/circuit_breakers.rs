//! `@circuit-breakers`: every circuit breaker and its state, in the form of the fourth seed (PET2).

use std::{collections::BTreeMap, future::ready, sync::Arc, time::SystemTime};

use http::StatusCode;
use portcullis_core::{Answer, BoxFuture, Error, Exchange, builtin::Builtin};
use portcullis_proxy::{
    health::breaker::{Breaker, Snapshot},
    observe::rfc3339,
    runtime::{Runtime, Service},
};
use serde::Serialize;

use crate::{Gateway, reply};

/// All of them, by service; those of single endpoints by service and address.
pub(crate) struct CircuitBreakers(pub Arc<dyn Gateway>);

/// The answer.
#[derive(Debug, Serialize)]
struct Body {
    circuit_breakers: BTreeMap<String, State>,
}

/// One of them.
#[derive(Debug, Serialize)]
pub(crate) struct State {
    service: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    state: &'static str,
    failure_count: u32,
    success_count: u32,
    opened_at: Option<String>,
}

impl Builtin for CircuitBreakers {
    fn answer<'a>(&'a self, _: &'a mut Exchange) -> BoxFuture<'a, Result<Answer, Error>> {
        let answer = self.0.runtime().ok_or_else(reply::starting);
        let answer =
            answer.and_then(|runtime| reply::json(StatusCode::OK, "circuit-breakers", &body(&runtime)));
        Box::pin(ready(answer))
    }
}

fn body(runtime: &Runtime) -> Body {
    let mut all = BTreeMap::new();
    for service in runtime.services.values() {
        let name = shown(runtime, service);
        for state in states(service, &name) {
            let key = match &state.endpoint {
                Some(endpoint) => format!("{name} {endpoint}"),
                None => name.clone(),
            };
            all.insert(key, state);
        }
    }
    Body { circuit_breakers: all }
}

/// Its name without the provider, where that is no other's.
fn shown(runtime: &Runtime, service: &Service) -> String {
    let base = |name: &str| name.split_once('@').map_or(name, |(base, _)| base).to_owned();
    let name = base(&service.name);
    let is_shared = runtime.services.keys().filter(|other| base(other) == name).count() > 1;
    if is_shared { service.name.to_string() } else { name }
}

/// Those of a service.
pub(crate) fn states(service: &Service, name: &str) -> Vec<State> {
    let Some(breakers) = service.policies.as_ref().and_then(|policies| policies.breakers.as_ref()) else {
        return Vec::new();
    };
    let state = |endpoint: Option<String>, breaker: &Breaker| {
        let Snapshot { phase, failure_count, success_count, opened_at, .. } = breaker.state.snapshot();
        let opened_at = opened_at.map(|at: SystemTime| rfc3339(at));
        State {
            service: name.to_owned(),
            endpoint,
            state: phase.as_str(),
            failure_count,
            success_count,
            opened_at,
        }
    };
    let each = service.endpoints.iter().zip(&breakers.each);
    let whole = breakers.whole.iter().map(|breaker| state(None, breaker));
    whole.chain(each.map(|(at, breaker)| state(Some(at.url.to_string()), breaker))).collect()
}
