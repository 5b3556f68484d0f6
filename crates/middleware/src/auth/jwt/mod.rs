//! `jwt`: lets only those pass who bring a token that somebody trusted has signed (RFC 7519, RFC 6750, RFC 8725).

mod keys;
mod ring;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use portcullis_core::{
    Answer, Done, Error, Exchange, Flow, Kind, Middleware,
    cookie::cookies,
    exchange::Identity,
    forwarded::is_spelling_of,
    line::is_value,
    meter::Counter,
    middleware::{Around, MiddlewareKind, Problem},
};
use serde_json::{Map, Value};

use self::keys::Key;
pub use self::settings::Jwt;
use super::trailers;
use crate::settings::name;

/// Why a token is no good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// There is none.
    Missing,
    /// It is none, or there are several.
    Malformed,
    /// Nobody who is trusted has signed it.
    Signature,
    /// It was good once.
    Expired,
    /// It will be.
    Early,
    /// It is another's, or for others.
    Claims,
    /// It does not say whose it is.
    Nameless,
    /// It is good, but not for this.
    Scope,
}

impl Wrong {
    const ALL: [Wrong; 8] = [
        Wrong::Missing,
        Wrong::Malformed,
        Wrong::Signature,
        Wrong::Expired,
        Wrong::Early,
        Wrong::Claims,
        Wrong::Nameless,
        Wrong::Scope,
    ];

    /// In metrics and in the log.
    fn as_str(self) -> &'static str {
        match self {
            Wrong::Missing => "missing",
            Wrong::Malformed => "malformed",
            Wrong::Signature => "signature",
            Wrong::Expired => "expired",
            Wrong::Early => "early",
            Wrong::Claims => "claims",
            Wrong::Nameless => "nameless",
            Wrong::Scope => "scope",
        }
    }

    /// For the client, in `WWW-Authenticate` (RFC 6750 §3): nothing that differs from token to token.
    fn challenge(self) -> &'static str {
        match self {
            // RFC 6750 §3.1: who brought nothing is told nothing of errors.
            Wrong::Missing => "",
            Wrong::Malformed => r#", error="invalid_token", error_description="not a token""#,
            Wrong::Signature => r#", error="invalid_token", error_description="not signed by the issuer""#,
            Wrong::Expired => r#", error="invalid_token", error_description="the token has expired""#,
            Wrong::Early => r#", error="invalid_token", error_description="the token is not valid yet""#,
            Wrong::Claims => r#", error="invalid_token", error_description="the token is not for here""#,
            Wrong::Nameless => r#", error="invalid_token", error_description="the token says nobody's name""#,
            Wrong::Scope => r#", error="insufficient_scope""#,
        }
    }
}

/// The check, compiled.
struct Check {
    keys: Vec<Key>,
    require: Vec<(String, Vec<String>)>,
    subject: String,
    header: String,
    cookie: Option<String>,
    optional: bool,
    /// Headers for the service, and the claims in them.
    headers: Arc<[(String, String)]>,
    hide: bool,
    realm: String,
    accepted: Arc<Counter>,
    anonymous: Arc<Counter>,
    refused: [Arc<Counter>; Wrong::ALL.len()],
}

/// What this check found wrong, for its answer: which check (its address), and what.
struct Refusal(usize, Wrong);

impl MiddlewareKind for Jwt {
    const NAME: &'static str = "jwt";
    const SUMMARY: &'static str = "Lets only those pass who bring a token that somebody trusted has signed.";
    const EXAMPLE: &'static str = "secret = \"at-least-32-characters-by-a-variable\"\nissuer = \"https://login.example.com\"\naudience = \"shop\"";

    fn build(self, around: &Around<'_>) -> Result<Arc<dyn Middleware>, Problem> {
        ring::install();
        let keys = Key::all(&self, around.folder)?;
        Jwt::can_come_in(&self.header)?;
        if let Some(cookie) = &self.cookie {
            name("cookie", cookie)?;
        }
        self.can_be_told()?;
        if self.subject.is_empty() {
            return Err(Problem::at("subject", "no claim is named").help("such as \"sub\""));
        }
        self.can_be_met()?;
        let is_quotable = |c: char| matches!(c, ' '..='~') && c != '"' && c != '\\';
        if !self.realm.chars().all(is_quotable) {
            let help = "ASCII characters without quotation marks and backslashes";
            return Err(Problem::at("realm", "this cannot stand in a header").help(help));
        }
        let count = |result: &str| {
            let help =
                "Requests whose credentials were looked at: accepted, anonymous, or why they were refused.";
            let labels = [("middleware", around.name), ("result", result)];
            around.meters.counter("gateway_auth_requests_total", help, &labels)
        };
        Ok(Arc::new(Check {
            keys,
            require: self.require.into_iter().map(|(claim, values)| (claim, values.0)).collect(),
            subject: self.subject,
            header: self.header,
            cookie: self.cookie,
            optional: self.optional,
            headers: self.headers.into_iter().collect(),
            hide: self.hide,
            realm: self.realm,
            accepted: count("accepted"),
            anonymous: count("anonymous"),
            refused: Wrong::ALL.map(|wrong| count(wrong.as_str())),
        }))
    }
}

impl Check {
    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// The token that a request brings, and whether in `Authorization`; `None` when it brings none. Several are none at all:
    /// the service might believe another one than we (RFC 6750 §2).
    fn token<'a>(&'a self, x: &'a Exchange) -> Result<Option<(&'a [u8], bool)>, Wrong> {
        let fields = &x.request.fields;
        let is_authorization = self.header.eq_ignore_ascii_case("authorization");
        let mut all = fields.get_all(&self.header);
        let found = match (all.next(), all.next()) {
            (Some(_), Some(_)) => return Err(Wrong::Malformed),
            (Some(value), None) if is_authorization => bearer(value)?,
            (Some(value), None) => Some(bearer(value).ok().flatten().unwrap_or(value)),
            (None, _) => None,
        };
        let mut others = self.cookie.iter().flat_map(|name| cookies(fields, name.as_bytes()));
        match (found, others.next(), others.next()) {
            (Some(_), Some(_), _) | (_, _, Some(_)) => Err(Wrong::Malformed),
            (found, other, None) => {
                Ok(found.map(|token| (token, is_authorization)).or(other.map(|token| (token, false))))
            }
        }
    }

    /// What the token says, if it may be believed.
    fn claims(&self, token: &[u8]) -> Result<Map<String, Value>, Wrong> {
        let mut wrong = Wrong::Signature;
        for key in &self.keys {
            match key.claims(token) {
                Ok(claims) => return Ok(claims),
                // It may be signed with the next.
                Err(Wrong::Signature) => {}
                Err(other) => wrong = other,
            }
        }
        Err(wrong)
    }

    fn identity(&self, x: &Exchange) -> Result<Option<Identity>, Wrong> {
        let Some((token, by_authorization)) = self.token(x)? else {
            return if self.optional { Ok(None) } else { Err(Wrong::Missing) };
        };
        let claims = self.claims(token)?;
        let mut identity = Identity { subject: "".into(), by: Jwt::NAME, by_authorization, claims };
        let subject = identity.claim(&self.subject).filter(|name| !name.is_empty());
        identity.subject = subject.ok_or(Wrong::Nameless)?.into();
        match self.require.iter().all(|(claim, values)| has(&identity, claim, values)) {
            true => Ok(Some(identity)),
            false => Err(Wrong::Scope),
        }
    }

    /// Tells the service of claims, and nothing that a client wrote in their place.
    fn tell(&self, x: &mut Exchange, identity: Option<&Identity>) {
        let (header, hide) = (self.header.as_bytes(), self.hide);
        x.request.fields.retain(|_, name, _| {
            let is_token = is_spelling_of(name, header) && (hide || !name.eq_ignore_ascii_case(header));
            !is_token && !self.headers.iter().any(|(told, _)| is_spelling_of(name, told.as_bytes()))
        });
        if !self.headers.is_empty() {
            trailers::without(&mut x.request.body, &self.headers);
        }
        for (name, claim) in self.headers.iter() {
            let value = identity.and_then(|identity| identity.claim(claim));
            if let Some(value) = value.filter(|value| is_value(value)) {
                x.request.fields.append(name, value.as_bytes());
            }
        }
    }
}

/// The token behind `Bearer` (RFC 6750 §2.1); `None` for credentials of another scheme, which are for somebody else.
fn bearer(value: &[u8]) -> Result<Option<&[u8]>, Wrong> {
    let value = value.trim_ascii();
    let of = |value: &[u8]| value.iter().position(u8::is_ascii_whitespace).unwrap_or(value.len());
    let scheme = |value: &[u8]| value.get(..of(value)).is_some_and(|s| s.eq_ignore_ascii_case(b"bearer"));
    if scheme(value) {
        return Ok(Some(value.get(of(value)..).unwrap_or_default().trim_ascii()));
    }
    // A word alone is no credentials of any scheme, and no list of them is (RFC 9110 §11.6.2): who reads it as one might
    // find a token that nobody has checked.
    if of(value) == value.len() || value.split(|&byte| byte == b',').any(|part| scheme(part.trim_ascii())) {
        return Err(Wrong::Malformed);
    }
    Ok(None)
}

fn is_scope(claim: &str) -> bool {
    matches!(claim, "scope" | "scp")
}

/// Has the claim one of these values? Of a list, and of the words in `scope` (RFC 8693 §4.2), one will do.
fn has(identity: &Identity, claim: &str, values: &[String]) -> bool {
    let is_one = |text: &str| values.iter().any(|value| value == text);
    match identity.claim_value(claim) {
        Some(Value::Array(all)) => all.iter().any(|each| match each {
            Value::String(text) => is_one(text),
            other => is_one(&other.to_string()),
        }),
        Some(Value::String(text)) if is_scope(claim) => text.split_ascii_whitespace().any(is_one),
        _ => identity.claim(claim).is_some_and(|text| is_one(&text)),
    }
}

impl Middleware for Check {
    fn on_request<'a>(&'a self, x: &'a mut Exchange) -> Result<Flow<'a>, Error> {
        match self.identity(x) {
            Ok(identity) => {
                self.tell(x, identity.as_ref());
                match identity {
                    Some(identity) => {
                        self.accepted.inc();
                        x.identify(identity);
                    }
                    None => self.anonymous.inc(),
                }
                Ok(Flow::Next)
            }
            Err(wrong) => {
                if let Some(counter) = self.refused.get(wrong as usize) {
                    counter.inc();
                }
                x.remember(Refusal(self.id(), wrong));
                let kind = if wrong == Wrong::Scope { Kind::Denied } else { Kind::Unauthenticated };
                Err(Error::because(kind, format!("jwt: {}", wrong.as_str())))
            }
        }
    }

    fn on_response<'a>(&'a self, x: &'a mut Exchange, answer: &'a mut Answer) -> Result<Done<'a>, Error> {
        if let Some(Refusal(by, wrong)) = x.recall()
            && *by == self.id()
        {
            // RFC 9110 §11.6.1: a 401 says how to do better.
            let challenge = format!("Bearer realm=\"{}\"{}", self.realm, wrong.challenge());
            answer.fields.append("www-authenticate", challenge);
        }
        Ok(Done::Now)
    }
}
