//! Which route takes a request, why, and what becomes of it: the life of a request without a network.
//!
//! Nothing is guessed. The request goes through the same canonicaliser, router and middlewares as a real one; only
//! sending it is left out.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use http::Method;
use portcullis_config::model;
use portcullis_core::{
    Answer, Body, Connection, Decision, Error, Exchange, Fields, Flow, Protocol,
    exchange::{NoLink, TlsFacts},
    forwarded::{self, Trust},
};
use portcullis_proxy::{
    arrive,
    route::{Found, Query},
    runtime::{Asked, Listener, Runtime, compile::ADMIN},
};
use serde::Serialize;

pub use self::{
    destination::{Destination, EndpointInQuestion},
    url::Url,
};

/// A request to be explained.
#[derive(Debug, Clone)]
pub struct Question {
    /// The method.
    pub method: Method,
    /// `/path`, or a whole URL, whose scheme and port choose the listener.
    pub url: Url,
    /// Header fields.
    pub fields: Vec<(String, String)>,
    /// The address it comes from.
    pub client: IpAddr,
    /// The listener it comes to; by default the one that the URL points at.
    pub listener: Option<String>,
    /// The names of listeners in the order written: of those that fit alike, the first takes it.
    pub written: Vec<String>,
}

/// What becomes of a request.
#[derive(Debug, Clone, Serialize)]
pub struct Explained {
    /// The listener that takes it.
    pub listener: Arc<str>,
    /// The path in the form that rules see; empty when the request is refused before that.
    pub path: String,
    /// The client's address, after trusted proxies.
    pub client: IpAddr,
    /// The route that takes it.
    pub route: Option<RouteTaken>,
    /// Nearer candidates that do not, in the order in which they are asked.
    pub others: Vec<Other>,
    /// Why no route takes it, or why it is refused.
    pub refused: Option<String>,
    /// Middlewares in the order in which they are asked.
    pub middlewares: Vec<Step>,
    /// Where it goes.
    pub target: Option<Destination>,
}

/// The route that takes a request.
#[derive(Debug, Clone, Serialize)]
pub struct RouteTaken {
    /// Its name.
    pub name: Arc<str>,
    /// Its whole condition.
    pub rule: String,
    /// Its priority.
    pub priority: i64,
    /// Was the priority written, or made from the rule?
    pub priority_is_explicit: bool,
    /// Where it is written: `file:line`.
    pub written: String,
    /// Values of its `{parameters}`.
    pub parameters: Vec<(Arc<str>, String)>,
}

/// A route that does not take the request.
#[derive(Debug, Clone, Serialize)]
pub struct Other {
    /// Its name.
    pub name: Arc<str>,
    /// Its priority.
    pub priority: i64,
    /// Why not.
    pub reason: String,
}

/// A middleware on the way.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// Its name.
    pub name: Arc<str>,
    /// Its kind.
    pub kind: Arc<str>,
    /// What it says to the request.
    pub outcome: String,
    /// The answer that it gives itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Given>,
}

/// An answer that a middleware gives itself.
#[derive(Debug, Clone, Serialize)]
pub struct Given {
    /// Its status.
    pub status: u16,
    /// Its header fields.
    pub fields: Vec<(String, String)>,
    /// Its body, when it is text that is there already.
    pub body: Option<String>,
}

/// Explains a request.
///
/// # Errors
/// There is no such listener.
pub async fn explain(runtime: &Runtime, question: &Question) -> Result<Explained, String> {
    let listener = listener(runtime, question)?;
    let mut explained = Explained {
        listener: listener.settings.name.clone(),
        path: String::new(),
        client: question.client,
        route: None,
        others: Vec::new(),
        refused: None,
        middlewares: Vec::new(),
        target: None,
    };
    match arrive(runtime, listener, question) {
        Ok(mut x) => {
            explained.client = x.client;
            if let Err(error) = follow(runtime, listener, &mut x, &mut explained).await {
                explained.refused = Some(say(&error));
            }
        }
        Err(error) => explained.refused = Some(say(&error)),
    }
    Ok(explained)
}

/// The listener that the question names, or that its URL points at.
fn listener<'a>(runtime: &'a Runtime, question: &Question) -> Result<&'a Listener, String> {
    let all = || runtime.listeners.values().filter(|listener| *listener.settings.name != *ADMIN);
    if let Some(name) = &question.listener {
        let names: Vec<&str> = all().map(|listener| &*listener.settings.name).collect();
        let found = all().find(|listener| *listener.settings.name == **name);
        return found
            .map(|listener| &**listener)
            .ok_or_else(|| format!("there is no listener {name}; the listeners are {}", names.join(", ")));
    }
    let url = &question.url;
    let fits = |listener: &Listener| {
        let port = listener.settings.address.port();
        let scheme = url.tls.is_some() && url.tls == Some(listener.tls.is_some());
        let implied = url.tls.map(|tls| if tls { 443 } else { 80 });
        (url.port == Some(port), scheme, url.port.is_none() && implied == Some(port))
    };
    let rank = |listener: &Listener| {
        let name = &*listener.settings.name;
        question.written.iter().position(|written| written == name).unwrap_or(usize::MAX)
    };
    // The first of the best.
    all()
        .max_by_key(|listener| (fits(listener), std::cmp::Reverse(rank(listener))))
        .map(|listener| &**listener)
        .ok_or_else(|| "there is no listener".to_owned())
}

/// What the listener makes of it, before routing.
fn arrive(runtime: &Runtime, listener: &Listener, question: &Question) -> Result<Exchange, Error> {
    let mut fields = Fields::new();
    for (name, value) in &question.fields {
        fields.append(name, value);
    }
    let authority = question.url.authority.as_deref().map(str::as_bytes);
    // A `-H Host:` wins, as it does with curl.
    let named = question.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
    let authority = authority.filter(|_| !named);
    let request = arrive::request(
        question.method.clone(),
        question.url.target.as_bytes(),
        authority,
        fields,
        listener,
    )?;
    let peer = SocketAddr::new(question.client, 0);
    let connection = Connection {
        peer,
        peer_text: question.client.to_string().into(),
        local: listener.settings.address,
        listener: listener.settings.name.clone(),
        trusted: listener.settings.trusted_proxies.iter().any(|net| net.contains(&question.client)),
        tls: listener.tls.is_some().then(TlsFacts::default),
        protocol: Protocol::Http1,
        id: 0,
        prepared: Default::default(),
    };
    let mut x = Exchange::new(request, Arc::new(connection), Arc::new(NoLink), Instant::now());
    let trust = Trust {
        proxies: &listener.settings.trusted_proxies,
        odd_names: listener.settings.allow_odd_header_names,
        gateway: &runtime.gateway_name,
    };
    forwarded::receive(&mut x, &trust)?;
    forwarded::strip_hop_by_hop(&mut x.request.fields, true);
    Ok(x)
}

/// Route, middlewares, target.
async fn follow(
    runtime: &Runtime,
    listener: &Listener,
    x: &mut Exchange,
    explained: &mut Explained,
) -> Result<(), Error> {
    let told = listener.router.explain(&Query::of(x));
    explained.path = told.path;
    explained.others = told
        .losers
        .into_iter()
        .map(|loser| Other { name: loser.name, priority: loser.priority, reason: loser.reason })
        .collect();
    let found = match listener.router.find(&Query::of(x)) {
        Found::Route { index, parameters } => {
            let parameters: Vec<(Arc<str>, String)> =
                parameters.map(|(name, value)| (name.clone(), value.to_owned())).collect();
            Some((index, parameters))
        }
        Found::MethodNotAllowed(allowed) => {
            explained.refused =
                Some(format!("no route takes this method: 405, Allow: {}", allowed.join(", ")));
            None
        }
        Found::None => {
            explained.refused = Some("no route takes it: 404".to_owned());
            None
        }
    };
    let Some((index, parameters)) = found else { return Ok(()) };
    let (Some(route), Some(model)) = (runtime.routes.get(index), runtime.model.routes.get(index)) else {
        return Ok(());
    };
    explained.route = Some(RouteTaken::of(model, &parameters));
    x.parameters = parameters;
    x.route = route.name.clone();
    if route.refuses_path(listener, x.request.path()) {
        return Err(Error::because(portcullis_core::Kind::BadPath, "escaped delimiter"));
    }
    let prefix = route.strip_prefix.as_deref().filter(|prefix| x.request.path().starts_with(prefix));
    if let Some(bytes) = prefix.map(str::len) {
        x.request.strip_path(bytes);
    }
    for asked in listener.middlewares.iter().chain(&route.middlewares) {
        let outcome = ask(asked, x).await;
        let kind =
            runtime.model.middlewares.get(&asked.name).map_or_else(|| "".into(), |found| found.kind.clone());
        let goes_on = outcome.is_none();
        explained.middlewares.push(Step {
            name: asked.name.clone(),
            kind,
            outcome: outcome.as_ref().map_or_else(|| "goes on".into(), |said| said.0.clone()),
            answer: outcome.and_then(|said| said.1),
        });
        if !goes_on {
            return Ok(());
        }
    }
    explained.target = Some(Destination::of(route, x));
    Ok(())
}

/// What a middleware says; `None` when the request goes on.
async fn ask(asked: &Asked, x: &mut Exchange) -> Option<(String, Option<Given>)> {
    let answers = |answer: Answer| {
        let given = Given::of(&answer);
        let to = given.fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("location"));
        let to = to.map(|(_, value)| format!(", Location: {value}")).unwrap_or_default();
        Some((format!("answers {}{to}", answer.status), Some(given)))
    };
    let refuses = |error: &Error| Some((format!("refuses it: {}", say(error)), None));
    match asked.middleware.on_request(x) {
        Ok(Flow::Next) => None,
        Ok(Flow::Answer(answer)) => answers(answer),
        Ok(Flow::Wait(waiting)) => match waiting.await {
            Ok(Decision::Next) => None,
            Ok(Decision::Answer(answer)) => answers(answer),
            Err(error) => refuses(&error),
        },
        Err(error) => refuses(&error),
    }
}

impl Given {
    fn of(answer: &Answer) -> Given {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Given {
            status: answer.status.as_u16(),
            fields: answer.fields.iter().map(|(name, value)| (text(name), text(value))).collect(),
            body: match &answer.body {
                Body::Full(bytes) => std::str::from_utf8(bytes).ok().map(str::to_owned),
                Body::Empty | Body::Stream(_) => None,
            },
        }
    }
}

/// An error with its status.
fn say(error: &Error) -> String {
    let mapping = error.mapping();
    let mut text = format!("{} ({})", mapping.status, mapping.slug);
    let detail = error.detail.as_deref().unwrap_or_default();
    if !detail.is_empty() {
        text.push_str(": ");
        text.push_str(detail);
    }
    if detail.starts_with("escaped delimiter") {
        text.push_str("; `path_policy = { encoded_delimiters = \"keep\" }` lets it through");
    }
    text
}

impl RouteTaken {
    fn of(route: &model::Route, parameters: &[(Arc<str>, String)]) -> RouteTaken {
        let origin = &route.origin;
        let file = origin.file.as_deref().unwrap_or(&origin.provider);
        let written = if origin.line > 0 { format!("{file}:{}", origin.line) } else { file.to_owned() };
        RouteTaken {
            name: route.name.clone(),
            rule: route.rule.to_string(),
            priority: route.priority,
            priority_is_explicit: route.priority_is_explicit,
            written,
            parameters: parameters.to_vec(),
        }
    }
}

mod destination;
mod url;

#[cfg(test)]
mod tests;
