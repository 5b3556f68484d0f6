//! Values that are not counted but looked up when somebody asks: they belong to the running configuration.

use std::sync::atomic::Ordering::Relaxed;

use crate::{
    dns::Named,
    forward::mirror::Counts,
    health::breaker::Snapshot,
    runtime::{Runtime, Target},
};

/// Live values of the running configuration.
pub trait Gauges {
    /// Which configuration it is, counted from 1.
    fn generation(&self) -> u64;

    /// Calls `each` with every endpoint.
    fn endpoints(&self, each: &mut dyn FnMut(&EndpointGauge<'_>));

    /// Calls `each` with every name of an endpoint.
    fn names(&self, _: &mut dyn FnMut(&Named)) {}

    /// Calls `each` with every circuit breaker.
    fn breakers(&self, _: &mut dyn FnMut(&BreakerGauge<'_>)) {}

    /// Calls `each` with every route that copies its requests, and how copies went.
    fn mirrors(&self, _: &mut dyn FnMut(&str, &Counts)) {}

    /// Calls `each` with every service of every route that has several: route, service, requests taken.
    fn splits(&self, _: &mut dyn FnMut(&str, &str, u64)) {}

    /// Access log lines written, and lines dropped because the writer could not keep up or failed.
    fn access_log_lines(&self) -> (u64, u64) {
        (0, 0)
    }
}

/// The live values of one endpoint.
#[derive(Debug, Clone, Copy)]
pub struct EndpointGauge<'a> {
    /// The service's name.
    pub service: &'a str,
    /// Its URL.
    pub endpoint: &'a str,
    /// Is it in service?
    pub up: bool,
    /// Requests in flight, all workers together.
    pub in_flight: u64,
    /// Connections open, all workers together.
    pub connections: u64,
    /// Those of them that wait for a request.
    pub idle: u64,
}

/// A circuit breaker.
#[derive(Debug, Clone, Copy)]
pub struct BreakerGauge<'a> {
    /// The service's name.
    pub service: &'a str,
    /// The endpoint's URL, when it is one endpoint's.
    pub endpoint: Option<&'a str>,
    /// What is known of it.
    pub state: Snapshot,
}

impl Gauges for Runtime {
    fn generation(&self) -> u64 {
        self.generation
    }

    fn endpoints(&self, each: &mut dyn FnMut(&EndpointGauge<'_>)) {
        for service in self.services.values() {
            for (endpoint, upstream) in service.endpoints.iter().zip(&service.upstreams) {
                each(&EndpointGauge {
                    service: &service.name,
                    endpoint: &endpoint.url,
                    up: endpoint.state.is_in_service(),
                    in_flight: endpoint.state.in_flight.load(Relaxed).into(),
                    connections: endpoint.state.connections.load(Relaxed).into(),
                    idle: upstream.pools.idle() as u64,
                });
            }
        }
    }

    fn names(&self, each: &mut dyn FnMut(&Named)) {
        self.names.values().for_each(|named| each(named));
    }

    fn breakers(&self, each: &mut dyn FnMut(&BreakerGauge<'_>)) {
        for service in self.services.values() {
            let policies = service.policies.as_ref();
            let Some(breakers) = policies.and_then(|policies| policies.breakers.as_ref()) else { continue };
            if let Some(breaker) = &breakers.whole {
                each(&BreakerGauge {
                    service: &service.name,
                    endpoint: None,
                    state: breaker.state.snapshot(),
                });
            }
            for (endpoint, breaker) in service.endpoints.iter().zip(&breakers.each) {
                let endpoint = Some(&*endpoint.url);
                each(&BreakerGauge { service: &service.name, endpoint, state: breaker.state.snapshot() });
            }
        }
    }

    fn mirrors(&self, each: &mut dyn FnMut(&str, &Counts)) {
        for route in self.routes.iter() {
            let policies = route.policies.as_ref();
            if let Some(mirror) = policies.and_then(|policies| policies.mirror.as_ref()) {
                each(&route.name, mirror.counts());
            }
        }
    }

    fn splits(&self, each: &mut dyn FnMut(&str, &str, u64)) {
        for route in self.routes.iter() {
            let Target::Split(split) = &route.target else { continue };
            for place in split.places() {
                let taken = place.taken.iter().map(|count| count.load(Relaxed)).sum();
                each(&route.name, &place.service.name, taken);
            }
        }
    }

    fn access_log_lines(&self) -> (u64, u64) {
        self.access_log.as_ref().map_or((0, 0), |log| (log.written(), log.dropped()))
    }
}
