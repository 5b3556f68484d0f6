//! From snapshots to what runs: fragments → merge → check → compile → swap.
//!
//! One task does it, one configuration after the other, on the control plane's runtime; the work itself is done on a
//! thread for blocking work, so that health checks go on meanwhile. Everything new is built before anything old is
//! touched: whatever fails, the last good configuration stays in force, and the attempt says why.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use portcullis_config::{diagnostic::Finding, model};
use portcullis_core::{
    builtin::Builtin,
    keep::Keep,
    provider::{Board, Provider, Snapshot, Stop},
    store::Stores,
};
use portcullis_providers::Follow;
use portcullis_proxy::{
    Data,
    health::Checks,
    observe::{AccessLog, Metrics},
    runtime::{
        Runtime,
        compile::{Parts, compile},
    },
    worker_count,
};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use crate::{
    certificates, checks,
    load::{self, Loaded},
    logging::Logging,
    stores,
};

/// A change is followed by this much silence before it is looked at: files are seldom written in one go.
const QUIET: Duration = Duration::from_millis(50);
/// A source that is never silent is looked at after this time all the same.
const PATIENCE: Duration = Duration::from_millis(500);

/// Built-in services by name.
pub type Builtins = BTreeMap<&'static str, Arc<dyn Builtin>>;

/// What made us look at the sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The start of the gateway.
    Start,
    /// A provider has published something new.
    Change,
    /// SIGHUP.
    Signal,
    /// `POST /reload` on the admin listener, or a program that uses the library.
    Request,
}

impl Cause {
    /// For logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Start => "start",
            Cause::Change => "change",
            Cause::Signal => "signal",
            Cause::Request => "request",
        }
    }
}

/// How an attempt to put a configuration in force went.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// When it ended.
    pub at: SystemTime,
    /// Why it was made.
    pub cause: Cause,
    /// Is what was looked at now in force?
    pub ok: bool,
    /// The number of the configuration in force, from 1; 0 before the first.
    pub generation: u64,
    /// Everything found in what the providers wrote. Warnings do not refuse a configuration.
    pub findings: Vec<Finding>,
    /// What could not be compiled, or put in force, although nothing was wrong with how it was written.
    pub problems: Vec<String>,
}

impl Attempt {
    /// In one line, for whoever asked.
    pub fn summary(&self) -> String {
        let errors = self.findings.iter().filter(|finding| finding.is_error()).count() + self.problems.len();
        if self.ok {
            format!("configuration {} is in force", self.generation)
        } else {
            let still = match self.generation {
                0 => String::new(),
                generation => format!("; configuration {generation} stays in force"),
            };
            format!("refused with {errors} error{}{still}", if errors == 1 { "" } else { "s" })
        }
    }
}

/// What outlives every configuration, and what each is made with.
pub struct Process {
    /// The data plane.
    pub data: Arc<Data>,
    /// State carried over.
    pub keep: Keep,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Built-in services.
    pub builtins: Builtins,
    /// Relative files are relative to this folder.
    pub folder: PathBuf,
    /// The log, if it is ours.
    pub logging: Option<Logging>,
    /// Held by whoever changes what is listened on, or hands it over: one at a time.
    pub changes: Arc<tokio::sync::Mutex<()>>,
}

/// A way to ask for a reload. Cheap to clone; works from any runtime.
#[derive(Debug, Clone)]
pub struct Reload {
    ask: mpsc::UnboundedSender<Ask>,
    last: Arc<Mutex<Option<Arc<Attempt>>>>,
}

#[derive(Debug)]
struct Ask {
    cause: Cause,
    reply: Option<oneshot::Sender<Arc<Attempt>>>,
}

impl Reload {
    /// Asks, and does not wait.
    pub fn request(&self, cause: Cause) {
        // An error means that the gateway is ending.
        let _ = self.ask.send(Ask { cause, reply: None });
    }

    /// Asks, and waits for the outcome; `None` when the gateway is ending.
    pub async fn now(&self, cause: Cause) -> Option<Arc<Attempt>> {
        let (reply, answer) = oneshot::channel();
        self.ask.send(Ask { cause, reply: Some(reply) }).ok()?;
        answer.await.ok()
    }

    /// The last attempt.
    pub fn last(&self) -> Option<Arc<Attempt>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The one task that puts configurations in force.
pub struct Reloader {
    process: Arc<Process>,
    providers: Vec<Arc<dyn Provider>>,
    board: Arc<Board>,
    /// What was tried last, successfully or not.
    tried: Option<BTreeMap<Arc<str>, Snapshot>>,
    current: Current,
    /// The files that the configuration names.
    named: Follow,
    inbox: mpsc::UnboundedReceiver<Ask>,
    handle: Reload,
}

/// The access log, if there is one, and the settings that it was opened with.
type OpenLog = Option<(model::AccessLog, Arc<AccessLog>)>;

/// What belongs to the configuration in force.
#[derive(Default)]
struct Current {
    generation: u64,
    access_log: OpenLog,
    checks: Option<Checks>,
    stores: Stores,
}

impl Reloader {
    /// With these providers; nothing is in force yet.
    pub fn new(process: Arc<Process>, providers: Vec<Arc<dyn Provider>>, board: Arc<Board>) -> Reloader {
        let (ask, inbox) = mpsc::unbounded_channel();
        let handle = Reload { ask, last: Arc::default() };
        Reloader {
            process,
            providers,
            board,
            tried: None,
            current: Current::default(),
            named: Follow::default(),
            inbox,
            handle,
        }
    }

    /// The way to ask it.
    pub fn handle(&self) -> Reload {
        self.handle.clone()
    }

    /// Follows changes and wishes until told to stop.
    pub async fn run(mut self, mut stop: Stop) {
        loop {
            tokio::select! {
                () = stop.wait() => return,
                () = self.board.changed() => {
                    self.settle().await;
                    if self.tried.as_ref() != Some(&self.board.all()) {
                        self.apply(Cause::Change, None).await;
                    }
                }
                () = self.named.changed() => {
                    // A certificate and its key are seldom written at once.
                    sleep(QUIET).await;
                    self.settle().await;
                    self.apply(Cause::Change, None).await;
                }
                ask = self.inbox.recv() => {
                    let Some(ask) = ask else { return };
                    let attempt = self.read_and_apply(ask.cause).await;
                    if let Some(reply) = ask.reply {
                        // Whoever asked may have gone.
                        let _ = reply.send(attempt);
                    }
                }
            }
        }
    }

    /// Reads all providers and puts what they say in force, whether it changed or not: files that the configuration
    /// only names may have changed.
    pub async fn read_and_apply(&mut self, cause: Cause) -> Arc<Attempt> {
        for provider in &self.providers {
            self.board.put(provider.name(), provider.read().await);
        }
        self.apply(cause, None).await
    }

    /// Puts the first configuration in force, which was read already.
    pub async fn begin(&mut self, loaded: Loaded) -> Arc<Attempt> {
        self.apply(Cause::Start, Some(loaded)).await
    }

    /// Waits until the sources are silent.
    async fn settle(&self) {
        let silent = async { while timeout(QUIET, self.board.changed()).await.is_ok() {} };
        tokio::select! {
            () = silent => {}
            () = sleep(PATIENCE) => {}
        }
    }

    async fn apply(&mut self, cause: Cause, loaded: Option<Loaded>) -> Arc<Attempt> {
        let changes = self.process.changes.clone();
        let _changing = changes.lock().await;
        let began = Instant::now();
        let snapshots = self.board.all();
        let generation = self.current.generation + 1;
        let (process, log) = (self.process.clone(), self.current.access_log.clone());
        let tried = snapshots.clone();
        self.named.look();
        let work = tokio::task::spawn_blocking(move || {
            let loaded = loaded.unwrap_or_else(|| load::load_all(&tried, &process.folder));
            put_in_force(&process, loaded, log, generation)
        });
        let done = work.await.unwrap_or_else(|error| Done {
            findings: Vec::new(),
            files: Vec::new(),
            since: SystemTime::now(),
            result: Err(vec![format!("reading the configuration ended unexpectedly: {error}")]),
        });
        self.tried = Some(snapshots);
        let mut files = done.files;
        if done.result.is_err() {
            // The configuration in force names its own.
            files.extend(self.named.files().map(ToOwned::to_owned));
        }
        self.named.follow(&files, done.since);
        let (ok, problems) = match done.result {
            Ok(running) => {
                self.follow(running, generation);
                (true, Vec::new())
            }
            Err(problems) => (false, problems),
        };
        self.process.metrics.reloaded(ok);
        let generation = self.current.generation;
        let attempt =
            Attempt { at: SystemTime::now(), cause, ok, generation, findings: done.findings, problems };
        report(&attempt, began.elapsed());
        let attempt = Arc::new(attempt);
        *self.handle.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(attempt.clone());
        attempt
    }

    /// What runs beside the workers follows the new configuration.
    fn follow(&mut self, running: Running, generation: u64) {
        let Running { runtime, access_log, stores } = running;
        portcullis_store::greet(&stores);
        self.current.stores = stores;
        let control = Handle::current();
        runtime.names.values().for_each(|named| named.follow(&control));
        // The state of health is kept by the endpoints: new checks go on where the old ones stop.
        self.current.checks = Some(checks::start(&runtime));
        if let Some(logging) = &self.process.logging {
            logging.configure(&runtime.model.log);
        }
        self.current.access_log = access_log;
        self.current.generation = generation;
        certificates::record(&runtime, &self.process.metrics);
        drop(runtime);
        self.process.metrics.retain();
    }
}

/// What became of an attempt.
struct Done {
    findings: Vec<Finding>,
    /// Files that were read.
    files: Vec<PathBuf>,
    /// When reading them began.
    since: SystemTime,
    result: Result<Running, Vec<String>>,
}

/// What runs now.
struct Running {
    runtime: Arc<Runtime>,
    access_log: OpenLog,
    stores: Stores,
}

/// Everything that may take time, in one go, off the runtime.
fn put_in_force(process: &Process, loaded: Loaded, log: OpenLog, generation: u64) -> Done {
    let Loaded { model, findings, files, since, .. } = loaded;
    let result = match model {
        Some(model) => swap(process, model, log, generation),
        None => Err(Vec::new()),
    };
    Done { findings, files, since, result }
}

fn swap(
    process: &Process,
    model: Arc<model::Model>,
    log: OpenLog,
    generation: u64,
) -> Result<Running, Vec<String>> {
    let workers = worker_count(model.workers);
    let access_log = match (&model.access_log, log) {
        (None, _) => None,
        (Some(settings), Some((before, log))) if before == *settings => Some((before, log)),
        (Some(settings), _) => {
            let log =
                AccessLog::open(settings, workers).map_err(|error| vec![format!("access log: {error}")])?;
            Some((settings.clone(), log))
        }
    };
    let stores = stores::build(&model, process)?;
    let parts = Parts {
        keep: &process.keep,
        stores: &stores,
        middlewares: portcullis_middleware::TABLE,
        builtins: &process.builtins,
        metrics: &process.metrics,
        access_log: access_log.as_ref().map(|(_, log)| log.clone()),
        generation,
        folder: &process.folder,
        workers,
    };
    let compiled = compile(model, &parts);
    let runtime =
        compiled.map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let runtime = Arc::new(runtime);
    runtime.start_disks();
    process.data.apply(runtime.clone()).map_err(|error| vec![error.to_string()])?;
    process.metrics.rebucket(&runtime.model.metrics.buckets);
    Ok(Running { runtime, access_log, stores })
}

/// The attempt in the log: each finding a line of its own.
fn report(attempt: &Attempt, took: Duration) {
    for finding in &attempt.findings {
        let code = finding.code.as_text();
        let (file, line, column) = (&*finding.file, finding.line, finding.column);
        let (path, help) = (&*finding.path, &*finding.help);
        if finding.is_error() {
            tracing::error!(file, line, column, path, code, help, "{}", finding.message);
        } else {
            tracing::warn!(file, line, column, path, code, help, "{}", finding.message);
        }
    }
    if !attempt.ok && attempt.cause == Cause::Start {
        // The process ends with this, and says so itself.
        return;
    }
    for problem in &attempt.problems {
        tracing::error!("{problem}");
    }
    let cause = attempt.cause.as_str();
    if attempt.ok {
        tracing::info!(cause, ?took, "{}", attempt.summary());
    } else {
        tracing::error!(cause, ?took, "{}", attempt.summary());
    }
}

#[cfg(test)]
mod tests;
