//! `replace_path_regex`: rewrites the path by an expression.

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
    replace_path::note_replaced,
    scratch,
};

/// Settings of `replace_path_regex`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplacePathRegex {
    /// What to look for in the path (percent-encoded, as it is sent). Matches anywhere unless `^` and `$` say
    /// otherwise.
    pub regex: String,
    /// What to put in the place of each match; `$1` or `${1}` is the first group.
    pub replacement: String,
}

struct Replace {
    regex: Regex,
    replacement: Replacement,
}

impl MiddlewareKind for ReplacePathRegex {
    const NAME: &'static str = "replace_path_regex";
    const SUMMARY: &'static str = "Rewrites the path by a regular expression.";
    const EXAMPLE: &'static str = "regex = '^/users/([0-9]+)/(.*)'\nreplacement = '/$2/of/$1'";

    fn build(self, _: &Around<'_>) -> Result<Arc<dyn Middleware>, Problem> {
        let regex = pattern::compile("regex", &self.regex)?;
        let replacement = Replacement::compile("replacement", &self.replacement, &regex)?;
        for text in replacement.texts() {
            if let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic() || "?#\\\"<>^`{|}".contains(*c)) {
                let message = format!("`{}` cannot stand in a path", bad.escape_debug());
                let help = "percent-encode it; a query cannot be set here";
                return Err(Problem::at("replacement", message).help(help));
            }
        }
        Ok(Arc::new(Replace { regex, replacement }))
    }
}

impl Middleware for Replace {
    fn on_request<'a>(&'a self, x: &'a mut Exchange) -> Result<Flow<'a>, Error> {
        if canonical::has_path(x) {
            scratch::with(|path| {
                if self.replacement.replace_all(&self.regex, x.request.path(), path) {
                    note_replaced(x);
                    canonical::rewrite(x, path)?;
                }
                Ok::<_, Error>(())
            })?;
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
    fn rewrites_what_matches() {
        let replace =
            build("replace_path_regex", json!({"regex": "^/a/([^/]*)(.*)", "replacement": "/${1}$2/z"}));
        let mut x = request("/a/b/c");
        replace.on_request(&mut x).unwrap();
        assert_eq!(x.request.path(), "/b/c/z");
        assert_eq!(x.request.fields.get_str("x-replaced-path"), Some("/a/b/c"));
        let mut x = request("/b/c");
        replace.on_request(&mut x).unwrap();
        assert_eq!((x.request.path(), x.request.fields.contains("x-replaced-path")), ("/b/c", false));
    }

    #[test]
    fn the_result_must_be_canonical() {
        let bad = [
            ("^/a/(.*)", "/$1", "/a/"), // fine: `/`
            ("^/a(.*)", "/$1", "/a/x"), // `//x`
            ("^/a(.*)", "$1", "/ab"),   // `b`
            ("^/a/(.*)", "/.$1", "/a/.x"),
            ("^/%2F(.*)", "/%2$1", "/%2FE"),
        ];
        for (index, (regex, replacement, path)) in bad.into_iter().enumerate() {
            let replace = build("replace_path_regex", json!({"regex": regex, "replacement": replacement}));
            let kind = replace.on_request(&mut request(path)).err().map(|error| error.kind);
            assert_eq!(
                kind,
                (index > 0 && index != 3).then_some(Kind::BadPath),
                "{regex} {replacement} {path}"
            );
        }
    }

    #[test]
    fn settings_are_judged() {
        let path = |regex, replacement| {
            problem("replace_path_regex", json!({"regex": regex, "replacement": replacement})).path
        };
        assert_eq!(path("(", "/"), "regex");
        assert_eq!(path("a", "$1"), "replacement");
        assert_eq!(path("a", "/?x=1"), "replacement");
    }
}
