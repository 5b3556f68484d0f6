//! Listening sockets that come from outside: from the process before this one (an upgrade of the binary), or from whoever
//! started us (socket activation).
//!
//! They are the same sockets, with the same queues: whoever has connected and waits there is served by whichever process
//! accepts. So a process that takes one over takes all that belong to the address, and the other just stops accepting.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{Data, State};
use crate::{listen::Drain, runtime::Runtime};

/// How often connections are counted that are to end.
const LOOK: Duration = Duration::from_millis(10);

/// A listening socket from outside.
#[derive(Debug)]
pub struct Inherited {
    /// The listener that it belonged to, or is meant for.
    pub listener: Option<Arc<str>>,
    /// The address in the configuration of the process before this one, which may leave the port to the system.
    pub wanted: Option<SocketAddr>,
    /// It takes connections already.
    pub socket: TcpListener,
}

impl Inherited {
    /// Is it what a listener of this name wants at this address?
    fn fits(&self, name: &str, address: SocketAddr) -> bool {
        let same_name = self.listener.as_deref() == Some(name);
        match self.wanted {
            // Port 0 is whatever the system chose, for a listener of the same name only.
            Some(wanted) if wanted == address => same_name || address.port() != 0,
            // Whoever named a socket after a listener means it, whatever its address is.
            None if same_name => true,
            _ => self.socket.local_addr().is_ok_and(|bound| bound == address),
        }
    }
}

/// The sockets that a listener wants, once more: the originals stay until a configuration is in force.
pub(super) fn fitting(all: &[Inherited], name: &str, address: SocketAddr) -> io::Result<Vec<TcpListener>> {
    let fitting = all.iter().filter(|inherited| inherited.fits(name, address));
    fitting
        .map(|inherited| {
            let socket = inherited.socket.try_clone()?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })
        .collect()
}

/// Does the listener take sockets of the process before this one, which may have more of it that it cannot hand over?
pub(super) fn is_from_process(all: &[Inherited], name: &str, address: SocketAddr) -> bool {
    all.iter().any(|inherited| inherited.wanted.is_some() && inherited.fits(name, address))
}

impl State {
    /// A configuration is in force: what it did not want is closed.
    pub(super) fn settle_inheritance(&mut self, runtime: &Runtime) {
        for inherited in std::mem::take(&mut self.inherited) {
            let mut listeners = runtime.listeners.iter();
            let wanted = listeners.any(|(name, listener)| inherited.fits(name, listener.settings.address));
            let address = inherited.socket.local_addr().ok();
            match inherited.listener {
                Some(name) if wanted && !self.taken.contains(&name) => self.taken.push(name),
                name if !wanted => {
                    tracing::warn!(?name, ?address, "no listener takes the inherited socket; it is closed");
                }
                _ => {}
            }
        }
    }
}

impl Data {
    /// Sockets for the first configuration; it takes those that it wants, and the others are closed.
    pub fn inherit(&self, sockets: Vec<Inherited>) {
        self.state().inherited = sockets;
    }

    /// Names of the listeners whose sockets were inherited and are in use.
    pub fn taken(&self) -> Vec<Arc<str>> {
        self.state().taken.clone()
    }

    /// All listening sockets once more, for the process after this one.
    ///
    /// # Errors
    /// There are no file descriptors left.
    pub fn duplicates(&self) -> io::Result<Vec<Inherited>> {
        let state = self.state();
        let duplicates = state.open.values().map(|opened| opened.duplicates());
        Ok(duplicates.collect::<io::Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// Leaves the sockets of these listeners to the process after this one, which accepts on them by now, and closes
    /// those of all others. Nobody who connects from now on is accepted here.
    pub fn leave(&self, taken: &[Arc<str>]) {
        let mut state = self.state();
        for (name, opened) in std::mem::take(&mut state.open) {
            state.left.extend(opened.drains().cloned());
            if taken.contains(&name) {
                opened.hand_over();
            } else {
                state.close(opened);
            }
        }
    }

    /// After [`Data::leave`]: connections end with their next answer, idle ones after half of the time; what is left at
    /// the deadline is cut. Tells how many were cut.
    pub async fn last_connections(&self, deadline: Duration) -> usize {
        let drains: Vec<Drain> = {
            let state = self.state();
            let of_workers = state.leaving.iter().flat_map(|leaving| &leaving.drains).map(|(_, drain)| drain);
            state.left.iter().chain(of_workers).cloned().collect()
        };
        let begun = Instant::now();
        let mut idle_may_stay = true;
        while self.connections() > 0 && begun.elapsed() < deadline {
            if idle_may_stay && begun.elapsed() > deadline / 2 {
                drains.iter().for_each(Drain::begin);
                idle_may_stay = false;
            }
            sleep(LOOK).await;
        }
        let cut = self.gate.open.load(Relaxed);
        drains.iter().for_each(Drain::cut_now);
        cut
    }

    /// Waits until every worker has got round to answering: none hangs.
    pub async fn all_answer(&self) {
        let asked: Vec<_> = self.state().hands.iter().map(|hand| hand.ask()).collect();
        for answer in asked {
            // One that has gone meanwhile does not hang.
            let _ = answer.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inherited(listener: &str, wanted: Option<&str>) -> Inherited {
        Inherited {
            listener: Some(listener.into()),
            wanted: wanted.map(|wanted| wanted.parse().unwrap()),
            socket: TcpListener::bind("127.0.0.1:0").unwrap(),
        }
    }

    #[test]
    fn sockets_fit_by_address_and_by_name_where_the_address_leaves_it_open() {
        let (zero, other): (SocketAddr, SocketAddr) =
            ("127.0.0.1:0".parse().unwrap(), "127.0.0.1:1".parse().unwrap());
        let from_process = inherited("web", Some("127.0.0.1:0"));
        let bound = from_process.socket.local_addr().unwrap();
        assert!(from_process.fits("web", zero) && !from_process.fits("api", zero));
        assert!(from_process.fits("web", bound) && from_process.fits("api", bound));
        assert!(!from_process.fits("web", other));
        let named = inherited("web", None);
        assert!(named.fits("web", other) && !named.fits("api", other));
        assert!(named.fits("api", named.socket.local_addr().unwrap()));
        let fixed = Inherited { wanted: Some(other), ..inherited("web", None) };
        assert!(fixed.fits("api", other) && !fixed.fits("api", zero) && !fixed.fits("web", zero));
    }
}
