//! `redirect_scheme`: sends clients from `http` to `https` (or back).

use std::{fmt::Write, num::NonZeroU16, sync::Arc};

use portcullis_core::{
    Error, Exchange, Flow, Kind, Middleware,
    middleware::{Around, MiddlewareKind, Problem},
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{redirect, scratch};

/// Settings of `redirect_scheme`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedirectScheme {
    /// The scheme that clients shall use.
    pub scheme: Scheme,
    /// The port that clients shall use; without it, the scheme's own.
    pub port: Option<NonZeroU16>,
    /// Answer 301 or 308, which clients remember, instead of 302 or 307.
    #[serde(default)]
    pub permanent: bool,
}

/// A scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Plaintext.
    Http,
    /// With TLS.
    Https,
}

struct Redirect {
    secure: bool,
    scheme: &'static str,
    /// The port to be named; `None` where it is the scheme's own.
    port: Option<u16>,
    permanent: bool,
}

impl MiddlewareKind for RedirectScheme {
    const NAME: &'static str = "redirect_scheme";
    const SUMMARY: &'static str = "Sends clients to the other scheme, from `http` to `https`.";
    const EXAMPLE: &'static str = "scheme = \"https\"\npermanent = true";

    fn build(self, _: &Around<'_>) -> Result<Arc<dyn Middleware>, Problem> {
        let (scheme, own) = match self.scheme {
            Scheme::Http => ("http", 80),
            Scheme::Https => ("https", 443),
        };
        let port = self.port.map(NonZeroU16::get).filter(|port| *port != own);
        let secure = self.scheme == Scheme::Https;
        Ok(Arc::new(Redirect { secure, scheme, port, permanent: self.permanent }))
    }
}

impl Middleware for Redirect {
    fn on_request<'a>(&'a self, x: &'a mut Exchange) -> Result<Flow<'a>, Error> {
        let request = &x.request;
        let port = request.authority().get(request.host().len()..).unwrap_or_default();
        let named = port.trim_start_matches('.').strip_prefix(':').and_then(|port| port.parse().ok());
        // With no port configured, any will do: it may be that of a container behind a mapped one.
        if x.secure == self.secure && (self.port.is_none() || named == self.port) {
            return Ok(Flow::Next);
        }
        if request.host().is_empty() {
            return Err(Error::because(Kind::BadRequest, "no host to redirect to"));
        }
        let answer = scratch::with(|location| {
            location.push_str(self.scheme);
            location.push_str("://");
            location.push_str(request.host());
            if let Some(port) = self.port {
                // Writing to a string cannot fail.
                let _ = write!(location, ":{port}");
            }
            push_target(location, x);
            redirect::answer(RedirectScheme::NAME, self.permanent, &request.method, location)
        });
        Ok(Flow::Answer(answer))
    }
}

/// Appends path and query. `OPTIONS *` has neither.
pub fn push_target(url: &mut String, x: &Exchange) {
    if x.request.path().starts_with('/') {
        url.push_str(x.request.path());
    }
    if let Some(query) = x.request.query() {
        url.push('?');
        url.push_str(query);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{answered, build, passed, problem, request_by};
    use http::Method;
    use portcullis_core::Kind;
    use serde_json::{Value, json};

    fn location(settings: Value, authority: &str, secure: bool) -> Option<String> {
        let redirect = build("redirect_scheme", settings);
        let mut x = request_by(Method::GET, "/a%20b");
        x.request.set_authority(authority);
        x.secure = secure;
        match redirect.on_request(&mut x).unwrap() {
            portcullis_core::Flow::Answer(answer) => answer.fields.get_str("location").map(str::to_owned),
            _ => None,
        }
    }

    #[test]
    fn locations() {
        let https = json!({"scheme": "https"});
        let at = |location: &str| Some(location.to_owned());
        assert_eq!(location(https.clone(), "a.example", false), at("https://a.example/a%20b?q=1"));
        assert_eq!(location(https.clone(), "a.example:8080", false), at("https://a.example/a%20b?q=1"));
        assert_eq!(location(https.clone(), "[::1]:80", false), at("https://[::1]/a%20b?q=1"));
        assert_eq!(location(https.clone(), "a.example", true), None);
        assert_eq!(location(https, "a.example:8443", true), None);
        let own = json!({"scheme": "https", "port": 8443});
        assert_eq!(location(own.clone(), "a.example", false), at("https://a.example:8443/a%20b?q=1"));
        assert_eq!(location(own.clone(), "a.example", true), at("https://a.example:8443/a%20b?q=1"));
        assert_eq!(location(own, "a.example:8443", true), None);
        assert_eq!(
            location(json!({"scheme": "https", "port": 443}), "a:1", false),
            at("https://a/a%20b?q=1")
        );
        assert_eq!(location(json!({"scheme": "http"}), "a", true), at("http://a/a%20b?q=1"));
    }

    #[test]
    fn statuses_by_method() {
        for (permanent, method, status) in [
            (false, Method::GET, 302),
            (false, Method::POST, 307),
            (true, Method::GET, 301),
            (true, Method::HEAD, 308),
            (true, Method::PUT, 308),
        ] {
            let redirect = build("redirect_scheme", json!({"scheme": "https", "permanent": permanent}));
            let mut x = request_by(method, "/");
            assert_eq!(answered(redirect.on_request(&mut x).unwrap()).status, status);
            x.secure = true;
            passed(redirect.on_request(&mut x).unwrap());
        }
    }

    #[test]
    fn without_a_host_there_is_nowhere_to_go() {
        let redirect = build("redirect_scheme", json!({"scheme": "https"}));
        let mut x = request_by(Method::GET, "/");
        x.request.set_authority("");
        assert_eq!(redirect.on_request(&mut x).err().unwrap().kind, Kind::BadRequest);
    }

    #[test]
    fn settings_are_judged() {
        assert_eq!(problem("redirect_scheme", json!({"scheme": "ftp"})).path, "scheme");
        assert_eq!(problem("redirect_scheme", json!({"scheme": "https", "port": 0})).path, "port");
    }
}
