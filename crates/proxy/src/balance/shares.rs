//! Weighted draws in logarithmic time: cumulative weights, made once.

use portcullis_core::{balance::Pick, endpoint::Endpoint};

use super::{any, scale};

/// Draws of endpoints that are not allowed, before all are looked at. While a quarter of the weight is in service,
/// nine draws in ten end here.
const DRAWS: usize = 8;

/// The weights of a service's endpoints, added up.
#[derive(Debug)]
pub(super) struct Shares {
    /// At each index the weight of the endpoints up to and including it.
    ends: Box<[u64]>,
    total: u64,
}

impl Shares {
    /// Adds the weights up.
    pub(super) fn new(endpoints: &[Endpoint]) -> Shares {
        let mut total = 0;
        let add = |endpoint: &Endpoint| {
            total += u64::from(endpoint.weight);
            total
        };
        Shares { ends: endpoints.iter().map(add).collect(), total }
    }

    /// Draws one of those allowed at random, in proportion to the weights.
    pub(super) fn draw(&self, pick: &Pick<'_>) -> Option<usize> {
        for _ in 0..DRAWS {
            let at = scale(fastrand::u64(..), self.total);
            let index = self.ends.partition_point(|&end| end <= at);
            if pick.allows(index) {
                return Some(index);
            }
        }
        any(pick)
    }
}
