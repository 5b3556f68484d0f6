//! Which endpoint a request goes to, past circuit breakers and what service and endpoints bear; and waiting where there is
//! no room now.

use std::{
    pin::pin,
    sync::{MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use portcullis_core::{Error, Exchange, Kind};

use super::{Admitted, Run};
use crate::forward::capacity::{Capacity, Held};

/// Whom a request wants to go to: the endpoint it is bound to, and the balancer's key.
#[derive(Clone, Copy)]
pub(super) struct Wish {
    pub bound: Option<usize>,
    pub key: Option<u64>,
}

/// Why there is no endpoint.
pub(super) enum Refused {
    /// All that could take it have as much as they bear: until then, if that is known.
    Busy(Option<Duration>),
    /// Any other reason.
    Because(Error),
}

impl<'a> Run<'a> {
    /// Places held, and at which endpoint: by two attempts at once where one is late.
    pub(super) fn held(&self) -> MutexGuard<'_, Vec<(usize, Held)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An endpoint, and leave to ask it; after waiting in line where there is no room. Tells the time.
    pub(super) async fn admitted(
        &self,
        x: &mut Exchange,
        wish: Wish,
        now: Instant,
    ) -> Result<(Admitted<'a>, Instant), Error> {
        let Some(capacity) = self.capacity else {
            return match self.admitted_now(wish, now) {
                Ok(admitted) => Ok((admitted, now)),
                Err(refused) => Err(self.error(refused)),
            };
        };
        let mut soonest = None;
        // Nobody overtakes those who wait.
        if !capacity.line.is_waited() {
            match self.admitted_now(wish, now) {
                Ok(admitted) => return Ok((admitted, now)),
                Err(Refused::Busy(wait)) => soonest = wait,
                Err(refused) => return Err(self.error(refused)),
            }
        }
        let Some(standing) = capacity.stand() else { return Err(self.error(Refused::Busy(soonest))) };
        let waiting = tokio::time::timeout(capacity.patience, self.in_line(capacity, wish));
        let waited = self.parts.until(x.client_link.clone(), waiting).await;
        drop(standing);
        match waited? {
            Ok(Ok(admitted)) => Ok((admitted, Instant::now())),
            Ok(Err(refused)) => Err(self.error(refused)),
            Err(_) => {
                capacity.gave_up();
                Err(self.error(Refused::Busy(soonest)))
            }
        }
    }

    /// Waits for its turn, and then for room.
    async fn in_line(&self, capacity: &Capacity, wish: Wish) -> Result<Admitted<'a>, Refused> {
        // Never closed.
        let _turn = capacity.line.turn.acquire().await;
        loop {
            let mut freed = pin!(capacity.line.freed.notified());
            // Whoever leaves from now on is noticed.
            freed.as_mut().enable();
            match self.admitted_now(wish, Instant::now()) {
                Err(Refused::Busy(None)) => freed.await,
                // What refills, refills by itself.
                Err(Refused::Busy(Some(wait))) => _ = tokio::time::timeout(wait, freed).await,
                decided => return decided,
            }
        }
    }

    /// An endpoint, and the leave of its circuit breaker and of what it bears.
    pub(super) fn admitted_now(&self, wish: Wish, now: Instant) -> Result<Admitted<'a>, Refused> {
        if self.capacity.is_some_and(Capacity::is_full) {
            return Err(Refused::Busy(None));
        }
        let whole = self.breakers.and_then(|breakers| breakers.whole.as_ref());
        let mut of_whole = match whole {
            Some(whole) => {
                let permit = whole.admit(now, fastrand::f64());
                Some((whole, permit.map_err(|wait| Refused::Because(self.shut(wait)))?))
            }
            None => None,
        };
        let mut without: Vec<usize> = Vec::new();
        let (mut shut, mut busy): (Option<Duration>, Option<Option<Duration>>) = (None, None);
        let sooner = |known: Option<Duration>, wait| Some(known.map_or(wait, |known| known.min(wait)));
        loop {
            let index = match (self.choose(wish.bound, wish.key, &without, now), busy, shut) {
                (Ok(index), ..) => index,
                (Err(_), Some(wait), _) => return Err(Refused::Busy(wait)),
                (Err(_), None, Some(wait)) => return Err(Refused::Because(self.shut(wait))),
                (Err(error), None, None) => return Err(Refused::Because(error)),
            };
            let mut permit = of_whole.take();
            if let Some(breaker) = self.breakers.and_then(|breakers| breakers.each.get(index)) {
                match breaker.admit(now, fastrand::f64()) {
                    Ok(own) => permit = Some((breaker, own)),
                    Err(wait) => {
                        shut = sooner(shut, wait);
                        without.push(index);
                        continue;
                    }
                }
            }
            let Some(capacity) = self.capacity else { return Ok((index, permit)) };
            match capacity.admit(index, now) {
                Ok(held) => {
                    self.held().push((index, held));
                    return Ok((index, permit));
                }
                Err(full) => {
                    let known = busy.flatten();
                    busy = Some(full.wait.map_or(known, |wait| sooner(known, wait)));
                    without.push(index);
                    of_whole = permit.filter(|_| whole.is_some());
                }
            }
        }
    }

    fn error(&self, refused: Refused) -> Error {
        let wait = match refused {
            Refused::Because(error) => return error,
            Refused::Busy(wait) => wait,
        };
        let why = format!("{} has as much as it bears", self.parts.service.name);
        Error::because(Kind::Overloaded, why).retry_after(wait.unwrap_or(Duration::from_secs(1)))
    }
}
