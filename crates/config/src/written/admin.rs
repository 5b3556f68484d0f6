//! `[admin]`.

use std::net::SocketAddr;

use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;

use super::{Lit, literal::Literal};
use crate::scalar::{self, Problem};

/// The admin listener: metrics, health, and what runs.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Whether there is one. Default true.
    pub enabled: Option<bool>,
    /// Where it listens. Default `127.0.0.1:9090`.
    pub address: Option<Lit<SocketAddr>>,
    /// `Host` values accepted beside the address itself and `localhost` (a defence against DNS rebinding).
    #[serde(default)]
    pub allowed_hosts: Vec<String>,
}

impl Literal for Admin {
    const EXPECTED: &'static str = "`false`, an address";

    fn text(text: &str) -> Result<Self, Problem> {
        scalar::address(text).map(|address| Admin { address: Some(Lit(address)), ..Admin::default() })
    }

    fn boolean(value: bool) -> Option<Result<Self, Problem>> {
        Some(Ok(Admin { enabled: Some(value), ..Admin::default() }))
    }

    fn schema() -> Schema {
        json_schema!({ "type": ["boolean", "string"] })
    }
}
