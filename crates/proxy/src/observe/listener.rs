//! What is counted of listeners: connections, and what was refused.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{shards::Shards, tally::Reasons};

/// Counters of one listener.
#[derive(Debug)]
pub struct ListenerMetrics {
    /// The `listener` label.
    pub(super) label: Arc<str>,
    shards: Shards<Shard>,
    refused: Reasons,
    handshakes: Reasons,
    attacks: Reasons,
}

#[derive(Debug, Default)]
struct Shard {
    opened: AtomicU64,
    closed: AtomicU64,
}

impl ListenerMetrics {
    pub(super) fn new(label: &str, shards: usize) -> ListenerMetrics {
        ListenerMetrics {
            label: label.into(),
            shards: Shards::new(shards),
            refused: Reasons::default(),
            handshakes: Reasons::default(),
            attacks: Reasons::default(),
        }
    }

    /// A connection was accepted.
    pub fn opened(&self, shard: usize) {
        self.shards.get(shard, Shard::default).opened.fetch_add(1, Relaxed);
    }

    /// It was closed.
    pub fn closed(&self, shard: usize) {
        self.shards.get(shard, Shard::default).closed.fetch_add(1, Relaxed);
    }

    /// A connection was not let in, or ended before it held a request that could be routed. The reason is a word of the
    /// program's own (`connections`, the slug of an error).
    pub fn refused(&self, reason: &'static str) {
        self.refused.add(reason);
    }

    /// A TLS handshake failed.
    pub fn handshake_failed(&self, reason: &'static str) {
        self.handshakes.add(reason);
    }

    /// A connection was ended because it behaved as an attack does (`http2-flood`, `slow-header`).
    pub fn attack(&self, kind: &'static str) {
        self.attacks.add(kind);
    }

    /// Connections accepted.
    pub fn accepted(&self) -> u64 {
        self.shards.iter().map(|shard| shard.opened.load(Relaxed)).sum()
    }

    /// Connections open.
    pub fn open(&self) -> u64 {
        // Closed first: what is opened meanwhile can then only make the difference larger, never negative.
        let closed: u64 = self.shards.iter().map(|shard| shard.closed.load(Relaxed)).sum();
        self.accepted().saturating_sub(closed)
    }

    /// Connections refused, by reason.
    pub fn refusals(&self) -> BTreeMap<&'static str, u64> {
        self.refused.totals()
    }

    /// Failed handshakes, by reason.
    pub fn handshake_failures(&self) -> BTreeMap<&'static str, u64> {
        self.handshakes.totals()
    }

    /// Attacks, by kind.
    pub fn attacks(&self) -> BTreeMap<&'static str, u64> {
        self.attacks.totals()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_is_accepted_minus_closed() {
        let listener = ListenerMetrics::new("web", 2);
        listener.opened(0);
        listener.opened(1);
        listener.closed(0);
        listener.refused("limit");
        listener.attack("rapid-reset");
        assert_eq!((listener.accepted(), listener.open()), (2, 1));
        assert_eq!(listener.refusals(), BTreeMap::from([("limit", 1)]));
        assert_eq!(listener.attacks(), BTreeMap::from([("rapid-reset", 1)]));
        assert!(listener.handshake_failures().is_empty());
    }
}
