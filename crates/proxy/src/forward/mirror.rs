//! Copies of requests for another service. Nobody waits for them, and their answers are dropped.
//!
//! A request without body is copied when it is sent; one with a body when all of it has gone by, since it is the copy that
//! has to wait for the client and not the other way round.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use portcullis_config::model;
use portcullis_core::{Body, Exchange, exchange::NoLink};

use super::{Forward, Way, detached::Detached, replay::Saved};
use crate::{by_worker::ByWorker, runtime::Service};

/// Copies of a route's requests, compiled.
pub struct Mirror {
    service: Arc<Service>,
    share: f64,
    body: u64,
    most: usize,
    timeout: Duration,
    counts: Arc<Counts>,
}

/// How copies went. Kept over reloads.
pub struct Counts {
    under_way: ByWorker<AtomicUsize>,
    /// Copies sent.
    pub sent: AtomicU64,
    /// Of those, without an answer.
    pub failed: AtomicU64,
    /// Copies that were not made: too many under way, or too long a body.
    pub dropped: AtomicU64,
}

impl Counts {
    /// None yet.
    pub fn new(workers: usize) -> Counts {
        let (sent, failed, dropped) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        Counts { under_way: ByWorker::new(workers), sent, failed, dropped }
    }
}

/// One copy under way.
struct UnderWay(Arc<Counts>, usize);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.get(self.1).fetch_sub(1, Relaxed);
    }
}

impl Mirror {
    /// Compiled.
    pub fn new(settings: &model::Mirror, service: Arc<Service>, counts: Arc<Counts>) -> Mirror {
        let model::Mirror { share, body, most, timeout, .. } = *settings;
        Mirror { service, share, body, most, timeout, counts }
    }

    /// So much of a body is kept for a copy.
    pub fn body(&self) -> u64 {
        self.body
    }

    /// How copies went.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Shall a request be copied? `chance` is a random number from 0 to below 1.
    pub fn wants(&self, x: &Exchange, chance: f64) -> bool {
        chance < self.share && x.request.upgrade.is_none()
    }

    /// Sends a copy, whose body is what was saved of the original's.
    pub fn send(&self, parts: &Forward<'_>, mut twin: Exchange, saved: &Saved) {
        let worker = parts.worker.index;
        let under_way = self.counts.under_way.get(worker).fetch_add(1, Relaxed);
        let place = UnderWay(self.counts.clone(), worker);
        let body = saved.all().filter(|body| body.len() as u64 <= self.body);
        let detached = Detached::begin(parts, self.timeout).filter(|_| under_way < self.most);
        let (Some(body), Some(detached)) = (body, detached) else {
            self.counts.dropped.fetch_add(1, Relaxed);
            return;
        };
        self.counts.sent.fetch_add(1, Relaxed);
        twin.request.body = Body::from(body);
        let detached = detached.to(self.service.clone());
        tokio::spawn(async move {
            let result = detached.forward_as_is(&mut twin, &mut Way::default()).await;
            let mut is_good = result.is_ok();
            if let Ok(mut answer) = result {
                // To its end, so that the connection can be used again.
                while let Some(frame) = detached.frame(&mut answer.body).await {
                    is_good &= frame.is_ok();
                    if frame.is_err() {
                        break;
                    }
                }
            }
            if !is_good {
                place.0.failed.fetch_add(1, Relaxed);
            }
        });
    }

    /// What the copy is made of, before the original goes its way.
    pub fn twin(x: &Exchange) -> Exchange {
        x.twin(Arc::new(NoLink))
    }
}
