//! The attempt loop of services and routes that have policies for failure. What has none takes the plain way, which
//! knows nothing of this one but a branch.
//!
//! ```text
//! attempt → judge ─┬─ good ──────────────────────────────────────────► answer
//!                  ├─ nothing was sent, and others have not been asked: at once, elsewhere
//!                  ├─ may be tried again: attempts, method, body, time, budget
//!                  │    └─ wait (jitter) → another endpoint than the last
//!                  └─ else ─────────────────────────────────────────► error, or the answer as it is
//! ```

use std::{
    sync::Mutex,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use http::StatusCode;
use portcullis_core::{Answer, BoxFuture, Error, Exchange, Frame, Kind, balance::Pick};

use self::{admit::Wish, choice::Asked};
use super::{
    Forward, TRIES, Way, attempt,
    capacity::{Capacity, Held},
    fallback::{self, Fallback},
    mirror::Mirror,
    nobody,
    replay::Saved,
    retry::Retry,
};
use crate::{
    health::{
        breaker::{Breaker, Breakers, Outcome, Permit},
        passive,
    },
    runtime::Service,
};

mod admit;
mod choice;
mod once;
mod race;

/// So much of a body is kept for the service of a fallback.
const FALLBACK_BODY: u64 = 64 * 1024;

/// What a service or a route does about failure; `None` everywhere else.
#[derive(Default)]
pub struct Policies {
    /// Sends requests again.
    pub retry: Option<Retry>,
    /// Leave the service alone for a time when it fails.
    pub breakers: Option<Breakers>,
    /// How much the service and its endpoints bear.
    pub capacity: Option<Capacity>,
    /// Copies for another service.
    pub mirror: Option<Mirror>,
    /// What clients get in place of an error.
    pub fallback: Option<Fallback>,
    /// Other statuses for the gateway's own errors.
    pub errors: Vec<(Kind, StatusCode)>,
}

/// Like [`super::forward`], with policies.
pub fn first<'a>(
    parts: &'a Forward<'a>,
    x: &'a mut Exchange,
    way: &'a mut Way,
    now: Instant,
) -> BoxFuture<'a, Result<Answer, Error>> {
    let of_route = parts.route.policies.as_deref();
    let mirror = of_route.and_then(|policies| policies.mirror.as_ref());
    let own = OfRoute {
        policies: of_route,
        mirror: mirror.filter(|mirror| mirror.wants(x, fastrand::f64())),
        fallback: fallback::of(parts.route, parts.service).filter(|fallback| fallback.asks()),
    };
    Box::pin(run(parts, x, way, now, own))
}

/// The same for a service that the route does not lead to: what the route has of policies is not for it, and one that
/// stands in for another is not stood in for.
pub fn elsewhere<'a>(
    parts: &'a Forward<'a>,
    x: &'a mut Exchange,
    way: &'a mut Way,
    now: Instant,
) -> BoxFuture<'a, Result<Answer, Error>> {
    Box::pin(run(parts, x, way, now, OfRoute::default()))
}

/// What a route wants beside what its service does.
#[derive(Default)]
struct OfRoute<'a> {
    policies: Option<&'a Policies>,
    mirror: Option<&'a Mirror>,
    /// Sends the request once more, when all is over.
    fallback: Option<&'a Fallback>,
}

async fn run(
    parts: &Forward<'_>,
    x: &mut Exchange,
    way: &mut Way,
    now: Instant,
    OfRoute { policies, mirror, fallback }: OfRoute<'_>,
) -> Result<Answer, Error> {
    let of_service = parts.service.policies.as_deref();
    let retry = policies
        .and_then(|policies| policies.retry.as_ref())
        .or_else(|| of_service.and_then(|policies| policies.retry.as_ref()))
        .filter(|retry| retry.attempts() > 1 || retry.try_timeout().is_some());
    if retry.is_some() {
        parts.service.budget.deposit(parts.worker.index, now);
    }
    let least = if fallback.is_some() { FALLBACK_BODY } else { 0 };
    let least = least.max(mirror.map_or(0, Mirror::body));
    let saved = Saved::take(&mut x.request, retry.map_or(0, Retry::body_buffer).max(least));
    let mut copy = mirror.map(|mirror| (mirror, Mirror::twin(x)));
    // Without a body that has to go by, the copy need not wait.
    if let Some((mirror, twin)) = copy.take_if(|_| saved.is_there()) {
        mirror.send(parts, twin, &saved);
    }
    let breakers = of_service.and_then(|policies| policies.breakers.as_ref());
    let capacity = of_service.and_then(|policies| policies.capacity.as_ref());
    let (asked, held) = (Asked::default(), Mutex::default());
    let mut run = Run { parts, retry, breakers, capacity, saved, asked, held, made: 0, waited: 0 };
    let result = run.attempts(x, way, now).await;
    if let Some((mirror, twin)) = copy {
        mirror.send(parts, twin, &run.saved);
    }
    way.body_lost = !run.saved.is_repeatable(&x.request);
    match fallback.filter(|fallback| fallback.covers(&result)) {
        Some(_) => run.saved.lend(&mut x.request),
        None => run.saved.let_go(),
    }
    result
}

/// A request under way.
struct Run<'a> {
    parts: &'a Forward<'a>,
    retry: Option<&'a Retry>,
    breakers: Option<&'a Breakers>,
    saved: Saved,
    asked: Asked,
    capacity: Option<&'a Capacity>,
    held: Mutex<Vec<(usize, Held)>>,
    /// Attempts so far.
    made: u32,
    /// Of those, after a wait.
    waited: u32,
}

/// An endpoint, and the circuit breaker that has to be told how it went.
type Admitted<'a> = (usize, Option<(&'a Breaker, Permit)>);

/// What follows an attempt.
enum Next {
    /// This is what the request gets.
    Done,
    /// Another attempt, at once.
    Now,
    /// Another attempt, after this time.
    After(Duration),
}

impl Run<'_> {
    async fn attempts(&mut self, x: &mut Exchange, way: &mut Way, mut now: Instant) -> Result<Answer, Error> {
        let service: &Service = self.parts.service;
        let bound = service.sticky.as_ref().and_then(|sticky| sticky.find(&x.request.fields));
        let key = service.key.as_ref().and_then(|key| key.key(x));
        let mut last: Option<(usize, Result<Answer, Error>)> = None;
        loop {
            let admitted = self.admitted(x, Wish { bound, key }, now).await;
            let ((index, permit), then) = match (admitted, last.take()) {
                (Ok(admitted), None) => admitted,
                (Ok(admitted), Some((_, result))) => {
                    if let Ok(answer) = result {
                        discard(answer);
                    }
                    service.metrics.retried(self.parts.worker.index);
                    admitted
                }
                // Nobody takes it any longer: then what the last attempt brought is what there is.
                (Err(_), Some((index, result))) => return self.done(bound, index, result, x),
                (Err(error), None) => {
                    if matches!(error.kind, Kind::CircuitOpen | Kind::Overloaded) {
                        service.metrics.failed(self.parts.worker.index, error.kind);
                    }
                    return Err(error);
                }
            };
            now = then;
            way.endpoint = Some(index);
            way.attempts += 1;
            self.made += 1;
            self.saved.lend(&mut x.request);
            if let Some(deadline) = &way.deadline {
                deadline.tell(&mut x.request, now)?;
            }
            self.asked.note(index);
            let (index, result) = match self.late_after(x, bound, now) {
                Some(delay) => {
                    let first = race::First { admitted: (index, permit), began: now, delay, key };
                    self.race(x, way, first).await
                }
                None => {
                    let result = self.attempt(self.parts, x, index, now, way).await;
                    self.tell((index, permit), &result, way, now);
                    (index, result)
                }
            };
            let wait = match self.judge(x, &result, key) {
                Next::Done => {
                    let held = std::mem::take(&mut *self.held());
                    // Its places are its own until the last byte of the answer has left.
                    held.into_iter().filter(|(at, _)| *at == index).for_each(|(_, held)| x.remember(held));
                    return self.done(bound, index, result, x);
                }
                Next::Now => Duration::ZERO,
                Next::After(wait) => {
                    self.waited += 1;
                    wait
                }
            };
            self.held().clear();
            self.wait(wait, x).await?;
            last = Some((index, result));
            now = Instant::now();
        }
    }

    fn judge(&self, x: &Exchange, result: &Result<Answer, Error>, key: Option<u64>) -> Next {
        let free = matches!(result, Err(error) if error.unsent && error.kind != Kind::ConnectionLimit);
        if free && (self.made as usize) < TRIES && self.saved.is_repeatable(&x.request) {
            let (service, now) = (self.parts.service, Instant::now());
            let others = Pick { endpoints: &service.endpoints, key, tried: self.asked.all(), now };
            if others.is_there() {
                return Next::Now;
            }
        }
        let Some(retry) = self.retry else { return Next::Done };
        if self.made >= retry.attempts()
            || !retry.covers(&x.request.method, result)
            || !self.saved.is_repeatable(&x.request)
        {
            return Next::Done;
        }
        let wait = retry.wait(self.waited, fastrand::f64());
        let watch = self.parts.watch;
        // One that could not begin in time is none.
        if watch.total(Some(wait)) >= self.parts.total {
            return Next::Done;
        }
        if !self.parts.service.budget.withdraw(Instant::now()) {
            self.parts.service.metrics.retry_refused(self.parts.worker.index);
            return Next::Done;
        }
        Next::After(wait)
    }

    async fn wait(&self, wait: Duration, x: &mut Exchange) -> Result<(), Error> {
        if wait.is_zero() {
            return Ok(());
        }
        self.parts.until(x.client_link.clone(), tokio::time::sleep(wait)).await
    }

    fn done(
        &self,
        bound: Option<usize>,
        index: usize,
        result: Result<Answer, Error>,
        x: &mut Exchange,
    ) -> Result<Answer, Error> {
        let covers = |retry: &Retry| retry.covers(&x.request.method, &result);
        let is_exhausted =
            self.waited > 0 && self.retry.is_some_and(|retry| self.made >= retry.attempts() && covers(retry));
        match result {
            Ok(mut answer) => {
                self.parts.service.bind(&mut answer, bound, index);
                Ok(answer)
            }
            Err(error) if is_exhausted => {
                let why = format!("{} attempts, the last: {}", self.made, error.mapping().slug);
                // That it took too long is what clients can use: 504 and not 502.
                let is_late = error.mapping().status == StatusCode::GATEWAY_TIMEOUT;
                Err(Error::because(if is_late { error.kind } else { Kind::RetriesExhausted }, why))
            }
            Err(error) => Err(error),
        }
    }
}

/// An answer that nobody gets. What is there of it already is taken, so that its connection can be used again.
fn discard(mut answer: Answer) {
    const ENOUGH: usize = 64 * 1024;
    let mut cx = Context::from_waker(Waker::noop());
    let mut taken = 0;
    while let Poll::Ready(Some(Ok(Frame::Data(data)))) = answer.body.poll_frame(&mut cx) {
        taken += data.len();
        if taken > ENOUGH {
            break;
        }
    }
}
