//! Being told of changes: the folders of the files, and those where symbolic links lead.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::sync::Notify;

/// Watches the folders of some files. Without a watcher (no inotify left, an odd file system) it is merely silent, and
/// the poll of the stamps does the work.
pub(super) struct Watch {
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    shared: Arc<Shared>,
}

/// What the watcher's thread tells.
struct Shared {
    bell: Notify,
    /// A change named one of the files, and not only something beside them.
    named: AtomicBool,
    /// The names that the files go by in their folders.
    names: Mutex<BTreeSet<OsString>>,
}

impl Watch {
    /// Begins to watch.
    pub(super) fn new(files: &[PathBuf]) -> Watch {
        let shared =
            Arc::new(Shared { bell: Notify::new(), named: AtomicBool::new(false), names: Mutex::default() });
        let told = shared.clone();
        let watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| told.tell(event));
        let watcher = watcher
            .inspect_err(
                |error| tracing::warn!(%error, "cannot watch files; looking at them every two seconds"),
            )
            .ok();
        let mut watch = Watch { watcher, folders: BTreeSet::new(), shared };
        watch.follow(files);
        watch
    }

    /// Something in the folders has changed.
    pub(super) async fn changed(&self) {
        self.shared.bell.notified().await;
    }

    /// Was one of the files named since the last time this was asked?
    pub(super) fn take_named(&self) -> bool {
        self.shared.named.swap(false, Relaxed)
    }

    /// Watches the folders where the files are now; links may lead elsewhere than before.
    pub(super) fn follow(&mut self, files: &[PathBuf]) {
        let mut folders = BTreeSet::new();
        let mut names = BTreeSet::new();
        for file in files {
            let real = std::fs::canonicalize(file).ok();
            for place in [Some(file), real.as_ref()].into_iter().flatten() {
                folders.insert(folder(place));
                names.extend(place.file_name().map(ToOwned::to_owned));
            }
        }
        *self.shared.names.lock().unwrap_or_else(PoisonError::into_inner) = names;
        let Some(watcher) = &mut self.watcher else { return };
        for gone in self.folders.difference(&folders) {
            // It may have been deleted, which ends the watch by itself.
            let _ = watcher.unwatch(gone);
        }
        self.folders.retain(|known| folders.contains(known));
        for new in folders {
            // A folder that cannot be watched now is tried again when the stamps change.
            if !self.folders.contains(&new) && watcher.watch(&new, RecursiveMode::NonRecursive).is_ok() {
                self.folders.insert(new);
            }
        }
    }
}

impl Shared {
    fn tell(&self, event: notify::Result<notify::Event>) {
        let Ok(event) = event else { return self.bell.notify_one() };
        // Reading is no change; we read ourselves.
        let reading =
            matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write));
        if reading {
            return;
        }
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let named = event.paths.iter().filter_map(|path| path.file_name()).any(|name| names.contains(name));
        drop(names);
        if named {
            self.named.store(true, Relaxed);
        }
        self.bell.notify_one();
    }
}

fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}
