//! What clients get in place of an error, once everything else has been tried: called after [`super::forward`], and after
//! whatever may answer with something older (a cache), so that this is the last resort.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use http::StatusCode;
use portcullis_config::model::{self, Instead, Name};
use portcullis_core::{Answer, Body, Error, Exchange, Kind, answer::mapping};

use super::{Forward, Way, careful, upstream::Upstream};
use crate::{
    health::statuses::Statuses,
    runtime::{Route, Service},
};

/// What clients get in place of an error, compiled.
pub struct Fallback {
    errors: Vec<Kind>,
    statuses: Statuses,
    instead: To,
}

enum To {
    Service(Name),
    Answer(StatusCode, Vec<(Arc<str>, Arc<str>)>, Bytes),
}

impl Fallback {
    /// Compiled.
    pub fn new(settings: &model::Fallback) -> Fallback {
        let named = |kind: &Kind| settings.errors.iter().any(|slug| **slug == *mapping(*kind).slug);
        Fallback {
            errors: Kind::ALL.into_iter().filter(named).collect(),
            statuses: Statuses::new(&settings.statuses),
            instead: match &settings.instead {
                Instead::Service(name) => To::Service(name.clone()),
                Instead::Answer { status, headers, body } => {
                    let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::OK);
                    To::Answer(status, headers.clone(), Bytes::copy_from_slice(body.as_bytes()))
                }
            },
        }
    }

    /// Does it stand in for this?
    pub fn covers(&self, result: &Result<Answer, Error>) -> bool {
        match result {
            Ok(answer) => answer.tunnel.is_none() && self.statuses.contain(answer.status.as_u16()),
            Err(error) => self.errors.contains(&error.kind),
        }
    }

    /// Is the request sent once more for it?
    pub fn asks(&self) -> bool {
        matches!(self.instead, To::Service(_))
    }
}

/// The fallback of a route, or else of its service.
pub fn of<'a>(route: &'a Route, service: &'a Service) -> Option<&'a Fallback> {
    let own = route.policies.as_ref().and_then(|policies| policies.fallback.as_ref());
    own.or_else(|| service.policies.as_ref().and_then(|policies| policies.fallback.as_ref()))
}

/// What the client gets: this result, or the fallback in its place.
///
/// # Errors
/// Those of the first attempt that no fallback stands in for, or of the fallback's service.
pub async fn or_else(
    parts: &Forward<'_>,
    x: &mut Exchange,
    way: &mut Way,
    result: Result<Answer, Error>,
) -> Result<Answer, Error> {
    let Some(fallback) = of(parts.route, parts.service).filter(|fallback| fallback.covers(&result)) else {
        return result;
    };
    match &fallback.instead {
        To::Answer(status, headers, body) => {
            parts.service.metrics.fell_back(parts.worker.index);
            let mut answer = Answer::new(*status, "fallback");
            headers.iter().for_each(|(name, value)| answer.fields.append(name, &**value));
            answer.body = Body::from(body.clone());
            Ok(answer)
        }
        To::Service(name) => {
            // What of the body was sent and not kept is gone, and so is time.
            let is_late = way.body_lost || parts.watch.is_past(parts.total);
            let Some(service) = parts.runtime.services.get(name).filter(|_| !is_late) else {
                return result;
            };
            drop(result);
            parts.service.metrics.fell_back(parts.worker.index);
            way.elsewhere = Some(Elsewhere(service.clone()));
            way.endpoint = None;
            let parts = Forward { service, ..*parts };
            ask(&parts, x, way).await
        }
    }
}

/// Sends a request, as it was sent to the first, to another service.
async fn ask(parts: &Forward<'_>, x: &mut Exchange, way: &mut Way) -> Result<Answer, Error> {
    if !parts.service.settings.upgrade {
        x.request.upgrade = None;
    }
    // It may have been a copy that was sent to the first, for a cache.
    if !std::mem::replace(&mut way.prepared, true) {
        portcullis_core::forwarded::send(x, &parts.runtime.gateway_name);
    }
    careful::elsewhere(parts, x, way, Instant::now()).await
}

/// A service that a request went to, other than its route's.
#[derive(Clone)]
pub struct Elsewhere(pub Arc<Service>);

impl Elsewhere {
    /// An endpoint of it.
    pub fn upstream(&self, index: usize) -> Option<&Arc<Upstream>> {
        self.0.upstreams.get(index)
    }
}

impl std::fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.name)
    }
}

#[cfg(test)]
mod tests {
    use portcullis_core::Fault;

    use super::*;

    #[test]
    fn the_configuration_knows_every_error() {
        let known: Vec<&str> = model::ERRORS.iter().map(|(slug, _)| *slug).collect();
        let all: Vec<&str> = Kind::ALL.into_iter().map(|kind| mapping(kind).slug).collect();
        assert_eq!(known, all);
        for ((slug, is_behind), kind) in model::ERRORS.iter().zip(Kind::ALL) {
            let expected =
                kind.fault() == Fault::Upstream || matches!(kind, Kind::ConnectionLimit | Kind::TotalTimeout);
            assert_eq!(*is_behind, expected, "{slug}");
        }
    }
}
