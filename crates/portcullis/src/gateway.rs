//! A gateway in a program. It brings its own threads: the workers, and one for the control plane.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use portcullis_core::provider::{Provider, Snapshot};
use portcullis_providers::File;
use tokio::sync::oneshot;

use crate::{
    app::{App, StartError},
    builder::Builder,
    load::{self, Loaded},
    reload::{Attempt, Cause, Reload},
};

/// Why a gateway cannot be built, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is refused; the text holds every finding, with file, line and what would be right.
    #[error("the configuration is refused:\n{0}")]
    Configuration(String),
    /// It cannot be put in force: an address is in use, a certificate cannot be read.
    #[error("{0}")]
    Start(String),
    /// The system does not give what is needed.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
    /// The gateway ended by itself, which is a mistake of ours.
    #[error("the gateway ended unexpectedly")]
    Ended,
}

impl From<StartError> for Error {
    fn from(error: StartError) -> Error {
        match error {
            StartError::Refused(loaded) => Error::Configuration(loaded.text(false)),
            StartError::Failed(attempt) => Error::Start(attempt.problems.join("\n")),
            StartError::System(error) => Error::System(error),
        }
    }
}

/// A configuration file that was read and checked.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    path: PathBuf,
    warnings: String,
}

impl GatewayConfig {
    /// Reads and checks a file: TOML, YAML or JSON, by its name.
    ///
    /// # Errors
    /// Every finding, not the first.
    pub fn load(path: impl AsRef<Path>) -> Result<GatewayConfig, Error> {
        let path = path.as_ref();
        let snapshot: Snapshot = File::read_now(path);
        let loaded: Loaded = load::load("file", &snapshot, &folder_of(path));
        match &loaded.model {
            None => Err(Error::Configuration(loaded.text(false))),
            Some(_) if loaded.findings.is_empty() => {
                Ok(GatewayConfig { path: path.to_owned(), warnings: String::new() })
            }
            Some(_) => Ok(GatewayConfig { path: path.to_owned(), warnings: loaded.text(false) }),
        }
    }

    /// What is probably not as it was meant, although it runs; empty when there is nothing.
    pub fn warnings(&self) -> &str {
        &self.warnings
    }
}

/// The folder of a file, where relative files in it start.
pub fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// A gateway that serves. Dropping it ends it at once; [`Gateway::serve`] ends it in an orderly way.
#[derive(Debug)]
#[must_use = "dropping it ends it"]
pub struct Gateway {
    addresses: Vec<(Arc<str>, SocketAddr)>,
    reload: Reload,
    /// Sending asks for a drain; dropping ends at once.
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<usize>,
}

impl Gateway {
    /// A gateway to be built in the program.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Serves what a file says, and follows the file when it changes.
    ///
    /// # Errors
    /// What is wrong with it, or an address that cannot be listened on.
    pub async fn from_config(config: GatewayConfig) -> Result<Gateway, Error> {
        let folder = folder_of(&config.path);
        Gateway::start(vec![Arc::new(File::new(config.path))], folder).await
    }

    /// Serves what these providers publish; the first is the gateway's own configuration.
    ///
    /// # Errors
    /// What is wrong with it, or an address that cannot be listened on.
    pub async fn start(providers: Vec<Arc<dyn Provider>>, folder: PathBuf) -> Result<Gateway, Error> {
        let (started, starts) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let (ends, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("control".into()).spawn(move || {
            runtime.block_on(async move {
                let app = match App::start(providers, folder, None).await {
                    Ok(app) => app,
                    // Whoever started it may have gone; nobody is left to be told then.
                    Err(error) => return drop(started.send(Err(error))),
                };
                if started.send(Ok((app.addresses(), app.reload().clone()))).is_err() {
                    return;
                }
                if stopped.await.is_ok() {
                    // As above.
                    let _ = ends.send(app.drain().await);
                }
            });
        })?;
        let (addresses, reload) = starts.await.map_err(|_| Error::Ended)??;
        Ok(Gateway { addresses, reload, stop, ended })
    }

    /// Where its listeners are, by name. Port 0 has become the port that the system chose.
    pub fn addresses(&self) -> &[(Arc<str>, SocketAddr)] {
        &self.addresses
    }

    /// Where one listener is; the one of a built gateway is called `web`.
    pub fn address(&self, listener: &str) -> Option<SocketAddr> {
        self.addresses.iter().find(|(name, _)| &**name == listener).map(|(_, address)| *address)
    }

    /// Reads the configuration again and puts it in force. Tells how that went; `None` when the gateway is ending.
    pub async fn reload(&self) -> Option<Arc<Attempt>> {
        self.reload.now(Cause::Request).await
    }

    /// Serves until SIGINT (Ctrl-C) or SIGTERM, then lets open connections end.
    ///
    /// # Errors
    /// The system refuses to tell of signals.
    pub async fn serve(self) -> Result<(), Error> {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let asked = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        self.serve_until(asked).await
    }

    /// Serves until the future is ready, then lets open connections end.
    ///
    /// # Errors
    /// The gateway ended by itself.
    pub async fn serve_until(mut self, asked: impl Future<Output = ()>) -> Result<(), Error> {
        tokio::select! {
            () = asked => {}
            _ = &mut self.ended => return Err(Error::Ended),
        }
        // An error means that it has ended already, which the next line tells.
        let _ = self.stop.send(());
        self.ended.await.map(|_| ()).map_err(|_| Error::Ended)
    }
}
