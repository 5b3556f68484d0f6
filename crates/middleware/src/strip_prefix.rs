//! `strip_prefix`: takes a literal prefix away from the path.

use std::sync::Arc;

use portcullis_core::{
    Error, Exchange, Flow, Middleware,
    middleware::{Around, MiddlewareKind, Problem},
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{canonical, settings::Strings};

/// Settings of `strip_prefix`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StripPrefix {
    /// Prefixes to take away; the first that the path begins with is taken, byte by byte (`/api` also begins
    /// `/apiary`, of which `/ary` is left). Each starts with `/`.
    pub prefixes: Strings,
}

struct Strip {
    prefixes: Vec<String>,
}

impl MiddlewareKind for StripPrefix {
    const NAME: &'static str = "strip_prefix";
    const SUMMARY: &'static str = "Takes a literal prefix away from the path.";
    const EXAMPLE: &'static str = r#"prefixes = ["/api", "/v1"]"#;

    fn build(self, _: &Around<'_>) -> Result<Arc<dyn Middleware>, Problem> {
        let prefixes = self.prefixes.0;
        if prefixes.is_empty() {
            return Err(Problem::at("prefixes", "there is none").help(r#"such as `prefixes = ["/api"]`"#));
        }
        for (index, prefix) in prefixes.iter().enumerate() {
            canonical::setting(&format!("prefixes[{index}]"), prefix)?;
        }
        Ok(Arc::new(Strip { prefixes }))
    }
}

impl Middleware for Strip {
    fn on_request<'a>(&'a self, x: &'a mut Exchange) -> Result<Flow<'a>, Error> {
        let path = x.request.path();
        if let Some(prefix) = self.prefixes.iter().find(|prefix| path.starts_with(prefix.as_str())) {
            strip(x, prefix.len())?;
            x.request.fields.append("X-Forwarded-Prefix", prefix);
        }
        Ok(Flow::Next)
    }
}

/// Takes the first bytes of the path away.
///
/// # Errors
/// `Kind::BadPath` when what is left is not canonical.
pub fn strip(x: &mut Exchange, bytes: usize) -> Result<(), Error> {
    let path = x.request.path();
    let rest = path.get(bytes..).unwrap_or_default();
    // A cut between two segments leaves a canonical path canonical; one within a segment may not.
    let within = (!rest.is_empty() && !rest.starts_with('/')).then(|| canonical::policy_of(path));
    x.request.strip_path(bytes);
    within.map_or(Ok(()), |policy| canonical::judge(x.request.path(), policy))
}

#[cfg(test)]
mod tests {
    use crate::testing::{build, problem, request};
    use portcullis_core::Kind;
    use serde_json::json;

    #[test]
    fn first_match_is_taken() {
        let strip = build("strip_prefix", json!({"prefixes": ["/api", "/api/v1", "/b/"]}));
        for (path, left, prefix) in [
            ("/api/v1/x", "/v1/x", Some("/api")),
            ("/api", "/", Some("/api")),
            ("/apiary", "/ary", Some("/api")),
            ("/b/x", "/x", Some("/b/")),
            ("/b", "/b", None),
            ("/c/api", "/c/api", None),
        ] {
            let mut x = request(path);
            strip.on_request(&mut x).unwrap();
            assert_eq!((x.request.path(), x.request.original_path()), (left, path));
            assert_eq!(x.request.fields.get_str("x-forwarded-prefix"), prefix, "{path}");
        }
    }

    #[test]
    fn what_is_left_must_be_canonical() {
        let strip = build("strip_prefix", json!({"prefixes": "/a"}));
        for path in ["/a../x", "/a.", "/a./b"] {
            let error = strip.on_request(&mut request(path)).err().unwrap();
            assert_eq!(error.kind, Kind::BadPath, "{path}");
        }
        let mut x = request("/a//b");
        assert!(strip.on_request(&mut x).is_ok(), "the listener let double slashes pass");
    }

    #[test]
    fn prefixes_are_judged() {
        assert_eq!(problem("strip_prefix", json!({"prefixes": []})).path, "prefixes");
        assert_eq!(problem("strip_prefix", json!({"prefixes": ["/a", "b"]})).path, "prefixes[1]");
        assert_eq!(problem("strip_prefix", json!({"prefixes": ["/a%2"]})).path, "prefixes[0]");
    }
}
