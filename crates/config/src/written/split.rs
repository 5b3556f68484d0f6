//! `split`, of routes.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Lit, OneOrMany, OrTable, Sticky,
    literal::{FieldName, Ratio},
};

/// Sends some of a route's requests to other services: a share of all, or those with a header or a cookie. The rest goes
/// to the route's own service.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// The other services. The first that a header or a cookie names takes the request; else chance decides.
    pub to: OneOrMany<Share>,
    /// A cookie that keeps each client at the service where chance sent it first. A text is its name; `true` for
    /// `portcullis_split_` and the name of the route. Default: chance decides each time.
    pub sticky: Option<OrTable<Sticky>>,
}

/// One of the other services, and who goes there.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// Name of the service.
    pub service: String,
    /// This share of all requests, by chance. All shares together are at most 100 %. Default: none but those that `header`
    /// or `cookie` names.
    pub share: Option<Lit<Ratio>>,
    /// Requests with this header go there.
    pub header: Option<Lit<FieldName>>,
    /// Requests with this cookie go there.
    pub cookie: Option<String>,
    /// What the header or the cookie must be. Default: anything.
    pub value: Option<String>,
}
