//! Requests of our own: what a client began and nobody (or more than one) waits for. A refresh in the background, a fetch
//! that many wait for, a copy for another service.
//!
//! Such a request runs in a task of its own on the worker's runtime (`tokio::spawn`), holds all it needs, and has
//! deadlines of its own. It always ends: it must be given a time for all of it, beside the timeouts of its service. Each
//! worker has a bounded number of them. A worker that leaves waits for them; a process that ends does not, since nobody
//! but clients is waited for.
//!
//! ```text
//! let Some(detached) = Detached::begin(forward, Duration::from_secs(30)) else { return /* too many */ };
//! let mut twin = x.twin(Arc::new(NoLink));
//! tokio::spawn(async move {
//!     let answer = detached.forward(&mut twin, &mut Way::default()).await;
//!     // … and while it has a body: detached.frame(&mut answer.body).await
//! });
//! ```

use std::{
    future::poll_fn,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::Poll,
    time::{Duration, Instant},
};

use portcullis_core::{Answer, Body, Error, Exchange, Frame, Kind};

use super::{Forward, Way, careful, forward};
use crate::{
    clock::Watch,
    runtime::{Route, Runtime, Service},
    worker::Worker,
};

/// How many a worker has at once.
pub const MOST: usize = 4096;

/// What a request of our own needs, for as long as it is under way.
pub struct Detached {
    room: Room,
    runtime: Runtime,
    route: Arc<Route>,
    service: Arc<Service>,
    watch: Watch,
    total: u64,
    client_body_idle: Duration,
}

/// A place among those of a worker.
struct Room(Arc<Worker>);

impl Room {
    fn take(worker: Arc<Worker>) -> Option<Room> {
        let before = worker.detached.fetch_add(1, Relaxed);
        let room = Room(worker);
        (before < MOST).then_some(room)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.0.detached.fetch_sub(1, Relaxed);
    }
}

impl Detached {
    /// What a request needs that goes the way of this one, and ends within this time, its answer's body included. `None`
    /// when the worker has too many of them.
    pub fn begin(forward: &Forward<'_>, within: Duration) -> Option<Detached> {
        let room = Room::take(forward.worker.shared()?)?;
        let watch = room.0.clock.watch();
        let total = watch.total(Some(within));
        Some(Detached {
            runtime: forward.runtime.clone(),
            route: forward.route.clone(),
            service: forward.service.clone(),
            watch,
            total,
            client_body_idle: forward.client_body_idle,
            room,
        })
    }

    /// To this service instead.
    #[must_use]
    pub fn to(mut self, service: Arc<Service>) -> Detached {
        self.service = service;
        self
    }

    /// Forwards a request, up to the head of its answer.
    ///
    /// # Errors
    /// See [`forward`]; `TotalTimeout` when its time is over.
    pub async fn forward(&self, x: &mut Exchange, way: &mut Way) -> Result<Answer, Error> {
        forward(&self.parts(), x, way, Instant::now()).await
    }

    /// The same for a request that has its forwarding fields already, to a service that is not its route's.
    ///
    /// # Errors
    /// As above.
    pub async fn forward_as_is(&self, x: &mut Exchange, way: &mut Way) -> Result<Answer, Error> {
        careful::elsewhere(&self.parts(), x, way, Instant::now()).await
    }

    fn parts(&self) -> Forward<'_> {
        Forward {
            worker: &self.room.0,
            runtime: &self.runtime,
            route: &self.route,
            service: &self.service,
            watch: &self.watch,
            total: self.total,
            client_body_idle: self.client_body_idle,
        }
    }

    /// The next piece of an answer's body; `None` at its end.
    ///
    /// # Errors
    /// What the body reports; `ReadTimeout` when it stops coming, `TotalTimeout` when the time for all is over.
    pub async fn frame(&self, body: &mut Body) -> Option<Result<Frame, Error>> {
        self.watch.set_within(self.service.settings.timeouts.body_idle, self.total);
        poll_fn(|cx| {
            if let Poll::Ready(frame) = body.poll_frame(cx) {
                return Poll::Ready(frame);
            }
            std::task::ready!(self.watch.poll_expired(cx));
            let kind = if self.watch.is_past(self.total) { Kind::TotalTimeout } else { Kind::ReadTimeout };
            Poll::Ready(Some(Err(Error::new(kind))))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_worker_has_a_bounded_number_of_them() {
        let worker = Worker::new(0);
        let held: Vec<Room> = std::iter::from_fn(|| Room::take(worker.shared()?)).collect();
        assert_eq!((held.len(), worker.detached.load(Relaxed)), (MOST, MOST));
        drop(held);
        assert_eq!(worker.detached.load(Relaxed), 0);
    }
}
