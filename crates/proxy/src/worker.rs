//! One worker: a thread with a runtime of its own, its clock, and the configuration as it sees it.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;

use crate::{clock::Clock, rounds::Rounds, runtime::Runtime, shed::Gate};

/// What every connection of one worker shares.
pub struct Worker {
    /// From 0; selects the worker's shard of counters and pools. The next worker takes the number of one that is gone.
    pub index: usize,
    /// Deadlines.
    pub clock: Arc<Clock>,
    /// Which requests begin when.
    pub rounds: Arc<Rounds>,
    /// Connections being served by this worker.
    pub connections: AtomicUsize,
    /// Requests of our own under way on this worker, see [`crate::forward::detached`].
    pub detached: AtomicUsize,
    /// What is refused while this worker, or the process, is short of something.
    pub gate: Gate,
    me: Weak<Worker>,
    /// An allocation of this worker's own, so that the reference count is no bone of contention between cores.
    runtime: ArcSwapOption<Runtime>,
    /// The next number for a connection; at the end of a block, another block is taken.
    ids: AtomicU64,
}

/// Numbers that a worker takes at once.
const BLOCK: u64 = 1024;
/// Where the next block begins.
static BLOCKS: AtomicU64 = AtomicU64::new(BLOCK);

impl Worker {
    /// A worker without configuration.
    pub fn new(index: usize) -> Arc<Worker> {
        Arc::new_cyclic(|me| Worker {
            me: me.clone(),
            index,
            clock: Clock::new(),
            rounds: Arc::default(),
            connections: AtomicUsize::new(0),
            detached: AtomicUsize::new(0),
            gate: Gate::default(),
            runtime: ArcSwapOption::empty(),
            ids: AtomicU64::new(0),
        })
    }

    /// A probe had to stand in line for so long. Does anybody want to know?
    pub fn probed(&self, late: Duration) -> bool {
        let runtime = self.runtime.load();
        let shedding = runtime.as_ref().and_then(|runtime| runtime.shedding.as_deref());
        self.gate.tick(shedding, self.index, late, Instant::now());
        shedding.is_some()
    }

    /// Itself, for what outlives the request that begins it.
    pub fn shared(&self) -> Option<Arc<Worker>> {
        self.me.upgrade()
    }

    /// The configuration in force; `None` before the first.
    pub fn runtime(&self) -> Option<Arc<Runtime>> {
        self.runtime.load_full()
    }

    /// Swaps the configuration. Requests under way keep the one they began with.
    pub fn set_runtime(&self, runtime: &Runtime) {
        self.runtime.store(Some(Arc::new(runtime.clone())));
    }

    /// A number for a new connection, unique in the process. Asked by the worker's own thread only.
    pub fn next_id(&self) -> u64 {
        let mut id = self.ids.load(Relaxed);
        if id.is_multiple_of(BLOCK) {
            id = BLOCKS.fetch_add(BLOCK, Relaxed);
        }
        self.ids.store(id + 1, Relaxed);
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_have_numbers_of_their_own() {
        let workers = [Worker::new(0), Worker::new(1), Worker::new(0)];
        let ids: std::collections::BTreeSet<u64> =
            (0..9000).filter_map(|n| Some(workers.get(n % 3)?.next_id())).collect();
        assert_eq!(ids.len(), 9000);
    }
}
