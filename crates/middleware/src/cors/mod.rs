//! `cors`: lets pages of other origins use a service (the Fetch standard, §3.2 "CORS protocol").

mod origins;

use std::{collections::HashSet, sync::Arc};

use http::{Method, StatusCode};
use portcullis_core::{
    Answer, Done, Error, Exchange, Fields, Flow, Known, Line, Middleware,
    line::is_token,
    middleware::{Around, MiddlewareKind, Problem},
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    settings::{self, Strings, Time, Words},
    vary,
};
use origins::Origins;

/// Settings of `cors`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    /// Origins whose pages may use the service, such as `https://shop.example` or `https://*.shop.example`; `*`, or
    /// nothing written, for all. A string may hold several, with commas between.
    #[serde(default)]
    pub origins: Option<Words>,
    /// Expressions for further origins; each must match the whole origin.
    #[serde(default)]
    pub origin_regex: Strings,
    /// Methods that pages may use; `*` for all.
    #[serde(default = "any")]
    pub methods: Words,
    /// Request fields that pages may set; `*` for all.
    #[serde(default = "any")]
    pub headers: Words,
    /// Answer fields that pages may read, besides the harmless ones.
    #[serde(default)]
    pub expose: Words,
    /// Let pages send cookies and credentials. Needs `origins` by name.
    #[serde(default)]
    pub credentials: bool,
    /// How long a browser may remember the answer to a preflight. Browsers cap it at two hours or a day.
    #[serde(default)]
    pub max_age: Option<Time>,
}

fn any() -> Words {
    Words::from(["*"].as_slice())
}

struct Policy {
    origins: Origins,
    /// `None`: all.
    methods: Option<HashSet<Method>>,
    /// In lower case; `None`: all.
    headers: Option<HashSet<Box<str>>>,
    /// What the answer to a good preflight says besides the origin, and besides what only the request knows.
    preflight: Vec<Line>,
    /// What an answer says besides the origin.
    answer: Vec<Line>,
    any_origin: Line,
    credentials: Option<Line>,
}

/// The origin that was allowed, remembered until the answer comes by.
struct Allowed(Box<str>);

/// Fields by which an answer speaks about CORS; what a service says in them is replaced by this middleware's word.
const OURS: [&str; 6] = [
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-expose-headers",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-max-age",
];

impl MiddlewareKind for Cors {
    const NAME: &'static str = "cors";
    const SUMMARY: &'static str = "Lets pages of other origins use a service, and answers their preflights.";
    const EXAMPLE: &'static str = r#"origins = ["https://shop.example", "https://*.shop.example"]
methods = ["GET", "POST"]
headers = ["Content-Type", "Authorization"]
credentials = true
max_age = "1h""#;

    fn build(self, _: &Around<'_>) -> Result<Arc<dyn Middleware>, Problem> {
        let named = self.origins.as_ref().is_some_and(|words| !words.0.is_empty());
        let origins = match &self.origins {
            Some(words) if named => Origins::compile(words, &self.origin_regex)?,
            _ if !self.origin_regex.0.is_empty() => Origins::compile(&Words::default(), &self.origin_regex)?,
            // An empty list may be an empty variable: it must not turn into "everybody".
            Some(_) => return Err(Problem::at("origins", "there is none").help("origins, or `*` for all")),
            None => Origins::Any,
        };
        if self.credentials && matches!(origins, Origins::Any) {
            let message =
                "with credentials the origins must be named: `*` would let every page act as your users";
            return Err(
                Problem::at("origins", message).help(r#"such as `origins = ["https://shop.example"]`"#)
            );
        }
        let methods = methods(&self.methods)?;
        let headers = headers(&self.headers)?;
        let mut policy = Policy {
            preflight: preflight_lines(&self, methods.is_some())?,
            origins,
            methods,
            headers,
            answer: Vec::new(),
            any_origin: settings::line("origins", "access-control-allow-origin", "*")?,
            credentials: None,
        };
        if self.credentials {
            policy.credentials =
                Some(settings::line("credentials", "access-control-allow-credentials", "true")?);
        }
        policy.answer.extend(expose_line(&self)?);
        Ok(Arc::new(policy))
    }
}

fn methods(words: &Words) -> Result<Option<HashSet<Method>>, Problem> {
    let mut all = HashSet::new();
    for (index, word) in words.0.iter().enumerate() {
        if word == "*" {
            return Ok(None);
        }
        // Methods are case-sensitive; nobody means `get`.
        let method = Method::from_bytes(word.as_bytes())
            .ok()
            .filter(|_| !word.bytes().any(|b| b.is_ascii_lowercase()));
        let Some(method) = method else {
            let message = format!("`{}` is not a method", word.escape_debug());
            return Err(Problem::at(format!("methods[{index}]"), message).help("such as `GET`, in capitals"));
        };
        all.insert(method);
    }
    Ok(Some(all))
}

fn headers(words: &Words) -> Result<Option<HashSet<Box<str>>>, Problem> {
    let mut all = HashSet::new();
    for (index, word) in words.0.iter().enumerate() {
        if word == "*" {
            return Ok(None);
        }
        settings::name(&format!("headers[{index}]"), word)?;
        all.insert(word.to_ascii_lowercase().into_boxed_str());
    }
    Ok(Some(all))
}

fn preflight_lines(cors: &Cors, methods_named: bool) -> Result<Vec<Line>, Problem> {
    let mut lines = Vec::new();
    if methods_named && !cors.methods.0.is_empty() {
        let list = cors.methods.0.join(", ");
        lines.push(settings::line("methods", "access-control-allow-methods", &list)?);
    }
    if let Some(Time(time)) = cors.max_age {
        let seconds = time.as_secs().to_string();
        lines.push(settings::line("max_age", "access-control-max-age", &seconds)?);
    }
    Ok(lines)
}

fn expose_line(cors: &Cors) -> Result<Option<Line>, Problem> {
    for (index, word) in cors.expose.0.iter().enumerate() {
        let at = format!("expose[{index}]");
        // With credentials, `*` is a field of that name (Fetch §3.2.5).
        if word == "*" && cors.credentials {
            return Err(Problem::at(at, "`*` means nothing with credentials").help("name the fields"));
        }
        settings::name(&at, word)?;
    }
    if cors.expose.0.is_empty() {
        return Ok(None);
    }
    settings::line("expose", "access-control-expose-headers", &cors.expose.0.join(", ")).map(Some)
}

impl Policy {
    /// Does the answer depend on who asks?
    fn varies(&self) -> bool {
        !matches!(self.origins, Origins::Any)
    }

    fn allow_origin(&self, fields: &mut Fields, origin: &str) {
        if self.varies() {
            fields.append("access-control-allow-origin", origin);
        } else {
            fields.append_line(&self.any_origin);
        }
        if let Some(line) = &self.credentials {
            fields.append_line(line);
        }
    }

    /// The answer to a preflight. What is not allowed is not mentioned, and the browser refuses it by itself.
    fn preflight(&self, x: &Exchange, origin: &str, method: &str) -> Answer {
        let mut answer = Answer::new(StatusCode::NO_CONTENT, Cors::NAME);
        let asked = AskedHeaders::of(x);
        if self.origins.allow(origin) && self.allows_method(method) && self.allows_headers(&asked) {
            self.allow_origin(&mut answer.fields, origin);
            if self.methods.is_none() {
                answer.fields.append("access-control-allow-methods", method);
            }
            for line in &asked.lines {
                answer.fields.append("access-control-allow-headers", line);
            }
            self.preflight.iter().for_each(|line| answer.fields.append_line(line));
        }
        answer
    }

    fn allows_method(&self, method: &str) -> bool {
        // Fetch §3.2.4: the safelisted methods need no permission.
        let safe = matches!(method, "GET" | "HEAD" | "POST");
        let known = |all: &HashSet<Method>| {
            Method::from_bytes(method.as_bytes()).is_ok_and(|method| all.contains(&method))
        };
        safe || self.methods.as_ref().map_or_else(|| is_token(method), known)
    }

    fn allows_headers(&self, asked: &AskedHeaders<'_>) -> bool {
        let mut names = asked.names();
        match &self.headers {
            None => names.all(is_token),
            Some(all) => names.all(|name| {
                if name.bytes().any(|b| b.is_ascii_uppercase()) {
                    all.contains(name.to_ascii_lowercase().as_str())
                } else {
                    all.contains(name)
                }
            }),
        }
    }
}

/// The fields that a preflight asks for.
struct AskedHeaders<'x> {
    lines: Vec<&'x str>,
}

impl<'x> AskedHeaders<'x> {
    fn of(x: &'x Exchange) -> AskedHeaders<'x> {
        let all = x.request.fields.get_all("access-control-request-headers");
        // What is no text is no list of tokens: `,` would vanish, so it becomes a name that nobody allows.
        let lines = all.map(|line| std::str::from_utf8(line).unwrap_or("\u{fffd}"));
        AskedHeaders { lines: lines.filter(|line| !line.trim().is_empty()).collect() }
    }

    fn names(&self) -> impl Iterator<Item = &'x str> {
        self.lines.iter().flat_map(|line| line.split(',')).map(str::trim).filter(|name| !name.is_empty())
    }
}

impl Middleware for Policy {
    fn on_request<'a>(&'a self, x: &'a mut Exchange) -> Result<Flow<'a>, Error> {
        let fields = &x.request.fields;
        let Some(origin) = fields.known_str(Known::Origin) else { return Ok(Flow::Next) };
        if x.request.method == Method::OPTIONS
            && let Some(method) = fields.get_str("access-control-request-method")
        {
            return Ok(Flow::Answer(self.preflight(x, origin, method)));
        }
        // Remembered now: what follows may change the request's fields.
        if self.varies() && self.origins.allow(origin) {
            let origin = Allowed(origin.into());
            x.remember(origin);
        }
        Ok(Flow::Next)
    }

    fn on_response<'a>(&'a self, x: &'a mut Exchange, answer: &'a mut Answer) -> Result<Done<'a>, Error> {
        let fields = &mut answer.fields;
        let preflight = answer.source == portcullis_core::Source::Gateway(Cors::NAME);
        if !preflight {
            OURS.iter().for_each(|name| {
                fields.remove(name);
            });
            let allowed = x.recall::<Allowed>();
            if let Some(origin) = allowed.map(|Allowed(origin)| &**origin).or((!self.varies()).then_some("*"))
            {
                self.allow_origin(fields, origin);
                self.answer.iter().for_each(|line| fields.append_line(line));
            }
        }
        // Also without an origin, and also when it was refused: a cache must not hand this answer to another page.
        if self.varies() {
            vary::add(fields, "Origin");
        }
        if preflight {
            vary::add(fields, "Access-Control-Request-Method");
            vary::add(fields, "Access-Control-Request-Headers");
        }
        Ok(Done::Now)
    }
}

#[cfg(test)]
mod tests;
