//! `@stats`: the balanced endpoints and their health, in the form of the first seed (VK7).

use std::{collections::BTreeSet, future::ready, sync::Arc};

use http::StatusCode;
use portcullis_config::model::{self, Strategy};
use portcullis_core::{Answer, BoxFuture, Error, Exchange, builtin::Builtin};
use portcullis_proxy::runtime::{Runtime, Service};
use serde::Serialize;

use crate::{Gateway, reply};

/// Every endpoint once, whatever the number of services it belongs to. `?service=NAME` narrows it to one.
pub(crate) struct Stats(pub Arc<dyn Gateway>);

/// The answer.
#[derive(Debug, Serialize)]
struct Body {
    load_balancer: &'static str,
    total_backends: usize,
    healthy_backends: usize,
    backends: Vec<Backend>,
}

#[derive(Debug, Serialize)]
struct Backend {
    server_id: Arc<str>,
    server_name: Arc<str>,
    server_url: Arc<str>,
    provider: Arc<str>,
    is_healthy: bool,
    consecutive_failures: u32,
}

impl Builtin for Stats {
    fn answer<'a>(&'a self, x: &'a mut Exchange) -> BoxFuture<'a, Result<Answer, Error>> {
        let only = x
            .request
            .query()
            .and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("service=")));
        let answer = self
            .0
            .runtime()
            .ok_or_else(reply::starting)
            .and_then(|runtime| reply::json(StatusCode::OK, "stats", &body(&runtime, only)));
        Box::pin(ready(answer))
    }
}

fn body(runtime: &Runtime, only: Option<&str>) -> Body {
    let mut services: Vec<&Service> = runtime.services.values().map(|service| &**service).collect();
    // A name without its provider is enough.
    let named = |service: &&Service| {
        only.is_none_or(|only| *service.name == *only || service.name.split('@').next() == Some(only))
    };
    services.retain(named);
    // The largest is the one that balances: its strategy stands for all. The order of names decides between equals.
    services.sort_by_key(|service| std::cmp::Reverse(service.endpoints.len()));
    let load_balancer = services.first().map_or("None", |service| strategy(&service.settings));
    let mut known = BTreeSet::new();
    let all = services.iter().flat_map(|service| {
        service.endpoints.iter().zip(&service.settings.endpoints).map(move |both| (service, both))
    });
    let backends: Vec<Backend> = all
        .filter(|(_, (endpoint, _))| known.insert(&*endpoint.url))
        .map(|(service, (endpoint, settings))| {
            let fact = |key: &str| settings.metadata.get(key).cloned();
            Backend {
                server_id: fact("server_id").unwrap_or_else(|| endpoint.url.clone()),
                server_name: fact("server_name").unwrap_or_else(|| endpoint.url.clone()),
                server_url: endpoint.url.clone(),
                provider: fact("provider").unwrap_or_else(|| service.settings.origin.provider.clone()),
                is_healthy: endpoint.state.is_in_service(),
                consecutive_failures: endpoint
                    .state
                    .consecutive_failures
                    .load(std::sync::atomic::Ordering::Relaxed),
            }
        })
        .collect();
    Body {
        load_balancer,
        total_backends: backends.len(),
        healthy_backends: backends.iter().filter(|backend| backend.is_healthy).count(),
        backends,
    }
}

/// The strategy's name as the seed writes it.
fn strategy(service: &model::Service) -> &'static str {
    match service.strategy {
        Strategy::RoundRobin => {
            let mut weights = service.endpoints.iter().map(|endpoint| endpoint.weight);
            let first = weights.next();
            if weights.all(|weight| Some(weight) == first) { "RoundRobin" } else { "WeightedRoundRobin" }
        }
        Strategy::LeastConnections => "LeastConnections",
        Strategy::Random => "Random",
        Strategy::P2c => "PowerOfTwoChoices",
        Strategy::IpHash => "IpHash",
        Strategy::Hash { .. } => "ConsistentHash",
    }
}
