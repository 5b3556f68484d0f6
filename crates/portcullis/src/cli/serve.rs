//! What `run`, `proxy` and `demo` have in common: a process that serves until it is told to end.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use portcullis::{
    activation,
    app::{App, StartError},
    descriptors,
    logging::{Logging, colours},
    notify::Notify,
    pid_file::PidFile,
    shutdown::{End, Signals},
    upgrade::{Heritage, Predecessor, Program},
};
use portcullis_core::provider::Provider;

use super::{FAILED, UNUSABLE, complain};

/// What a process comes with, beside its configuration.
#[derive(Default)]
pub struct Start {
    /// What another process gave us.
    heritage: Heritage,
    /// The process that serves until we are ready.
    predecessor: Option<Predecessor>,
    /// How the process after this one is started; without it there is none.
    program: Option<Program>,
    /// Where our id is kept.
    pid_file: Option<PathBuf>,
}

impl Start {
    /// To be called before there are threads, once.
    fn of_this_process(pid_file: Option<PathBuf>) -> io::Result<Start> {
        let program = Some(Program::of_this_process());
        let (predecessor, heritage) = match Predecessor::find()? {
            Some((predecessor, heritage)) => (Some(predecessor), heritage),
            None => (None, Heritage { sockets: activation::sockets()?, ..Heritage::default() }),
        };
        Ok(Start { heritage, predecessor, program, pid_file })
    }
}

/// Serves until told to end.
pub fn serve(providers: Vec<Arc<dyn Provider>>, folder: PathBuf, pid_file: Option<PathBuf>) -> ExitCode {
    let start = match Start::of_this_process(pid_file) {
        Ok(start) => start,
        Err(error) => {
            complain(&format!("cannot take over the sockets that this process was given: {error}"));
            return ExitCode::from(FAILED);
        }
    };
    match tokio::runtime::Builder::new_current_thread().thread_name("control").enable_all().build() {
        Ok(runtime) => runtime.block_on(serve_on(providers, folder, "", start, |_| {})),
        Err(error) => {
            complain(&format!("cannot start: {error}"));
            ExitCode::from(FAILED)
        }
    }
}

/// The same, on a runtime that is there; `started` is called once everything listens. `hint` is what may help when it
/// cannot start.
pub async fn serve_on(
    providers: Vec<Arc<dyn Provider>>,
    folder: PathBuf,
    hint: &str,
    start: Start,
    started: impl FnOnce(&App),
) -> ExitCode {
    let Start { heritage, predecessor, program, pid_file } = start;
    let logging = Logging::start();
    let files = descriptors::raise_limit();
    let signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            complain(&format!("cannot listen to signals: {error}"));
            return ExitCode::from(FAILED);
        }
    };
    let notify = Notify::from_env();
    let app = match App::inherit(providers, folder, logging, heritage, program, notify.clone()).await {
        Ok(app) => app,
        Err(error) => {
            if let Some(predecessor) = predecessor {
                predecessor.failed(&in_one_line(&error));
            }
            return refuse(&error, hint);
        }
    };
    for (listener, address) in app.addresses() {
        tracing::info!(%listener, %address, "listening");
    }
    tracing::debug!(?files, version = env!("CARGO_PKG_VERSION"), "started");
    let _pid_file = pid_file.and_then(PidFile::keep);
    if let Some(predecessor) = predecessor
        && let Err(error) = predecessor.ready(app.taken())
    {
        complain(&format!("the process before this one has called the upgrade off: {error}"));
        app.drain().await;
        return ExitCode::from(FAILED);
    }
    started(&app);
    if let Some(notify) = &notify {
        notify.ready(&format!("serving, version {}", env!("CARGO_PKG_VERSION")));
    }
    match signals.obey(app, notify).await {
        End::Drained { .. } => ExitCode::SUCCESS,
        // Not through the workers' orderly end: somebody did not want to wait.
        End::AtOnce => std::process::exit(i32::from(FAILED)),
    }
}

/// Why it does not start, for the process that goes on instead.
fn in_one_line(error: &StartError) -> String {
    match error {
        StartError::Refused(loaded) => {
            let errors = loaded.findings.iter().filter(|finding| finding.is_error());
            let each =
                errors.map(|finding| format!("{}:{}: {}", finding.file, finding.line, finding.message));
            each.collect::<Vec<_>>().join("; ")
        }
        other => other.to_string().replace('\n', "; "),
    }
}

/// Why it does not start.
fn refuse(error: &StartError, hint: &str) -> ExitCode {
    match error {
        StartError::Refused(loaded) => {
            // Nobody is left to be told when standard error is gone.
            let _ = write!(io::stderr(), "{}", loaded.text(colours(&io::stderr())));
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
