//! Endpoints that go in and out of service are counted.

use super::Metrics;
use crate::health::{Change, State, Watcher};

impl Watcher for Metrics {
    fn changed(&self, change: &Change<'_>) {
        self.service(change.service).health_changed(change.to == State::Healthy);
    }
}
