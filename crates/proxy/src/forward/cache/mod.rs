//! The cache of a route, between its middlewares and its service: called only where the configuration asks for it.
//!
//! ```text
//! look up ─► fresh ─────────────────────────────► answer          (no task, no lock held, nothing copied but the head)
//!     ├────► stale, may be used ─► refresh aside ► answer
//!     ├────► to be confirmed, or nothing ─► join the fetch, or begin one ─► read along
//!     └────► not for the cache, or known not to be storable ─► forward as if it were not there
//! ```
//!
//! What may be stored and used is decided in the crate `portcullis-cache`; here is what needs a socket, a task or a lock.

use std::{sync::Arc, time::Instant};

use portcullis_cache::{
    Ask, Bypass, Forwarded, Outcome, Policy, Verdict,
    date::{self, Seconds},
    directives::Flag,
    invalidate, judge,
    key::write_key,
    present::present,
};
use portcullis_core::{Answer, Error, Exchange, Known};

use self::{
    epochs::Mark,
    shelf::{Entry, Found},
    stage::Stage,
};
use super::{Forward, forward};
use crate::{observe::CacheMetrics, ticket::Ticket};

mod baggage;
mod disk;
pub mod epochs;
mod far;
mod fetch;
pub mod flight;
mod flights;
mod intake;
pub mod purge;
mod reader;
pub mod shelf;
mod stage;
mod stock;
mod tiers;

pub use disk::{Disk, DiskFilled};
pub use far::{Far, FarCounts};
pub use purge::Purge;
pub use stock::Stock;
pub use tiers::{Tier, Tiers};

/// The cache of one route.
pub struct RouteCache {
    /// What the configuration says.
    pub policy: Policy,
    /// Where answers are kept: shared by all routes.
    pub stock: Arc<Stock>,
    /// What stands behind memory.
    pub tiers: Arc<Tiers>,
    /// Counters.
    pub metrics: Arc<CacheMetrics>,
    /// Say `X-Cache: HIT` or `MISS` too.
    pub x_cache: bool,
    /// How the gateway calls itself.
    pub name: Arc<str>,
}

/// What became of a request at the cache, at once.
pub enum Fresh {
    /// The answer: it is there and fresh.
    Answer(Answer),
    /// None yet, and what is known of the request.
    Not(Looked),
}

/// A request that was looked at.
pub enum Looked {
    /// It goes past the cache.
    Past(Bypass),
    /// What it asks for, what there is, and when that was.
    At(Ask, Look, Seconds),
}

/// What is known after looking.
pub struct Look {
    hash: u64,
    /// Where what is not storable is remembered, and fetches are joined: requests with credentials or cookies have their
    /// own, so that what they are refused is not refused to others.
    lane: u64,
    mark: Mark,
    found: Found,
}

impl RouteCache {
    /// The answer, where it is there and fresh: the shortest way.
    pub fn fresh(&self, ticket: &mut Ticket, worker: usize) -> Fresh {
        let ask = match Ask::of(&ticket.x.request, &self.policy) {
            Ok(ask) => ask,
            Err(bypass) => return Fresh::Not(Looked::Past(bypass)),
        };
        let now = date::now();
        let look = self.look(&ticket.x, now);
        if let Found::Entry(entry) = &look.found
            && self.stock.epochs.holds(&entry.mark)
            && matches!(judge(&entry.object.times, &ask.directives, now), Verdict::Fresh | Verdict::Accepted)
        {
            self.tell(ticket, worker, Outcome::hit(entry.object.times.ttl(now)));
            return Fresh::Answer(present(&entry.object, &ticket.x.request.fields, ask.is_head, now));
        }
        Fresh::Not(Looked::At(ask, look, now))
    }

    fn look(&self, x: &Exchange, now: Seconds) -> Look {
        shelf::with_scratch(|key| {
            let uri = write_key(key, x, &self.policy.key);
            let shelf = &self.stock.shelf;
            let hash = shelf.hash(key);
            let fields = &x.request.fields;
            let mut lane = hash;
            if fields.has(Known::Authorization) || x.identity().is_some() {
                lane ^= 0x9e37_79b9_7f4a_7c15;
            }
            if fields.has(Known::Cookie) {
                lane ^= 0xc2b2_ae3d_27d4_eb4f;
            }
            let by_path = self.policy.key.query.selects();
            let mark = self.stock.epochs.mark(key.get(..uri).unwrap_or_default(), by_path);
            Look { hash, lane, mark, found: shelf.find(hash, lane, key, fields, now) }
        })
    }

    /// Throws one answer away.
    fn forget(&self, entry: &Entry) {
        self.stock.forget(entry);
        self.tiers.forget(entry);
    }

    /// Counts the outcome and remembers it for the answer's field and the log.
    fn tell(&self, ticket: &mut Ticket, worker: usize, outcome: Outcome) {
        self.metrics.seen(worker, &outcome);
        ticket.cache = Some(outcome);
    }

    /// Writes what became of the request into its answer.
    pub fn say(&self, outcome: &Outcome, answer: &mut Answer) {
        shelf::with_scratch(|out| {
            outcome.write(&self.name, out);
            answer.fields.append("cache-status", &**out);
        });
        if self.x_cache {
            answer.fields.set("x-cache", if outcome.is_stored() { "HIT" } else { "MISS" });
        }
    }
}

/// The answer, when it is not there and fresh: after [`RouteCache::fresh`], which found what is known.
///
/// # Errors
/// What forwarding reports.
pub async fn answer(
    parts: &Forward<'_>,
    cache: &Arc<RouteCache>,
    ticket: &mut Ticket,
    looked: Looked,
) -> Result<Answer, Error> {
    let (ask, look, now) = match looked {
        Looked::At(ask, look, now) => (ask, look, now),
        Looked::Past(Bypass::Method) => {
            let outcome = Outcome::forwarded(Forwarded::Method);
            return pass(parts, cache, ticket, outcome).await;
        }
        Looked::Past(bypass) => {
            let outcome = Outcome::forwarded(Forwarded::Bypass).because(bypass.as_str());
            return pass(parts, cache, ticket, outcome).await;
        }
    };
    let stage = Stage { parts, cache, ask, now };
    match &look.found {
        Found::Entry(entry) => stage.stored(ticket, &look, entry.clone()).await,
        Found::Nothing => stage.miss(ticket, &look, Forwarded::UriMiss).await,
        Found::OtherVariant => stage.miss(ticket, &look, Forwarded::VaryMiss).await,
        Found::Pass if stage.ask.directives.has(Flag::OnlyIfCached) => Ok(stage.nothing_stored(ticket)),
        Found::Pass => {
            let outcome = Outcome::forwarded(Forwarded::UriMiss).because("uncacheable");
            pass(parts, cache, ticket, outcome).await
        }
    }
}

/// Forwards as if there were no cache. What an unsafe request changed is not valid any longer afterwards.
async fn pass(
    parts: &Forward<'_>,
    cache: &RouteCache,
    ticket: &mut Ticket,
    outcome: Outcome,
) -> Result<Answer, Error> {
    let result = forward_past(parts, cache, ticket).await;
    cache.tell(ticket, parts.worker.index, outcome);
    result
}

async fn forward_past(parts: &Forward<'_>, cache: &RouteCache, ticket: &mut Ticket) -> Result<Answer, Error> {
    let result = forward(parts, &mut ticket.x, &mut ticket.way, Instant::now()).await;
    let invalid = match &result {
        Ok(answer) => invalidate::targets(&ticket.x, answer.status, &answer.fields),
        Err(_) => Vec::new(),
    };
    for uri in invalid {
        cache.stock.invalidate(&uri);
        cache.tiers.invalidate(&uri, &cache.stock).await;
    }
    result
}
