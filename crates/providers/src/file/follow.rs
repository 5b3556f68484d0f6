//! Files that a configuration only names (error pages, certificates, authorities): whoever reads them is told when one
//! of them changes.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::SystemTime,
};

use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{POLL, SETTLE, stamp::Stamp, watch::Watch};

/// Watches some files, by their folders and every two seconds by their stamps.
#[derive(Default)]
pub struct Follow {
    files: BTreeMap<PathBuf, Option<Stamp>>,
    watch: Option<Watch>,
}

impl Follow {
    /// These files from now on, which were read after that moment. One that changed since is told of at once.
    pub fn follow(&mut self, files: &[PathBuf], since: SystemTime) {
        let stamped = |path: &PathBuf| {
            let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
            let is_newer = modified.is_ok_and(|modified| modified > since);
            (!is_newer).then(|| Stamp::of(path))
        };
        let known = std::mem::take(&mut self.files);
        let all = files.iter().map(|path| {
            let stamp = known.get(path).copied().unwrap_or_else(|| stamped(path));
            (path.clone(), stamp)
        });
        self.files = all.collect();
        self.watch_folders();
    }

    /// What was followed until now, for whoever could not find out what to follow instead.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(PathBuf::as_path)
    }

    /// Looks at all of them, to be called before they are read: what they are now is nothing new later.
    pub fn look(&mut self) -> bool {
        let mut changed = false;
        for (path, seen) in &mut self.files {
            let now = Some(Stamp::of(path));
            changed |= now != *seen;
            *seen = now;
        }
        if changed {
            self.watch_folders();
        }
        changed
    }

    /// Waits until one of them is not as it was. Nothing is lost when the wait is given up.
    pub async fn changed(&mut self) {
        let Some(watch) = &self.watch else { return std::future::pending().await };
        let mut ticks = interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.files.iter().any(|(path, seen)| Some(Stamp::of(path)) != *seen) {
            tokio::select! {
                () = watch.changed() => sleep(SETTLE).await,
                _ = ticks.tick() => {}
            }
        }
    }

    fn watch_folders(&mut self) {
        if self.files.is_empty() {
            self.watch = None;
            return;
        }
        let files: Vec<PathBuf> = self.files.keys().cloned().collect();
        match &mut self.watch {
            Some(watch) => watch.follow(&files),
            None => self.watch = Some(Watch::new(&files)),
        }
    }
}

impl std::fmt::Debug for Follow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follow").field("files", &self.files).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn changes_are_told_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let (page, other) = (folder.path().join("page.html"), folder.path().join("later.pem"));
        fs::write(&page, "one").expect("write");
        let mut follow = Follow::default();
        follow.follow(&[page.clone(), other.clone()], SystemTime::now() + Duration::from_secs(1));
        let long = Duration::from_secs(10);
        let quiet = Duration::from_millis(100);
        assert!(timeout(quiet, follow.changed()).await.is_err(), "nothing has changed");
        for (file, text) in [(&page, "two!"), (&other, "it comes"), (&page, "three")] {
            fs::write(file, text).expect("write");
            timeout(long, follow.changed()).await.expect("told");
            assert!(follow.look() && !follow.look());
            assert!(timeout(quiet, follow.changed()).await.is_err(), "told once");
        }
        // Read before it was written last: the reader has not seen it as it is.
        let mut follow = Follow::default();
        follow.follow(&[page], SystemTime::UNIX_EPOCH);
        timeout(long, follow.changed()).await.expect("told");
    }
}
