//! The fetch itself, in a task of its own: who waits for it may leave, and the others get their answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, StatusCode};
use portcullis_cache::{
    Forwarded, Object, Outcome, Refusal, Verdict, admit,
    admit::{Admission, Received},
    date::{self, Seconds},
    directives::Directives,
    judge,
    judge::{is_failure, may_in_need, may_on_error},
    key::write_key,
    present::present,
    validate,
    vary::write_variant,
};
use portcullis_core::{Answer, Exchange, Fields, Kind, Known, Request, exchange::NoLink};

use super::{
    Look, RouteCache,
    epochs::Mark,
    flight::{Failure, Flight, Head},
    intake::Intake,
    purge,
    shelf::Entry,
    stage::{Stage, why_confirmed},
    tiers::Moment,
};
use crate::forward::{Way, detached::Detached};

/// All of a fetch, body included.
const ALL: Duration = Duration::from_secs(3600);
/// For how long nobody waits for others whose answers are not storable.
pub(super) const PASS: Seconds = 10;
/// The same, when the last answer was an error.
const PASS_ERROR: Seconds = 1;
/// The detail of what is not stored since too much is on its way.
const NO_ROOM: &str = "memory";

/// A fetch.
pub struct Fetch {
    detached: Detached,
    cache: Arc<RouteCache>,
    /// As it is forwarded.
    x: Exchange,
    /// As it was asked for: what the gateway adds on the way is no part of keys and variants.
    asked: Request,
    directives: Directives,
    key: Vec<u8>,
    lane: u64,
    mark: Mark,
    flight: Guard,
    stale: Option<Arc<Entry>>,
    why: Forwarded,
    way: Way,
    /// When it was asked for, by the clocks of the stores that gateways share.
    moment: Moment,
}

/// Does an answer with this status say nothing about the resource, only about the request or the service?
fn says_nothing(status: StatusCode) -> bool {
    let gone = status == StatusCode::NOT_FOUND || status == StatusCode::GONE;
    status.is_server_error() || (status.is_client_error() && !gone)
}

/// Whatever becomes of the task, nobody waits for ever.
struct Guard {
    flight: Arc<Flight>,
    cache: Arc<RouteCache>,
    place: u64,
    stale: Option<Arc<Entry>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.cache.stock.flights.leave(self.place, &self.flight);
        if let Some(stale) = &self.stale {
            stale.refreshing.store(false, Relaxed);
        }
        self.flight.give_up();
    }
}

impl Fetch {
    /// What is needed for it; `None` when too much is under way.
    pub(super) fn new(
        stage: &Stage<'_>,
        x: &Exchange,
        look: &Look,
        place: u64,
        flight: &Arc<Flight>,
        stale: Option<Arc<Entry>>,
        why: Forwarded,
    ) -> Option<Fetch> {
        let detached = Detached::begin(stage.parts, ALL)?;
        let cache = stage.cache.clone();
        let mut key = Vec::with_capacity(128);
        write_key(&mut key, x, &cache.policy.key);
        // Whatever method asked (a HEAD may set off a refresh), what is fetched is the whole.
        let (mut fetched, mut asked) = (x.twin(Arc::new(NoLink)), x.request.twin());
        (fetched.request.method, asked.method) = (Method::GET, Method::GET);
        let guard = Guard { flight: flight.clone(), cache: cache.clone(), place, stale: stale.clone() };
        Some(Fetch {
            detached,
            x: fetched,
            asked,
            directives: stage.ask.directives.clone(),
            key,
            lane: look.lane,
            mark: look.mark,
            flight: guard,
            stale,
            why,
            way: Way::default(),
            moment: Moment::default(),
            cache,
        })
    }

    /// Fetches.
    pub async fn run(mut self) {
        if self.is_behind().await {
            return;
        }
        let asks_for_news = match &self.stale {
            Some(stale) => validate::ask_for_news(&mut self.x.request.fields, &stale.object),
            None => {
                validate::ask_for_all(&mut self.x.request.fields);
                false
            }
        };
        let asked = date::now();
        let mut twin = self.x.twin(Arc::new(NoLink));
        let result = self.detached.forward(&mut self.x, &mut self.way).await;
        let result = match (result, &self.stale) {
            (Ok(answer), Some(stale)) if asks_for_news && answer.status == StatusCode::NOT_MODIFIED => {
                if validate::is_about(&stale.object, &answer.fields) {
                    let stale = stale.clone();
                    let kept = self.confirmed(&stale, &answer, asked);
                    return share(&self.cache, &self.moment, kept).await;
                }
                // It speaks of something that is not stored: the whole is wanted after all.
                validate::ask_for_all(&mut twin.request.fields);
                self.detached.forward(&mut twin, &mut self.way).await
            }
            (result, _) => result,
        };
        match result {
            Ok(answer) => self.answered(answer, asked).await,
            Err(error) => self.flight.flight.failed(error.into(), &self.way),
        }
    }

    /// Does it stand behind memory? What does and is stale is asked news of.
    async fn is_behind(&mut self) -> bool {
        let cache = self.cache.clone();
        if cache.tiers.is_empty() {
            return false;
        }
        if self.stale.is_some() {
            self.moment = cache.tiers.moment().await;
            return false;
        }
        let found = cache.tiers.find(&self.key, &self.asked.fields, self.mark.by_path);
        let (found, moment) = tokio::join!(found, cache.tiers.moment());
        self.moment = moment;
        let Some(found) = found else { return false };
        let entry = Arc::new(Entry::found(&found, self.mark));
        let now = date::now();
        let verdict = judge(&entry.object.times, &self.directives, now);
        let flight = &self.flight.flight;
        let is_refreshed = verdict == Verdict::WhileRevalidate;
        entry.refreshing.store(is_refreshed, Relaxed);
        let vary = entry.vary();
        let stored = cache.stock.keep(&entry, &vary);
        if verdict == Verdict::Revalidate {
            // Where the service fails, those who ask next find it too.
            flight.has_stale(&entry);
            self.why = why_confirmed(&entry.object.times, now);
            self.stale = Some(entry);
            return false;
        }
        let outcome = Outcome::hit(entry.object.times.ttl(now)).because(found.detail);
        flight.entry(entry.clone(), outcome, &self.way);
        if is_refreshed {
            // Whoever waited is served; the rest of this task is the refresh.
            cache.stock.flights.leave(self.flight.place, flight);
            cache.metrics.refreshed();
            self.flight.flight = Arc::new(Flight::new(self.mark, &cache.stock.flights.baggage));
            self.flight.stale = Some(entry.clone());
            self.why = Forwarded::Stale;
            self.stale = Some(entry);
        } else if stored {
            cache.tiers.put(&cache.stock, &entry, &vary, &self.moment, Some(&found)).await;
        }
        !is_refreshed
    }

    /// The origin says that what is stored still is right.
    fn confirmed(&self, stale: &Entry, answer: &Answer, asked: Seconds) -> Kept {
        let merged = validate::freshened(&stale.object, &answer.fields);
        let status = stale.object.status;
        let length = Some(stale.object.body_bytes().len() as u64);
        let received = Received { status, fields: &merged, length, asked, now: date::now() };
        let admitted = admit(&self.cache.policy, &self.asked, self.x.identity(), &received);
        let outcome = Outcome { origin_status: Some(304), ..Outcome::forwarded(self.why) };
        let times = admitted.as_ref().map_or(stale.object.times, |admission| admission.times);
        let without = admitted.as_ref().map_or(&[][..], |admission| &admission.without);
        self.except(without, &answer.fields);
        let fields = storable(&merged, without, &received);
        // A 304 may change what it varies by: what is kept is for requests like this one, by the new list.
        let mut variant = stale.object.variant().to_vec();
        if let Ok(admission) = &admitted
            && admission.vary != stale.vary()
        {
            variant.clear();
            write_variant(&admission.vary, &self.asked.fields, &mut variant);
            self.cache.forget(stale);
        }
        let Some(object) = stale.object.freshened(&variant, &fields, times) else {
            self.flight.flight.failed(incomplete(), &self.way);
            return None;
        };
        let outcome = Outcome { ttl: Some(times.ttl(received.now)), ..outcome };
        let entry = Arc::new(self.entry(object, &merged));
        let stored = match &admitted {
            Ok(admission) => self.cache.stock.keep(&entry, &admission.vary),
            Err(refusal) => {
                // With this head it is for nobody but who asked: the 304 may have brought a cookie of his.
                self.cache.forget(stale);
                let whole = present(&entry.object, &self.asked.fields, false, received.now);
                self.flight.flight.alone(whole, outcome.because(refusal.as_str()), &self.way);
                return None;
            }
        };
        self.flight.flight.entry(entry.clone(), Outcome { stored, ..outcome }, &self.way);
        admitted.ok().filter(|_| stored).map(|admission| (entry, admission.vary))
    }

    fn entry(&self, object: Object, fields: &Fields) -> Entry {
        Entry { object, mark: self.mark, tags: purge::tags(fields), refreshing: AtomicBool::new(false) }
    }

    /// What is not stored of an answer is for whoever it was fetched for: `private="x"`, `no-cache="x"`.
    fn except(&self, without: &[Box<str>], fields: &Fields) {
        let mut own = Fields::new();
        for name in without {
            fields.get_all(name).for_each(|value| own.append(name, value));
        }
        if !own.is_empty() {
            self.flight.flight.own(own);
        }
    }

    /// An answer came.
    async fn answered(self, answer: Answer, asked: Seconds) {
        let status = answer.status.as_u16();
        let now = date::now();
        if is_failure(status) && self.stale.as_ref().is_some_and(|stale| self.may_stay(stale, now)) {
            // Each who waits judges for himself whether he takes what is stale.
            return self.flight.flight.alone(answer, Outcome::forwarded(self.why), &self.way);
        }
        let length = answer.body.remaining();
        let received = Received { status: answer.status, fields: &answer.fields, length, asked, now };
        match admit(&self.cache.policy, &self.asked, self.x.identity(), &received) {
            Ok(admission) if answer.tunnel.is_none() => self.take(answer, &admission, asked, now).await,
            Ok(_) => self.refused(answer, Refusal::Stream, now),
            Err(refusal) => self.refused(answer, refusal, now),
        }
    }

    fn may_stay(&self, stale: &Entry, now: Seconds) -> bool {
        let (times, asked) = (&stale.object.times, &self.directives);
        let may = may_on_error(times, asked, now) || may_in_need(&self.cache.policy, times, asked, now);
        self.cache.stock.epochs.holds(&stale.mark) && may
    }

    /// It may not be stored.
    fn refused(self, answer: Answer, refusal: Refusal, now: Seconds) {
        // An error, which a client may have provoked, says nothing about what is stored.
        let is_news = !says_nothing(answer.status);
        self.cache.stock.shelf.pass(self.lane, now + if is_news { PASS } else { PASS_ERROR });
        if let Some(stale) = self.stale.as_deref().filter(|_| is_news) {
            self.cache.forget(stale);
            self.cache.stock.shelf.pass(self.lane, now + PASS);
        }
        let outcome = Outcome::forwarded(self.why).because(refusal.as_str());
        self.flight.flight.alone(answer, outcome, &self.way);
    }

    /// It may: its head goes to all who wait, its body follows as it arrives.
    async fn take(self, mut answer: Answer, admission: &Admission, asked: Seconds, now: Seconds) {
        let length = answer.body.remaining();
        let received = Received { status: answer.status, fields: &answer.fields, length, asked, now };
        self.except(&admission.without, &answer.fields);
        let fields = storable(&answer.fields, &admission.without, &received);
        let mut variant = Vec::new();
        write_variant(&admission.vary, &self.asked.fields, &mut variant);
        let status = answer.status;
        let make = |body: &[Bytes]| Object::new(&self.key, &variant, status, &fields, body, admission.times);
        let Some(object) = make(&[]) else { return self.refused(answer, Refusal::TooLarge, now) };
        let outcome = Outcome {
            ttl: Some(admission.times.ttl(now)),
            stored: true,
            origin_status: None,
            ..Outcome::forwarded(self.why)
        };
        let flight = &self.flight.flight;
        let keeps = flight.books(length);
        let outcome = if keeps { outcome } else { Outcome { stored: false, ..outcome }.because(NO_ROOM) };
        flight.head(Head { object, vary: admission.vary.clone(), length, outcome }, &self.way);
        let intake = Intake {
            detached: &self.detached,
            cache: &self.cache,
            flight,
            place: self.flight.place,
            lane: self.lane,
        };
        let end = intake.body(&mut answer.body, length, keeps).await;
        let mut kept: Kept = None;
        let end = match end {
            Ok(true) => {
                let object = make(&flight.pieces()).and_then(|object| with_length(object, &fields));
                let entry = object.map(|object| Arc::new(self.entry(object, &answer.fields)));
                let stored = match &entry {
                    Some(entry) => self.cache.stock.keep_gently(entry, &admission.vary).await,
                    None => false,
                };
                kept = entry.clone().filter(|_| stored).map(|entry| (entry, admission.vary.clone()));
                Ok(entry)
            }
            Ok(false) => Ok(None),
            Err(kind) => Err(kind),
        };
        // First nobody joins any longer, then all know: who comes now finds it stored.
        self.cache.stock.flights.leave(self.flight.place, flight);
        flight.end(end);
        share(&self.cache, &self.moment, kept).await;
    }
}

/// What was stored in memory, and what it varies by.
type Kept = Option<(Arc<Entry>, Vec<Box<str>>)>;

/// Keeps it behind memory too.
async fn share(cache: &RouteCache, moment: &Moment, kept: Kept) {
    if let Some((entry, vary)) = kept {
        cache.tiers.put(&cache.stock, &entry, &vary, moment, None).await;
    }
}

fn incomplete() -> Failure {
    Failure { kind: Kind::BadResponse, detail: None, retry_after: None }
}

/// Fields as they are stored (RFC 9111 §3.1): without what belongs to a hop or was excepted, and with a `Date`.
fn storable(fields: &Fields, without: &[Box<str>], received: &Received<'_>) -> Fields {
    const NOT: u64 = Known::HOP_BY_HOP | Known::Age.bit();
    let mut fields = fields.clone();
    fields.remove_set(NOT);
    without.iter().for_each(|name| {
        fields.remove(name);
    });
    if date::of(&fields).is_none() {
        fields.set("date", date::format(received.now));
    }
    fields
}

/// With the length of what is there.
fn with_length(object: Object, fields: &Fields) -> Option<Object> {
    let has_body = object.status != StatusCode::NO_CONTENT;
    if !has_body || fields.has(Known::ContentLength) {
        return Some(object);
    }
    let mut fields = fields.clone();
    fields.set("content-length", object.body_bytes().len().to_string());
    object.with_head(&fields, object.times)
}
