//! Clients as they should be, who ask while others attack, and how long they wait for their answers.

use std::time::{Duration, Instant};

use crate::{Client, Gateway, Version};

/// How many times each of them asks in a round.
const ASKED: usize = 150;
/// Between two requests.
const PAUSE: Duration = Duration::from_millis(5);
/// What a build without optimisation, on a machine that is also attacking and testing other things, may add.
const SLACK: Duration = Duration::from_millis(250);

/// Two clients with a connection each, and the time within which 99 of 100 of their answers come when nobody attacks.
pub struct Good {
    clients: Vec<Client>,
    quiet: Duration,
}

/// Both times.
pub struct UnderAttack {
    quiet: Duration,
    attacked: Duration,
    /// The clients, for another round.
    pub good: Good,
}

impl Good {
    /// Connects over both versions of HTTP, and measures the quiet.
    pub async fn begin(gateway: &Gateway) -> Good {
        let mut good = Good { clients: Vec::new(), quiet: Duration::ZERO };
        for version in [Version::H1, Version::H2] {
            good.clients.push(Client::plain(version, gateway.addr()).await);
        }
        good.quiet = good.round().await;
        good
    }

    /// The same while somebody attacks. Every answer must be 200, over the same connections.
    pub async fn under_attack(mut self) -> UnderAttack {
        let attacked = self.round().await;
        UnderAttack { quiet: self.quiet, attacked, good: self }
    }

    async fn round(&mut self) -> Duration {
        let mut times = Vec::new();
        for _ in 0..ASKED {
            for client in &mut self.clients {
                let begin = Instant::now();
                assert_eq!(client.get("/").await.status, 200);
                times.push(begin.elapsed());
            }
            tokio::time::sleep(PAUSE).await;
        }
        times.sort_unstable();
        times[times.len() * 99 / 100]
    }
}

impl UnderAttack {
    /// Panics when good clients waited more than three times as long as in the quiet.
    pub fn is_fine(&self, what: &str) {
        let UnderAttack { quiet, attacked, .. } = self;
        assert!(*attacked <= *quiet * 3 + SLACK, "{what}: p99 of {attacked:?}, in the quiet {quiet:?}");
    }
}
