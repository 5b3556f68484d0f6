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
    told: CancellationToken,
    gently: CancellationToken,
    at_once: CancellationToken,
}

impl Drain {
    /// Asks connections to end when it costs nobody anything: each after its next answer, those of HTTP/2 as soon as the
    /// streams that they have are over. Idle ones and tunnels stay.
    pub fn wind_down(&self) {
        self.begun.store(true, Relaxed);
        self.told.cancel();
    }

    /// Begins: idle connections close, busy ones after their answer. Tunnels stay.
    pub fn begin(&self) {
        self.wind_down();
        self.gently.cancel();
    }

    /// Cuts what is left.
    pub fn cut_now(&self) {
        self.begin();
        self.at_once.cancel();
    }

    /// Are connections asked to end? One load.
    pub fn is_draining(&self) -> bool {
        self.begun.load(Relaxed)
    }

    /// Ready once it has begun.
    pub fn cancelled(&self) -> Cancelled {
        Box::pin(self.gently.clone().cancelled_owned())
    }

    /// Ready once connections are asked to end.
    pub fn told(&self) -> Cancelled {
        Box::pin(self.told.clone().cancelled_owned())
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
