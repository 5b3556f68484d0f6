//! Certificates whose files are looked at again and again, so that a renewed one is served without a reload.
//!
//! A file is read anew when its stamp (time, size, inode, behind all symbolic links, as Kubernetes swaps them)
//! differs from the one seen last. What cannot be used is logged once and leaves the old certificate in place; a
//! certificate whose key has not followed yet is simply such a case, and mends itself when it has.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, SystemTime},
};

use portcullis_config::model::CertificateFiles;

use super::{TlsError, certificate::Certificate};

/// Something that holds certificates read from files.
pub(super) trait Watched: Send + Sync {
    /// Reads what changed. The error is about a file that cannot be used now; the rest is still refreshed.
    fn refresh(&self) -> Result<(), TlsError>;

    /// Those in use.
    fn certificates(&self) -> Vec<Arc<Certificate>>;
}

/// Everything alive that holds certificates. Process-wide, since several runtimes may be alive at once during a reload.
static LIVE: Mutex<Vec<Weak<dyn Watched>>> = Mutex::new(Vec::new());

/// From now on looked after by [`watch`], for as long as it lives.
pub(super) fn register(watched: &Arc<impl Watched + 'static>) {
    let watched: Weak<dyn Watched> = Arc::downgrade(&(watched.clone() as Arc<dyn Watched>));
    let mut live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
    live.retain(|one| one.strong_count() > 0);
    live.push(watched);
}

fn live() -> Vec<Arc<dyn Watched>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
}

/// Looks at the files of all certificates in use, for ever, once per `every`. For the control runtime.
pub async fn watch(every: Duration) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // Files may lie on a slow network: never on the runtime's own thread.
        let round = tokio::task::spawn_blocking(|| live().iter().for_each(|one| drop(one.refresh())));
        if round.await.is_err() {
            tracing::error!("looking at certificate files failed");
        }
    }
}

/// Until when a certificate in use is valid.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expiry {
    /// The file that it was read from.
    pub file: PathBuf,
    /// The names that it is for.
    pub names: Vec<Box<str>>,
    /// End of validity, seconds since 1970.
    pub not_after: i64,
}

/// Of every certificate in use, each once.
pub fn expiry() -> Vec<Expiry> {
    let mut all: Vec<Expiry> = live()
        .iter()
        .flat_map(|one| one.certificates())
        .map(|certificate| Expiry {
            file: certificate.file.clone(),
            names: certificate.names.clone(),
            not_after: certificate.not_after,
        })
        .collect();
    all.sort();
    all.dedup();
    all
}

/// One certificate, and what its files looked like when they were last read.
#[derive(Debug)]
pub(super) struct Kept {
    files: CertificateFiles,
    seen: (Stamp, Stamp),
    pub(super) certificate: Arc<Certificate>,
}

/// What tells a changed file; `None` when it is not there.
type Stamp = Option<(SystemTime, u64, u64)>;

impl Kept {
    /// Reads a certificate for the first time.
    pub(super) fn load(files: &CertificateFiles) -> Result<Kept, TlsError> {
        // Stamped before it is read: a change in between is then seen the next time.
        let seen = stamps(files);
        let certificate = Arc::new(Certificate::load(files)?);
        Ok(Kept { files: files.clone(), seen, certificate })
    }

    /// Reads again if a file changed; tells whether the certificate is another one now.
    pub(super) fn refresh(&mut self) -> Result<bool, TlsError> {
        let now = stamps(&self.files);
        if now == self.seen {
            return Ok(false);
        }
        self.seen = now;
        match Certificate::load(&self.files) {
            Ok(new) if new.is_same(&self.certificate) => Ok(false),
            Ok(new) => {
                tracing::info!(cert = %self.files.cert.display(), names = ?new.names, "certificate renewed");
                self.certificate = Arc::new(new);
                Ok(true)
            }
            Err(error) => {
                tracing::warn!(%error, "changed certificate not usable; the old one stays in use");
                Err(error)
            }
        }
    }
}

fn stamps(files: &CertificateFiles) -> (Stamp, Stamp) {
    (stamp(&files.cert), stamp(&files.key))
}

fn stamp(file: &Path) -> Stamp {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), inode(&metadata)))
}

#[cfg(unix)]
fn inode(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &std::fs::Metadata) -> u64 {
    0
}
