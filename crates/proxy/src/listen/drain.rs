//! Telling connections to end: gently first, at once when the deadline is over.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A future that is ready once a drain has begun.
pub type Cancelled = Pin<Box<WaitForCancellationFutureOwned>>;

/// The wish that connections end. Cheap to clone; each listener has one.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    begun: Arc<AtomicBool>,
    gently: CancellationToken,
    at_once: CancellationToken,
}

impl Drain {
    /// Begins: idle connections close, busy ones after their answer. Tunnels stay.
    pub fn begin(&self) {
        self.begun.store(true, Relaxed);
        self.gently.cancel();
    }

    /// Cuts what is left.
    pub fn cut_now(&self) {
        self.begin();
        self.at_once.cancel();
    }

    /// Has it begun? One load.
    pub fn is_draining(&self) -> bool {
        self.begun.load(Relaxed)
    }

    /// Ready once it has begun.
    pub fn cancelled(&self) -> Cancelled {
        Box::pin(self.gently.clone().cancelled_owned())
    }

    /// Ready once the deadline is over.
    pub fn cut(&self) -> Cancelled {
        Box::pin(self.at_once.clone().cancelled_owned())
    }

    /// Waits until it has begun.
    pub async fn wait(&self) {
        self.gently.cancelled().await;
    }
}
