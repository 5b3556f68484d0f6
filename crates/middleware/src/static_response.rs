//! `static_response`: answers by itself, always the same.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use http::StatusCode;
use portcullis_core::{
    Answer, Body, Error, Exchange, Flow, Line, Middleware,
    middleware::{Around, MiddlewareKind, Problem},
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::settings::{self, Strings};

/// Settings of `static_response`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StaticResponse {
    /// The status, from 200 to 599.
    #[serde(default = "ok")]
    pub status: u16,
    /// The body, as text.
    #[serde(default)]
    pub body: String,
    /// What the body is; without it, `text/plain; charset=utf-8`.
    pub content_type: Option<String>,
    /// Further header fields; a list of values makes several fields.
    #[serde(default)]
    pub headers: BTreeMap<String, Strings>,
}

fn ok() -> u16 {
    200
}

struct Fixed {
    status: StatusCode,
    lines: Vec<Line>,
    body: Bytes,
}

impl MiddlewareKind for StaticResponse {
    const NAME: &'static str = "static_response";
    const SUMMARY: &'static str = "Answers by itself, always the same.";
    const EXAMPLE: &'static str = "status = 503\nbody = '{\"maintenance\": true}'\n\
         content_type = \"application/json\"\nheaders = { Retry-After = \"600\" }";

    fn build(self, _: &Around<'_>) -> Result<Arc<dyn Middleware>, Problem> {
        let status =
            StatusCode::from_u16(self.status).ok().filter(|status| (200..600).contains(&status.as_u16()));
        let Some(status) = status else {
            return Err(
                Problem::at("status", format!("{} is no final status", self.status)).help("200 to 599")
            );
        };
        // RFC 9110 §15.3.5, §15.4.5: these have no content.
        if matches!(status.as_u16(), 204 | 205 | 304) && !self.body.is_empty() {
            return Err(
                Problem::at("body", format!("a {status} has none")).help("remove it, or choose status 200")
            );
        }
        let mut lines = settings::lines("headers", &self.headers)?;
        let typed = lines.iter().any(|line| line.name().eq_ignore_ascii_case("content-type"));
        match &self.content_type {
            Some(_) if typed => {
                let problem = Problem::at("headers.Content-Type", "`content_type` says it already");
                return Err(problem.help("keep one of them"));
            }
            Some(text) => lines.push(settings::line("content_type", "content-type", text)?),
            None if typed || self.body.is_empty() => {}
            None => lines.extend(Line::new("content-type", "text/plain; charset=utf-8")),
        }
        Ok(Arc::new(Fixed { status, lines, body: self.body.into() }))
    }
}

impl Middleware for Fixed {
    fn on_request<'a>(&'a self, _: &'a mut Exchange) -> Result<Flow<'a>, Error> {
        let mut answer = Answer::new(self.status, StaticResponse::NAME);
        self.lines.iter().for_each(|line| answer.fields.append_line(line));
        answer.body = Body::from(self.body.clone());
        Ok(Flow::Answer(answer))
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{answered, build, problem, request};
    use portcullis_core::Body;
    use serde_json::json;

    #[test]
    fn answers_what_is_written() {
        let fixed = build(
            "static_response",
            json!({"status": 418, "body": "tea", "headers": {"Set-Cookie": ["a=1", "b=2"], "X": "y"}}),
        );
        for _ in 0..2 {
            let answer = answered(fixed.on_request(&mut request("/")).unwrap());
            assert_eq!(answer.status, 418);
            assert_eq!(answer.fields.get_str("content-type"), Some("text/plain; charset=utf-8"));
            assert_eq!(answer.fields.get_all("set-cookie").collect::<Vec<_>>(), [b"a=1", b"b=2"]);
            assert!(matches!(&answer.body, Body::Full(body) if body == "tea"));
        }
        let empty = answered(build("static_response", json!({})).on_request(&mut request("/")).unwrap());
        assert!(empty.status == 200 && empty.fields.is_empty() && empty.body.is_empty());
    }

    #[test]
    fn settings_are_judged() {
        let path = |settings| problem("static_response", settings).path;
        assert_eq!(path(json!({"status": 101})), "status");
        assert_eq!(path(json!({"status": 999})), "status");
        assert_eq!(path(json!({"status": 204, "body": "x"})), "body");
        assert_eq!(path(json!({"headers": {"Content-Length": "3"}})), "headers.Content-Length");
        assert_eq!(path(json!({"headers": {"a b": "3"}})), "headers.a b");
        assert_eq!(path(json!({"content_type": "a\nb"})), "content_type");
        assert_eq!(
            path(json!({"content_type": "a", "headers": {"content-type": "b"}})),
            "headers.Content-Type"
        );
    }
}
