//! One attempt, within its time, and what is told of it.

use std::time::{Duration, Instant};

use portcullis_core::{Answer, Error, Exchange, Kind};

use super::{Admitted, Forward, Outcome, Retry, Run, Way, attempt, passive};

impl Run<'_> {
    /// Tells everybody who wants to know how an attempt went that began at this time.
    pub(super) fn tell(
        &self,
        (index, permit): Admitted<'_>,
        result: &Result<Answer, Error>,
        way: &Way,
        began: Instant,
    ) {
        let (worker, service) = (self.parts.worker.index, self.parts.service);
        let latency = if result.is_ok() { way.first_byte } else { began.elapsed() };
        service.observe(worker, index, result, latency, began);
        if self.retry.is_some_and(|retry| retry.hedge().is_some()) {
            service.budget.tail().record(worker, latency, began + latency);
        }
        let tells_of_load = match result {
            Ok(_) => true,
            Err(error) => matches!(error.kind, Kind::ResponseTimeout | Kind::TotalTimeout),
        };
        if let Some(capacity) = self.capacity.filter(|_| tells_of_load) {
            capacity.observe(index, latency, began + latency);
        }
        if let Some((breaker, permit)) = permit
            && let Some(outcome) = self.outcome(result, latency, way)
        {
            breaker.observe(worker, permit, &outcome, began + latency);
        }
    }

    /// What an attempt says about the endpoint to its circuit breaker; `None`: nothing.
    fn outcome(&self, result: &Result<Answer, Error>, latency: Duration, way: &Way) -> Option<Outcome> {
        // How much time clients give is not the endpoint's to answer for.
        let is_clients_time = way.deadline.as_ref().is_some_and(|deadline| deadline.is_clients);
        let status = match result {
            Ok(answer) => Some(answer.status.as_u16()),
            Err(error) if passive::is_failure(error.kind) => None,
            // The time was over, and it was not the client who took it: nothing of its body had to be waited for.
            Err(error) if error.kind == Kind::TotalTimeout && self.saved.is_there() && !is_clients_time => {
                None
            }
            Err(_) => return None,
        };
        Some(Outcome { status, latency })
    }

    /// One attempt, within its time.
    pub(super) async fn attempt(
        &self,
        parts: &Forward<'_>,
        x: &mut Exchange,
        index: usize,
        now: Instant,
        way: &mut Way,
    ) -> Result<Answer, Error> {
        way.seen_stale = false;
        let time = self.retry.and_then(Retry::try_timeout);
        let within = parts.watch.total(time).min(parts.total);
        let connected = way.connect;
        let result = attempt(&Forward { total: within, ..*parts }, x, index, now, way).await;
        let Some(time) = time else { return result.map_err(|error| self.doubt(error, x, way)) };
        match result {
            // Where the client's body had to be waited for, nobody knows whose time it was.
            Err(error)
                if error.kind == Kind::TotalTimeout
                    && !parts.watch.is_past(parts.total)
                    && self.saved.is_there() =>
            {
                let why = format!("no answer within the {time:?} of an attempt");
                // Still at connecting, and not for the second time: then nobody has seen the request.
                Err(if way.connect == connected && !way.reused && !way.seen_stale {
                    Error::because(Kind::ConnectTimeout, why).unsent()
                } else {
                    Error::because(Kind::ResponseTimeout, why)
                })
            }
            result => result.map_err(|error| self.doubt(error, x, way)),
        }
    }

    /// A request that was sent over a connection that turned out to be stale may have been seen, although it could not
    /// be sent over another one: only methods that may be repeated are then sent elsewhere.
    fn doubt(&self, mut error: Error, x: &Exchange, way: &Way) -> Error {
        error.unsent &= !way.seen_stale || self.retry.is_none_or(|retry| retry.repeats(&x.request.method));
        error
    }
}
