//! `replace_path`: puts one fixed path in the place of any.

use std::sync::Arc;

use portcullis_core::{
    Error, Exchange, Flow, Middleware,
    middleware::{Around, MiddlewareKind, Problem},
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{canonical, scratch};

/// Settings of `replace_path`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplacePath {
    /// The new path; starts with `/`. The query stays as it is.
    pub path: String,
}

struct Replace {
    path: String,
}

impl MiddlewareKind for ReplacePath {
    const NAME: &'static str = "replace_path";
    const SUMMARY: &'static str = "Puts one fixed path in the place of any.";
    const EXAMPLE: &'static str = r#"path = "/index.html""#;

    fn build(self, _: &Around<'_>) -> Result<Arc<dyn Middleware>, Problem> {
        canonical::setting("path", &self.path)?;
        Ok(Arc::new(Replace { path: self.path }))
    }
}

impl Middleware for Replace {
    fn on_request<'a>(&'a self, x: &'a mut Exchange) -> Result<Flow<'a>, Error> {
        note_replaced(x);
        x.request.set_path(&self.path);
        Ok(Flow::Next)
    }
}

/// Tells the service which path stood here before, in `X-Replaced-Path`.
pub fn note_replaced(x: &mut Exchange) {
    scratch::with(|old| {
        old.push_str(x.request.path());
        x.request.fields.set("X-Replaced-Path", &*old);
    });
}

#[cfg(test)]
mod tests {
    use crate::testing::{build, problem, request};
    use serde_json::json;

    #[test]
    fn any_path_becomes_the_one() {
        let mut x = request("/a/b");
        x.request.fields.append("x-replaced-path", "/forged");
        build("replace_path", json!({"path": "/x"})).on_request(&mut x).unwrap();
        assert_eq!((x.request.path(), x.request.query()), ("/x", Some("q=1")));
        let noted: Vec<_> = x.request.fields.get_all("x-replaced-path").collect();
        assert_eq!(noted, [b"/a/b"]);
    }

    #[test]
    fn the_path_is_judged() {
        let problem = problem("replace_path", json!({"path": "/x?y=1"}));
        assert_eq!(problem.path, "path");
        assert!(problem.message.contains('?'), "{problem}");
    }
}
