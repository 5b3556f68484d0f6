//! `jwt`: lets only those pass who bring a token that somebody trusted has signed (RFC 7519, RFC 6750, RFC 8725).

mod keys;
mod ring;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use portcullis_core::{
    Answer, Done, Error, Exchange, Flow, Kind, Middleware,
    cookie::cookies,
    exchange::Identity,
    forwarded::is_spelling_of,
    line::is_value,
    meter::Counter,
    middleware::{Around, MiddlewareKind, Problem},
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use self::keys::Key;
use crate::settings::{self, Strings, Time};

/// Settings of `jwt`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// The secret that the issuer signs with (HS256, HS384, HS512), or several while one takes another's place. Write
    /// `${JWT_SECRET}` rather than the secret itself; it should have 32 characters or more.
    pub secret: Option<Strings>,
    /// The secret is written in base64, and means the bytes behind it.
    #[serde(default)]
    pub secret_is_base64: bool,
    /// The issuer's public key (RSA, P-256, P-384, Ed25519): the path of a PEM file, or its text; or several.
    pub public_key: Option<Strings>,
    /// Algorithms that tokens may be signed by. Default: the usual one of each key (HS256, RS256, ES256, ES384, EdDSA). What a
    /// token says of itself never widens this.
    #[serde(default)]
    pub algorithms: Strings,
    /// Who must have issued a token (`iss`): one of these. Without it, whoever has the key.
    pub issuer: Option<Strings>,
    /// Whom a token must be meant for (`aud`): one of these at least. Without it, tokens that are meant for somebody are refused.
    pub audience: Option<Strings>,
    /// By how much clocks may differ: for so long tokens are good after `exp` and before `nbf`.
    #[serde(default = "half_a_minute")]
    pub leeway: Time,
    /// Tokens must end at some time (`exp`); one that has ended is refused in any case.
    #[serde(default = "yes")]
    pub expiry: bool,
    /// Claims that a token must have, each with one of these values: `{ role = ["admin", "editor"] }`. Of a list, and of the
    /// words in `scope`, one will do. Others are refused with 403.
    #[serde(default)]
    pub require: BTreeMap<String, Strings>,
    /// The claim that names the client, for limits and logs.
    #[serde(default = "subject")]
    pub subject: String,
    /// The header that the token comes in, with or without `Bearer` before it.
    #[serde(default = "authorization")]
    pub header: String,
    /// A cookie that the token may come in too, when the header is not there.
    pub cookie: Option<String>,
    /// Requests without a token pass, as nobody's; what is no good is refused all the same.
    #[serde(default)]
    pub optional: bool,
    /// Headers that tell the service of claims: `{ X-User-Id = "sub" }`. What clients write there never passes.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The service does not get to see the token's header.
    #[serde(default)]
    pub hide: bool,
    /// What is protected, as browsers are told in `WWW-Authenticate`.
    #[serde(default = "realm")]
    pub realm: String,
}

fn half_a_minute() -> Time {
    Time(Duration::from_secs(30))
}

fn yes() -> bool {
    true
}

fn subject() -> String {
    "sub".to_owned()
}

fn authorization() -> String {
    "Authorization".to_owned()
}

fn realm() -> String {
    "portcullis".to_owned()
}

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
    /// It is good, but not for this.
    Scope,
}

impl Wrong {
    const ALL: [Wrong; 7] = [
        Wrong::Missing,
        Wrong::Malformed,
        Wrong::Signature,
        Wrong::Expired,
        Wrong::Early,
        Wrong::Claims,
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
    headers: Vec<(String, String)>,
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
        settings::name("header", &self.header)?;
        if let Some(cookie) = &self.cookie {
            settings::name("cookie", cookie)?;
        }
        for (header, claim) in &self.headers {
            let path = format!("headers.{header}");
            settings::settable(&path, header)?;
            if is_spelling_of(header.as_bytes(), self.header.as_bytes()) && !self.hide {
                return Err(Problem::at(path, "the token itself comes here").help("take another name"));
            }
            if claim.is_empty() {
                return Err(Problem::at(path, "no claim is named").help("such as \"sub\""));
            }
        }
        if self.subject.is_empty() {
            return Err(Problem::at("subject", "no claim is named").help("such as \"sub\""));
        }
        if let Some((claim, _)) = self.require.iter().find(|(_, values)| values.0.is_empty()) {
            let help = "write those that will do, or remove the line";
            return Err(Problem::at(format!("require.{claim}"), "no value would do").help(help));
        }
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

    /// The token that a request brings; `None` when it brings none.
    fn token<'a>(&'a self, x: &'a Exchange) -> Result<Option<&'a [u8]>, Wrong> {
        let fields = &x.request.fields;
        let mut all = fields.get_all(&self.header);
        let found = match (all.next(), all.next()) {
            // Which one would the service believe?
            (Some(_), Some(_)) => return Err(Wrong::Malformed),
            (Some(value), None) => bearer(value, self.header.eq_ignore_ascii_case("authorization")),
            (None, _) => None,
        };
        let Some(name) = self.cookie.as_deref().filter(|_| found.is_none()) else { return Ok(found) };
        let mut all = cookies(fields, name.as_bytes());
        match (all.next(), all.next()) {
            (Some(_), Some(_)) => Err(Wrong::Malformed),
            (one, _) => Ok(one),
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
        let Some(token) = self.token(x)? else {
            return if self.optional { Ok(None) } else { Err(Wrong::Missing) };
        };
        let mut identity = Identity { subject: "".into(), by: Jwt::NAME, claims: self.claims(token)? };
        identity.subject = identity.claim(&self.subject).ok_or(Wrong::Claims)?.into();
        match self.require.iter().all(|(claim, values)| has(&identity, claim, values)) {
            true => Ok(Some(identity)),
            false => Err(Wrong::Scope),
        }
    }

    /// Tells the service of claims, and nothing that a client wrote in their place.
    fn tell(&self, x: &mut Exchange, identity: Option<&Identity>) {
        let hidden = self.hide.then_some(&self.header);
        for name in self.headers.iter().map(|(name, _)| name).chain(hidden) {
            x.request.fields.retain(|_, other, _| !is_spelling_of(other, name.as_bytes()));
        }
        for (name, claim) in &self.headers {
            let value = identity.and_then(|identity| identity.claim(claim));
            if let Some(value) = value.filter(|value| is_value(value)) {
                x.request.fields.append(name, value.as_bytes());
            }
        }
    }
}

/// The token in a header's value: behind `Bearer` (RFC 6750 §2.1), or alone where no other scheme can stand.
fn bearer(value: &[u8], has_scheme: bool) -> Option<&[u8]> {
    let value = value.trim_ascii();
    match value.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => Some(token.trim_ascii_start()),
        _ if value.eq_ignore_ascii_case(b"bearer") => Some(b""),
        // Another scheme's credentials are for somebody else.
        _ if has_scheme => None,
        _ => Some(value),
    }
}

/// Has the claim one of these values? Of a list, and of the words in `scope` (RFC 8693 §4.2), one will do.
fn has(identity: &Identity, claim: &str, values: &[String]) -> bool {
    let is_one = |text: &str| values.iter().any(|value| value == text);
    match identity.claim_value(claim) {
        Some(Value::Array(all)) => all.iter().any(|each| match each {
            Value::String(text) => is_one(text),
            other => is_one(&other.to_string()),
        }),
        Some(Value::String(text)) if matches!(claim, "scope" | "scp") => {
            text.split_ascii_whitespace().any(is_one)
        }
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
