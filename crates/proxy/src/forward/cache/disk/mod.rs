//! Answers on a disk of this machine: asked when memory has none; found again after a restart.
//!
//! ```text
//! find ─► index (in memory) ─► nothing: a miss, at once
//!             └─► a file ─► threads that may wait ─► whole and undamaged: a hit
//!                                └─ too slow, damaged, gone: a miss and a count
//! put ──► threads: room · written aside · renamed · into the index
//! ```
//!
//! A file for each object, as nginx does it, and unlike stores of blocks: the kernel's cache of pages is the memory for it,
//! purging is removing, and what a crash leaves behind is either a whole file or none. Exactly one process uses a folder
//! at a time, whoever holds its lock; the others wait for it and do without.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use portcullis_cache::Object;
use portcullis_config::model::DiskStore;
use portcullis_core::{Fields, meter::Meters};
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

use super::{purge::Purge, shelf::Entry, stock::Stock};
use files::{Core, Item};
use meters::Sought;
use names::{Id, key_digest, leaf_of, object_digest, uri_hash};
use pool::Lane;

mod files;
mod index;
mod keeper;
mod layout;
mod learn;
mod meters;
mod names;
mod pending;
mod pool;
#[cfg(test)]
mod tests;

/// How long a purge waits for a disk.
const PURGE: Duration = Duration::from_secs(60);
/// Objects looked at in one go while something is purged.
const AT_ONCE: usize = 4096;

/// A store on a disk. It outlives configurations; without a thread and without a look at the disk until it is started.
pub struct Disk {
    core: Arc<Core>,
}

/// What is on the disk, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskFilled {
    /// In use?
    pub up: bool,
    /// Is all known that was there at the start?
    pub known: bool,
    /// Objects.
    pub entries: u64,
    /// Their bytes, in whole blocks.
    pub bytes: u64,
    /// What they may take.
    pub capacity: u64,
    /// Found, ever.
    pub hits: u64,
    /// Thrown out to make room, ever.
    pub evicted: u64,
    /// What went wrong, ever.
    pub errors: u64,
}

impl Disk {
    /// In a folder.
    pub fn new(name: &Arc<str>, folder: &Path, meters: &Meters) -> Disk {
        Disk { core: Arc::new(Core::new(name, folder, meters)) }
    }

    /// Begins to use the folder, or goes on with other settings; for bodies up to `largest`. Waits a moment for the folder,
    /// so that who asks first after a start finds what is there.
    pub fn start(&self, settings: &DiskStore, largest: u64) {
        self.core.set(settings, largest);
        if self.core.life.begins() {
            self.core.pool.start();
            let core = self.core.clone();
            let thread = std::thread::Builder::new().name("cache-disk".into());
            if let Err(error) = thread.spawn(move || keeper::keep(&core)) {
                tracing::error!(%error, "no thread for the cache on disk");
            }
        }
        self.core.life.wait_tried(Duration::from_secs(1));
        let gone = self.core.index().shrink(settings.size);
        self.core.evicted(&gone);
        self.core.remove_later(gone);
    }

    /// The answer for a key and a request; `by_path` where the key is for several URIs.
    pub async fn find(&self, key: &[u8], request: &Fields, by_path: bool) -> Option<Object> {
        let core = &self.core;
        if !core.is_up() || core.slow.is_avoided() {
            core.meters.sought(Sought::Failure);
            return None;
        }
        let limit = Duration::from_millis(core.limits.timeout.load(Relaxed));
        let Ok(found) = timeout(limit, self.search(key, request, by_path)).await else {
            core.slow.again();
            core.meters.sought(Sought::Slow);
            return None;
        };
        core.meters.sought(match &found {
            Ok(Some(_)) => Sought::Hit,
            Ok(None) => Sought::Miss,
            Err(()) => Sought::Failure,
        });
        found.ok().flatten()
    }

    async fn search(&self, key: &[u8], request: &Fields, by_path: bool) -> Result<Option<Object>, ()> {
        let uri = uri_hash(key.split(|&byte| byte == b'\n').next().unwrap_or_default(), by_path);
        self.learn(uri).await?;
        let found = self.core.index().find(uri, key_digest(key), request);
        let Some(id) = found else { return Ok(None) };
        let core = self.core.clone();
        let Some(object) = self.run(Lane::Read, move || core.read(id)).await? else { return Err(()) };
        Ok((object.key() == key).then_some(object))
    }

    /// Reads the folder of a URI, where that did not happen yet.
    async fn learn(&self, uri: u64) -> Result<(), ()> {
        let leaf = leaf_of(uri);
        if self.core.index().knows(leaf) {
            return Ok(());
        }
        let core = self.core.clone();
        self.run(Lane::Read, move || core.learn(leaf)).await
    }

    /// Has work done where it may wait for the disk.
    async fn run<T: Send + 'static>(
        &self,
        lane: Lane,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ()> {
        let (tell, told) = oneshot::channel();
        let slow = self.core.clone();
        let job = move || {
            // Whoever asked may have lost patience.
            let _ = tell.send(work());
            slow.slow.over();
        };
        if !self.core.pool.submit(lane, Box::new(job)) {
            self.core.meters.dropped_reads.inc();
            return Err(());
        }
        told.await.map_err(|_| ())
    }

    /// Keeps an answer, when its turn comes.
    pub fn put(&self, stock: &Arc<Stock>, entry: &Arc<Entry>, vary: &[Box<str>]) {
        if !self.core.is_up() {
            return;
        }
        let bytes = entry.object.size() as u64;
        let item = Item { stock: stock.clone(), entry: entry.clone(), names: vary.into() };
        let core = self.core.clone();
        if !self.core.pool.submit(Lane::Write(bytes), Box::new(move || core.keep(&item))) {
            self.core.meters.dropped_writes.inc();
            // What stood there is older than what could not be written.
            self.forget(entry, vary);
        }
    }

    /// Throws one answer away.
    pub fn forget(&self, entry: &Entry, vary: &[Box<str>]) {
        let object = object_digest(key_digest(entry.object.key()), vary, entry.object.variant());
        let gone = self.core.index().remove_object(object);
        self.core.show();
        self.core.remove_later(gone.into_iter().collect());
    }

    /// What is kept for a URI is not valid any longer: here, and by the epochs of memory at the same moment, so that nothing
    /// that is being written or read comes between.
    pub async fn invalidate(&self, uri: &[u8], stock: &Stock) {
        let hashes = [uri_hash(uri, false), uri_hash(uri, true)];
        let limit = Duration::from_millis(self.core.limits.timeout.load(Relaxed));
        for hash in hashes {
            if self.core.is_up() {
                // So that it also holds when this process is killed the next moment.
                let _ = timeout(limit, self.learn(hash)).await;
            }
        }
        let gone: Vec<Id> = {
            let mut index = self.core.index();
            stock.epochs.invalidate(uri);
            let stamp = self.core.stamp();
            hashes.into_iter().flat_map(|hash| index.invalidate(hash, stamp)).collect()
        };
        self.core.show();
        let _ = timeout(limit, self.remove(gone)).await;
    }

    /// Removes files, and waits until they are.
    async fn remove(&self, gone: Vec<Id>) {
        if !gone.is_empty() {
            let core = self.core.clone();
            let _ = self.run(Lane::Urgent, move || core.remove(&gone)).await;
        }
    }

    /// Takes answers out; tells how many there were. It waits until they are off the disk.
    pub async fn purge(&self, purge: &Purge) -> u64 {
        let core = &self.core;
        core.index().purged(purge, core.stamp());
        timeout(PURGE, self.purge_now(purge)).await.unwrap_or(0)
    }

    async fn purge_now(&self, purge: &Purge) -> u64 {
        let core = &self.core;
        if let Purge::Url(url) = purge {
            let mut count = 0;
            for by_path in [false, true] {
                let uri = uri_hash(url.as_bytes(), by_path);
                let _ = self.learn(uri).await;
                let takes = |record: &index::Record| purge.takes(&record.uri, record.by_path, &record.tags);
                let gone = core.index().remove_of_uri(uri, takes);
                core.show();
                count += gone.len() as u64;
                self.remove(gone).await;
            }
            return count;
        }
        while core.is_up() && !core.index().knows_all() {
            sleep(Duration::from_millis(10)).await;
        }
        let (mut next, mut count) = (Some(0), 0);
        while let Some(after) = next {
            let is_doomed = |record: &index::Record| purge.takes(&record.uri, record.by_path, &record.tags);
            let (gone, then) = core.index().remove_where(after, AT_ONCE, is_doomed);
            core.show();
            (next, count) = (then, count + gone.len() as u64);
            self.remove(gone).await;
        }
        count
    }

    /// Leaves the folder to another process, for good.
    pub fn leave(&self) {
        self.core.life.leave();
    }

    /// Waits until all is written that is waiting for it, for so long at most.
    pub fn settle(&self, within: Duration) {
        self.core.pool.settle(within);
    }

    /// What is there, in numbers.
    pub fn filled(&self) -> DiskFilled {
        let core = &self.core;
        let ((entries, bytes), known) = {
            let index = core.index();
            (index.filled(), index.knows_all())
        };
        let (hits, errors) = core.meters.hits_and_errors();
        let capacity = core.limits.size.load(Relaxed);
        let evicted = core.meters.evicted.get();
        DiskFilled { up: core.is_up(), known, entries, bytes, capacity, hits, evicted, errors }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.core.life.end();
    }
}
