//! What is remembered of a request until its answer has left, and the one place where its log line closes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::StatusCode;
use portcullis_cache::Outcome;
use portcullis_core::{Answer, Error, Exchange, Kind, Source};

use crate::{
    clock::Watch,
    forward::Way,
    observe::{AccessLog, Line, RequestSeen, RouteMetrics},
    runtime::{Route, Runtime, Target},
};

/// Why a client's connection ended that took nothing of its answer for too long.
pub const TAKES_NOTHING: &str = "took the answer too slowly";

/// A request under way. Dropped without [`Ticket::end`], it counts as left by its client.
pub struct Ticket {
    /// The exchange.
    pub x: Exchange,
    /// Total deadline in clock milliseconds, see [`Watch::total`].
    pub total: u64,
    /// Between two reads of the answer's body; zero = unbounded.
    pub body_idle: Duration,
    /// What forwarding found.
    pub way: Way,
    /// When the middlewares were through.
    pub forwarded_at: Option<Instant>,
    /// What the route's cache did, where it has one.
    pub cache: Option<Outcome>,
    /// The answer's status, once its head is written.
    pub status: u16,
    worker: usize,
    keeper: Keeper,
    fault: Option<Error>,
    /// Who answered, when it was neither an endpoint nor an error.
    answered_by: Option<&'static str>,
    ended: bool,
}

/// What the end needs of the configuration: all of it, or just the parts, so that a tunnel does not hold an old one.
enum Keeper {
    Runtime(Arc<Runtime>, Option<usize>),
    Parts {
        metrics: Option<Arc<RouteMetrics>>,
        log: Option<Arc<AccessLog>>,
        service: Option<Arc<str>>,
        endpoint: Option<Arc<str>>,
    },
}

impl Ticket {
    /// For an exchange that has just begun.
    /// Boxed: it travels from hand to hand, and is large.
    pub fn begin(worker: usize, runtime: Arc<Runtime>, x: Exchange) -> Box<Ticket> {
        Box::new(Ticket {
            x,
            total: u64::MAX,
            body_idle: Duration::ZERO,
            way: Way::default(),
            forwarded_at: None,
            cache: None,
            status: 0,
            worker,
            keeper: Keeper::Runtime(runtime, None),
            fault: None,
            answered_by: None,
            ended: false,
        })
    }

    /// The exchange goes this way.
    pub fn take_route(&mut self, index: usize, route: &Route, watch: &Watch) {
        self.total = watch.total(route.total_timeout);
        self.x.route = route.name.clone();
        if let Keeper::Runtime(_, chosen) = &mut self.keeper {
            *chosen = Some(index);
        }
        route.metrics.begin(self.worker);
    }

    /// Remembers what went wrong, for the log.
    pub fn blame(&mut self, error: &Error) {
        self.fault = Some(Error {
            kind: error.kind,
            unsent: error.unsent,
            detail: error.detail.clone(),
            retry_after: error.retry_after,
        });
    }

    /// Remembers who made the answer, for the log.
    pub fn credit(&mut self, answer: &Answer) {
        if let Source::Gateway(by) = answer.source {
            self.answered_by = Some(by);
        }
    }

    /// The answer to an error that took the place of another answer.
    pub fn instead(&mut self, error: &Error) -> Option<Answer> {
        let Keeper::Runtime(runtime, _) = &self.keeper else { return None };
        let runtime = runtime.clone();
        self.blame(error);
        let status = self.status_of(error.kind);
        let mut answer = runtime.pages.answer_with(&mut self.x, error, status);
        self.status = answer.status.as_u16();
        if let Keeper::Runtime(_, Some(index)) = &self.keeper
            && let Some(route) = runtime.routes.get(*index)
        {
            // What was to be stored is not what the client gets.
            self.cache = self.cache.map(|outcome| Outcome { stored: false, ..outcome });
            self.tell_of_cache(route, &mut answer);
        }
        Some(answer)
    }

    /// Writes into an answer what the route's cache did (RFC 9211).
    pub fn tell_of_cache(&self, route: &Route, answer: &mut Answer) {
        if let (Some(cache), Some(outcome)) = (&route.cache, &self.cache) {
            cache.say(outcome, answer);
        }
    }

    /// The status of an error on this route, where that is not the usual one.
    pub fn status_of(&self, kind: Kind) -> Option<StatusCode> {
        let Keeper::Runtime(runtime, Some(index)) = &self.keeper else { return None };
        runtime.routes.get(*index)?.status_of(kind)
    }

    /// Lets the configuration go, keeping what the end needs.
    pub fn detach(&mut self) {
        let Keeper::Runtime(runtime, route) = &self.keeper else { return };
        let route = route.and_then(|index| runtime.routes.get(index));
        let (service, endpoint) = reached(route.map(Arc::as_ref), &self.way);
        self.keeper = Keeper::Parts {
            metrics: self.metrics().cloned(),
            log: runtime.access_log.clone(),
            service: service.cloned(),
            endpoint: endpoint.cloned(),
        };
        self.way.elsewhere = None;
    }

    fn metrics(&self) -> Option<&Arc<RouteMetrics>> {
        match &self.keeper {
            Keeper::Runtime(runtime, Some(index)) => runtime.routes.get(*index).map(|route| &route.metrics),
            Keeper::Runtime(runtime, None) => {
                runtime.listeners.get(&self.x.connection.listener).map(|listener| &listener.unrouted)
            }
            Keeper::Parts { metrics, .. } => metrics.as_ref(),
        }
    }

    /// Was a route found, so that it counts the request as under way?
    fn is_begun(&self) -> bool {
        !matches!(self.keeper, Keeper::Runtime(_, None))
    }

    /// The last byte of the answer has left, or an error ended it.
    pub fn end(mut self: Box<Self>, bytes_in: u64, bytes_out: u64, result: Result<(), Error>) {
        if let Err(error) = &result {
            self.blame(error);
        }
        self.close(bytes_in, bytes_out);
    }

    fn close(&mut self, bytes_in: u64, bytes_out: u64) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        if let (None, Some(error)) = (&self.fault, self.way.deadline.as_ref().and_then(|own| own.ended())) {
            self.blame(&error);
        }
        let total = self.x.started.elapsed();
        let kind = self.fault.as_ref().map(|fault| fault.kind);
        let gone_early = kind == Some(Kind::ClientGone) && self.status == 0;
        let status = if gone_early { 499 } else { self.status };
        let is_begun = self.is_begun();
        if let Some(metrics) = self.metrics() {
            if !is_begun {
                metrics.begin(self.worker);
            }
            let method = &self.x.request.method;
            metrics.end(
                self.worker,
                &RequestSeen { method, status, duration: total, bytes_in, bytes_out, error: kind },
            );
        }
        self.count_attack();
        self.log(status, total, bytes_in, bytes_out);
    }

    /// Slowness that a deadline ended is how some clients hold what others need.
    fn count_attack(&self) {
        let (Some(fault), Keeper::Runtime(runtime, _)) = (&self.fault, &self.keeper) else { return };
        let kind = match fault.kind {
            Kind::RequestTimeout if self.is_begun() => "slow-body",
            Kind::RequestTimeout => "slow-header",
            Kind::ClientGone if fault.detail.as_deref() == Some(TAKES_NOTHING) => "slow-reader",
            _ => return,
        };
        if let Some(listener) = runtime.listeners.get(&self.x.connection.listener) {
            listener.metrics.attack(kind);
        }
    }

    fn log(&self, status: u16, total: Duration, bytes_in: u64, bytes_out: u64) {
        let (log, service, endpoint, answered) = match &self.keeper {
            Keeper::Runtime(runtime, route) => {
                let route = route.and_then(|index| runtime.routes.get(index)).map(Arc::as_ref);
                let (service, endpoint) = reached(route, &self.way);
                let builtin = route.and_then(|route| match &route.target {
                    Target::Builtin(name, _) => Some(*name),
                    _ => None,
                });
                (runtime.access_log.as_ref(), service, endpoint, builtin)
            }
            Keeper::Parts { log, service, endpoint, .. } => {
                (log.as_ref(), service.as_ref(), endpoint.as_ref(), None)
            }
        };
        let Some(log) = log else { return };
        let fault = self.fault.as_ref();
        log.record(
            self.worker,
            &Line {
                x: &self.x,
                status,
                reason: fault.map(|fault| fault.mapping().slug).or(answered).or(self.answered_by),
                detail: fault.and_then(|fault| fault.detail.as_deref()),
                service: service.map(AsRef::as_ref),
                endpoint: endpoint.map(AsRef::as_ref),
                bytes_in,
                bytes_out,
                time_route: self
                    .forwarded_at
                    .map_or(total, |at| at.saturating_duration_since(self.x.started)),
                time_connect: self.way.connect,
                time_first_byte: self.way.first_byte,
                time_total: total,
                attempts: self.way.attempts,
                reused: self.way.reused,
                cache: self.cache.map(|outcome| outcome.word()),
            },
        );
    }
}

/// Names of the service and the endpoint that a request went to.
fn reached<'a>(route: Option<&'a Route>, way: &'a Way) -> (Option<&'a Arc<str>>, Option<&'a Arc<str>>) {
    if let Some(elsewhere) = &way.elsewhere {
        let upstream = way.endpoint.and_then(|index| elsewhere.upstream(index));
        return (Some(&elsewhere.0.name), upstream.map(|upstream| &upstream.url));
    }
    match route.and_then(|route| route.target.service()) {
        Some(service) => {
            let upstream = way.endpoint.and_then(|index| service.upstreams.get(index));
            (Some(&service.name), upstream.map(|upstream| &upstream.url))
        }
        None => (None, None),
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.ended {
            self.blame(&Error::new(Kind::ClientGone));
            self.close(0, 0);
        }
    }
}
