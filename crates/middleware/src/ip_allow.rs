//! `ip_allow`: lets only listed client addresses pass.

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

/// Settings of `ip_allow`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IpAllow {
    /// The only addresses and ranges that may pass.
    pub ranges: Strings,
    /// Where to take the client's address from, if not from the listener (the peer, or what `trusted_proxies` say).
    #[serde(default)]
    pub client: ClientSettings,
    /// The status of a refusal.
    #[serde(default = "forbidden")]
    pub status: u16,
}

impl MiddlewareKind for IpAllow {
    const NAME: &'static str = "ip_allow";
    const SUMMARY: &'static str = "Lets only listed client addresses pass.";
    const EXAMPLE: &'static str = r#"ranges = ["10.0.0.0/8", "2001:db8::/32"]"#;

    fn build(self, _: &Around<'_>) -> Result<Arc<dyn Middleware>, Problem> {
        Ok(Arc::new(IpList::compile(Self::NAME, true, &self.ranges, &self.client, self.status)?))
    }
}
