//! The live state of an endpoint: health, load and latency. Shared by all workers and kept over reloads.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// An endpoint within a compiled service: facts of this configuration, and the state that outlives it.
#[derive(Debug)]
pub struct Endpoint {
    /// As configured, normalised; its identity within the service.
    pub url: Arc<str>,
    /// Share of the traffic; 0 = none.
    pub weight: u32,
    /// Stable over restarts and replicas: a hash of the URL.
    pub hash: u64,
    /// The state.
    pub state: Arc<EndpointState>,
}

impl Endpoint {
    /// May it be given a request now?
    pub fn is_available(&self) -> bool {
        self.weight > 0 && self.state.is_in_service()
    }
}

/// What active checks know of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Health {
    /// Has a check and has not passed it yet: gets no traffic.
    Starting = 0,
    /// In service.
    Healthy = 1,
    /// Out of service.
    Unhealthy = 2,
}

/// State of an endpoint that outlives a configuration.
#[derive(Debug)]
pub struct EndpointState {
    health: AtomicU8,
    ejected: AtomicBool,
    /// Requests in flight, all workers together.
    pub in_flight: AtomicU32,
    /// Connections open, all workers together.
    pub connections: AtomicU32,
    /// Failures of probes in a row.
    pub consecutive_failures: AtomicU32,
    /// Successes of probes in a row.
    pub consecutive_successes: AtomicU32,
    /// Moving average of latency in nanoseconds; how much of it a new answer makes is the balancing strategy's choice.
    /// 0 = not known.
    pub ewma_ns: AtomicU64,
    /// When a strategy that goes by the latency last touched it (nanoseconds since `born`).
    pub ewma_at: AtomicU64,
    /// Requests sent to it, ever.
    pub requests: AtomicU64,
    /// Of those, failed (no answer, or one that passive health counts).
    pub failures: AtomicU64,
    /// Counts changes of availability, so that balancers know when to think again.
    pub changes: AtomicU64,
    /// The zero of its clock.
    pub born: Instant,
}

impl EndpointState {
    /// A new endpoint: in service at once unless a check has to pass first.
    pub fn new(checked: bool) -> EndpointState {
        let health = if checked { Health::Starting } else { Health::Healthy };
        EndpointState {
            health: AtomicU8::new(health as u8),
            ejected: AtomicBool::new(false),
            in_flight: AtomicU32::new(0),
            connections: AtomicU32::new(0),
            consecutive_failures: AtomicU32::new(0),
            consecutive_successes: AtomicU32::new(0),
            ewma_ns: AtomicU64::new(0),
            ewma_at: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            born: Instant::now(),
        }
    }

    /// What active checks know.
    pub fn health(&self) -> Health {
        match self.health.load(Relaxed) {
            0 => Health::Starting,
            1 => Health::Healthy,
            _ => Health::Unhealthy,
        }
    }

    /// Sets what active checks found; tells what it was before.
    pub fn set_health(&self, health: Health) -> Health {
        let before = self.health();
        self.health.store(health as u8, Relaxed);
        if before != health {
            self.changes.fetch_add(1, Relaxed);
        }
        before
    }

    /// Taken out for a time by passive health?
    pub fn is_ejected(&self) -> bool {
        self.ejected.load(Relaxed)
    }

    /// Takes it out, or back in; tells whether that changed anything.
    pub fn set_ejected(&self, ejected: bool) -> bool {
        let changed = self.ejected.swap(ejected, Relaxed) != ejected;
        if changed {
            self.changes.fetch_add(1, Relaxed);
        }
        changed
    }

    /// Healthy and not ejected.
    pub fn is_in_service(&self) -> bool {
        self.health.load(Relaxed) == Health::Healthy as u8 && !self.ejected.load(Relaxed)
    }

    /// Takes an answer's latency into the average: an eighth of it. Two workers at once may lose one of two answers.
    pub fn record_latency(&self, latency: Duration) {
        let sample = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1);
        let known = self.ewma_ns.load(Relaxed);
        let average = if known == 0 { sample } else { known - known / 8 + sample / 8 };
        self.ewma_ns.store(average.max(1), Relaxed);
    }

    /// Time since it was first known.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.born)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_follows_the_answers() {
        let state = EndpointState::new(false);
        let millis = || state.ewma_ns.load(Relaxed) as f64 / 1e6;
        state.record_latency(Duration::from_millis(10));
        assert!((millis() - 10.0).abs() < 0.001, "the first is the average: {}", millis());
        state.record_latency(Duration::from_millis(90));
        assert!((millis() - 20.0).abs() < 0.001, "an eighth of the difference: {}", millis());
        (0..100).for_each(|_| state.record_latency(Duration::ZERO));
        assert!(millis() < 0.001, "{}", millis());
        state.record_latency(Duration::MAX);
        assert!(state.ewma_ns.load(Relaxed) > 0);
    }
}
