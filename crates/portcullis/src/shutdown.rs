//! Signals: SIGTERM and SIGINT drain until a deadline, a second one ends at once; SIGHUP reloads; SIGUSR1 opens the
//! access log anew.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{app::App, reload::Cause};

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
        })
    }

    /// Does what signals ask for, until one asks to end; then drains.
    pub async fn obey(mut self, app: App) -> End {
        loop {
            tokio::select! {
                name = self.ending.wish() => {
                    let deadline = app.drain_timeout();
                    tracing::info!(signal = name, ?deadline, connections = app.connections(), "draining");
                    break;
                }
                _ = self.hang_up.recv() => {
                    tracing::info!(signal = "SIGHUP", "reloading");
                    app.reload().request(Cause::Signal);
                }
                _ = self.user.recv() => {
                    tracing::info!(signal = "SIGUSR1", "opening the access log anew");
                    app.reopen_logs();
                }
            }
        }
        tokio::select! {
            cut = app.drain() => {
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
