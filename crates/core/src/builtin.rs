//! Built-in services: `@health`, `@metrics` … and the resources of the admin API. They answer from inside the gateway.

use crate::{Answer, BoxFuture, Error, Exchange};

/// A service that answers from inside the gateway.
pub trait Builtin: Send + Sync + 'static {
    /// Answers a request.
    fn answer<'a>(&'a self, x: &'a mut Exchange) -> BoxFuture<'a, Result<Answer, Error>>;
}
