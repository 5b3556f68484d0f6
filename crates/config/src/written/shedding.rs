//! `[shedding]`.

use std::time::Duration;

use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;

use super::{
    Lit,
    literal::{Literal, MaybeSize},
};
use crate::scalar::Problem;

/// When the gateway itself is short of CPU or memory, requests are refused with 503 and `Retry-After`: a growing share of
/// those of `background` routes, then of `normal`, then of `critical` ones. Built-in services are always answered.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shedding {
    /// `false` switches it off. Default true.
    pub enabled: Option<bool>,
    /// What the process may take: from 85 % of that on, requests are refused. `"unlimited"` for not looking at memory.
    /// Default: 90 % of the limit of the control group, where there is one.
    pub memory: Option<Lit<MaybeSize>>,
    /// How late the event loop of a worker may be before requests are refused; `0` for not looking at it. Default 100 ms.
    pub lateness: Option<Lit<Duration>>,
    /// What `Retry-After` says at least; some are told up to twice that, so that not all come back at once. Default 5 s.
    pub retry_after: Option<Lit<Duration>>,
}

impl Literal for Shedding {
    const EXPECTED: &'static str = "`true`, `false`";

    fn text(text: &str) -> Result<Self, Problem> {
        match text {
            "true" => Ok(Shedding::switched(true)),
            "false" => Ok(Shedding::switched(false)),
            _ => Err(Problem::new(
                format!("`{text}` is neither true nor false"),
                "write shedding = true, or a table such as { memory = \"2GB\" }",
            )),
        }
    }

    fn boolean(value: bool) -> Option<Result<Self, Problem>> {
        Some(Ok(Shedding::switched(value)))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "boolean" })
    }
}

impl Shedding {
    fn switched(enabled: bool) -> Shedding {
        Shedding { enabled: Some(enabled), ..Shedding::default() }
    }
}
