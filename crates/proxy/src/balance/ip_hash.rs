//! IP hash: a client stays at its endpoint. A consistent hash by the client's address, without a load bound.

use portcullis_core::balance::{Balancer, Pick};

use super::{Place, consistent_hash::ConsistentHash};

/// See the module.
#[derive(Debug)]
pub struct IpHash(ConsistentHash);

impl IpHash {
    /// For the endpoints of a service.
    pub fn new(place: &Place<'_>) -> IpHash {
        IpHash(ConsistentHash::new(place, 0.0))
    }
}

impl Balancer for IpHash {
    fn pick(&self, pick: &Pick<'_>) -> Option<usize> {
        self.0.pick(pick)
    }

    fn name(&self) -> &'static str {
        "ip_hash"
    }
}
