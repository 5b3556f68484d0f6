//! `mirror`, of routes.

use std::time::Duration;

use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;

use super::{
    Lit,
    literal::{Literal, Ratio, Size},
};
use crate::scalar::Problem;

/// Copies requests to another service and drops its answers. Nobody waits for them.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// Name of the service.
    pub service: String,
    /// This share of all requests, by chance. Default 100 %.
    pub share: Option<Lit<Ratio>>,
    /// Requests with a longer body are not copied. At most 16 MiB. Default 64 KiB.
    pub body: Option<Lit<Size>>,
    /// So many copies are under way at once, by worker; more are left out. Default 100.
    pub most: Option<usize>,
    /// How long a copy may take, its answer included. Default 30 s.
    pub timeout: Option<Lit<Duration>>,
}

impl Literal for Mirror {
    const EXPECTED: &'static str = "the name of a service";

    fn text(text: &str) -> Result<Self, Problem> {
        Ok(Mirror { service: text.to_owned(), ..Mirror::default() })
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "title": "name of a service" })
    }
}
