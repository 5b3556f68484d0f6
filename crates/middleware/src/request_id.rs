//! `request_id`: gives each request an identifier, sent on to the service and back to the client.

use std::sync::Arc;

use portcullis_core::{
    Answer, Done, Error, Exchange, Fields, Flow, Known, Middleware,
    middleware::{Around, MiddlewareKind, Problem},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings;

/// Settings of `request_id`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestId {
    /// The field that carries the identifier.
    #[serde(default = "default_header")]
    pub header: String,
    /// Whose identifier is taken over instead of making one: that of the listener's trusted proxies, anybody's, or
    /// nobody's.
    #[serde(default)]
    pub trust: Trust,
    /// Send the identifier back to the client too.
    #[serde(default = "yes")]
    pub answer: bool,
}

/// Whose identifier is taken over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// That of peers in the listener's `trusted_proxies`.
    #[default]
    #[serde(alias = "trusted-peers")]
    TrustedPeers,
    /// Anybody's.
    All,
    /// Nobody's.
    None,
}

fn default_header() -> String {
    "X-Request-Id".to_owned()
}

fn yes() -> bool {
    true
}

struct Identify {
    header: String,
    known: Known,
    trust: Trust,
    answer: bool,
}

/// Longer identifiers are not taken over: they end up in every log line.
const LONGEST: usize = 128;

impl MiddlewareKind for RequestId {
    const NAME: &'static str = "request_id";
    const SUMMARY: &'static str =
        "Gives each request an identifier, for the service, the client and the logs.";
    const EXAMPLE: &'static str = r#"header = "X-Request-Id""#;

    fn build(self, _: &Around<'_>) -> Result<Arc<dyn Middleware>, Problem> {
        settings::settable("header", &self.header)?;
        let known = Known::of(self.header.as_bytes());
        Ok(Arc::new(Identify { header: self.header, known, trust: self.trust, answer: self.answer }))
    }
}

impl Identify {
    fn trusts(&self, x: &Exchange) -> bool {
        match self.trust {
            Trust::TrustedPeers => x.connection.trusted,
            Trust::All => true,
            Trust::None => false,
        }
    }

    /// The identifier that came with the request, if it came alone and is well formed.
    fn sent<'x>(&self, x: &'x Exchange) -> Option<&'x str> {
        let fields = &x.request.fields;
        // A stranger's was taken out of the fields before anybody saw it.
        if let Some(claimed) = x.claimed_id.as_deref().filter(|_| self.known == Known::XRequestId) {
            return is_id(claimed).then_some(claimed);
        }
        let (first, second) = if self.known == Known::Other {
            let mut all = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(self.header.as_bytes()));
            (all.next().map(|(_, value)| value), all.next().is_some())
        } else {
            let mut all = fields.known_all(self.known);
            (all.next(), all.next().is_some())
        };
        let text = std::str::from_utf8(first?).ok()?;
        (!second && is_id(text)).then_some(text)
    }

    fn set(&self, fields: &mut Fields, id: &str) {
        fields.remove_classified(self.known, self.header.as_bytes());
        fields.append_classified(self.known, &self.header, id.as_bytes());
    }
}

/// Characters that are safe in logs, URLs and shells.
fn is_id(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=:@".contains(&b);
    !text.is_empty() && text.len() <= LONGEST && text.bytes().all(allowed)
}

impl Middleware for Identify {
    fn on_request<'a>(&'a self, x: &'a mut Exchange) -> Result<Flow<'a>, Error> {
        if x.id.is_none()
            && self.trusts(x)
            && let Some(id) = self.sent(x)
        {
            x.id = Some(id.into());
            if x.claimed_id.is_none() {
                return Ok(Flow::Next);
            }
        }
        x.id_or_new();
        if let Some(id) = &x.id {
            self.set(&mut x.request.fields, id);
        }
        Ok(Flow::Next)
    }

    fn on_response<'a>(&'a self, x: &'a mut Exchange, answer: &'a mut Answer) -> Result<Done<'a>, Error> {
        if let Some(id) = x.id.as_deref().filter(|_| self.answer) {
            self.set(&mut answer.fields, id);
        }
        Ok(Done::Now)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{build, problem, request, told, trusted};
    use http::StatusCode;
    use portcullis_core::Answer;
    use serde_json::{Value, json};

    /// The identifier that the service and the client see, which must be one and the same.
    fn seen(settings: Value, trusted_peer: bool, sent: &[&str]) -> String {
        let identify = build("request_id", settings);
        let mut x = request("/");
        if trusted_peer {
            trusted(&mut x);
        }
        sent.iter().for_each(|id| x.request.fields.append("x-request-id", id));
        identify.on_request(&mut x).unwrap();
        let mut answer = Answer::new(StatusCode::OK, "test");
        answer.fields.append("X-Request-ID", "the-service's-own");
        told(&identify, &mut x, &mut answer);
        let on_request: Vec<_> = x.request.fields.get_all("x-request-id").collect();
        let on_answer: Vec<_> = answer.fields.get_all("x-request-id").collect();
        assert_eq!(on_request, on_answer);
        assert_eq!(on_request, [x.id.as_deref().unwrap().as_bytes()]);
        x.id.unwrap().into()
    }

    fn is_generated(id: &str) -> bool {
        id.len() == 36 && id.as_bytes()[14] == b'7'
    }

    #[test]
    fn taken_over_from_trusted_peers_only() {
        assert_eq!(seen(json!({}), true, &["abc-1"]), "abc-1");
        assert!(is_generated(&seen(json!({}), false, &["abc-1"])));
        assert_eq!(seen(json!({"trust": "all"}), false, &["abc-1"]), "abc-1");
        assert!(is_generated(&seen(json!({"trust": "none"}), true, &["abc-1"])));
        assert!(is_generated(&seen(json!({}), true, &[])));
    }

    #[test]
    fn what_is_not_an_identifier_is_replaced() {
        let long = "x".repeat(129);
        for sent in [vec![""], vec!["a b"], vec!["a", "b"], vec!["<script>"], vec!["é"], vec![long.as_str()]]
        {
            assert!(is_generated(&seen(json!({}), true, &sent)), "{sent:?}");
        }
    }

    #[test]
    fn under_another_name_and_without_answer() {
        let identify = build("request_id", json!({"header": "X-Trace", "answer": false}));
        let mut x = request("/");
        trusted(&mut x);
        x.request.fields.append("x-trace", "t-1");
        identify.on_request(&mut x).unwrap();
        assert_eq!(x.id.as_deref(), Some("t-1"));
        let mut answer = Answer::new(StatusCode::OK, "test");
        told(&identify, &mut x, &mut answer);
        assert!(answer.fields.is_empty());
    }

    #[test]
    fn what_was_taken_out_of_the_fields_counts_for_whoever_trusts_all() {
        for (settings, claimed, expected) in [
            (json!({"trust": "all"}), "abc-1", Some("abc-1")),
            (json!({"trust": "all"}), "a b", None),
            (json!({}), "abc-1", None),
            (json!({"trust": "all", "header": "X-Trace"}), "abc-1", None),
        ] {
            let name = settings.get("header").and_then(Value::as_str).unwrap_or("x-request-id").to_owned();
            let mut x = request("/");
            x.claimed_id = Some(claimed.into());
            build("request_id", settings).on_request(&mut x).unwrap();
            let sent = x.request.fields.get_str(&name).unwrap();
            assert_eq!(x.id.as_deref(), Some(sent));
            match expected {
                Some(expected) => assert_eq!(sent, expected),
                None => assert!(is_generated(sent), "{sent}"),
            }
        }
    }

    #[test]
    fn an_id_that_is_there_already_stays() {
        let mut x = request("/");
        x.id = Some("first".into());
        build("request_id", json!({})).on_request(&mut x).unwrap();
        assert_eq!(x.request.fields.get_str("x-request-id"), Some("first"));
    }

    #[test]
    fn settings_are_judged() {
        assert_eq!(problem("request_id", json!({"header": "a b"})).path, "header");
        assert_eq!(problem("request_id", json!({"trust": "some"})).path, "trust");
    }
}
