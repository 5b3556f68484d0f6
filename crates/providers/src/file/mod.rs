//! The gateway's own file, and the `.env` beside it, published again whenever one of them changes.
//!
//! A file changes in many ways: written in place, replaced by a rename (most editors), reached through symbolic links
//! of which one is swapped (Kubernetes), or changed on the other side of a bind mount, where nobody tells us. So the
//! folders are watched, and beside that the file's stamp is looked at every two seconds.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use portcullis_core::{
    BoxFuture,
    provider::{Provider, Publisher, Snapshot, Stop},
};
use tokio::time::{MissedTickBehavior, interval, sleep};

mod follow;
mod stamp;
mod watch;

pub use follow::Follow;
use stamp::Stamp;
use watch::Watch;

/// How often the stamp is looked at, whatever the watcher says.
const POLL: Duration = Duration::from_secs(2);
/// A change is seldom alone: what comes within this time of the first is looked at together with it.
const SETTLE: Duration = Duration::from_millis(10);
/// How often a file is read anew that is empty, or that changed while it was read.
const TRIES: u32 = 10;
/// The largest file read; larger ones are no configuration.
const MOST_BYTES: u64 = 64 << 20;

/// The provider of one file.
#[derive(Debug, Clone)]
pub struct File {
    path: PathBuf,
    poll: Duration,
}

impl File {
    /// The provider of the file at this path; its format is told by its name.
    pub fn new(path: impl Into<PathBuf>) -> File {
        File { path: path.into(), poll: POLL }
    }

    /// The `.env` file that belongs to it.
    pub fn dot_env(&self) -> PathBuf {
        dot_env(&self.path)
    }

    /// Reads it now.
    pub fn read_now(path: &Path) -> Snapshot {
        match read(path) {
            Ok((text, dot_env)) => Snapshot::Text { file: path.into(), text, dot_env },
            Err((file, reason)) => Snapshot::Unreadable {
                source: file.display().to_string().into(),
                reason: reason.to_string().into(),
            },
        }
    }

    async fn read_elsewhere(&self) -> Snapshot {
        let path = self.path.clone();
        let source: Arc<str> = path.display().to_string().into();
        let read = tokio::task::spawn_blocking(move || File::read_now(&path)).await;
        read.unwrap_or_else(|error| Snapshot::Unreadable { source, reason: error.to_string().into() })
    }
}

impl Provider for File {
    fn name(&self) -> &'static str {
        "file"
    }

    fn read(&self) -> BoxFuture<'_, Snapshot> {
        Box::pin(self.read_elsewhere())
    }

    fn run(&self, publisher: Publisher, mut stop: Stop) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let files = [self.path.clone(), self.dot_env()];
            let mut watch = Watch::new(&files);
            let mut ticks = interval(self.poll);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut seen: Option<[Stamp; 2]> = None;
            loop {
                let told = tokio::select! {
                    () = stop.wait() => return,
                    () = watch.changed() => true,
                    _ = ticks.tick() => false,
                };
                if told {
                    sleep(SETTLE).await;
                }
                // Stamped before reading: a change in between shows in the next stamp.
                let now = files.each_ref().map(|file| Stamp::of(file));
                // Being told of the file itself counts even when its stamp is the same: clocks of file systems are
                // coarse, and two changes may share one.
                let named = watch.take_named();
                if named || seen.as_ref() != Some(&now) {
                    watch.follow(&files);
                    seen = Some(now);
                    publisher.publish(self.read_elsewhere().await);
                }
            }
        })
    }
}

fn dot_env(path: &Path) -> PathBuf {
    path.with_file_name(".env")
}

type Texts = (Arc<str>, Option<Arc<str>>);

/// The file's text, and that of its `.env` file if there is one.
fn read(path: &Path) -> Result<Texts, (PathBuf, io::Error)> {
    let text = read_settled(path).map_err(|error| (path.to_owned(), error))?;
    let beside = dot_env(path);
    match read_one(&beside) {
        Ok(env) => Ok((text, Some(env))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((text, None)),
        Err(error) => Err((beside, error)),
    }
}

/// Reads the file when nobody is in the middle of writing it: a file that is written in place is empty for a moment, and
/// then half there, and must not be taken for a configuration that serves nothing.
fn read_settled(path: &Path) -> io::Result<Arc<str>> {
    let mut text = None;
    for _ in 0..TRIES {
        let before = Stamp::of(path);
        let read = read_one(path)?;
        let is_empty = read.trim().is_empty();
        if !is_empty && Stamp::of(path) == before {
            return Ok(read);
        }
        text = (!is_empty).then_some(read);
        std::thread::sleep(SETTLE);
    }
    let empty = || io::Error::new(io::ErrorKind::InvalidData, "it is empty");
    text.ok_or_else(empty)
}

fn read_one(path: &Path) -> io::Result<Arc<str>> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder"));
    }
    if metadata.len() > MOST_BYTES {
        let reason = format!("{} bytes are more than a configuration has", metadata.len());
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    let bytes = std::fs::read(path)?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.into()),
        Err(error) => {
            let line = error
                .as_bytes()
                .iter()
                .take(error.utf8_error().valid_up_to())
                .filter(|b| **b == b'\n')
                .count();
            let reason = format!("line {} holds bytes that are not UTF-8", line + 1);
            Err(io::Error::new(io::ErrorKind::InvalidData, reason))
        }
    }
}

#[cfg(test)]
mod tests;
