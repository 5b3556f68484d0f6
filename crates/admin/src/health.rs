//! `@health`, `@healthz` and `@ready`: may traffic be sent here?

use std::{future::ready, sync::Arc};

use http::StatusCode;
use portcullis_core::{Answer, BoxFuture, Error, Exchange, builtin::Builtin, endpoint::Endpoint};
use portcullis_proxy::runtime::Runtime;
use serde_json::json;

use crate::{Gateway, State, reply};

/// Overall health. It is unhealthy when the gateway does not serve, or when none of its services has an endpoint in
/// service. One service down among others is no reason to take a gateway out of the others' way: it is "degraded", which
/// is still healthy. Names are not told, since the route may be public.
pub(crate) struct Health(pub Arc<dyn Gateway>);

impl Builtin for Health {
    fn answer<'a>(&'a self, x: &'a mut Exchange) -> BoxFuture<'a, Result<Answer, Error>> {
        Box::pin(ready(self.now(x)))
    }
}

impl Health {
    fn now(&self, x: &Exchange) -> Result<Answer, Error> {
        let services = self.0.runtime().map(|runtime| Services::of(&runtime)).unwrap_or_default();
        let state = self.0.state();
        let reason = match state {
            State::Starting | State::Draining => Some(state.as_str()),
            State::Ready if services.total > 0 && services.available == 0 => {
                Some("no service has an endpoint in service")
            }
            State::Ready => None,
        };
        let status = if reason.is_some() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        if !reply::prefers_json(x) {
            let text = match reason {
                None => "Gateway is healthy".to_owned(),
                Some(reason) => format!("Gateway is unhealthy: {reason}"),
            };
            return Ok(reply::text(status, "health", text));
        }
        let word = match reason {
            Some(_) => "unhealthy",
            None if services.available < services.total => "degraded",
            None => "healthy",
        };
        let counts = json!({ "total": services.total, "available": services.available });
        let mut body = json!({ "status": word, "state": state.as_str(), "services": counts });
        if let (Some(reason), Some(fields)) = (reason, body.as_object_mut()) {
            fields.insert("reason".into(), reason.into());
        }
        reply::json(status, "health", &body)
    }
}

/// How many services there are, and how many of them can answer.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Services {
    pub total: usize,
    pub available: usize,
}

impl Services {
    pub fn of(runtime: &Runtime) -> Services {
        let available = |endpoints: &[Endpoint]| endpoints.iter().any(Endpoint::is_available);
        let up = runtime.services.values().filter(|service| available(&service.endpoints)).count();
        Services { total: runtime.services.len(), available: up }
    }
}

/// The process answers: that is all it says.
pub(crate) struct Live;

impl Builtin for Live {
    fn answer<'a>(&'a self, x: &'a mut Exchange) -> BoxFuture<'a, Result<Answer, Error>> {
        let answer = if reply::prefers_json(x) {
            reply::json(StatusCode::OK, "healthz", &json!({ "status": "alive" }))
        } else {
            Ok(reply::text(StatusCode::OK, "healthz", "alive"))
        };
        Box::pin(ready(answer))
    }
}

/// May new traffic be sent here?
pub(crate) struct Ready(pub Arc<dyn Gateway>);

impl Builtin for Ready {
    fn answer<'a>(&'a self, x: &'a mut Exchange) -> BoxFuture<'a, Result<Answer, Error>> {
        let state = self.0.state();
        let status = if state == State::Ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let answer = if reply::prefers_json(x) {
            reply::json(status, "ready", &json!({ "status": state.as_str() }))
        } else {
            Ok(reply::text(status, "ready", state.as_str()))
        };
        Box::pin(ready(answer))
    }
}
