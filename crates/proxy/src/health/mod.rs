//! Health: which endpoints are in service.
//!
//! [`active`] asks the endpoints themselves, on the control plane's runtime; [`passive`] watches real requests. Both
//! write into the endpoints' state, which outlives a configuration, and tell a [`Watcher`] of every change.

pub mod active;
pub mod breaker;
pub mod passive;
pub mod probe;
pub mod statuses;

use portcullis_core::endpoint::{EndpointState, Health};

pub use active::{Checked, Checks, Target};
pub use passive::Passive;
pub use probe::{Failure, Probe};

/// What an endpoint is to the balancers, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Has a check and has not passed it yet: gets no traffic.
    Starting,
    /// In service.
    Healthy,
    /// Taken out by its check.
    Unhealthy,
    /// Taken out for a time because real requests failed.
    Ejected,
}

impl State {
    /// The state of an endpoint now.
    pub fn of(state: &EndpointState) -> State {
        match state.health() {
            Health::Healthy if state.is_ejected() => State::Ejected,
            health => State::from(health),
        }
    }

    /// As metrics and the admin API write it.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Healthy => "healthy",
            State::Unhealthy => "unhealthy",
            State::Ejected => "ejected",
        }
    }
}

impl From<Health> for State {
    fn from(health: Health) -> State {
        match health {
            Health::Starting => State::Starting,
            Health::Healthy => State::Healthy,
            Health::Unhealthy => State::Unhealthy,
        }
    }
}

/// An endpoint went in or out of service.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// The service's qualified name.
    pub service: &'a str,
    /// The endpoint's URL.
    pub endpoint: &'a str,
    /// What it was.
    pub from: State,
    /// What it is.
    pub to: State,
    /// Why, for people.
    pub reason: &'a str,
    /// Failures that led to it; 0 when it came back.
    pub failures: u32,
}

/// Told of every change, by whoever found it: on the control plane's runtime by checks, in the path of a request by
/// passive health. Must be quick.
pub trait Watcher: Send + Sync + 'static {
    /// An endpoint went in or out of service.
    fn changed(&self, change: &Change<'_>);
}

/// Nobody watches.
impl Watcher for () {
    fn changed(&self, _: &Change<'_>) {}
}

/// Brings a kept state in line with a configuration that may no longer check it: without checks an endpoint is
/// healthy. One that is newly checked stays what it was, so that a reload takes nothing out of service.
pub fn settle(state: &EndpointState, checked: bool) {
    if !checked && state.health() != Health::Healthy {
        state.set_health(Health::Healthy);
    }
}

/// Logs a change and tells the watcher.
fn announce(watcher: &dyn Watcher, change: &Change<'_>) {
    let Change { service, endpoint, from, to, reason, failures } = *change;
    let (from, to) = (from.as_str(), to.as_str());
    match change.to {
        State::Healthy => tracing::info!(service, endpoint, from, to, reason, "endpoint in service"),
        State::Starting => tracing::info!(service, endpoint, from, to, reason, "endpoint starting"),
        State::Unhealthy | State::Ejected => {
            tracing::warn!(service, endpoint, from, to, reason, failures, "endpoint out of service");
        }
    }
    watcher.changed(change);
}

#[cfg(test)]
pub(crate) mod testing {
    //! A watcher that remembers.

    use std::sync::Mutex;

    use super::{Change, Watcher};

    /// Remembers changes as `endpoint from→to (reason)`.
    #[derive(Default)]
    pub(crate) struct Seen(Mutex<Vec<String>>);

    impl Seen {
        /// What was seen since last asked.
        pub(crate) fn take(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    impl Watcher for Seen {
        fn changed(&self, change: &Change<'_>) {
            let Change { endpoint, from, to, reason, .. } = change;
            let text = format!("{endpoint} {}→{} ({reason})", from.as_str(), to.as_str());
            self.0.lock().unwrap().push(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_without_checks_is_healthy_and_a_checked_one_stays() {
        let state = EndpointState::new(true);
        settle(&state, true);
        assert_eq!(State::of(&state), State::Starting);
        settle(&state, false);
        assert_eq!(State::of(&state), State::Healthy);
        settle(&state, true);
        assert_eq!(State::of(&state), State::Healthy);
        state.set_ejected(true);
        assert_eq!(State::of(&state), State::Ejected);
        state.set_health(Health::Unhealthy);
        assert_eq!(State::of(&state), State::Unhealthy);
    }
}
