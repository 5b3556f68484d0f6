//! `redirect_regex`: sends clients elsewhere by an expression over the whole URL.

use std::sync::Arc;

use portcullis_core::{
    Error, Exchange, Flow, Middleware,
    middleware::{Around, MiddlewareKind, Problem},
};
use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    canonical,
    pattern::{self, Replacement},
    redirect,
    redirect_scheme::push_target,
};

/// Settings of `redirect_regex`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedirectRegex {
    /// What to look for in the URL as the client sees it, such as `http://shop.example/orders?page=2`. Matches anywhere
    /// unless `^` and `$` say otherwise.
    pub regex: String,
    /// What to put in the place of each match; `$1` or `${1}` is the first group.
    pub replacement: String,
    /// Answer 301 or 308, which clients remember, instead of 302 or 307.
    #[serde(default)]
    pub permanent: bool,
}

struct Redirect {
    regex: Regex,
    replacement: Replacement,
    permanent: bool,
}

impl MiddlewareKind for RedirectRegex {
    const NAME: &'static str = "redirect_regex";
    const SUMMARY: &'static str = "Sends clients elsewhere by a regular expression over the whole URL.";
    const EXAMPLE: &'static str =
        "regex = '^https?://www\\.(.*)'\nreplacement = 'https://$1'\npermanent = true";

    fn build(self, _: &Around<'_>) -> Result<Arc<dyn Middleware>, Problem> {
        let regex = pattern::compile("regex", &self.regex)?;
        let replacement = Replacement::compile("replacement", &self.replacement, &regex)?;
        for text in replacement.texts() {
            if let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic() || "\\\"<>^`{|}".contains(*c)) {
                let message = format!("`{}` cannot stand in a URL", bad.escape_debug());
                return Err(Problem::at("replacement", message).help("percent-encode it"));
            }
        }
        Ok(Arc::new(Redirect { regex, replacement, permanent: self.permanent }))
    }
}

impl Middleware for Redirect {
    fn on_request<'a>(&'a self, x: &'a mut Exchange) -> Result<Flow<'a>, Error> {
        let mut url = String::with_capacity(128);
        url.push_str(x.scheme());
        url.push_str("://");
        url.push_str(x.request.authority());
        push_target(&mut url, x);
        let mut location = String::new();
        // The same URL again would send the client in circles.
        if !self.replacement.replace_all(&self.regex, &url, &mut location) || location == url {
            return Ok(Flow::Next);
        }
        // `//host` names another host. Where the settings mean a path, what the client sent must not make it one.
        if location.starts_with("//") && !self.replacement.beginning().starts_with("//") {
            return Err(canonical::refused("would lead to another host"));
        }
        let method = &x.request.method;
        Ok(Flow::Answer(redirect::answer(RedirectRegex::NAME, self.permanent, method, &location)))
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{answered, build, passed, problem, request};
    use portcullis_core::Kind;
    use serde_json::json;

    #[test]
    fn the_whole_url_is_looked_at() {
        let redirect = build(
            "redirect_regex",
            json!({"regex": "^http://shop\\.example/old/(.*)", "replacement": "https://new.example/${1}&x=y"}),
        );
        let mut x = request("/old/a%20b");
        let answer = answered(redirect.on_request(&mut x).unwrap());
        assert_eq!(answer.fields.get_str("location"), Some("https://new.example/a%20b?q=1&x=y"));
        assert_eq!(answer.status, 302);
        passed(redirect.on_request(&mut request("/other")).unwrap());
    }

    #[test]
    fn never_to_where_the_client_is() {
        let redirect =
            build("redirect_regex", json!({"regex": "^(.*)$", "replacement": "$1", "permanent": true}));
        passed(redirect.on_request(&mut request("/")).unwrap());
    }

    #[test]
    fn a_path_cannot_become_a_host() {
        let redirect =
            build("redirect_regex", json!({"regex": "^https?://[^/]+/old(/.*)", "replacement": "$1"}));
        let answer = answered(redirect.on_request(&mut request("/old/x")).unwrap());
        assert_eq!(answer.fields.get_str("location"), Some("/x?q=1"));
        let error = redirect.on_request(&mut request("/old//evil.example")).err().unwrap();
        assert_eq!(error.kind, Kind::BadPath);
    }

    #[test]
    fn settings_are_judged() {
        let path = |regex, to| problem("redirect_regex", json!({"regex": regex, "replacement": to})).path;
        assert_eq!(path("(", "x"), "regex");
        assert_eq!(path("x", "$1"), "replacement");
        assert_eq!(path("x", "https://a b/"), "replacement");
        assert_eq!(path("x", "https://é/"), "replacement");
    }
}
