//! The life of a store on a disk: it waits for its folder's lock, finds out what is there, looks after it, and lets go.
//!
//! ```text
//! locked by another ──┐
//! folder not there ───┼─► try again, each 200 ms ─► ours ─► read what is there ─► watch: is the lock still the one in the
//!                     └────────────────────────────◄──────────────────────────── folder? throw out what is of no use
//! ```

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, flock};

use super::{
    files::{Core, folder},
    meters::Trouble,
    names::{LEAVES, OBJECTS, UNFINISHED, parse},
};

/// Between attempts to get the folder.
const AGAIN: Duration = Duration::from_millis(200);
/// Between looks at it.
const LOOK: Duration = Duration::from_secs(1);
/// A folder that another process uses is worth a word after so many attempts: during an upgrade that is as it should be.
const PATIENCE: u32 = 25;
/// Between sweeps.
const SWEEP: Duration = Duration::from_secs(60);

/// What is wanted of a store, and how far it is.
#[derive(Default)]
pub(super) struct Life {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    begun: bool,
    /// The folder was asked for once.
    tried: bool,
    /// Another process shall have it.
    left: bool,
    ended: bool,
}

impl Life {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// True for the first who asks.
    pub fn begins(&self) -> bool {
        !std::mem::replace(&mut self.lock().begun, true)
    }

    /// Waits until the folder was asked for.
    pub fn wait_tried(&self, within: Duration) {
        let state = self.lock();
        // Poisoned or not, and in time or not: whoever waits goes on.
        drop(self.changed.wait_timeout_while(state, within, |state| !state.tried && !state.left));
    }

    /// Another process shall have the folder.
    pub fn leave(&self) {
        self.change(|state| state.left = true);
    }

    /// Nobody wants it any longer.
    pub fn end(&self) {
        self.change(|state| state.ended = true);
    }

    /// Is the folder wanted?
    fn is_wanted(&self) -> bool {
        let state = self.lock();
        !state.left && !state.ended
    }

    /// Waits so long, or until it is not wanted any longer. Tells whether it is.
    fn pause(&self, time: Duration) -> bool {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, time, |state| !state.left && !state.ended);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !state.left && !state.ended
    }
}

/// A folder that is ours for as long as this is held.
struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// `None` when another has it.
    fn take(root: &Path) -> io::Result<Option<Lock>> {
        let path = root.join("portcullis.lock");
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let lock = Lock { file, path };
        Ok(lock.holds().then_some(lock))
    }

    /// Is it still the file that others would ask for?
    fn holds(&self) -> bool {
        let (ours, theirs) = (self.file.metadata(), fs::metadata(&self.path));
        let place = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
        matches!((ours, theirs), (Ok(ours), Ok(theirs)) if place(&ours) == place(&theirs))
    }
}

/// Lives its life; returns when nobody wants the store any longer.
pub(super) fn keep(core: &Core) {
    let mut busy = 0;
    while core.life.is_wanted() {
        match Lock::take(&core.root).and_then(|lock| lock.map(|lock| prepared(&core.root, lock)).transpose())
        {
            Ok(Some(lock)) => {
                busy = 0;
                serve(core, &lock);
            }
            Ok(None) if busy < PATIENCE => busy += 1,
            Ok(None) => {
                core.meters.trouble(
                    Trouble::Busy,
                    "another process uses its folder",
                    &core.root.display().to_string(),
                );
            }
            Err(error) => core.trouble(&error, "its folder cannot be used"),
        }
        core.life.change(|state| state.tried = true);
        core.life.pause(AGAIN);
    }
    // What is still held for the sake of others ends with them.
    core.life.change(|state| state.tried = true);
    core.pool.end();
}

/// Makes what must be there, and removes what was not finished.
fn prepared(root: &Path, lock: Lock) -> io::Result<Lock> {
    let objects = root.join(OBJECTS);
    let unfinished = root.join(UNFINISHED);
    folder(&objects)?;
    folder(&unfinished)?;
    for first in 0..16 {
        folder(&objects.join(format!("{first:x}")))?;
    }
    for entry in fs::read_dir(unfinished)?.flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(|name| parse(name).is_some());
        if is_ours
            && let Err(error) = fs::remove_file(entry.path())
            && error.kind() != ErrorKind::NotFound
        {
            return Err(error);
        }
    }
    Ok(lock)
}

/// The folder is ours.
fn serve(core: &Core, lock: &Lock) {
    core.index().clear();
    core.pool.open();
    core.set_up(true);
    core.life.change(|state| state.tried = true);
    let began = Instant::now();
    for leaf in 0..LEAVES {
        if !core.life.is_wanted() || (leaf % 64 == 0 && !lock.holds()) {
            break;
        }
        core.learn(leaf);
    }
    core.show();
    let (objects, bytes) = core.index().filled();
    let (folder, took) = (core.root.display(), began.elapsed());
    tracing::info!(%folder, objects, bytes, ?took, "cache on disk: read");
    let mut swept = Instant::now();
    while core.life.pause(LOOK) {
        if !lock.holds() {
            let gone = io::Error::new(ErrorKind::NotFound, core.root.display().to_string());
            core.trouble(&gone, "its folder is gone");
            break;
        }
        if swept.elapsed() >= SWEEP {
            core.sweep();
            swept = Instant::now();
        }
    }
    // Nobody begins anything new; what has begun is finished before another may use the folder.
    core.set_up(false);
    core.pool.close();
    core.index().clear();
    core.show();
}
