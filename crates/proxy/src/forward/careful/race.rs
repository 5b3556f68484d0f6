//! Hedging: while an answer is late, the request is sent once more, and the first good answer wins.
//!
//! ```text
//! attempt ──── late ───────────────────────────────────── let go ✗
//!                │ endpoint, circuit, budget
//!                └──► another attempt ──── good answer ──► client
//! ```

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::{Method, StatusCode};
use portcullis_core::{Answer, BoxFuture, Error, Exchange, Fault, Fields, Kind, exchange::ClientLink};

use super::{Admitted, Forward, Run, Way, admit::Wish, discard};

/// What two attempts brought; `None`: let go.
#[derive(Default)]
struct Brought {
    first: Option<Result<Answer, Error>>,
    second: Option<Result<Answer, Error>>,
}

/// An attempt that may be late.
pub(super) struct First<'a> {
    pub(super) admitted: Admitted<'a>,
    pub(super) began: Instant,
    /// It is late after so long.
    pub(super) delay: Duration,
    pub(super) key: Option<u64>,
}

impl<'a> Run<'a> {
    /// After how long the request is sent once more; `None`: it is not.
    pub(super) fn late_after(&self, x: &Exchange, bound: Option<usize>, now: Instant) -> Option<Duration> {
        let (retry, parts) = (self.retry?, self.parts);
        let hedge = retry.hedge()?;
        let may = self.made < retry.attempts()
            && retry.repeats(&x.request.method)
            && self.saved.is_there()
            && x.request.upgrade.is_none()
            // What its client is bound to, others may know nothing of.
            && bound.is_none();
        let delay = may.then(|| parts.service.budget.tail().delay(parts.worker.index, hedge, now))??;
        // One that could not begin in time is none.
        (parts.watch.total(Some(delay)) < parts.total).then_some(delay)
    }

    /// An attempt, and another beside it when it is late: whose answer it is, and the answer.
    pub(super) fn race<'r>(
        &'r mut self,
        x: &'r mut Exchange,
        way: &'r mut Way,
        first: First<'a>,
    ) -> BoxFuture<'r, (usize, Result<Answer, Error>)> {
        Box::pin(async move {
            // Two of them could say something ahead of the answer at once.
            let link = x.client_link.clone();
            x.client_link = Arc::new(Silent(link.clone()));
            let ended = self.both(x, way, first).await;
            x.client_link = link;
            ended
        })
    }

    async fn both(
        &mut self,
        x: &mut Exchange,
        way: &mut Way,
        first: First<'a>,
    ) -> (usize, Result<Answer, Error>) {
        let First { admitted: (index, permit), began, delay, key } = first;
        let (mut twin, method) = (x.twin(x.client_link.clone()), x.request.method.clone());
        let mut twins_way = Way { prepared: true, deadline: way.deadline.clone(), ..Way::default() };
        let (mut brought, mut second) = (Brought::default(), None);
        {
            let run = &*self;
            let mut one = pin!(run.attempt(run.parts, x, index, began, way));
            let mut late = pin!(tokio::time::sleep(delay));
            brought.first = poll_fn(|cx| match one.as_mut().poll(cx) {
                Poll::Ready(result) => Poll::Ready(Some(result)),
                Poll::Pending => late.as_mut().poll(cx).map(|()| None),
            })
            .await;
            if brought.first.is_none() {
                second = run.another(&mut twin, &twins_way, key);
            }
            if let Some(((other, _), began)) = &second {
                let watch = run.parts.worker.clock.watch();
                let parts = Forward { watch: &watch, ..*run.parts };
                let two = pin!(run.attempt(&parts, &mut twin, *other, *began, &mut twins_way));
                brought = run.first_good(one, two, &method).await;
            } else if brought.first.is_none() {
                brought.first = Some(one.await);
            }
        }
        let Some(((other, others_permit), others_began)) = second else {
            let result = brought.first.unwrap_or_else(let_go);
            self.tell((index, permit), &result, way, began);
            return (index, result);
        };
        (self.made, way.attempts) = (self.made + 1, way.attempts + 1);
        self.asked.note(other);
        let gone = let_go();
        self.tell((index, permit), brought.first.as_ref().unwrap_or(&gone), way, began);
        let others = brought.second.as_ref().unwrap_or(&gone);
        self.tell((other, others_permit), others, &twins_way, others_began);
        let is_second = self.is_second(&brought, &method);
        self.parts.service.metrics.hedged(self.parts.worker.index, is_second);
        let (chosen, left) = match is_second {
            true => (brought.second, brought.first),
            false => (brought.first, brought.second),
        };
        if let Some(Ok(answer)) = left {
            discard(answer);
        }
        if is_second {
            way.endpoint = Some(other);
            (way.connect, way.reused) = (twins_way.connect, twins_way.reused);
            way.first_byte = twins_way.first_byte;
        }
        (if is_second { other } else { index }, chosen.unwrap_or_else(let_go))
    }

    /// Another endpoint for the same request, if there is one and the budget allows it.
    fn another(&self, twin: &mut Exchange, way: &Way, key: Option<u64>) -> Option<(Admitted<'a>, Instant)> {
        let (service, worker, now) = (self.parts.service, self.parts.worker.index, Instant::now());
        let admitted = self.admitted_now(Wish { bound: None, key }, now).ok()?;
        if !service.budget.withdraw(now) {
            service.metrics.retry_refused(worker);
            return None;
        }
        self.saved.lend(&mut twin.request);
        if let Some(deadline) = &way.deadline {
            deadline.tell(&mut twin.request, now).ok()?;
        }
        Some((admitted, now))
    }

    /// Waits until one of two attempts brings what the request gets, or both have ended.
    async fn first_good(
        &self,
        mut one: Pin<&mut impl Future<Output = Result<Answer, Error>>>,
        mut two: Pin<&mut impl Future<Output = Result<Answer, Error>>>,
        method: &Method,
    ) -> Brought {
        let mut brought = Brought::default();
        poll_fn(|cx| {
            if brought.first.is_none()
                && let Poll::Ready(result) = one.as_mut().poll(cx)
                && self.is_last_word(brought.first.insert(result), method)
            {
                return Poll::Ready(());
            }
            if brought.second.is_none()
                && let Poll::Ready(result) = two.as_mut().poll(cx)
                && self.is_last_word(brought.second.insert(result), method)
            {
                return Poll::Ready(());
            }
            let is_over = brought.first.is_some() && brought.second.is_some();
            if is_over { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        brought
    }

    /// Does this end the race, whatever the other attempt may bring?
    fn is_last_word(&self, result: &Result<Answer, Error>, method: &Method) -> bool {
        match result {
            Ok(_) => self.is_good(result, method),
            Err(error) => error.fault() == Fault::Client || error.kind == Kind::TotalTimeout,
        }
    }

    fn is_good(&self, result: &Result<Answer, Error>, method: &Method) -> bool {
        result.is_ok() && !self.retry.is_some_and(|retry| retry.covers(method, result))
    }

    /// Is it the second attempt that brought what the request gets?
    fn is_second(&self, brought: &Brought, method: &Method) -> bool {
        match (&brought.first, &brought.second) {
            (Some(_), None) => false,
            (None, _) => true,
            (Some(one), Some(two)) => {
                !self.is_good(one, method) && (self.is_good(two, method) || one.is_err() && two.is_ok())
            }
        }
    }
}

/// What there is of an attempt that was let go: it took at least as long as it has by now.
fn let_go<T>() -> Result<T, Error> {
    Err(Error::new(Kind::ClientGone))
}

/// A client that may leave, but is told nothing ahead of the answer.
struct Silent(Arc<dyn ClientLink>);

impl ClientLink for Silent {
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_gone(cx)
    }

    fn interim<'a>(&'a self, _: StatusCode, _: &'a Fields) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
