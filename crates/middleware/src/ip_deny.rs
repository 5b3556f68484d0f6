//! `ip_deny`: keeps listed client addresses out.

use std::sync::Arc;

use portcullis_core::{
    Middleware,
    middleware::{Around, MiddlewareKind, Problem},
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    client::ClientSettings,
    ip_list::{IpList, forbidden},
    settings::Strings,
};

/// Settings of `ip_deny`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IpDeny {
    /// The addresses and ranges that may not pass.
    pub ranges: Strings,
    /// Where to take the client's address from, if not from the listener (the peer, or what `trusted_proxies` say).
    #[serde(default)]
    pub client: ClientSettings,
    /// The status of a refusal.
    #[serde(default = "forbidden")]
    pub status: u16,
}

impl MiddlewareKind for IpDeny {
    const NAME: &'static str = "ip_deny";
    const SUMMARY: &'static str = "Keeps listed client addresses out.";
    const EXAMPLE: &'static str = r#"ranges = ["198.51.100.0/24"]"#;

    fn build(self, _: &Around<'_>) -> Result<Arc<dyn Middleware>, Problem> {
        Ok(Arc::new(IpList::compile(Self::NAME, false, &self.ranges, &self.client, self.status)?))
    }
}
