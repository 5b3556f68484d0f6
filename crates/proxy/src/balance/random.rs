//! Random choice, in proportion to the weights.

use portcullis_core::balance::{Balancer, Pick};

use super::{Place, shares::Shares};

/// See the module.
#[derive(Debug)]
pub struct Random {
    shares: Shares,
}

impl Random {
    /// For the endpoints of a service.
    pub fn new(place: &Place<'_>) -> Random {
        Random { shares: Shares::new(place.endpoints) }
    }
}

impl Balancer for Random {
    fn pick(&self, pick: &Pick<'_>) -> Option<usize> {
        self.shares.draw(pick)
    }

    fn name(&self) -> &'static str {
        "random"
    }
}

#[cfg(test)]
mod tests {
    use portcullis_core::{endpoint::Health, keep::Keep};

    use super::*;
    use crate::balance::testing::*;

    #[test]
    fn shares_follow_the_weights_of_those_in_service() {
        fastrand::seed(1);
        let mut endpoints = endpoints(&[90, 6, 3, 1]);
        let balancer = Random::new(&Place { service: "s", endpoints: &endpoints, keep: &Keep::default() });
        assert_proportional(&counts(&balancer, &pick(&endpoints), 100_000), &[90, 6, 3, 1], 0.005);
        // Nine draws in ten miss, and the shares of the rest stay right.
        endpoints[0].state.set_health(Health::Unhealthy);
        assert_proportional(&counts(&balancer, &pick(&endpoints), 100_000), &[0, 6, 3, 1], 0.005);
        endpoints[1].weight = 0;
        assert_proportional(&counts(&balancer, &pick(&endpoints), 100_000), &[0, 0, 3, 1], 0.005);
    }
}
