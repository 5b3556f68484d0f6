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
    time::Instant,
};

use http::Method;
use portcullis_core::{
    Answer, Body, Decision, Done, Error, Exchange, Flow, Kind, Known,
    exchange::ClientLink,
    forwarded::{self, Trust},
};

use crate::{
    clock::Watch,
    forward::{Forward, Way, forward},
    limit,
    route::{Found, Query},
    runtime::{Asked, Listener, Route, Runtime, Target},
    ticket::Ticket,
    worker::Worker,
};

/// Serves one request: from its head to the head of its answer. Whoever writes the answer ends the ticket.
pub async fn serve(
    worker: &Arc<Worker>,
    runtime: Arc<Runtime>,
    x: Exchange,
    watch: &Watch,
) -> (Answer, Box<Ticket>) {
    let mut ticket = Ticket::begin(worker.index, runtime.clone(), x);
    let Some(listener) = runtime.listeners.get(&ticket.x.connection.listener) else {
        // The listener vanished with the last reload; this connection is about to drain.
        let answer = refuse(&runtime, &mut ticket, &Error::new(Kind::ShuttingDown));
        return (answer, ticket);
    };
    let answer = match route(&runtime, listener, &mut ticket) {
        Ok(Choice::Route(index)) => match runtime.routes.get(index) {
            Some(route) => {
                ticket.take_route(index, route, watch);
                through(worker, &runtime, listener, route, &mut ticket, watch).await
            }
            None => refuse(&runtime, &mut ticket, &Error::new(Kind::Internal)),
        },
        Ok(Choice::Methods(allowed)) => {
            let mut answer = refuse(&runtime, &mut ticket, &Error::new(Kind::MethodNotAllowed));
            // RFC 9110 §15.5.6
            answer.fields.set("allow", allowed);
            answer
        }
        Err(error) => refuse(&runtime, &mut ticket, &error),
    };
    ticket.credit(&answer);
    (answer, ticket)
}

/// What the router found.
enum Choice {
    /// A route, by its index.
    Route(usize),
    /// A route for this path, but for other methods: these.
    Methods(String),
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
    forwarded::strip_hop_by_hop(&mut x.request.fields, true);
    let query = Query::of(x);
    let mut found = listener.router.find(&query);
    if let (Found::MethodNotAllowed(_), Some(method)) = (&found, preflight(x)) {
        found = listener.router.find(&Query { method, ..query });
    }
    match found {
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

/// The method that a CORS preflight asks about: it shall reach the route of that method, whose `cors` (or whose
/// service) answers it.
fn preflight(x: &Exchange) -> Option<&str> {
    let fields = &x.request.fields;
    let is_preflight = x.request.method == Method::OPTIONS && fields.has(Known::Origin);
    if is_preflight { fields.get_str("access-control-request-method") } else { None }
}

/// Middlewares, target, and back.
async fn through(
    worker: &Worker,
    runtime: &Runtime,
    listener: &Listener,
    route: &Route,
    ticket: &mut Ticket,
    watch: &Watch,
) -> Answer {
    let (outer, inner) = (&listener.middlewares, &route.middlewares);
    let mut asked = 0;
    let mut outcome = admit(listener, route, ticket);
    if outcome.is_ok() {
        for each in outer.iter().chain(inner) {
            asked += 1;
            match ask(each, ticket, watch).await {
                Ok(None) => {}
                Ok(Some(answer)) => {
                    outcome = Ok(Some(answer));
                    break;
                }
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
    }
    let outcome = match outcome {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => reach(worker, runtime, listener, route, ticket, watch).await,
        Err(error) => Err(error),
    };
    let mut answer = outcome.unwrap_or_else(|error| refuse(runtime, ticket, &error));
    for index in (0..asked).rev() {
        let each = if index < outer.len() { outer.get(index) } else { inner.get(index - outer.len()) };
        let Some(each) = each else { continue };
        if let Err(error) = tell(each, ticket, &mut answer, watch).await {
            answer = refuse(runtime, ticket, &error);
        }
    }
    answer
}

/// What the route itself demands before anybody is asked.
fn admit(listener: &Listener, route: &Route, ticket: &mut Ticket) -> Result<Option<Answer>, Error> {
    let x = &mut ticket.x;
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

async fn ask(each: &Asked, ticket: &mut Ticket, watch: &Watch) -> Result<Option<Answer>, Error> {
    let total = ticket.total;
    let waiting = match each.middleware.on_request(&mut ticket.x)? {
        Flow::Next => return Ok(None),
        Flow::Answer(answer) => return Ok(Some(answer)),
        Flow::Wait(waiting) => waiting,
    };
    watch.set_within(std::time::Duration::ZERO, total);
    match within(watch, waiting).await? {
        Decision::Next => Ok(None),
        Decision::Answer(answer) => Ok(Some(answer)),
    }
}

async fn tell(each: &Asked, ticket: &mut Ticket, answer: &mut Answer, watch: &Watch) -> Result<(), Error> {
    let total = ticket.total;
    match each.middleware.on_response(&mut ticket.x, answer)? {
        Done::Now => Ok(()),
        Done::Wait(waiting) => {
            watch.set_within(std::time::Duration::ZERO, total);
            within(watch, waiting).await
        }
    }
}

/// The route's target.
async fn reach(
    worker: &Worker,
    runtime: &Runtime,
    listener: &Listener,
    route: &Route,
    ticket: &mut Ticket,
    watch: &Watch,
) -> Result<Answer, Error> {
    ticket.forwarded_at = Some(Instant::now());
    match &route.target {
        Target::Service(service) => {
            let parts = Forward {
                worker,
                runtime,
                route,
                service,
                watch,
                total: ticket.total,
                client_body_idle: route.body_idle_timeout.unwrap_or(listener.settings.timeouts.body_idle),
            };
            let mut way = Way::default();
            let result = forward(&parts, &mut ticket.x, &mut way).await;
            ticket.way = way;
            ticket.body_idle = service.settings.timeouts.body_idle;
            result
        }
        Target::Builtin(_, builtin) => {
            watch.set_within(std::time::Duration::ZERO, ticket.total);
            within(watch, builtin.answer(&mut ticket.x)).await
        }
        Target::Unusable(reason) => Err(Error::because(Kind::Misconfigured, reason.to_string())),
    }
}

/// The answer to an error.
fn refuse(runtime: &Runtime, ticket: &mut Ticket, error: &Error) -> Answer {
    ticket.blame(error);
    // What is left of the request is of no use to anybody.
    ticket.x.request.body = Body::Empty;
    runtime.pages.answer(&mut ticket.x, error)
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
