//! `[metrics]`, `[access_log]` and `[log]`.

use std::path::PathBuf;

use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;

use super::{Lit, literal::Literal};
use crate::{
    model::{AccessLogFormat, LogFormat},
    scalar::Problem,
};

/// Metrics, served by the admin listener and by `@metrics`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Upper bounds of the duration histograms, in seconds, ascending.
    /// Default 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60.
    pub buckets: Option<Vec<f64>>,
}

/// A line for every request.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessLog {
    /// Whether it is written. Default true once the table is there.
    pub enabled: Option<bool>,
    /// `json`, `common` (common log format) or `short` (for people at a terminal). Default `json`.
    pub format: Option<Lit<AccessLogFormat>>,
    /// File that it is appended to. Default: standard output.
    pub file: Option<PathBuf>,
}

impl Literal for AccessLog {
    const EXPECTED: &'static str = "`true`, `false`, \"json\", \"common\", \"short\"";

    fn text(text: &str) -> Result<Self, Problem> {
        let format = <AccessLogFormat as Literal>::text(text)?;
        Ok(AccessLog { format: Some(Lit(format)), ..AccessLog::default() })
    }

    fn boolean(value: bool) -> Option<Result<Self, Problem>> {
        Some(Ok(AccessLog { enabled: Some(value), ..AccessLog::default() }))
    }

    fn schema() -> Schema {
        json_schema!({ "anyOf": [{ "type": "boolean" }, <AccessLogFormat as Literal>::schema()] })
    }
}

/// The gateway's own log, written to standard error.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// A level (`error`, `warn`, `info`, `debug`, `trace`) or a filter such as `info,portcullis=debug`. The variable
    /// `RUST_LOG` wins. Default `info`.
    pub filter: Option<String>,
    /// `text` or `json`. Default `text`.
    pub format: Option<Lit<LogFormat>>,
}

impl Literal for Log {
    const EXPECTED: &'static str = "a level such as \"info\"";

    fn text(text: &str) -> Result<Self, Problem> {
        Ok(Log { filter: Some(text.to_owned()), ..Log::default() })
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string" })
    }
}
