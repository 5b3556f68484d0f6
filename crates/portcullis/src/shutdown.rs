//! Signals: SIGTERM and SIGINT drain until a deadline, a second one ends at once; SIGHUP reloads; SIGUSR1 opens the
//! access log anew; SIGUSR2 hands over to a new process of the binary.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{app::App, notify::Notify, reload::Cause};

/// How the gateway ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All connections ended, or were cut at the deadline.
    Drained {
        /// Connections cut.
        cut: usize,
    },
    /// Somebody did not want to wait.
    AtOnce,
}

/// Those that ask to end.
#[derive(Debug)]
struct Ending {
    terminate: Signal,
    interrupt: Signal,
}

impl Ending {
    /// Waits for the wish to end; tells the signal's name.
    async fn wish(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The signals that the gateway listens to.
#[derive(Debug)]
pub struct Signals {
    ending: Ending,
    hang_up: Signal,
    user: Signal,
    second_user: Signal,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// The system refuses.
    pub fn listen() -> io::Result<Signals> {
        Ok(Signals {
            ending: Ending {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            },
            hang_up: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
            second_user: signal(SignalKind::user_defined2())?,
        })
    }

    /// Does what signals ask for, until one asks to end, or another process serves in our place; then drains.
    pub async fn obey(mut self, app: App, notify: Option<Notify>) -> End {
        let upgrades = app.upgrade().cloned();
        let followed = async move {
            match upgrades {
                Some(upgrade) => upgrade.done().await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(followed);
        let alone = loop {
            tokio::select! {
                name = self.ending.wish() => {
                    let deadline = app.drain_timeout();
                    tracing::info!(signal = name, ?deadline, connections = app.connections(), "draining");
                    if let Some(notify) = &notify {
                        notify.stopping("draining");
                    }
                    break true;
                }
                () = &mut followed => {
                    let deadline = app.drain_timeout();
                    tracing::info!(?deadline, connections = app.connections(), "handed over; draining");
                    break false;
                }
                _ = self.hang_up.recv() => {
                    tracing::info!(signal = "SIGHUP", "reloading");
                    reload(&app, notify.as_ref());
                }
                _ = self.user.recv() => {
                    tracing::info!(signal = "SIGUSR1", "opening the access log anew");
                    app.reopen_logs();
                }
                _ = self.second_user.recv() => upgrade(&app),
            }
        };
        let drained = async move { if alone { app.drain().await } else { app.last_connections().await } };
        tokio::select! {
            cut = drained => {
                tracing::info!(cut, "drained");
                End::Drained { cut }
            }
            name = self.ending.wish() => {
                tracing::warn!(signal = name, "ending at once");
                End::AtOnce
            }
        }
    }
}

/// Asks for a reload; a service manager is told when it begins and when it has ended.
fn reload(app: &App, notify: Option<&Notify>) {
    let Some(notify) = notify.cloned() else { return app.reload().request(Cause::Signal) };
    notify.reloading("reloading");
    let reload = app.reload().clone();
    tokio::spawn(async move {
        if let Some(attempt) = reload.now(Cause::Signal).await {
            notify.ready(&attempt.summary());
        }
    });
}

/// Asks for an upgrade; how it goes is logged by itself.
fn upgrade(app: &App) {
    let Some(upgrade) = app.upgrade().cloned() else {
        tracing::warn!(signal = "SIGUSR2", "this process is not one that can be followed by another");
        return;
    };
    tracing::info!(signal = "SIGUSR2", "upgrading");
    tokio::spawn(async move { upgrade.now().await });
}
