//! The life of a request, whatever protocol it came by:
//!
//! ```text
//! arrive → route → ask each middleware → forward → tell those asked, in reverse → leave
//!                     │ may answer itself ───────────▲
//! ```
//!
//! One snapshot of the configuration per request. Everybody who was asked is told. Errors become answers in one place,
//! and the log line closes in one place: [`Ticket::end`], when the last byte has left.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use http::{Method, StatusCode};
use portcullis_core::{
    Answer, Body, Decision, Done, Error, Exchange, Flow, Kind, Known,
    exchange::ClientLink,
    forwarded::{self, Trust},
};

use crate::{
    clock::Watch,
    forward::{
        Forward,
        cache::{self, Fresh, RouteCache},
        deadline,
        fallback::{self, Elsewhere},
        forward,
        split::Split,
    },
    limit,
    route::{Found, Query},
    runtime::{Asked, Listener, Route, Runtime, Service, Target},
    ticket::Ticket,
    tls::ServerTls,
    worker::Worker,
};

/// Serves one request: from its head to the head of its answer. Whoever writes the answer ends the ticket.
///
/// What is known of the request lives in its ticket, and what this future keeps for itself is little: with a thousand
/// connections, every line of memory that a request touches has left the processor's cache since the last one.
pub async fn serve(worker: &Worker, runtime: &Runtime, ticket: &mut Ticket, watch: &Watch) -> Answer {
    let Some(listener) = runtime.listeners.get(&ticket.x.connection.listener) else {
        // The listener vanished with the last reload; this connection is about to drain.
        return refuse(runtime, ticket, &Error::new(Kind::ShuttingDown));
    };
    let mut answer = match route(runtime, listener, ticket) {
        Ok(Choice::Route(index)) => match runtime.routes.get(index) {
            Some(route) => {
                ticket.take_route(index, route, watch);
                if route.deadline.is_some() || ticket.x.request.fields.has(Known::GrpcTimeout) {
                    deadline::take(ticket, route, watch);
                }
                through(&Pass { worker, runtime, listener, route, watch }, ticket).await
            }
            None => refuse(runtime, ticket, &Error::new(Kind::Internal)),
        },
        Ok(Choice::Asterisk) => asterisk(),
        Ok(Choice::Methods(allowed)) => {
            let mut answer = refuse(runtime, ticket, &Error::new(Kind::MethodNotAllowed));
            // RFC 9110 §15.5.6
            answer.fields.set("allow", allowed);
            answer
        }
        Err(error) => refuse(runtime, ticket, &error),
    };
    if ticket.way.deadline.is_some() {
        deadline::end_with_status(ticket, &mut answer, &worker.clock);
    }
    if let Some(alt_svc) = &listener.alt_svc {
        alt_svc.tell(&ticket.x.connection, &mut answer);
    }
    ticket.credit(&answer);
    answer
}

/// What the router found.
enum Choice {
    /// A route, by its index.
    Route(usize),
    /// A route for this path, but for other methods: these.
    Methods(String),
    /// `OPTIONS *`: it asks the gateway itself.
    Asterisk,
}

/// Finds the route.
fn route(runtime: &Runtime, listener: &Listener, ticket: &mut Ticket) -> Result<Choice, Error> {
    let x = &mut ticket.x;
    let trust = Trust {
        proxies: &listener.settings.trusted_proxies,
        odd_names: listener.settings.allow_odd_header_names,
        gateway: &runtime.gateway_name,
    };
    forwarded::receive(x, &trust)?;
    if let Some(tls) = &listener.tls {
        check_name(tls, x)?;
    }
    forwarded::strip_hop_by_hop(&mut x.request.fields, true);
    if x.request.path() == "*" {
        return Ok(Choice::Asterisk);
    }
    let query = Query::of(x);
    let mut found = listener.router.find(&query);
    if let (Found::MethodNotAllowed(_), Some(method)) = (&found, preflight(x)) {
        found = listener.router.find(&Query { method, ..query });
    }
    match found {
        Found::Route { index, .. } if is_stray_trace(runtime, x, index) => {
            Ok(Choice::Methods(USUAL_METHODS.to_owned()))
        }
        Found::Route { index, parameters } => {
            let parameters: Vec<_> =
                parameters.map(|(name, value)| (name.clone(), value.to_owned())).collect();
            x.parameters = parameters;
            Ok(Choice::Route(index))
        }
        Found::MethodNotAllowed(allowed) => Ok(Choice::Methods(allowed.join(", "))),
        Found::None => Err(Error::new(Kind::NoRoute)),
    }
}

/// Was this connection made for this host? A name in the handshake that is not the request's must not reach what has
/// another certificate (RFC 9110 §7.4, RFC 9113 §9.1.2). A trusted proxy may ask for all its hosts by one name.
fn check_name(tls: &ServerTls, x: &Exchange) -> Result<(), Error> {
    let Some(sni) = x.connection.tls.as_ref().and_then(|facts| facts.sni.as_deref()) else { return Ok(()) };
    let host = x.request.host();
    if host.is_empty() || x.connection.trusted || tls.names.may_serve(sni, host) {
        return Ok(());
    }
    Err(Error::because(
        Kind::Misdirected,
        format!("the connection was made for {sni}, which has another certificate"),
    ))
}

/// `TRACE` sends a request's fields back, credentials among them, to whatever script asked: only where a rule names it.
fn is_stray_trace(runtime: &Runtime, x: &Exchange, index: usize) -> bool {
    x.request.method == Method::TRACE && !runtime.routes.get(index).is_some_and(|route| route.takes_trace)
}

/// What a route without methods of its own is good for.
const USUAL_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// The answer to `OPTIONS *`, a kind of ping (RFC 9110 §9.3.7). What each resource allows is another question.
fn asterisk() -> Answer {
    let mut answer = Answer::new(StatusCode::NO_CONTENT, "options");
    answer.fields.set("allow", USUAL_METHODS);
    answer
}

/// The method that a CORS preflight asks about: it shall reach the route of that method, whose `cors` (or whose
/// service) answers it.
fn preflight(x: &Exchange) -> Option<&str> {
    let fields = &x.request.fields;
    let is_preflight = x.request.method == Method::OPTIONS && fields.has(Known::Origin);
    if is_preflight { fields.get_str("access-control-request-method") } else { None }
}

/// What a request goes through, once its route is known.
struct Pass<'a> {
    worker: &'a Worker,
    runtime: &'a Runtime,
    listener: &'a Listener,
    route: &'a Arc<Route>,
    watch: &'a Watch,
}

impl<'a> Pass<'a> {
    /// The middlewares in the order of their asking.
    fn middlewares(&self) -> impl DoubleEndedIterator<Item = &'a Asked> + use<'a> {
        self.listener.middlewares.iter().chain(&self.route.middlewares)
    }
}

/// Middlewares, target, and back.
async fn through(pass: &Pass<'_>, ticket: &mut Ticket) -> Answer {
    let mut asked = 0;
    let link = ticket.x.client_link.clone();
    let mut outcome = admit(pass, ticket);
    while let (Ok(None), Some(each)) = (&outcome, pass.middlewares().nth(asked)) {
        asked += 1;
        outcome = match each.middleware.on_request(&mut ticket.x) {
            Ok(Flow::Next) => continue,
            Ok(Flow::Answer(answer)) => Ok(Some(answer)),
            Ok(Flow::Wait(waiting)) => {
                pass.watch.set_within(Duration::ZERO, ticket.total);
                let decided = while_wanted(pass.watch, ticket.total, &*link, waiting).await;
                decided.flatten().map(|decision| match decision {
                    Decision::Next => None,
                    Decision::Answer(answer) => Some(answer),
                })
            }
            Err(error) => Err(error),
        };
    }
    let outcome = match outcome {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => reach(pass, ticket).await,
        Err(error) => Err(error),
    };
    let mut answer = outcome.unwrap_or_else(|error| refuse(pass.runtime, ticket, &error));
    ticket.tell_of_cache(pass.route, &mut answer);
    while asked > 0 {
        asked -= 1;
        let Some(each) = pass.middlewares().nth(asked) else { continue };
        let told = match each.middleware.on_response(&mut ticket.x, &mut answer) {
            Ok(Done::Now) => Ok(()),
            Ok(Done::Wait(waiting)) => {
                pass.watch.set_within(Duration::ZERO, ticket.total);
                within(pass.watch, waiting).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = told {
            answer = refuse(pass.runtime, ticket, &error);
            ticket.tell_of_cache(pass.route, &mut answer);
        }
    }
    answer
}

/// What the route itself demands before anybody is asked.
fn admit(pass: &Pass<'_>, ticket: &mut Ticket) -> Result<Option<Answer>, Error> {
    let Pass { worker, runtime, listener, route, .. } = *pass;
    let x = &mut ticket.x;
    if let Some(shedding) = &runtime.shedding {
        shedding.enter(worker, route, x.started)?;
    }
    if route.refuses_path(listener, x.request.path()) {
        return Err(Error::because(Kind::BadPath, "escaped delimiter"));
    }
    limit::body(&mut x.request, route.body_bytes.unwrap_or(listener.settings.limits.body_bytes))?;
    if let Some(prefix) = &route.strip_prefix {
        let path = x.request.path();
        if path.starts_with(&**prefix) {
            let bytes = prefix.len();
            x.request.strip_path(bytes);
        }
    }
    Ok(None)
}

/// The route's target.
async fn reach(pass: &Pass<'_>, ticket: &mut Ticket) -> Result<Answer, Error> {
    let now = Instant::now();
    ticket.forwarded_at = Some(now);
    match &pass.route.target {
        Target::Service(service) => to_service(pass, ticket, service, pass.route.cache.as_ref(), now).await,
        // Rare, hence in a box of its own.
        Target::Split(split) => Box::pin(by_split(pass, ticket, split, now)).await,
        Target::Builtin(_, builtin) => {
            pass.watch.set_within(Duration::ZERO, ticket.total);
            within(pass.watch, builtin.answer(&mut ticket.x)).await
        }
        Target::Unusable(reason) => Err(Error::because(Kind::Misconfigured, reason.to_string())),
    }
}

/// A service: what it answered before, or answers now, or what stands in for that.
async fn to_service(
    pass: &Pass<'_>,
    ticket: &mut Ticket,
    service: &Arc<Service>,
    cache: Option<&Arc<RouteCache>>,
    now: Instant,
) -> Result<Answer, Error> {
    let Pass { worker, runtime, listener, route, watch } = *pass;
    ticket.body_idle = service.settings.timeouts.body_idle;
    let parts = Forward {
        worker,
        runtime,
        route,
        service,
        watch,
        total: ticket.total,
        client_body_idle: route.body_idle_timeout.unwrap_or(listener.settings.timeouts.body_idle),
    };
    let mut result = match cache {
        None => forward(&parts, &mut ticket.x, &mut ticket.way, now).await,
        Some(cache) => match cache.fresh(ticket, worker.index) {
            Fresh::Answer(answer) => Ok(answer),
            // What is not there may take its time, and its room: in a box of its own.
            Fresh::Not(looked) => Box::pin(cache::answer(&parts, cache, ticket, looked)).await,
        },
    };
    // The last resort, hence outside of the cache; rare, hence in a box of its own.
    if fallback::of(route, service).is_some() {
        let last = fallback::or_else(&parts, &mut ticket.x, &mut ticket.way, result);
        result = Box::pin(last).await;
    }
    if let Ok(answer) = &mut result {
        be_patient(answer, route, service, &mut ticket.body_idle);
    }
    result
}

/// One of several services.
async fn by_split(
    pass: &Pass<'_>,
    ticket: &mut Ticket,
    split: &Split,
    now: Instant,
) -> Result<Answer, Error> {
    let Some(chosen) = split.choose(&ticket.x.request.fields, fastrand::f64()) else {
        return Err(Error::because(Kind::Misconfigured, "a split to nobody"));
    };
    let place = chosen.place;
    place.count(pass.worker.index);
    // For the log, also of a client that leaves; a fallback may put another one there.
    ticket.way.elsewhere = Some(Elsewhere(place.service.clone()));
    let result = to_service(pass, ticket, &place.service, place.cache.as_ref(), now).await;
    ticket.way.elsewhere.get_or_insert_with(|| Elsewhere(place.service.clone()));
    let mut answer = result?;
    if let Some(cookie) = chosen.set_cookie {
        answer.fields.append("set-cookie", cookie);
    }
    Ok(answer)
}

/// Streams and tunnels have times of their own, and a route may have its own for them.
fn be_patient(answer: &mut Answer, route: &Route, service: &Service, body_idle: &mut Duration) {
    if is_stream(answer) {
        *body_idle = route.stream_idle_timeout.unwrap_or(service.settings.timeouts.stream_idle);
    }
    if let (Some(tunnel), Some(idle)) = (&mut answer.tunnel, route.tunnel_idle_timeout) {
        tunnel.idle = idle;
    }
}

/// Is it an answer of the kind that is silent while nothing happens: server-sent events, gRPC?
fn is_stream(answer: &Answer) -> bool {
    let is = |value: &[u8], kind: &[u8]| {
        value.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind))
    };
    answer.body.remaining().is_none()
        && answer
            .fields
            .known(Known::ContentType)
            .is_some_and(|value| is(value, b"text/event-stream") || is(value, b"application/grpc"))
}

/// The answer to an error.
fn refuse(runtime: &Runtime, ticket: &mut Ticket, error: &Error) -> Answer {
    ticket.blame(error);
    // What is left of the request is of no use to anybody.
    ticket.x.request.body = Body::Empty;
    let status = ticket.status_of(error.kind);
    runtime.pages.answer_with(&mut ticket.x, error, status)
}

/// Awaits something as long as the deadline allows.
async fn within<T>(watch: &Watch, waiting: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let mut waiting = pin!(waiting);
    poll_fn(|cx| match waiting.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(done),
        Poll::Pending => watch.poll_expired(cx).map(|()| Err(Error::new(Kind::TotalTimeout))),
    })
    .await
}

/// Awaits something as long as the deadline allows and the client is there.
///
/// # Errors
/// `ClientGone`, `TotalTimeout`.
pub async fn while_wanted<T>(
    watch: &Watch,
    total: u64,
    link: &dyn ClientLink,
    waiting: impl Future<Output = T>,
) -> Result<T, Error> {
    let mut waiting = pin!(waiting);
    poll_fn(|cx| {
        if let Poll::Ready(done) = waiting.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        if link.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Error::new(Kind::ClientGone)));
        }
        match watch.poll_expired(cx) {
            Poll::Ready(()) if watch.is_past(total) => Poll::Ready(Err(Error::new(Kind::TotalTimeout))),
            _ => Poll::Pending,
        }
    })
    .await
}
