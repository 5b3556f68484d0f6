//! What `run`, `proxy` and `demo` have in common: a process that serves until it is told to end.

use std::{io::Write, path::PathBuf, process::ExitCode, sync::Arc};

use portcullis::{
    app::{App, StartError},
    descriptors,
    logging::{Logging, colours},
    shutdown::{End, Signals},
};
use portcullis_core::provider::Provider;

use super::{FAILED, UNUSABLE, complain};

/// Serves until told to end; `started` is called once everything listens.
pub fn serve(providers: Vec<Arc<dyn Provider>>, folder: PathBuf, started: impl FnOnce(&App)) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().thread_name("control").enable_all().build() {
        Ok(runtime) => runtime.block_on(serve_on(providers, folder, "", started)),
        Err(error) => {
            complain(&format!("cannot start: {error}"));
            ExitCode::from(FAILED)
        }
    }
}

/// The same, on a runtime that is there. `hint` is what may help when it cannot start.
pub async fn serve_on(
    providers: Vec<Arc<dyn Provider>>,
    folder: PathBuf,
    hint: &str,
    started: impl FnOnce(&App),
) -> ExitCode {
    let logging = Logging::start();
    let files = descriptors::raise_limit();
    let signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            complain(&format!("cannot listen to signals: {error}"));
            return ExitCode::from(FAILED);
        }
    };
    let app = match App::start(providers, folder, logging).await {
        Ok(app) => app,
        Err(error) => return refuse(&error, hint),
    };
    for (listener, address) in app.addresses() {
        tracing::info!(%listener, %address, "listening");
    }
    tracing::debug!(?files, version = env!("CARGO_PKG_VERSION"), "started");
    started(&app);
    match signals.obey(app).await {
        End::Drained { .. } => ExitCode::SUCCESS,
        // Not through the workers' orderly end: somebody did not want to wait.
        End::AtOnce => std::process::exit(i32::from(FAILED)),
    }
}

/// Why it does not start.
fn refuse(error: &StartError, hint: &str) -> ExitCode {
    match error {
        StartError::Refused(loaded) => {
            // Nobody is left to be told when standard error is gone.
            let _ = write!(std::io::stderr(), "{}", loaded.text(colours(&std::io::stderr())));
            ExitCode::from(if loaded.unreadable { UNUSABLE } else { FAILED })
        }
        StartError::Failed(attempt) => {
            attempt.problems.iter().for_each(|problem| complain(problem));
            if !hint.is_empty() {
                complain(hint);
            }
            ExitCode::from(FAILED)
        }
        StartError::System(_) => {
            complain(&error.to_string());
            ExitCode::from(FAILED)
        }
    }
}
