//! The attempt loop: pick → connect → send → judge → again? What must know whether a request was sent lives here, as
//! data on the service, never as middleware.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use http::Method;
use portcullis_core::{
    Answer, Error, Exchange, Kind,
    balance::{CLIENT_GONE, Pick, Seen},
    exchange::{ClientLink, Connection},
};

use crate::{
    clock::Watch,
    h1::client::{self, Ask, Failed},
    health::passive,
    runtime::{Route, Runtime, Service},
    worker::Worker,
};

use connect::{Connected, connect};
use upstream::{InFlight, Upstream};

pub mod budget;
pub mod cache;
pub mod capacity;
pub mod careful;
pub mod connect;
pub mod deadline;
pub mod detached;
pub mod eyeballs;
pub mod fallback;
pub mod mirror;
mod over_h2;
pub mod replay;
pub mod retry;
pub mod split;
pub mod tail;
pub mod tunnel;
pub mod upstream;

/// How many endpoints one request may try while it is certain that none of them has seen it.
const TRIES: usize = 3;

/// What forwarding needs to know beside the request.
#[derive(Clone, Copy)]
pub struct Forward<'a> {
    /// The worker that serves the request.
    pub worker: &'a Worker,
    /// The configuration it began with.
    pub runtime: &'a Runtime,
    /// The route that took it.
    pub route: &'a Arc<Route>,
    /// The service it leads to.
    pub service: &'a Arc<Service>,
    /// The client connection's deadline.
    pub watch: &'a Watch,
    /// Total deadline, see [`Watch::total`].
    pub total: u64,
    /// Between two reads of the request's body.
    pub client_body_idle: Duration,
}

impl Forward<'_> {
    /// Awaits something that is not an endpoint, as long as the total deadline allows and the client is there.
    ///
    /// # Errors
    /// `ClientGone`, `TotalTimeout`.
    pub async fn until<T>(
        &self,
        link: Arc<dyn ClientLink>,
        waiting: impl Future<Output = T>,
    ) -> Result<T, Error> {
        self.watch.set_within(Duration::ZERO, self.total);
        crate::serve::while_wanted(self.watch, self.total, link.as_ref(), waiting).await
    }
}

/// What became of a request on its way to an endpoint, for log and metrics.
#[derive(Debug, Clone, Default)]
pub struct Way {
    /// The endpoint asked last.
    pub endpoint: Option<usize>,
    /// Endpoints asked.
    pub attempts: u32,
    /// The last connection had been used before.
    pub reused: bool,
    /// Time spent connecting.
    pub connect: Duration,
    /// From the start of the last attempt to its answer's head.
    pub first_byte: Duration,
    /// The service it went to, where that is not its route's.
    pub elsewhere: Option<fallback::Elsewhere>,
    /// The request has its forwarding fields already. Noted where policies may send it elsewhere.
    pub prepared: bool,
    /// An endpoint may have seen it over a connection that was stale, before another was opened.
    pub seen_stale: bool,
    /// When it must be done, where its client or its endpoint is to be told.
    pub deadline: Option<Box<deadline::Deadline>>,
    /// The request cannot be sent again: some of its body was sent, and not kept.
    pub body_lost: bool,
}

/// Forwards a request to an endpoint of the service. `now` is the time.
///
/// # Errors
/// The last attempt's.
pub async fn forward(
    forward: &Forward<'_>,
    x: &mut Exchange,
    way: &mut Way,
    mut now: Instant,
) -> Result<Answer, Error> {
    let service = forward.service;
    if x.request.upgrade.is_some() && !service.settings.upgrade {
        x.request.upgrade = None;
    }
    portcullis_core::forwarded::send(x, &forward.runtime.gateway_name);
    if service.policies.is_some() || forward.route.policies.is_some() || way.deadline.is_some() {
        way.prepared = true;
        return careful::first(forward, x, way, now).await;
    }
    let bound = service.sticky.as_ref().and_then(|sticky| sticky.find(&x.request.fields));
    let key = service.key.as_ref().and_then(|key| key.key(x));
    let mut tried = [usize::MAX; TRIES];
    let mut count = 0;
    loop {
        let Some(index) = service.choose(bound, key, tried.get(..count).unwrap_or_default(), now) else {
            return Err(nobody(service));
        };
        way.endpoint = Some(index);
        way.attempts += 1;
        let result = attempt(forward, x, index, now, way).await;
        let latency = if result.is_ok() { way.first_byte } else { now.elapsed() };
        service.observe(forward.worker.index, index, &result, latency, now);
        match result {
            Ok(mut answer) => {
                service.bind(&mut answer, bound, index);
                return Ok(answer);
            }
            Err(error) if error.unsent && count + 1 < TRIES && error.kind != Kind::ConnectionLimit => {
                if let Some(slot) = tried.get_mut(count) {
                    *slot = index;
                }
                count += 1;
                let asked = tried.get(..count).unwrap_or_default();
                let others = Pick { endpoints: &service.endpoints, key, tried: asked, now };
                if !others.is_there() {
                    return Err(error);
                }
                service.metrics.retried(forward.worker.index);
                now = Instant::now();
            }
            Err(error) => return Err(error),
        }
    }
}

fn nobody(service: &Service) -> Error {
    if service.endpoints.is_empty() {
        return Error::because(Kind::NoEndpoints, service.name.to_string());
    }
    Error::because(Kind::NoHealthyEndpoints, service.name.to_string()).retry_after(service.retry_after())
}

/// One attempt on one endpoint. A stale connection from the pool does not count as one.
async fn attempt(
    forward: &Forward<'_>,
    x: &mut Exchange,
    index: usize,
    started: Instant,
    way: &mut Way,
) -> Result<Answer, Error> {
    let Some(upstream) = forward.service.upstreams.get(index) else {
        return Err(Error::because(Kind::Internal, "endpoint index"));
    };
    let http1_only = x.request.upgrade.is_some();
    if x.request.upgrade.as_deref() == Some("websocket") {
        crate::h1::upgrade::prepare(&mut x.request);
    }
    let mut fresh = false;
    loop {
        let kept = kept(forward, upstream, (http1_only, fresh), &x.connection, started);
        let reused = kept.is_some();
        way.reused = reused;
        let connected = match kept {
            Some(connected) => connected,
            // Rare, hence in a box of its own.
            None => {
                let (client, link) = (&x.connection, x.client_link.as_ref());
                Box::pin(anew(forward, upstream, http1_only, client, way, link)).await?
            }
        };
        let host = host(forward, upstream, x);
        let result = match connected {
            Connected::H2(client, _) => Box::pin(over_h2::send(forward, upstream, &client, x, host)).await,
            Connected::H1(conn) => {
                let ask = Ask {
                    host,
                    base: &upstream.base_path,
                    timeouts: &upstream.timeouts,
                    response_header: forward
                        .route
                        .response_header_timeout
                        .unwrap_or(upstream.timeouts.response_header),
                    client_body_idle: forward.client_body_idle,
                    watch: forward.watch,
                    total: forward.total,
                };
                client::exchange(conn, x, &ask, InFlight::new(&upstream.state)).await
            }
        };
        match result {
            Err(Failed { error, stale }) if may_repeat(stale && reused && !fresh, &error, x) => {
                way.seen_stale = !error.unsent;
                fresh = true;
            }
            result => {
                way.first_byte = started.elapsed();
                return result.map_err(|failed| failed.error);
            }
        }
    }
}

/// May a request go to the same endpoint once more, over another connection?
fn may_repeat(stale: bool, error: &Error, x: &Exchange) -> bool {
    stale && (error.unsent || is_repeatable(&x.request.method))
}

/// May a request be sent again although an endpoint may have seen it? (RFC 9110 §9.2.2)
fn is_repeatable(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

/// `Host` towards the endpoint where it is not the client's.
fn host<'a>(forward: &Forward<'_>, upstream: &'a Upstream, x: &Exchange) -> Option<&'a str> {
    let passed = forward.route.pass_host.unwrap_or(forward.service.settings.pass_host);
    (!passed || x.request.authority().is_empty()).then_some(&*upstream.host)
}

/// A connection that is there already.
fn kept(
    forward: &Forward<'_>,
    upstream: &Arc<Upstream>,
    (http1_only, fresh): (bool, bool),
    client: &Arc<Connection>,
    now: Instant,
) -> Option<Connected> {
    let worker = forward.worker.index;
    let kept_for = upstream.kept_for(client);
    let h2 = || upstream.pools.take_h2(worker, kept_for).map(|conn| Connected::H2(conn, None));
    let h1 = || upstream.pools.take(worker, &upstream.pool, kept_for, now).map(Connected::H1);
    let kept = if !http1_only && upstream.may_speak_h2() { h2() } else { None };
    let kept = kept.or_else(|| if fresh || upstream.always_h2() { None } else { h1() });
    if kept.is_some() {
        upstream.metrics.reused(worker);
    }
    kept
}

/// A new connection.
async fn anew(
    forward: &Forward<'_>,
    upstream: &Arc<Upstream>,
    http1_only: bool,
    client: &Arc<Connection>,
    way: &mut Way,
    link: &dyn ClientLink,
) -> Result<Connected, Error> {
    let worker = forward.worker.index;
    let begun = Instant::now();
    forward.watch.set_within(upstream.timeouts.connect * 2, forward.total);
    let connecting = connect(upstream, worker, http1_only, client);
    let connected = crate::serve::while_wanted(forward.watch, forward.total, link, connecting).await?;
    way.connect += begun.elapsed();
    if let Ok(Connected::H2(conn, remote)) = &connected {
        upstream.pools.give_h2(worker, conn.clone(), upstream.kept_for(client), *remote);
    }
    connected
}

impl Service {
    /// Tells a client that asks for stickiness where it belongs from now on, unless it knows.
    fn bind(&self, answer: &mut Answer, bound: Option<usize>, index: usize) {
        let sticky = self.sticky.as_ref().filter(|_| bound != Some(index));
        if let Some(cookie) = sticky.and_then(|sticky| sticky.set_cookie(index)) {
            answer.fields.append("set-cookie", cookie);
        }
    }

    /// The endpoint that a client is bound to, else the balancer's choice.
    fn choose(&self, bound: Option<usize>, key: Option<u64>, tried: &[usize], now: Instant) -> Option<usize> {
        if let Some(passive) = &self.passive {
            passive.readmit(now);
        }
        let pick = Pick { endpoints: &self.endpoints, key, tried, now };
        bound.filter(|&index| pick.allows(index)).or_else(|| match &*self.endpoints {
            // A single endpoint needs no strategy.
            [_] => pick.allows(0).then_some(0),
            _ => self.balancer.pick(&pick),
        })
    }

    /// Tells balancer, passive health and metrics how an attempt went.
    fn observe(
        &self,
        worker: usize,
        index: usize,
        result: &Result<Answer, Error>,
        latency: Duration,
        started: Instant,
    ) {
        let (Some(endpoint), Some(upstream)) = (self.endpoints.get(index), self.upstreams.get(index)) else {
            return;
        };
        let now = started + latency;
        let outcome = result.as_ref().map(|answer| answer.status.as_u16()).map_err(|error| error.kind);
        let status = match outcome {
            Ok(status) => {
                upstream.metrics.answered(worker, status, latency);
                Some(status)
            }
            Err(kind) if kind.fault() == portcullis_core::Fault::Upstream => {
                upstream.metrics.failed(worker, kind, latency);
                None
            }
            // The client left or broke its own request: all that says about the endpoint is that it took this long.
            Err(_) => Some(CLIENT_GONE),
        };
        self.balancer.observe(endpoint, &Seen { latency, status, now });
        let is_failure = match &self.passive {
            Some(passive) => passive.observe(&self.endpoints, index, outcome, now),
            None => outcome.is_err_and(passive::is_failure),
        };
        if is_failure {
            endpoint.state.failures.fetch_add(1, Relaxed);
        }
    }

    /// When asking again makes sense while nobody is in service.
    fn retry_after(&self) -> Duration {
        let check = self.settings.health_check.as_ref().map(|check| check.unhealthy_interval);
        let ejection = self.settings.passive_health.as_ref().map(|passive| passive.ejection);
        check.or(ejection).unwrap_or(Duration::from_secs(5))
    }
}

impl Upstream {
    /// Whom connections are kept for, where the endpoint is told whose they are: they must serve nobody else.
    fn kept_for<'a>(&self, client: &'a Arc<Connection>) -> Option<&'a Arc<Connection>> {
        self.proxy_protocol.is_some().then_some(client)
    }

    /// HTTP/2 only?
    fn always_h2(&self) -> bool {
        use portcullis_config::model::{Scheme, UpstreamHttp};
        self.scheme == Scheme::H2c || self.http == UpstreamHttp::Http2
    }

    /// HTTP/2 known to be possible?
    fn may_speak_h2(&self) -> bool {
        self.always_h2() || self.pools.speaks_h2.load(Relaxed)
    }
}
