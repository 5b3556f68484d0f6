//! What the streams of one connection share.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Waker},
};

use portcullis_core::Connection;

use crate::{clock::Watch, listen::Drain, worker::Worker};

/// What the streams of one connection share.
pub(crate) struct Shared {
    pub(crate) worker: Arc<Worker>,
    pub(crate) connection: Arc<Connection>,
    pub(crate) drain: Drain,
    /// Streams whose tasks have not ended.
    open: AtomicUsize,
    /// The connection's task, to be told when the last stream ended.
    driver: Mutex<Option<Waker>>,
    /// Deadlines not in use.
    watches: Mutex<Vec<Watch>>,
}

impl Shared {
    pub(crate) fn new(worker: Arc<Worker>, connection: Arc<Connection>, drain: Drain) -> Arc<Shared> {
        Arc::new(Shared {
            worker,
            connection,
            drain,
            open: AtomicUsize::new(0),
            driver: Mutex::default(),
            watches: Mutex::default(),
        })
    }

    pub(crate) fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Remembers the task that drives the connection.
    pub(crate) fn drive(&self, cx: &Context<'_>) {
        let mut driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        if !driver.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *driver = Some(cx.waker().clone());
        }
    }

    /// Says and counts that the connection ends because of how it behaves.
    pub(crate) fn attacked(&self, kind: &'static str) {
        attacked(&self.worker, &self.connection, kind);
    }
}

/// Says and counts that a connection ends because of how it behaves.
pub(crate) fn attacked(worker: &Worker, connection: &Connection, kind: &'static str) {
    tracing::warn!(peer = %connection.peer, kind, "a connection behaves as an attack does: closed");
    let listener = worker.runtime().and_then(|runtime| runtime.listeners.get(&connection.listener).cloned());
    if let Some(listener) = listener {
        listener.metrics.attack(kind);
    }
}

/// A stream's share of its connection: counts it, and lends it a deadline.
pub(crate) struct Share {
    pub(crate) shared: Arc<Shared>,
    pub(crate) watch: Option<Watch>,
}

impl Share {
    pub(crate) fn new(shared: &Arc<Shared>) -> Share {
        shared.open.fetch_add(1, Relaxed);
        let watch = shared.watches.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Share { shared: shared.clone(), watch: Some(watch.unwrap_or_else(|| shared.worker.clock.watch())) }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Some(watch) = self.watch.take() {
            watch.clear();
            self.shared.watches.lock().unwrap_or_else(PoisonError::into_inner).push(watch);
        }
        if self.shared.open.fetch_sub(1, Relaxed) == 1 {
            let driver = self.shared.driver.lock().unwrap_or_else(PoisonError::into_inner);
            driver.as_ref().inspect(|driver| driver.wake_by_ref());
        }
    }
}
