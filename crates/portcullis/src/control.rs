//! What the admin interface and the built-in services see of the process, and the one thing they may ask for.

use std::sync::{Arc, OnceLock, Weak};

use http::StatusCode;
use portcullis_core::{Answer, BoxFuture, Error, Exchange, builtin::Builtin};
use portcullis_proxy::{Data, observe::Metrics};

use crate::reload::{Builtins, Cause, Reload};

/// A view of the process. It holds nothing alive: what runs holds the built-in services, and they hold this.
#[derive(Default)]
pub struct Control {
    data: Weak<Data>,
    reload: OnceLock<Reload>,
}

impl Control {
    /// Of this data plane; reloads can be asked for once it is connected.
    pub fn new(data: &Arc<Data>) -> Arc<Control> {
        Arc::new(Control { data: Arc::downgrade(data), reload: OnceLock::new() })
    }

    /// Of nothing: for compiling without running.
    pub fn unconnected() -> Arc<Control> {
        Arc::default()
    }

    /// From now on reloads can be asked for.
    pub fn connect(&self, reload: Reload) {
        // It is called once.
        let _ = self.reload.set(reload);
    }
}

/// The built-in services.
pub fn builtins(control: &Arc<Control>, metrics: &Arc<Metrics>) -> Builtins {
    let mut all = Builtins::new();
    for name in ["admin", "health", "healthz", "ready", "metrics", "stats", "info", "echo"] {
        all.insert(name, Arc::new(Interim { control: control.clone(), metrics: metrics.clone() }));
    }
    all
}

struct Interim {
    control: Arc<Control>,
    metrics: Arc<Metrics>,
}

impl Builtin for Interim {
    fn answer<'a>(&'a self, x: &'a mut Exchange) -> BoxFuture<'a, Result<Answer, Error>> {
        let (method, path) = (x.request.method.clone(), x.request.path().to_owned());
        Box::pin(async move {
            let text = match (method.as_str(), &*path) {
                (_, "/metrics") => {
                    let runtime = self.control.data.upgrade().and_then(|data| data.runtime());
                    runtime.map(|runtime| self.metrics.render(&*runtime)).unwrap_or_default()
                }
                ("POST", "/reload") => match self.control.reload.get() {
                    Some(reload) => match reload.now(Cause::Request).await {
                        Some(attempt) => attempt.summary(),
                        None => "ending".into(),
                    },
                    None => "not connected".into(),
                },
                _ => "ok\n".into(),
            };
            Ok(Answer::with_body(StatusCode::OK, "admin", "text/plain", text))
        })
    }
}
