//! What is seen of the gateway: admin, metrics, logs, error pages.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use serde::Serialize;

/// The admin listener.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Admin {
    /// Default 127.0.0.1:9090.
    pub address: SocketAddr,
    /// `Host` values accepted beside the address itself and localhost (DNS-rebinding defence).
    pub allowed_hosts: Vec<Arc<str>>,
}

/// Metrics settings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metrics {
    /// Upper bounds of the duration histograms, seconds, ascending.
    pub buckets: Vec<f64>,
}

/// A line for every request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AccessLog {
    /// How it looks.
    pub format: AccessLogFormat,
    /// `None` = standard output.
    pub file: Option<PathBuf>,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessLogFormat {
    /// One JSON object.
    Json,
    /// Common log format.
    Common,
    /// Short, coloured on a terminal.
    Short,
}

/// The gateway's own log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Log {
    /// A `tracing` filter such as `info` or `portcullis=debug`; `RUST_LOG` wins.
    pub filter: Arc<str>,
    /// How it looks.
    pub format: LogFormat,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// An own page for errors that the gateway itself answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorPage {
    /// Its media type.
    pub content_type: Arc<str>,
    /// May hold `{status}`, `{title}`, `{detail}`, `{request_id}`.
    pub body: Arc<str>,
}
