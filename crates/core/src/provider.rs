//! Providers: sources of routes, services and middlewares. They publish whole snapshots, never differences; comparing,
//! debouncing and putting in force are done once, by whoever reads the [`Board`].

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, watch};

use crate::BoxFuture;

/// A source of routes, services and middlewares.
pub trait Provider: Send + Sync + 'static {
    /// Its name, which qualifies everything it publishes: `users@file`.
    fn name(&self) -> &str;

    /// What it would publish now. For the start, and for a reload that somebody asked for and waits for.
    fn read(&self) -> BoxFuture<'_, Snapshot>;

    /// Publishes whenever something has changed, until it is told to stop. A source that fails publishes a snapshot
    /// that says so and tries again by itself.
    fn run(&self, publisher: Publisher, stop: Stop) -> BoxFuture<'_, ()>;
}

/// Everything that a provider has to say at one moment.
#[derive(Debug, Clone, PartialEq)]
pub enum Snapshot {
    /// The text of a configuration file.
    Text {
        /// The file; its name tells the format, and relative paths in it start at its folder.
        file: PathBuf,
        /// Its content.
        text: Arc<str>,
        /// The content of the `.env` file beside it, if there is one.
        dot_env: Option<Arc<str>>,
    },
    /// A document that was never text: the command line's, a program's own.
    Value {
        /// What findings name as its source.
        source: Arc<str>,
        /// The document.
        value: Arc<serde_json::Value>,
    },
    /// The source could not be read.
    Unreadable {
        /// What findings name as its source.
        source: Arc<str>,
        /// Why.
        reason: Arc<str>,
    },
}

/// Where providers put their snapshots: the newest of each, and a bell.
#[derive(Default)]
pub struct Board {
    newest: Mutex<BTreeMap<Arc<str>, Snapshot>>,
    bell: Notify,
}

impl Board {
    /// Puts up a snapshot; tells whether it differs from the one before, and rings only then.
    pub fn put(&self, provider: &str, snapshot: Snapshot) -> bool {
        let mut newest = self.newest();
        if newest.get(provider) == Some(&snapshot) {
            return false;
        }
        newest.insert(provider.into(), snapshot);
        drop(newest);
        self.bell.notify_one();
        true
    }

    /// The newest snapshot of every provider, by the provider's name.
    pub fn all(&self) -> BTreeMap<Arc<str>, Snapshot> {
        self.newest().clone()
    }

    /// Waits until something new is put up. A change that came while nobody waited is not missed.
    pub async fn changed(&self) {
        self.bell.notified().await;
    }

    fn newest(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Snapshot>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.newest().iter()).finish()
    }
}

/// A provider's own place on the board.
#[derive(Debug, Clone)]
pub struct Publisher {
    provider: Arc<str>,
    board: Arc<Board>,
}

impl Publisher {
    /// The place of the provider of this name.
    pub fn new(provider: &str, board: Arc<Board>) -> Publisher {
        Publisher { provider: provider.into(), board }
    }

    /// Publishes; equal snapshots in a row are one.
    pub fn publish(&self, snapshot: Snapshot) {
        self.board.put(&self.provider, snapshot);
    }
}

/// The wish that a provider stops. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

/// The other end of [`Stop`]; dropping it stops as well.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

impl Stop {
    /// A wish, and the means to utter it.
    pub fn pair() -> (Stopper, Stop) {
        let (sender, receiver) = watch::channel(false);
        (Stopper(sender), Stop(receiver))
    }

    /// Ready once it is uttered.
    pub async fn wait(&mut self) {
        // An error means that the stopper is gone, which says the same.
        let _ = self.0.wait_for(|stopped| *stopped).await;
    }
}

impl Stopper {
    /// Utters it.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(number: u32) -> Snapshot {
        Snapshot::Value { source: "test".into(), value: Arc::new(number.into()) }
    }

    #[test]
    fn only_a_difference_rings() {
        let board = Arc::new(Board::default());
        let publisher = Publisher::new("test", board.clone());
        assert!(board.put("test", value(1)));
        assert!(!board.put("test", value(1)));
        publisher.publish(value(2));
        assert_eq!(board.all().get("test"), Some(&value(2)));
    }
}
