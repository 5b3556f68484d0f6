//! `[error_pages]`.

use std::path::PathBuf;

use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;

use super::literal::Literal;
use crate::scalar::Problem;

/// An own page for errors that the gateway itself answers. It may hold `{status}`, `{title}`, `{detail}` and
/// `{request_id}`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorPage {
    /// Type of the page. Default `text/html; charset=utf-8`.
    pub content_type: Option<String>,
    /// The page itself.
    pub body: Option<String>,
    /// A file that holds the page, instead of `body`.
    pub file: Option<PathBuf>,
}

impl Literal for ErrorPage {
    const EXPECTED: &'static str = "the text of a page";

    fn text(text: &str) -> Result<Self, Problem> {
        Ok(ErrorPage { body: Some(text.to_owned()), ..ErrorPage::default() })
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string" })
    }
}
