//! `http3` of a listener.

use std::time::Duration;

use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;

use super::{Lit, literal::Literal};
use crate::scalar::Problem;

/// HTTP/3, and how clients learn of it.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Http3 {
    /// Whether it is there. Default true once the table is there.
    pub enabled: Option<bool>,
    /// How long clients may remember that there is HTTP/3 (`Alt-Svc` on answers over TCP). 0 tells them nothing. Default
    /// 1 d.
    pub max_age: Option<Lit<Duration>>,
    /// The UDP port that clients are told, where it is not that of the connection on which they are told. Default: that
    /// one.
    pub advertised_port: Option<u16>,
    /// Take requests before the handshake is complete (0-RTT). Only safe ones (`GET`, `HEAD`, `OPTIONS`) are served then,
    /// with `Early-Data: 1`; others are answered 425, and clients repeat them. Who sends them has not shown yet that the address is
    /// theirs: not where addresses are trusted, allowed or counted. Never with `client_ca`. Default false.
    pub early_data: Option<bool>,
}

impl Literal for Http3 {
    const EXPECTED: &'static str = "`true`, `false`";

    fn text(text: &str) -> Result<Self, Problem> {
        Err(Problem::new(format!("`{text}` is no way to switch HTTP/3 on"), "write http3 = true"))
    }

    fn boolean(value: bool) -> Option<Result<Self, Problem>> {
        Some(Ok(Http3 { enabled: Some(value), ..Http3::default() }))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "boolean" })
    }
}
