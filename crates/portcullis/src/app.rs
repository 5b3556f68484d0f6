//! The only file that knows every crate: providers → reload → data plane, and the admin interface beside them.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use portcullis_core::{
    keep::Keep,
    provider::{Board, Provider, Publisher, Stop, Stopper},
};
use portcullis_proxy::{Data, observe::Metrics, worker_count};
use tokio::task::JoinSet;

use crate::{
    certificates,
    control::Control,
    load::{self, Loaded},
    logging::Logging,
    notify::Notify,
    reload::{Attempt, Process, Reload, Reloader},
    upgrade::{Heritage, Program, Upgrade},
};

/// Names of the built-in services that a route may lead to.
pub const BUILTINS: &[&str] =
    &["health", "healthz", "ready", "metrics", "stats", "circuit-breakers", "info", "echo"];

/// The running gateway. It must be made and held within a tokio runtime, which is then its control plane: providers,
/// reloads, health checks and certificates; requests are served by threads of its own.
pub struct App {
    process: Arc<Process>,
    control: Arc<Control>,
    reload: Reload,
    upgrade: Option<Upgrade>,
    stopper: Stopper,
    tasks: JoinSet<()>,
}

/// Why the gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is refused.
    #[error("{}", .0.text(false))]
    Refused(Box<Loaded>),
    /// Nothing is wrong with how it is written, but it cannot be put in force.
    #[error("{}", .0.problems.join("\n"))]
    Failed(Arc<Attempt>),
    /// The system does not give what is needed.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

impl App {
    /// Starts the gateway with these providers, of which the first is its own configuration. Relative files are
    /// relative to the folder.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(
        providers: Vec<Arc<dyn Provider>>,
        folder: PathBuf,
        logging: Option<Logging>,
    ) -> Result<App, StartError> {
        App::inherit(providers, folder, logging, Heritage::default(), None, None).await
    }

    /// The same, with what another process gave us: listening sockets, and what it knew. Where the program is known, this
    /// process can be followed by another one of it; a service manager that wants to know is told that all is well.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn inherit(
        providers: Vec<Arc<dyn Provider>>,
        folder: PathBuf,
        logging: Option<Logging>,
        heritage: Heritage,
        program: Option<Program>,
        notify: Option<Notify>,
    ) -> Result<App, StartError> {
        let board = Arc::new(Board::default());
        for provider in &providers {
            board.put(provider.name(), provider.read().await);
        }
        let loaded = load::load_all(&board.all(), &folder);
        let Some(model) = loaded.model.clone() else { return Err(StartError::Refused(Box::new(loaded))) };
        if let Some(logging) = &logging {
            logging.configure(&model.log);
        }
        let data = Arc::new(Data::default());
        let metrics = Metrics::new(worker_count(model.workers), &model.metrics.buckets);
        let (succeeded, failed) = heritage.estate.upgrades;
        metrics.continue_upgrades(succeeded, failed);
        data.inherit(heritage.sockets);
        let keep = Keep::default();
        // Endpoints that were in service need not pass a check first, since they get requests at once.
        let remembered: Vec<_> = heritage.estate.health.iter().map(|known| known.remembered(&keep)).collect();
        let control = Control::new(&data);
        let process = Arc::new(Process {
            data,
            keep,
            builtins: control.builtins(),
            metrics,
            folder,
            logging,
            changes: Arc::default(),
        });
        let mut reloader = Reloader::new(process.clone(), providers.clone(), board.clone());
        let reload = reloader.handle();
        control.connect(reload.clone());
        // Before anybody can ask.
        let upgrade = program.map(|program| Upgrade::new(program, &process, notify.clone()));
        if let Some(upgrade) = &upgrade {
            control.upgrades(upgrade.clone());
        }
        let attempt = reloader.begin(loaded).await;
        drop(remembered);
        if !attempt.ok {
            return Err(StartError::Failed(attempt));
        }
        let (stopper, stop) = Stop::pair();
        let mut tasks = JoinSet::new();
        for provider in providers {
            let publisher = Publisher::new(provider.name(), board.clone());
            let stop = stop.clone();
            tasks.spawn(async move { provider.run(publisher, stop).await });
        }
        tasks.spawn(reloader.run(stop));
        if let Some(notify) = notify {
            tasks.spawn(notify.watchdog(Arc::downgrade(&process.data)));
        }
        tasks.spawn(certificates::watch(Arc::downgrade(&process.data), process.metrics.clone()));
        Ok(App { process, control, reload, upgrade, stopper, tasks })
    }

    /// The way to ask for a reload.
    pub fn reload(&self) -> &Reload {
        &self.reload
    }

    /// The way to ask for an upgrade, where there is one.
    pub fn upgrade(&self) -> Option<&Upgrade> {
        self.upgrade.as_ref()
    }

    /// Listeners whose sockets came from the process before this one, by the names that they had there.
    pub fn taken(&self) -> Vec<Arc<str>> {
        self.process.data.taken()
    }

    /// Where the listeners really are, by name.
    pub fn addresses(&self) -> Vec<(Arc<str>, std::net::SocketAddr)> {
        self.process.data.addresses()
    }

    /// Connections open now.
    pub fn connections(&self) -> usize {
        self.process.data.connections()
    }

    /// How long a drain may take.
    pub fn drain_timeout(&self) -> Duration {
        self.process.data.runtime().map_or(Duration::ZERO, |runtime| runtime.model.drain_timeout)
    }

    /// Opens the access log anew under its name, for whoever moved the old file away.
    pub fn reopen_logs(&self) {
        if let Some(log) = self.process.data.runtime().and_then(|runtime| runtime.access_log.clone()) {
            log.reopen();
        }
    }

    /// Stops reloading, stops accepting, lets connections end, cuts what is left at the configured deadline. Tells how
    /// many were cut.
    pub async fn drain(self) -> usize {
        if let Some(upgrade) = &self.upgrade {
            upgrade.call_off();
        }
        self.control.drain();
        self.stopper.stop();
        let cut = self.process.data.drain(self.drain_timeout()).await;
        self.end(cut).await
    }

    /// After an upgrade: lets our connections end with their next answer; cuts what is left at the configured deadline.
    /// Tells how many were cut.
    pub async fn last_connections(self) -> usize {
        self.control.drain();
        self.stopper.stop();
        let cut = self.process.data.last_connections(self.drain_timeout()).await;
        self.end(cut).await
    }

    async fn end(mut self, cut: usize) -> usize {
        self.tasks.shutdown().await;
        if let Some(log) = self.process.data.runtime().and_then(|runtime| runtime.access_log.clone()) {
            // It waits for the disk, for two seconds at most.
            let _ = tokio::task::spawn_blocking(move || log.flush()).await;
        }
        if let Some(tiers) = self.process.data.runtime().and_then(|runtime| runtime.tiers.clone()) {
            let _ = tokio::task::spawn_blocking(move || tiers.settle(Duration::from_secs(2))).await;
        }
        cut
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("addresses", &self.addresses()).finish_non_exhaustive()
    }
}
