//! What the admin interface and the built-in services see of the process, and the one thing they may ask for.

use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use portcullis_admin::{Gateway, Outcome, State};
use portcullis_core::BoxFuture;
use portcullis_proxy::{Data, runtime::Runtime};

use crate::reload::{Attempt, Builtins, Cause, Reload};

/// A view of the process. It holds nothing alive: what runs holds the built-in services, and they hold this.
#[derive(Default)]
pub struct Control {
    data: Weak<Data>,
    reload: OnceLock<Reload>,
    draining: AtomicBool,
}

impl Control {
    /// Of this data plane; reloads can be asked for once it is connected.
    pub fn new(data: &Arc<Data>) -> Arc<Control> {
        Arc::new(Control { data: Arc::downgrade(data), ..Control::default() })
    }

    /// The built-in services of nothing: for compiling without running.
    pub fn unconnected() -> Builtins {
        portcullis_admin::builtins(Arc::<Control>::default())
    }

    /// The built-in services.
    pub fn builtins(self: &Arc<Control>) -> Builtins {
        portcullis_admin::builtins(self.clone())
    }

    /// From now on reloads can be asked for.
    pub fn connect(&self, reload: Reload) {
        // It is called once.
        let _ = self.reload.set(reload);
    }

    /// The gateway is about to end.
    pub fn drain(&self) {
        self.draining.store(true, Relaxed);
    }
}

impl Gateway for Control {
    fn runtime(&self) -> Option<Arc<Runtime>> {
        self.data.upgrade()?.runtime()
    }

    fn state(&self) -> State {
        if self.draining.load(Relaxed) {
            State::Draining
        } else if self.runtime().is_some() {
            State::Ready
        } else {
            State::Starting
        }
    }

    fn addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        self.data.upgrade().map(|data| data.addresses()).unwrap_or_default()
    }

    fn last_reload(&self) -> Option<Outcome> {
        self.reload.get()?.last().map(|attempt| outcome(&attempt))
    }

    fn reload(&self) -> BoxFuture<'_, Option<Outcome>> {
        Box::pin(async { Some(outcome(&*self.reload.get()?.now(Cause::Request).await?)) })
    }
}

fn outcome(attempt: &Attempt) -> Outcome {
    Outcome {
        at: attempt.at,
        cause: attempt.cause.as_str(),
        ok: attempt.ok,
        generation: attempt.generation,
        findings: attempt.findings.clone(),
        problems: attempt.problems.clone(),
    }
}
