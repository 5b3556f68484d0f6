//! `add_prefix`: puts a prefix in front of the path.

use std::sync::Arc;

use portcullis_core::{
    Error, Exchange, Flow, Middleware,
    middleware::{Around, MiddlewareKind, Problem},
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{canonical, scratch};

/// Settings of `add_prefix`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddPrefix {
    /// What to put in front of the path; starts with `/`. A `/` at its end is dropped, since the path brings one.
    pub prefix: String,
}

struct Add {
    prefix: String,
}

impl MiddlewareKind for AddPrefix {
    const NAME: &'static str = "add_prefix";
    const SUMMARY: &'static str = "Puts a prefix in front of the path.";
    const EXAMPLE: &'static str = r#"prefix = "/internal""#;

    fn build(self, _: &Around<'_>) -> Result<Arc<dyn Middleware>, Problem> {
        canonical::setting("prefix", &self.prefix)?;
        let prefix = self.prefix.strip_suffix('/').unwrap_or(&self.prefix).to_owned();
        if prefix.is_empty() {
            return Err(Problem::at("prefix", "`/` adds nothing").help("a path such as `/internal`"));
        }
        Ok(Arc::new(Add { prefix }))
    }
}

impl Middleware for Add {
    fn on_request<'a>(&'a self, x: &'a mut Exchange) -> Result<Flow<'a>, Error> {
        if canonical::has_path(x) {
            // Two canonical paths, one behind the other, are a canonical path.
            scratch::with(|path| {
                path.push_str(&self.prefix);
                path.push_str(x.request.path());
                x.request.set_path(path);
            });
        }
        Ok(Flow::Next)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{build, problem, request};
    use serde_json::json;

    #[test]
    fn prefixes_are_added() {
        for (prefix, path, whole) in
            [("/a", "/x", "/a/x"), ("/a/b/", "/", "/a/b/"), ("/a", "/%2F", "/a/%2F"), ("/a", "*", "*")]
        {
            let mut x = request(path);
            build("add_prefix", json!({ "prefix": prefix })).on_request(&mut x).unwrap();
            assert_eq!((x.request.path(), x.request.query()), (whole, Some("q=1")));
        }
    }

    #[test]
    fn prefixes_are_judged() {
        for prefix in ["", "/", "a", "/a?b", "/../a", "/a b"] {
            assert_eq!(problem("add_prefix", json!({ "prefix": prefix })).path, "prefix", "{prefix}");
        }
    }
}
