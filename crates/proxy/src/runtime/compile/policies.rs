//! What services and routes do about failure, compiled.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use http::StatusCode;
use portcullis_config::model::{self, RetryBudget};
use portcullis_core::{Kind, answer::mapping};

use super::{Compiler, Services};
use crate::{
    forward::{
        budget::{Allowance, Budget},
        capacity::{self, Capacity},
        careful::Policies,
        fallback::Fallback,
        mirror::{Counts, Mirror},
        retry::Retry,
    },
    health::breaker::{Breaker, Breakers},
};

/// The budget of a service that says nothing of it, but whose routes retry.
const USUAL: RetryBudget = RetryBudget { ratio: 0.2, min_per_second: 10.0 };

impl Compiler<'_> {
    /// What a service does about failure; `None` when it does nothing.
    pub(super) fn service_policies(&self, settings: &model::Service) -> Option<Box<Policies>> {
        let retry = settings.policies.retry.as_ref().map(Retry::new);
        let breakers =
            settings.policies.circuit_breaker.as_ref().map(|breaker| self.breakers(settings, breaker));
        let fallback = settings.policies.fallback.as_ref().map(Fallback::new);
        let parts = capacity::Parts { keep: self.parts.keep, meters: &self.parts.metrics.meters };
        let capacity = settings.policies.capacity.as_ref();
        let capacity = capacity.map(|capacity| Capacity::new(settings, capacity, &parts));
        let has_any = retry.is_some() || breakers.is_some() || fallback.is_some() || capacity.is_some();
        has_any.then(|| Box::new(Policies { retry, breakers, fallback, capacity, ..Policies::default() }))
    }

    fn breakers(&self, service: &model::Service, settings: &model::CircuitBreaker) -> Breakers {
        let (keep, workers, now) = (self.parts.keep, self.parts.workers, Instant::now());
        let breaker = |name: &str| Breaker::new(settings, name, keep, workers, now);
        if settings.per_endpoint {
            let name = |endpoint: &model::Endpoint| format!("{} {}", service.name, endpoint.url);
            let each = service.endpoints.iter().map(|endpoint| breaker(&name(endpoint))).collect();
            Breakers { whole: None, each }
        } else {
            Breakers { whole: Some(breaker(&service.name)), each: Vec::new() }
        }
    }

    /// What a route does about failure, where that differs from its service.
    pub(super) fn route_policies(
        &self,
        settings: &model::Route,
        services: &Services,
    ) -> Option<Box<Policies>> {
        let retry = settings.policies.retry.as_ref().map(Retry::new);
        let fallback = settings.policies.fallback.as_ref().map(Fallback::new);
        let errors = statuses(&settings.policies.errors);
        let mirror = settings.policies.mirror.as_ref().and_then(|mirror| {
            let service = services.get(&mirror.service)?.clone();
            let (keep, workers) = (self.parts.keep, self.parts.workers);
            let counts = keep.get("mirror", &settings.name, || Counts::new(workers));
            Some(Mirror::new(mirror, service, counts))
        });
        let has_any = retry.is_some() || fallback.is_some() || mirror.is_some() || !errors.is_empty();
        has_any.then(|| Box::new(Policies { retry, fallback, errors, mirror, ..Policies::default() }))
    }

    /// What retries may cost a service: one budget for each, over all routes and reloads.
    pub(super) fn allowance(&self, settings: &model::Service) -> Allowance {
        let (keep, workers) = (self.parts.keep, self.parts.workers);
        let budget = keep.get("retry budget", &settings.name, || Budget::new(workers, Instant::now()));
        let allowed = settings.policies.retry.as_ref().map_or(USUAL, |retry| retry.budget);
        Allowance { allowed, budget }
    }
}

/// Statuses of errors, by kind.
fn statuses(by_slug: &BTreeMap<Arc<str>, u16>) -> Vec<(Kind, StatusCode)> {
    let status = |kind: Kind| {
        let status = by_slug.get(mapping(kind).slug)?;
        Some((kind, StatusCode::from_u16(*status).ok()?))
    };
    Kind::ALL.into_iter().filter_map(status).collect()
}
