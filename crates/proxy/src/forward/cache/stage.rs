//! One request at the cache, when what it wants is not there and fresh: who refreshes, who waits for whom, and what is used
//! where the service fails.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use http::StatusCode;
use portcullis_cache::{
    Ask, Forwarded, Object, Outcome, Times, Verdict,
    date::{self, Seconds},
    directives::Flag,
    judge,
    judge::{is_failure, may_in_need, may_on_error},
    key::write_key,
    present::{BY, present},
    status::ON_ERROR,
    validate,
    vary::write_variant,
};
use portcullis_core::{Answer, Body, Error, Exchange, Kind};

use super::{
    Look, RouteCache, fetch,
    flight::Landed,
    forward_past,
    reader::Seat,
    shelf::{Entry, Found},
};
use crate::{
    forward::{Forward, Way},
    ticket::Ticket,
};

/// What a request needs of the stage, gathered.
pub(super) struct Stage<'a> {
    pub(super) parts: &'a Forward<'a>,
    pub(super) cache: &'a Arc<RouteCache>,
    pub(super) ask: Ask,
    pub(super) now: Seconds,
}

impl Stage<'_> {
    fn worker(&self) -> usize {
        self.parts.worker.index
    }

    /// `only-if-cached`, and nothing is (RFC 9111 §5.2.1.7).
    pub(super) fn nothing_stored(&self, ticket: &mut Ticket) -> Answer {
        let outcome = Outcome { detail: Some("only-if-cached"), ..Outcome::forwarded(Forwarded::Request) };
        self.cache.tell(ticket, self.worker(), outcome);
        Answer::new(StatusCode::GATEWAY_TIMEOUT, BY)
    }

    /// Something is stored.
    pub(super) async fn stored(
        &self,
        ticket: &mut Ticket,
        look: &Look,
        entry: Arc<Entry>,
    ) -> Result<Answer, Error> {
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
        let why = if is_valid { why_confirmed(times, self.now) } else { Forwarded::Stale };
        if self.ask.is_head {
            return self.head(ticket, entry, why).await;
        }
        self.join(ticket, look, Some(entry), why).await
    }

    /// Nothing is stored for this request.
    pub(super) async fn miss(
        &self,
        ticket: &mut Ticket,
        look: &Look,
        why: Forwarded,
    ) -> Result<Answer, Error> {
        let only_stored = self.ask.directives.has(Flag::OnlyIfCached);
        let is_fetched = !only_stored && !self.ask.is_head && !self.ask.has_range;
        let mut stale = None;
        if !is_fetched && !self.cache.tiers.is_empty() {
            match Box::pin(self.behind(ticket, look)).await {
                Ok(answer) => return Ok(answer),
                Err(found) => stale = found,
            }
        }
        if only_stored {
            return Ok(self.nothing_stored(ticket));
        }
        let why = stale.as_ref().map_or(why, |entry| why_confirmed(&entry.object.times, self.now));
        // Answers to HEAD are not stored, and for the sake of a part the whole is not fetched.
        match stale {
            Some(entry) if self.ask.is_head => self.head(ticket, entry, why).await,
            None if self.ask.is_head => self.alone(ticket, None, why, "head").await,
            stale if self.ask.has_range => self.alone(ticket, stale.as_deref(), why, "range").await,
            _ => self.join(ticket, look, None, why).await,
        }
    }

    /// What is not to be fetched may still stand behind memory: fresh, or else of use where the service fails.
    async fn behind(&self, ticket: &mut Ticket, look: &Look) -> Result<Answer, Option<Arc<Entry>>> {
        let mut key = Vec::with_capacity(128);
        write_key(&mut key, &ticket.x, &self.cache.policy.key);
        let found = self.cache.tiers.find(&key, &ticket.x.request.fields, look.mark.by_path).await;
        let found = found.ok_or(None)?;
        let entry = Arc::new(Entry::found(&found, look.mark));
        let (stock, times) = (&self.cache.stock, &entry.object.times);
        let now = date::now();
        let verdict = judge(times, &self.ask.directives, now);
        let may = matches!(verdict, Verdict::Fresh | Verdict::Accepted);
        if !may {
            return Err(Some(entry));
        }
        if !stock.keep(&entry, &entry.vary()) {
            return Err(None);
        }
        let outcome = Outcome::hit(times.ttl(now)).because(found.detail);
        Ok(self.use_entry(ticket, &entry, outcome))
    }

    /// Asks for himself. Where that fails, what is stale may do.
    async fn alone(
        &self,
        ticket: &mut Ticket,
        stale: Option<&Entry>,
        why: Forwarded,
        detail: &'static str,
    ) -> Result<Answer, Error> {
        let result = forward_past(self.parts, self.cache, ticket).await;
        let failed = match &result {
            Ok(answer) => is_failure(answer.status.as_u16()).then_some(Some(answer.status)),
            Err(error) => (error.kind != Kind::ClientGone).then_some(None),
        };
        if let Some(status) = failed
            && let Some(answer) = self.in_need(ticket, stale, status, Outcome::forwarded(why))
        {
            return Ok(answer);
        }
        self.cache.tell(ticket, self.worker(), Outcome::forwarded(why).because(detail));
        result
    }

    /// What is stale, where it and this request allow to use it since the service fails (RFC 5861 §4).
    fn in_need(
        &self,
        ticket: &mut Ticket,
        stale: Option<&Entry>,
        status: Option<StatusCode>,
        outcome: Outcome,
    ) -> Option<Answer> {
        let entry = stale?;
        let times = &entry.object.times;
        let now = date::now();
        let is_usable = self.cache.stock.epochs.holds(&entry.mark)
            && (may_on_error(times, &self.ask.directives, now)
                || may_in_need(&self.cache.policy, times, &self.ask.directives, now))
            && is_for(&entry.object, &entry.vary(), &ticket.x);
        let origin_status = status.map(|status| status.as_u16());
        let outcome = Outcome { ttl: Some(times.ttl(now)), origin_status, ..outcome }.because(ON_ERROR);
        is_usable.then(|| self.use_entry(ticket, entry, outcome))
    }

    fn use_entry(&self, ticket: &mut Ticket, entry: &Entry, outcome: Outcome) -> Answer {
        self.cache.tell(ticket, self.worker(), outcome);
        present(&entry.object, &ticket.x.request.fields, self.ask.is_head, date::now())
    }

    /// HEAD, and what is stored must be confirmed: the answer says whether it still is (RFC 9111 §4.3.5).
    async fn head(&self, ticket: &mut Ticket, entry: Arc<Entry>, why: Forwarded) -> Result<Answer, Error> {
        let result = self.alone(ticket, Some(&entry), why, "head").await;
        if let Ok(answer) = &result
            && answer.status == StatusCode::OK
            && !validate::head_agrees(&entry.object, &answer.fields)
        {
            self.cache.forget(&entry);
        }
        result
    }

    /// Refreshes in the background.
    fn refresh(&self, ticket: &Ticket, look: &Look, entry: &Arc<Entry>) {
        let place = self.place(ticket, look, Some(entry));
        let (seat, began) = self.cache.stock.flights.join(place, look.mark);
        let flight = seat.flight();
        if !began {
            // It is being fetched already, and whoever does that has an end of his own.
            return entry.refreshing.store(false, Relaxed);
        }
        let stale = Some(entry.clone());
        match fetch::Fetch::new(self, &ticket.x, look, place, flight, stale, Forwarded::Stale) {
            Some(fetch) => {
                self.cache.metrics.refreshed();
                tokio::spawn(fetch.run());
            }
            None => {
                entry.refreshing.store(false, Relaxed);
                self.cache.stock.flights.leave(place, flight);
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
            let (seat, began) = self.cache.stock.flights.join(place, look.mark);
            let flight = seat.flight();
            if began {
                let fetch = fetch::Fetch::new(self, &ticket.x, look, place, flight, stale.clone(), why);
                let Some(fetch) = fetch else {
                    self.cache.stock.flights.leave(place, flight);
                    flight.give_up();
                    break;
                };
                tokio::spawn(fetch.run());
            }
            let landed = self.parts.until(ticket.x.client_link.clone(), flight.landed(began)).await;
            if began {
                // What was sent was a copy of the request.
                let deadline = ticket.way.deadline.take();
                ticket.way = Way { prepared: false, body_lost: false, deadline, ..flight.way() };
            }
            let landed = match landed {
                Err(error) if error.kind == Kind::TotalTimeout => Landed::Failed(error.into()),
                landed => landed?,
            };
            if !began && let Some(names) = other_variant(&landed, &ticket.x) {
                place = self.variant_place(look, &names, ticket);
                continue;
            }
            return self.landed(ticket, landed, seat, began, stale, why).await;
        }
        self.alone(ticket, stale.as_deref(), why, "alone").await
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
        seat: Seat,
        began: bool,
        stale: Option<Arc<Entry>>,
        why: Forwarded,
    ) -> Result<Answer, Error> {
        let for_me = |outcome: Outcome| Outcome { collapsed: !began, ..outcome };
        let behind = if stale.is_none() { seat.flight().stale() } else { None };
        let why = behind.as_ref().map_or(why, |entry| why_confirmed(&entry.object.times, self.now));
        let stale = stale.or(behind);
        if let Some(status) = failure(&landed)
            && let Some(answer) =
                self.in_need(ticket, stale.as_deref(), status, for_me(Outcome::forwarded(why)))
        {
            return Ok(answer);
        }
        let own = if began { seat.flight().take_own() } else { None };
        let mut answer = match landed {
            Landed::Entry(entry, outcome) => self.use_entry(ticket, &entry, for_me(outcome)),
            Landed::Head(head) if self.ask.has_range => {
                // Who waits for all of it does not hold back those who read.
                let flight = seat.flight().clone();
                drop(seat);
                match self.parts.until(ticket.x.client_link.clone(), flight.ended()).await? {
                    Ok(Some(entry)) => self.use_entry(ticket, &entry, for_me(head.outcome)),
                    _ => return self.alone(ticket, stale.as_deref(), why, "alone").await,
                }
            }
            Landed::Head(head) => {
                self.cache.tell(ticket, self.worker(), for_me(head.outcome));
                let mut answer = present(&head.object, &ticket.x.request.fields, false, date::now());
                if answer.status == head.object.status {
                    answer.body = Body::stream(seat.read(head.length));
                }
                answer
            }
            Landed::Alone(Some(answer), _, outcome) => {
                self.cache.tell(ticket, self.worker(), outcome);
                *answer
            }
            Landed::Alone(None, ..) => {
                return self.alone(ticket, stale.as_deref(), why, "uncacheable").await;
            }
            Landed::Failed(failure) => {
                self.cache.tell(ticket, self.worker(), for_me(Outcome::forwarded(why)));
                return Err(failure.into());
            }
        };
        if let Some(own) = own {
            own.iter().for_each(|(name, value)| answer.fields.append(&String::from_utf8_lossy(name), value));
        }
        Ok(answer)
    }
}

/// Why the service is asked although there is an answer: that is stale, or the request wants it confirmed.
pub(super) fn why_confirmed(times: &Times, now: Seconds) -> Forwarded {
    let is_fresh = !times.always_revalidate && times.ttl(now) > 0;
    if is_fresh { Forwarded::Request } else { Forwarded::Stale }
}

/// Did the service fail? With which status, where it answered.
fn failure(landed: &Landed) -> Option<Option<StatusCode>> {
    let status = match landed {
        Landed::Failed(_) => return Some(None),
        Landed::Alone(_, status, _) => *status,
        Landed::Head(head) => head.object.status,
        Landed::Entry(..) => return None,
    };
    is_failure(status.as_u16()).then_some(Some(status))
}

/// Is an answer for requests like this one?
fn is_for(object: &Object, vary: &[Box<str>], x: &Exchange) -> bool {
    let mut own = Vec::new();
    write_variant(vary, &x.request.fields, &mut own);
    own == object.variant()
}

/// Is what landed for other requests than this? By which fields, then.
fn other_variant(landed: &Landed, x: &Exchange) -> Option<Vec<Box<str>>> {
    let (vary, object) = match landed {
        Landed::Head(head) => (head.vary.clone(), &head.object),
        Landed::Entry(entry, _) => (entry.vary(), &entry.object),
        _ => return None,
    };
    (!is_for(object, &vary, x)).then_some(vary)
}
