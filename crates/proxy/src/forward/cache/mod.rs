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

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use http::StatusCode;
use portcullis_cache::{
    Ask, Bypass, Forwarded, Outcome, Policy, Verdict,
    date::{self, Seconds},
    directives::Flag,
    invalidate, judge,
    judge::may_on_error,
    key::write_key,
    present::{BY, present},
    status::ON_ERROR,
    validate,
    vary::write_variant,
};
use portcullis_core::{Answer, Body, Error, Exchange, Known};

use self::{
    epochs::Mark,
    flight::{Flight, Landed, Reader},
    shelf::{Entry, Found},
};
use super::{Forward, Way, forward};
use crate::{observe::CacheMetrics, serve::while_wanted, ticket::Ticket};

pub mod epochs;
mod far;
mod fetch;
pub mod flight;
mod flights;
pub mod purge;
pub mod shelf;
mod stock;

pub use far::{Far, FarCounts};
pub use purge::Purge;
pub use stock::Stock;

/// The cache of one route.
pub struct RouteCache {
    /// What the configuration says.
    pub policy: Policy,
    /// Where answers are kept: shared by all routes.
    pub stock: Arc<Stock>,
    /// The store that gateways share, where there is one.
    pub far: Option<Arc<Far>>,
    /// Counters.
    pub metrics: Arc<CacheMetrics>,
    /// Say `X-Cache: HIT` or `MISS` too.
    pub x_cache: bool,
    /// How the gateway calls itself.
    pub name: Arc<str>,
}

/// What is known after looking.
struct Look {
    hash: u64,
    /// Where what is not storable is remembered, and fetches are joined: requests with credentials or cookies have their
    /// own, so that what they are refused is not refused to others.
    lane: u64,
    mark: Mark,
    found: Found,
}

/// What a request needs of the stage, gathered.
struct Stage<'a> {
    parts: &'a Forward<'a>,
    cache: &'a Arc<RouteCache>,
    ask: Ask,
    now: Seconds,
}

impl RouteCache {
    /// The answer, where it is there and fresh: the shortest way.
    pub fn fresh(&self, ticket: &mut Ticket, worker: usize) -> Option<Answer> {
        let ask = Ask::of(&ticket.x.request, &self.policy).ok()?;
        let now = date::now();
        let Found::Entry(entry) = self.look(&ticket.x, now).found else { return None };
        if !self.stock.epochs.holds(&entry.mark) {
            return None;
        }
        let verdict = judge(&entry.object.times, &ask.directives, now);
        if !matches!(verdict, Verdict::Fresh | Verdict::Accepted) {
            return None;
        }
        let outcome = Outcome::hit(entry.object.times.ttl(now));
        self.tell(ticket, worker, outcome);
        Some(present(&entry.object, &ticket.x.request.fields, ask.is_head, now))
    }

    fn look(&self, x: &Exchange, now: Seconds) -> Look {
        shelf::with_scratch(|key| {
            let uri = write_key(key, x, &self.policy.key);
            let shelf = &self.stock.shelf;
            let hash = shelf.hash(key);
            let fields = &x.request.fields;
            let mut lane = hash;
            if fields.has(Known::Authorization) {
                lane ^= 0x9e37_79b9_7f4a_7c15;
            }
            if fields.has(Known::Cookie) {
                lane ^= 0xc2b2_ae3d_27d4_eb4f;
            }
            let mark = self.stock.epochs.mark(key.get(..uri).unwrap_or_default());
            Look { hash, lane, mark, found: shelf.find(hash, lane, key, fields, now) }
        })
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
            answer.fields.set("x-cache", if outcome.is_hit() { "HIT" } else { "MISS" });
        }
    }
}

/// The answer, when it is not there and fresh.
///
/// # Errors
/// What forwarding reports.
pub async fn answer(
    parts: &Forward<'_>,
    cache: &Arc<RouteCache>,
    ticket: &mut Ticket,
) -> Result<Answer, Error> {
    let ask = match Ask::of(&ticket.x.request, &cache.policy) {
        Ok(ask) => ask,
        Err(Bypass::Method) => {
            let outcome = Outcome::forwarded(Forwarded::Method);
            return pass(parts, cache, ticket, outcome).await;
        }
        Err(bypass) => {
            let outcome = Outcome::forwarded(Forwarded::Bypass).because(bypass.as_str());
            return pass(parts, cache, ticket, outcome).await;
        }
    };
    let stage = Stage { parts, cache, ask, now: date::now() };
    let look = cache.look(&ticket.x, stage.now);
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
    let result = forward(parts, &mut ticket.x, &mut ticket.way, Instant::now()).await;
    cache.tell(ticket, parts.worker.index, outcome);
    let invalid = match &result {
        Ok(answer) => invalidate::targets(&ticket.x, answer.status, &answer.fields),
        Err(_) => Vec::new(),
    };
    for uri in invalid {
        cache.stock.invalidate(&uri);
        if let Some(far) = &cache.far {
            far.invalidate(&uri).await;
        }
    }
    result
}

impl Stage<'_> {
    fn worker(&self) -> usize {
        self.parts.worker.index
    }

    /// `only-if-cached`, and nothing is (RFC 9111 §5.2.1.7).
    fn nothing_stored(&self, ticket: &mut Ticket) -> Answer {
        let outcome = Outcome { detail: Some("only-if-cached"), ..Outcome::forwarded(Forwarded::Request) };
        self.cache.tell(ticket, self.worker(), outcome);
        Answer::new(StatusCode::GATEWAY_TIMEOUT, BY)
    }

    /// Something is stored.
    async fn stored(&self, ticket: &mut Ticket, look: &Look, entry: Arc<Entry>) -> Result<Answer, Error> {
        let asked = &self.ask.directives;
        let times = &entry.object.times;
        let is_valid = self.cache.stock.epochs.holds(&entry.mark);
        let verdict = if is_valid { judge(times, asked, self.now) } else { Verdict::Revalidate };
        if verdict != Verdict::Revalidate {
            if verdict == Verdict::WhileRevalidate && !entry.refreshing.swap(true, Relaxed) {
                self.refresh(ticket, look, &entry);
            }
            return Ok(self.use_entry(ticket, &entry, Outcome::hit(times.ttl(self.now))));
        }
        if asked.has(Flag::OnlyIfCached) {
            return Ok(self.nothing_stored(ticket));
        }
        let is_fresh = is_valid && !times.always_revalidate && times.ttl(self.now) > 0;
        let why = if is_fresh { Forwarded::Request } else { Forwarded::Stale };
        if self.ask.is_head {
            return self.head(ticket, &entry, why).await;
        }
        self.join(ticket, look, Some(entry), why).await
    }

    /// Nothing is stored for this request.
    async fn miss(&self, ticket: &mut Ticket, look: &Look, why: Forwarded) -> Result<Answer, Error> {
        if self.ask.directives.has(Flag::OnlyIfCached) {
            return Ok(self.nothing_stored(ticket));
        }
        // Answers to HEAD are not stored, and for the sake of a part the whole is not fetched.
        let detail = if self.ask.is_head { Some("head") } else { self.ask.has_range.then_some("range") };
        match detail {
            Some(detail) => {
                let outcome = Outcome::forwarded(why).because(detail);
                pass(self.parts, self.cache, ticket, outcome).await
            }
            None => self.join(ticket, look, None, why).await,
        }
    }

    fn use_entry(&self, ticket: &mut Ticket, entry: &Entry, outcome: Outcome) -> Answer {
        self.cache.tell(ticket, self.worker(), outcome);
        present(&entry.object, &ticket.x.request.fields, self.ask.is_head, date::now())
    }

    /// HEAD, and what is stored must be confirmed: the answer says whether it still is (RFC 9111 §4.3.5).
    async fn head(&self, ticket: &mut Ticket, entry: &Arc<Entry>, why: Forwarded) -> Result<Answer, Error> {
        let result = pass(self.parts, self.cache, ticket, Outcome::forwarded(why).because("head")).await;
        if let Ok(answer) = &result
            && answer.status == StatusCode::OK
            && !validate::head_agrees(&entry.object, &answer.fields)
        {
            self.cache.stock.forget(entry);
        }
        result
    }

    /// Refreshes in the background.
    fn refresh(&self, ticket: &Ticket, look: &Look, entry: &Arc<Entry>) {
        let place = self.place(ticket, look, Some(entry));
        let (flight, began) = self.cache.stock.flights.join(place, look.mark);
        if !began {
            // It is being fetched already, and whoever does that has an end of his own.
            return entry.refreshing.store(false, Relaxed);
        }
        let stale = Some(entry.clone());
        match fetch::Fetch::new(self, &ticket.x, look, place, &flight, stale, Forwarded::Stale) {
            Some(fetch) => {
                self.cache.metrics.refreshed();
                tokio::spawn(fetch.run());
            }
            None => {
                entry.refreshing.store(false, Relaxed);
                self.cache.stock.flights.leave(place, &flight);
                flight.give_up();
            }
        }
    }

    /// Waits for the answer together with all who want the same, or begins to fetch it.
    async fn join(
        &self,
        ticket: &mut Ticket,
        look: &Look,
        stale: Option<Arc<Entry>>,
        why: Forwarded,
    ) -> Result<Answer, Error> {
        let mut place = self.place(ticket, look, stale.as_deref());
        // Whoever waited for an answer that is for others waits once more, for one that is for requests like his.
        for _ in 0..2 {
            let (flight, began) = self.cache.stock.flights.join(place, look.mark);
            if began {
                let fetch = fetch::Fetch::new(self, &ticket.x, look, place, &flight, stale.clone(), why);
                let Some(fetch) = fetch else {
                    self.cache.stock.flights.leave(place, &flight);
                    flight.give_up();
                    break;
                };
                tokio::spawn(fetch.run());
            }
            self.parts.watch.set_within(Duration::ZERO, self.parts.total);
            let link = ticket.x.client_link.clone();
            let landing = flight.landed(began);
            let landed = while_wanted(self.parts.watch, self.parts.total, &*link, landing).await;
            if began {
                // What was sent was a copy of the request.
                ticket.way = Way { prepared: false, body_lost: false, ..flight.way() };
            }
            let landed = landed?;
            if !began && let Some(names) = other_variant(&landed, &ticket.x) {
                place = self.variant_place(look, &names, ticket);
                continue;
            }
            return self.landed(ticket, landed, &flight, began, stale.as_deref(), why).await;
        }
        pass(self.parts, self.cache, ticket, Outcome::forwarded(why).because("alone")).await
    }

    /// Where requests like this one meet.
    fn place(&self, ticket: &Ticket, look: &Look, stale: Option<&Entry>) -> u64 {
        match (&look.found, stale) {
            (Found::OtherVariant, _) => {
                let names = self.cache.stock.shelf.varies_by(look.hash);
                self.variant_place(look, &names, ticket)
            }
            (_, Some(stale)) if !stale.object.variant().is_empty() => {
                look.lane ^ self.cache.stock.shelf.hash(stale.object.variant())
            }
            _ => look.lane,
        }
    }

    fn variant_place(&self, look: &Look, names: &[Box<str>], ticket: &Ticket) -> u64 {
        let mut variant = Vec::new();
        write_variant(names, &ticket.x.request.fields, &mut variant);
        look.lane ^ self.cache.stock.shelf.hash(&variant)
    }

    async fn landed(
        &self,
        ticket: &mut Ticket,
        landed: Landed,
        flight: &Arc<Flight>,
        began: bool,
        stale: Option<&Entry>,
        why: Forwarded,
    ) -> Result<Answer, Error> {
        let for_me = |outcome: Outcome| Outcome { collapsed: !began, ..outcome };
        match landed {
            Landed::Entry(entry, outcome) => Ok(self.use_entry(ticket, &entry, for_me(outcome))),
            Landed::Head(head) if self.ask.has_range => {
                let ended = flight.ended();
                let link = ticket.x.client_link.clone();
                match while_wanted(self.parts.watch, self.parts.total, &*link, ended).await? {
                    Ok(Some(entry)) => Ok(self.use_entry(ticket, &entry, for_me(head.outcome))),
                    _ => pass(self.parts, self.cache, ticket, Outcome::forwarded(why).because("alone")).await,
                }
            }
            Landed::Head(head) => {
                self.cache.tell(ticket, self.worker(), for_me(head.outcome));
                let mut answer = present(&head.object, &ticket.x.request.fields, false, date::now());
                if answer.status == head.object.status {
                    answer.body = Body::stream(Reader::new(flight.clone(), head.length));
                }
                Ok(answer)
            }
            Landed::Alone(Some(answer), outcome) => {
                self.cache.tell(ticket, self.worker(), outcome);
                Ok(*answer)
            }
            Landed::Alone(None, _) => {
                let outcome = Outcome::forwarded(why).because("uncacheable");
                pass(self.parts, self.cache, ticket, outcome).await
            }
            Landed::Failed(failure) => {
                let usable = stale.filter(|entry| {
                    self.cache.stock.epochs.holds(&entry.mark)
                        && may_on_error(&entry.object.times, &self.ask.directives, self.now)
                });
                let outcome = Outcome { origin_status: failure.status, ..Outcome::forwarded(why) };
                match usable {
                    Some(entry) => {
                        let ttl = Some(entry.object.times.ttl(self.now));
                        let outcome = Outcome { ttl, ..outcome }.because(ON_ERROR);
                        Ok(self.use_entry(ticket, entry, for_me(outcome)))
                    }
                    None => {
                        self.cache.tell(ticket, self.worker(), for_me(outcome));
                        Err(failure.into())
                    }
                }
            }
        }
    }
}

/// Is what landed for other requests than this? By which fields, then.
fn other_variant(landed: &Landed, x: &Exchange) -> Option<Vec<Box<str>>> {
    let (vary, object) = match landed {
        Landed::Head(head) => (head.vary.clone(), &head.object),
        Landed::Entry(entry, _) => (entry.vary(), &entry.object),
        _ => return None,
    };
    let mut own = Vec::new();
    write_variant(&vary, &x.request.fields, &mut own);
    (own != object.variant()).then_some(vary)
}
