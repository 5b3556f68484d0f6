//! `strip_prefix_regex`: takes away from the path what an expression matches at its beginning.

use std::sync::Arc;

use portcullis_core::{
    Error, Exchange, Flow, Middleware,
    middleware::{Around, MiddlewareKind, Problem},
};
use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{pattern, settings::Strings, strip_prefix::strip};

/// Settings of `strip_prefix_regex`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StripPrefixRegex {
    /// Expressions; the first that matches at the beginning of the path says what is taken away.
    pub regex: Strings,
}

struct Strip {
    expressions: Vec<Regex>,
}

impl MiddlewareKind for StripPrefixRegex {
    const NAME: &'static str = "strip_prefix_regex";
    const SUMMARY: &'static str = "Takes away from the path what an expression matches at its beginning.";
    const EXAMPLE: &'static str = r#"regex = ["/tenants/[a-z0-9-]+"]"#;

    fn build(self, _: &Around<'_>) -> Result<Arc<dyn Middleware>, Problem> {
        if self.regex.0.is_empty() {
            return Err(Problem::at("regex", "there is none").help(r#"such as `regex = ["/v[0-9]+"]`"#));
        }
        let compile = |(index, text): (usize, &String)| pattern::compile(&format!("regex[{index}]"), text);
        let expressions = self.regex.0.iter().enumerate().map(compile).collect::<Result<_, _>>()?;
        Ok(Arc::new(Strip { expressions }))
    }
}

impl Middleware for Strip {
    fn on_request<'a>(&'a self, x: &'a mut Exchange) -> Result<Flow<'a>, Error> {
        let path = x.request.path();
        let matched = self.expressions.iter().find_map(|expression| {
            let found = expression.find(path)?;
            (found.start() == 0 && found.end() > 0).then_some(found.end())
        });
        if let Some(bytes) = matched {
            let prefix = path.get(..bytes).unwrap_or_default().to_owned();
            strip(x, bytes)?;
            x.request.fields.append("X-Forwarded-Prefix", prefix);
        }
        Ok(Flow::Next)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{build, problem, request};
    use portcullis_core::Kind;
    use serde_json::json;

    #[test]
    fn strips_what_matches_at_the_beginning() {
        let strip = build("strip_prefix_regex", json!({"regex": ["/t/[a-z]+", "/v[0-9]+"]}));
        for (path, left, prefix) in [
            ("/t/abc/x", "/x", Some("/t/abc")),
            ("/v12/x", "/x", Some("/v12")),
            ("/v12", "/", Some("/v12")),
            ("/x/v12/y", "/x/v12/y", None),
        ] {
            let mut x = request(path);
            strip.on_request(&mut x).unwrap();
            assert_eq!(x.request.path(), left);
            assert_eq!(x.request.fields.get_str("x-forwarded-prefix"), prefix, "{path}");
        }
    }

    #[test]
    fn what_is_left_must_be_canonical() {
        let strip = build("strip_prefix_regex", json!({"regex": "/a|/c%"}));
        for path in ["/a../x", "/c%2Fx"] {
            let kind = strip.on_request(&mut request(path)).err().map(|error| error.kind);
            assert_eq!(kind, if path.starts_with("/a") { Some(Kind::BadPath) } else { None }, "{path}");
        }
        let cut = build("strip_prefix_regex", json!({"regex": "/c%2"}));
        let mut x = request("/c%2Fx");
        cut.on_request(&mut x).unwrap();
        assert_eq!(x.request.path(), "/Fx");
    }

    #[test]
    fn expressions_are_judged() {
        assert_eq!(problem("strip_prefix_regex", json!({"regex": ["a", "("]})).path, "regex[1]");
    }
}
