//! `@metrics`: all counters in Prometheus' text format.

use std::sync::Arc;

use http::StatusCode;
use portcullis_core::{Answer, BoxFuture, Error, Exchange, builtin::Builtin};

use crate::{Gateway, reply};

/// The page that Prometheus reads.
pub(crate) struct Metrics(pub Arc<dyn Gateway>);

impl Builtin for Metrics {
    fn answer<'a>(&'a self, _: &'a mut Exchange) -> BoxFuture<'a, Result<Answer, Error>> {
        Box::pin(async move {
            let runtime = self.0.runtime().ok_or_else(reply::starting)?;
            let make = move || {
                let page = runtime.metrics.render(&*runtime);
                let mut answer = reply::text(StatusCode::OK, "metrics", page);
                answer.fields.set("content-type", "text/plain; version=0.0.4; charset=utf-8");
                Ok(answer)
            };
            reply::aside(make).await
        })
    }
}
