//! Choosing an endpoint.

use std::time::{Duration, Instant};

use crate::endpoint::Endpoint;

/// The status to report when there was no answer for a reason that is not the endpoint's: the client left, or broke its
/// own request, or the time for all of it was over. The latency is then only a lower bound.
pub const CLIENT_GONE: u16 = 499;

/// A balancing strategy. One value per service, shared by all workers.
pub trait Balancer: Send + Sync + 'static {
    /// Chooses one of the endpoints that are available and not yet tried; `None` when there is none.
    fn pick(&self, pick: &Pick<'_>) -> Option<usize>;

    /// Told how a request to an endpoint went, also when its client left before the answer ([`CLIENT_GONE`]). A strategy
    /// that does not go by latencies keeps an average of the answers', for people to see.
    fn observe(&self, endpoint: &Endpoint, seen: &Seen) {
        if seen.status.is_some_and(|status| status != CLIENT_GONE) {
            endpoint.state.record_latency(seen.latency);
        }
    }

    /// Forgets whose turn it is and starts over, as if new.
    fn reset(&self) {}

    /// As in the configuration, `round_robin`.
    fn name(&self) -> &'static str;
}

/// What a choice is made from.
#[derive(Debug, Clone, Copy)]
pub struct Pick<'a> {
    /// The service's endpoints, in the order of the configuration.
    pub endpoints: &'a [Endpoint],
    /// Hash of what the strategy hashes by, when it does.
    pub key: Option<u64>,
    /// Indices already tried for this request.
    pub tried: &'a [usize],
    /// Now.
    pub now: Instant,
}

impl Pick<'_> {
    /// May this endpoint be chosen?
    pub fn allows(&self, index: usize) -> bool {
        self.endpoints.get(index).is_some_and(Endpoint::is_available) && !self.tried.contains(&index)
    }

    /// Is there one that may be chosen?
    pub fn is_there(&self) -> bool {
        (0..self.endpoints.len()).any(|index| self.allows(index))
    }
}

/// How a request to an endpoint went.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// From the request sent to the answer's head (or to the failure).
    pub latency: Duration,
    /// The answer's status; `None` when the endpoint failed to answer, [`CLIENT_GONE`] when it was not let.
    pub status: Option<u16>,
    /// When it ended.
    pub now: Instant,
}
