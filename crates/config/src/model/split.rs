//! Shares of a route's requests that go to other services.

use std::sync::Arc;

use serde::Serialize;

use super::{Name, Sticky};

/// Requests of a route that go to other services than its own.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Split {
    /// Where to; whoever is taken by none goes to the route's service.
    pub to: Vec<Share>,
    /// The cookie that keeps a client where chance sent it first.
    pub sticky: Option<Sticky>,
}

/// One of the other services, and who goes there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Share {
    /// The service.
    pub service: Name,
    /// This share of all, by chance.
    pub share: f64,
    /// Requests with this field.
    pub header: Option<Arc<str>>,
    /// Requests with this cookie.
    pub cookie: Option<Arc<str>>,
    /// What field or cookie must be; `None` = anything.
    pub value: Option<Arc<str>>,
}
