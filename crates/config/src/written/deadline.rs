//! `deadline`, of timeouts.

use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;

use super::{
    Lit,
    literal::{Choice, FieldName, Literal},
};
use crate::{
    model::{DeadlineFrom, TimeUnit},
    scalar::Problem,
};

/// What clients say of the time they have. It shortens `total`, never lengthens it; endpoints are told what is left of it.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deadline {
    /// Name of the header: `X-Request-Timeout`. Endpoints get it with what is left of the time, be it the client's or
    /// that of `total`. Default: none.
    pub header: Option<Lit<FieldName>>,
    /// What a number in the header means: `ms`, or `s` (with fractions). Default `ms`.
    pub unit: Option<Lit<TimeUnit>>,
    /// Whose header counts: `trusted` for those of `trusted_proxies`, or `anyone`. Others' is taken away. Default `trusted`.
    pub from: Option<Lit<DeadlineFrom>>,
    /// Take `grpc-timeout` of gRPC calls for a deadline too. Default true.
    pub grpc: Option<bool>,
}

impl Choice for TimeUnit {
    const WHAT: &'static str = "\"ms\" or \"s\"";
    const ALL: &'static [(&'static str, Self)] = &[("ms", Self::Ms), ("s", Self::S)];
}

impl Choice for DeadlineFrom {
    const WHAT: &'static str = "\"trusted\" or \"anyone\"";
    const ALL: &'static [(&'static str, Self)] = &[("trusted", Self::Trusted), ("anyone", Self::Anyone)];
}

impl Literal for Deadline {
    const EXPECTED: &'static str = "the name of a header";

    fn text(text: &str) -> Result<Self, Problem> {
        let header = <FieldName as Literal>::text(text)?;
        Ok(Deadline { header: Some(Lit(header)), ..Deadline::default() })
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "title": "name of a header", "examples": ["X-Request-Timeout"] })
    }
}
