//! What the admin interface and the built-in services see of the process, and what they may ask for.

use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use portcullis_admin::{Gateway, Outcome, State, Upgraded};
use portcullis_core::BoxFuture;
use portcullis_proxy::{Data, runtime::Runtime};

use crate::{
    reload::{Attempt, Builtins, Cause, Reload},
    upgrade::Upgrade,
};

/// A view of the process. It holds nothing alive: what runs holds the built-in services, and they hold this.
#[derive(Default)]
pub struct Control {
    data: Weak<Data>,
    reload: OnceLock<Reload>,
    upgrade: OnceLock<Upgrade>,
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

    /// From now on upgrades can be asked for.
    pub fn upgrades(&self, upgrade: Upgrade) {
        // It is called once.
        let _ = self.upgrade.set(upgrade);
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

    fn upgrade(&self) -> BoxFuture<'_, Upgraded> {
        Box::pin(async {
            let Some(upgrade) = self.upgrade.get() else {
                let problem = Some("this process is not one that can be followed by another".to_owned());
                return Upgraded { problem, ..Upgraded::default() };
            };
            let outcome = upgrade.now().await;
            let (ok, pid) = (outcome.result.is_ok(), outcome.pid);
            let (version, problem) = match outcome.result {
                Ok(version) => (Some(version), None),
                Err(problem) => (None, Some(problem)),
            };
            Upgraded { ok, pid, version, problem }
        })
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
