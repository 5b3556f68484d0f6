//! Another binary without a dropped request.
//!
//! The running process starts what stands at its own path now, with the same arguments, and hands it all listening
//! sockets and what it knows of endpoints' health over a socket that is the new one's standard input. The new process
//! reads its configuration as at every start, takes the sockets that it wants, serves, and says so. From then on the old
//! one accepts nothing more: whoever waits at a socket is served by the new process, for it is the same socket. Its own
//! connections end with their next answer. If the new process fails in any way before it is ready, the old one just
//! goes on, having changed nothing.

use std::{
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use portcullis_proxy::{Data, observe::Metrics, runtime::Runtime};
use tokio::sync::watch;

use crate::{notify::Notify, reload::Process};

mod predecessor;
mod successor;
mod wire;

pub use predecessor::{Heritage, Predecessor};
pub use successor::Program;
use successor::Successor;
use wire::{Estate, Known};

/// How an upgrade went.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Id of the new process, if it could be started.
    pub pid: Option<u32>,
    /// The new process's version, or why it does not serve.
    pub result: Result<String, String>,
}

/// The way to ask for an upgrade. Cheap to clone; works from any runtime.
#[derive(Clone)]
pub struct Upgrade(Arc<Shared>);

struct Shared {
    program: Program,
    data: Weak<Data>,
    metrics: Arc<Metrics>,
    notify: Option<Notify>,
    /// See [`Process::changes`].
    changes: Arc<tokio::sync::Mutex<()>>,
    stage: Mutex<Stage>,
    /// Does another process serve?
    done: watch::Sender<bool>,
}

/// How far we are.
enum Stage {
    /// Nobody asked.
    Idle,
    /// A new process starts; this is the way to it, once there is one.
    Starting(Option<UnixStream>),
    /// Another process serves, or this one is about to end.
    Over,
}

/// Keeps reloads away: what they would open, nobody would take over.
type Changing = tokio::sync::OwnedMutexGuard<()>;

impl Upgrade {
    /// Of this process.
    pub fn new(program: Program, process: &Process, notify: Option<Notify>) -> Upgrade {
        let (data, metrics) = (Arc::downgrade(&process.data), process.metrics.clone());
        let (changes, done) = (process.changes.clone(), watch::Sender::default());
        let stage = Mutex::new(Stage::Idle);
        Upgrade(Arc::new(Shared { program, data, metrics, notify, changes, stage, done }))
    }

    /// Tries it, and waits for the outcome.
    pub async fn now(&self) -> Outcome {
        let shared = self.0.clone();
        // Whoever asked may lose patience; the attempt goes on.
        let attempt = tokio::task::spawn_blocking(move || shared.attempt());
        let failed = |error| Outcome { pid: None, result: Err(format!("the attempt ended: {error}")) };
        attempt.await.unwrap_or_else(failed)
    }

    /// Waits until another process serves, and this one accepts nobody any more.
    pub async fn done(&self) {
        let mut done = self.0.done.subscribe();
        // The sender lives for as long as we do.
        let _ = done.wait_for(|done| *done).await;
    }

    /// No upgrade from now on: the gateway is about to end, and a new process must not go on in its place.
    pub fn call_off(&self) {
        if let Stage::Starting(Some(way)) = std::mem::replace(&mut *self.0.stage(), Stage::Over) {
            // It may be gone already.
            let _ = way.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn stage(&self) -> std::sync::MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attempt(&self) -> Outcome {
        let refused = |why: &str| Outcome { pid: None, result: Err(why.to_owned()) };
        {
            let mut stage = self.stage();
            match *stage {
                Stage::Idle => *stage = Stage::Starting(None),
                Stage::Starting(_) => return refused("an upgrade is under way already"),
                Stage::Over => return refused("this process is about to end"),
            }
        }
        let began = Instant::now();
        let changing = self.changes.clone().blocking_lock_owned();
        self.tell(|notify| notify.reloading("upgrading"));
        let mut pid = None;
        let result = match self.start(&mut pid) {
            Ok(serving) => self.succeed(serving, changing, pid, began.elapsed()),
            Err(problem) => Err(problem),
        };
        if let Err(problem) = &result {
            self.metrics.upgrade_failed();
            let mut stage = self.stage();
            if let Stage::Starting(_) = *stage {
                *stage = Stage::Idle;
            }
            drop(stage);
            tracing::error!(problem, "upgrade failed; this process goes on");
            self.tell(|notify| notify.ready(&format!("the last upgrade failed: {problem}")));
        }
        Outcome { pid, result }
    }

    fn tell(&self, what: impl FnOnce(&Notify)) {
        if let Some(notify) = &self.notify {
            what(notify);
        }
    }

    /// Starts the new process and waits until it serves.
    fn start(&self, pid: &mut Option<u32>) -> Result<successor::Serving, String> {
        if let Some(obstacle) = successor::obstacle() {
            return Err(obstacle);
        }
        let data = self.data.upgrade().ok_or("this process is about to end")?;
        let runtime = data.runtime().ok_or("this process is not ready itself")?;
        let sockets = data.duplicates().map_err(|error| format!("cannot duplicate sockets: {error}"))?;
        let (succeeded, failed) = self.metrics.upgrades();
        let upgrades = (succeeded + 1, failed);
        let estate = Estate { health: health(&runtime), upgrades, ..Estate::default() };
        let limit = runtime.model.upgrade_timeout;
        drop((data, runtime));
        let new = Successor::start(&self.program, limit)?;
        *pid = Some(new.pid());
        tracing::info!(pid = new.pid(), sockets = sockets.len(), ?limit, "a new process starts");
        // One that cannot be called off is left alone by whoever wants to.
        let way = new.way().ok();
        let called_off = {
            let mut stage = self.stage();
            match &mut *stage {
                Stage::Starting(place) => {
                    *place = way;
                    false
                }
                _ => true,
            }
        };
        if called_off && let Some(way) = new.way().ok() {
            let _ = way.shutdown(Shutdown::Both);
        }
        new.serves(estate, &sockets)
    }

    /// From now on the new process is the gateway.
    fn succeed(
        &self,
        serving: successor::Serving,
        changing: Changing,
        pid: Option<u32>,
        took: Duration,
    ) -> Result<String, String> {
        if matches!(std::mem::replace(&mut *self.stage(), Stage::Over), Stage::Over) {
            serving.end();
            return Err("this process was told to end meanwhile".into());
        }
        let successor::Serving { version, taken, .. } = serving;
        // Before anybody is told: whoever then connects reaches the new process.
        if let Some(data) = self.data.upgrade() {
            data.leave(&taken);
            // Folders are used by one process at a time.
            if let Some(tiers) = data.runtime().and_then(|runtime| runtime.tiers.clone()) {
                tiers.leave();
            }
        }
        tracing::info!(pid, version, ?took, "the new process serves");
        self.tell(|notify| notify.handed_over(pid.unwrap_or_default(), &version));
        // For ever: this process changes nothing any more.
        std::mem::forget(changing);
        self.done.send_replace(true);
        Ok(version)
    }
}

impl std::fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Upgrade").field(&self.0.program).finish()
    }
}

/// What active checks know of all endpoints.
fn health(runtime: &Runtime) -> Vec<Known> {
    let services = runtime.services.values().filter(|service| service.settings.health_check.is_some());
    let known = services.flat_map(|service| {
        let endpoints = service.endpoints.iter();
        endpoints.filter_map(|endpoint| Known::of(&service.name, &endpoint.url, endpoint.state.health()))
    });
    known.collect()
}
