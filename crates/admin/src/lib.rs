//! Looking into a running gateway: the built-in services that any route may lead to (`@health`, `@ready`, `@metrics` …),
//! and the admin API behind the admin listener. All of it reads; what acts is `POST /reload` and `POST /upgrade`.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::SystemTime};

use portcullis_config::diagnostic::Finding;
use portcullis_core::{BoxFuture, builtin::Builtin};
use portcullis_proxy::runtime::{Runtime, compile::ADMIN};

mod api;
mod circuit_breakers;
mod echo;
mod health;
mod info;
mod metrics;
mod reply;
mod stats;

pub use api::AdminApi;

/// The running gateway, as seen from here.
pub trait Gateway: Send + Sync + 'static {
    /// The configuration in force; `None` before the first.
    fn runtime(&self) -> Option<Arc<Runtime>>;

    /// May it be sent requests?
    fn state(&self) -> State;

    /// Where the listeners really are, by name.
    fn addresses(&self) -> Vec<(Arc<str>, SocketAddr)>;

    /// How the last attempt to put a configuration in force went; `None` before the first.
    fn last_reload(&self) -> Option<Outcome>;

    /// Looks at all sources anew and waits for the outcome; `None` when the gateway is ending.
    fn reload(&self) -> BoxFuture<'_, Option<Outcome>>;

    /// Hands over to a new process of the binary, and waits until that is ready, or has failed.
    fn upgrade(&self) -> BoxFuture<'_, Upgraded>;
}

/// In which part of its life the gateway is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing is served yet.
    Starting,
    /// Requests are served.
    Ready,
    /// Requests are still served, but the gateway is about to end: send them elsewhere.
    Draining,
}

impl State {
    /// `starting`, `ready`, `draining`.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Ready => "ready",
            State::Draining => "draining",
        }
    }
}

/// How an attempt to put a configuration in force went.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// When it ended.
    pub at: SystemTime,
    /// Why it was made: `start`, `change`, `signal`, `request`.
    pub cause: &'static str,
    /// Is what was looked at now in force?
    pub ok: bool,
    /// The number of the configuration in force.
    pub generation: u64,
    /// Everything found in what was written; warnings do not refuse it.
    pub findings: Vec<Finding>,
    /// What could not be put in force although nothing was wrong with how it was written.
    pub problems: Vec<String>,
}

/// How an upgrade of the binary went.
#[derive(Debug, Clone, Default)]
pub struct Upgraded {
    /// Does the new process serve?
    pub ok: bool,
    /// Its id, if it could be started.
    pub pid: Option<u32>,
    /// Its version, if it is ready.
    pub version: Option<String>,
    /// Why it failed; this process goes on then.
    pub problem: Option<String>,
}

/// All built-in services by name, and the admin API under the name of its listener.
pub fn builtins(gateway: Arc<dyn Gateway>) -> BTreeMap<&'static str, Arc<dyn Builtin>> {
    let mut all = for_routes(&gateway);
    all.insert(ADMIN, Arc::new(AdminApi::new(gateway)));
    all
}

/// Those that a route may lead to.
fn for_routes(gateway: &Arc<dyn Gateway>) -> BTreeMap<&'static str, Arc<dyn Builtin>> {
    BTreeMap::from([
        ("health", Arc::new(health::Health(gateway.clone())) as Arc<dyn Builtin>),
        ("healthz", Arc::new(health::Live)),
        ("ready", Arc::new(health::Ready(gateway.clone()))),
        ("metrics", Arc::new(metrics::Metrics(gateway.clone()))),
        ("stats", Arc::new(stats::Stats(gateway.clone()))),
        ("circuit-breakers", Arc::new(circuit_breakers::CircuitBreakers(gateway.clone()))),
        ("info", Arc::new(info::Info(gateway.clone()))),
        ("echo", Arc::new(echo::Echo)),
    ])
}

#[cfg(test)]
mod tests;
