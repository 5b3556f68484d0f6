//! One worker: a thread with a runtime of its own, its clock, and the configuration as it sees it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use arc_swap::ArcSwapOption;

use crate::{clock::Clock, runtime::Runtime};

/// What every connection of one worker shares.
pub struct Worker {
    /// From 0; selects the worker's shard of counters and pools.
    pub index: usize,
    /// Deadlines.
    pub clock: Arc<Clock>,
    /// Connections being served by this worker.
    pub connections: AtomicUsize,
    /// An allocation of this worker's own, so that the reference count is no bone of contention between cores.
    runtime: ArcSwapOption<Runtime>,
    ids: AtomicU64,
}

impl Worker {
    /// A worker without configuration.
    pub fn new(index: usize) -> Arc<Worker> {
        Arc::new(Worker {
            index,
            clock: Clock::new(),
            connections: AtomicUsize::new(0),
            runtime: ArcSwapOption::empty(),
            ids: AtomicU64::new(0),
        })
    }

    /// The configuration in force; `None` before the first.
    pub fn runtime(&self) -> Option<Arc<Runtime>> {
        self.runtime.load_full()
    }

    /// Swaps the configuration. Requests under way keep the one they began with.
    pub fn set_runtime(&self, runtime: &Runtime) {
        self.runtime.store(Some(Arc::new(runtime.clone())));
    }

    /// A number for a new connection, unique in the process.
    pub fn next_id(&self) -> u64 {
        (self.ids.fetch_add(1, Relaxed) << 8) | (self.index as u64 & 0xff)
    }
}
