//! The running data plane: worker threads, their sockets, and the swap of configurations.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, PoisonError, Weak, atomic::Ordering::Relaxed},
    time::Duration,
};

use crate::{
    listen::{
        Drain, Gate,
        socket::{self, Bound},
    },
    runtime::{Runtime, compile::ADMIN},
};

mod hand;
mod inherited;
mod opened;
mod quic;

use hand::{Hand, Leaving};
pub use inherited::Inherited;
use opened::Opened;
use quic::{Groups, Quic};

/// The running data plane. It has no workers before the first [`Data::apply`].
#[derive(Default)]
pub struct Data {
    gate: Arc<Gate>,
    state: Mutex<State>,
    current: Mutex<Option<Arc<Runtime>>>,
}

/// Who works, and where.
#[derive(Default)]
struct State {
    hands: Vec<Hand>,
    /// Workers that end once their connections have.
    leaving: Vec<Leaving>,
    open: HashMap<Arc<str>, Opened>,
    /// Addresses of listeners that vanished, for as long as a worker still has a socket there.
    closing: Vec<(SocketAddr, Vec<Weak<TcpListener>>)>,
    /// Addresses on which QUIC is spoken, by connections that end as well.
    groups: Groups,
    /// Sockets that came from outside, until the first configuration takes those that it wants.
    inherited: Vec<Inherited>,
    /// Names that the taken ones came with.
    taken: Vec<Arc<str>>,
    /// What tells connections to end whose listeners another process serves.
    left: Vec<Drain>,
}

/// What a configuration needs beyond what is there, all of it ready.
struct Prepared {
    hands: Vec<Hand>,
    /// Listeners that are new, or somewhere else.
    fresh: Vec<Opened>,
    /// More sockets for those that stay.
    more: Vec<(Arc<str>, Bound)>,
    /// Sockets for QUIC, by listener.
    quic: Vec<(Arc<str>, quic::Prepared)>,
}

/// How many workers there are when the configuration says so many; 0 = one per available core.
pub fn worker_count(configured: usize) -> usize {
    match configured {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count,
    }
}

/// Why a configuration could not be put in force. The old one still is.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A listener could not be opened.
    #[error("listener {listener}: cannot listen on {address}: {source}")]
    Listen {
        /// The listener's name.
        listener: Arc<str>,
        /// Its address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// QUIC could not be spoken on a listener.
    #[error("listener {listener}: cannot listen on {address} (UDP, for HTTP/3): {source}")]
    ListenUdp {
        /// The listener's name.
        listener: Arc<str>,
        /// Its address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A worker could not be started.
    #[error("cannot start a worker: {0}")]
    Worker(io::Error),
}

impl Data {
    /// How many workers there are; those that leave are none any longer.
    pub fn workers(&self) -> usize {
        self.state().hands.len()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a configuration in force: new workers are started and new listeners are opened first; then all workers swap;
    /// then listeners that vanished drain, and workers that are too many leave.
    ///
    /// # Errors
    /// A listener cannot be opened, or a worker not be started. Nothing has changed then.
    pub fn apply(&self, runtime: Arc<Runtime>) -> Result<(), ApplyError> {
        let mut state = self.state();
        state.forget_gone();
        let count = worker_count(runtime.model.workers);
        let prepared = state.prepare(&runtime, count, &self.gate)?;
        self.gate.most.store(most_connections(runtime.model.max_connections), Relaxed);
        state.hands.extend(prepared.hands);
        for hand in state.hands.iter().chain(state.leaving.iter().map(|leaving| &leaving.hand)) {
            hand.worker.set_runtime(&runtime);
        }
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(runtime.clone());
        state.open_all(count, prepared.fresh, prepared.more, prepared.quic);
        state.close_quic(&runtime);
        state.close_all(&runtime);
        state.dismiss(count);
        state.settle_inheritance(&runtime);
        Ok(())
    }

    /// Where the listeners really are: port 0 in the configuration becomes the port that the system chose.
    pub fn addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        let state = self.state();
        let mut addresses: Vec<_> =
            state.open.iter().map(|(name, opened)| (name.clone(), opened.bound)).collect();
        addresses.sort();
        addresses
    }

    /// The configuration in force.
    pub fn runtime(&self) -> Option<Arc<Runtime>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connections open now, the admin listener's included.
    pub fn connections(&self) -> usize {
        self.gate.open.load(Relaxed)
    }

    /// Stops accepting, lets connections end, and cuts what is left at the deadline. Tells how many were cut. The admin
    /// listener answers until then, so that whoever asks whether we are ready is told that we are not.
    pub async fn drain(&self, deadline: Duration) -> usize {
        let (mut drains, mut of_admin) = (Vec::new(), Vec::new());
        {
            let mut state = self.state();
            // Those that nobody holds any longer refuse whoever connects.
            for (name, opened) in std::mem::take(&mut state.open) {
                drains.extend(opened.drains().cloned());
                if &*name == ADMIN {
                    of_admin.push(opened.count.clone());
                    state.open.insert(name, opened);
                } else {
                    state.close(opened);
                }
            }
            for (_, drain) in state.leaving.iter().flat_map(|leaving| &leaving.drains) {
                drain.begin();
                drains.push(drain.clone());
            }
        }
        let of_admin = || of_admin.iter().map(|count| count.load(Relaxed)).sum::<usize>();
        let left = || self.connections().saturating_sub(of_admin());
        let end = tokio::time::Instant::now() + deadline;
        while left() > 0 && tokio::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let cut = left();
        drains.iter().for_each(Drain::cut_now);
        cut
    }
}

impl State {
    /// Workers that have left, and addresses that are free again.
    fn forget_gone(&mut self) {
        self.leaving.retain(|leaving| !leaving.hand.is_gone());
        self.closing.retain(|(_, sockets)| sockets.iter().any(|socket| socket.strong_count() > 0));
    }

    /// Everything that can fail.
    fn prepare(&self, runtime: &Runtime, count: usize, gate: &Arc<Gate>) -> Result<Prepared, ApplyError> {
        let (mut fresh, mut more) = (Vec::new(), Vec::new());
        for (name, listener) in runtime.listeners.iter() {
            let wanted = listener.settings.address;
            let failed = |source| ApplyError::Listen { listener: name.clone(), address: wanted, source };
            if let Some(opened) = self.open.get(name).filter(|opened| opened.wanted == wanted) {
                for _ in 0..opened.lacks(count) {
                    match Bound::new(opened.bound) {
                        Ok(bound) => more.push((name.clone(), bound)),
                        // Whoever opened the first may be allowed more than we are: workers share what there is.
                        Err(_) if opened.from_outside => break,
                        Err(error) => return Err(failed(error)),
                    }
                }
                continue;
            }
            let sockets = inherited::fitting(&self.inherited, name, wanted).map_err(failed)?;
            if !sockets.is_empty() {
                let mut opened = Opened::new(name.clone(), wanted, sockets, gate.clone());
                opened.from_outside = true;
                // As above.
                let bound = (0..opened.lacks(count)).map_while(|_| Bound::new(opened.bound).ok());
                more.extend(bound.map(|bound| (name.clone(), bound)));
                fresh.push(opened);
                continue;
            }
            // An address that another listener leaves in this very reload, or left in the last, is no stranger's.
            let ours = self.open.values().any(|opened| opened.bound == wanted)
                || self.closing.iter().any(|(address, _)| *address == wanted);
            if !ours {
                socket::probe(wanted).map_err(failed)?;
            }
            let sockets = socket::open(wanted, count).map_err(failed)?;
            fresh.push(Opened::new(name.clone(), wanted, sockets, gate.clone()));
        }
        let mut hands: Vec<Hand> = Vec::new();
        for index in (0..).filter(|index| !self.has(*index)).take(count.saturating_sub(self.hands.len())) {
            hands.push(Hand::start(index).map_err(ApplyError::Worker)?);
        }
        let quic = self.prepare_quic(runtime, &fresh, count)?;
        Ok(Prepared { hands, fresh, more, quic })
    }

    /// Sockets for QUIC where it is spoken: one for each worker, on the port that TCP has.
    fn prepare_quic(
        &self,
        runtime: &Runtime,
        fresh: &[Opened],
        count: usize,
    ) -> Result<Vec<(Arc<str>, quic::Prepared)>, ApplyError> {
        let mut all = Vec::new();
        for (name, listener) in runtime.listeners.iter().filter(|(_, listener)| listener.quic.is_some()) {
            let new = fresh.iter().find(|opened| opened.name() == name);
            let Some(opened) = new.or_else(|| self.open.get(name)) else { continue };
            let lacks = opened.quic.as_ref().map_or(count, |quic| quic.lacks(count));
            let address = SocketAddr::new(listener.settings.address.ip(), opened.bound.port());
            let patient = inherited::is_from_process(&self.inherited, name, listener.settings.address);
            let prepared = quic::Prepared::new(&self.groups, address, lacks, patient)
                .map_err(|source| ApplyError::ListenUdp { listener: name.clone(), address, source })?;
            all.push((name.clone(), prepared));
        }
        Ok(all)
    }

    /// Is there a worker of this number, be it about to leave?
    fn has(&self, index: usize) -> bool {
        let all = self.hands.iter().chain(self.leaving.iter().map(|leaving| &leaving.hand));
        all.into_iter().any(|hand| hand.worker.index == index)
    }

    /// Accepts on everything that was prepared.
    fn open_all(
        &mut self,
        count: usize,
        fresh: Vec<Opened>,
        more: Vec<(Arc<str>, Bound)>,
        quic: Vec<(Arc<str>, quic::Prepared)>,
    ) {
        for opened in fresh {
            if let Some(moved) = self.open.insert(opened.name().clone(), opened) {
                self.close(moved);
            }
        }
        for (name, bound) in more {
            match (bound.listen(), self.open.get_mut(&name)) {
                (Ok(socket), Some(opened)) => opened.add(socket),
                (Ok(_), None) => {}
                // The workers share the sockets that there are.
                (Err(error), _) => tracing::warn!(listener = &*name, %error, "no socket for one more worker"),
            }
        }
        for (name, prepared) in quic {
            let Some(opened) = self.open.get_mut(&name) else { continue };
            match &mut opened.quic {
                Some(quic) => quic.add(prepared),
                none => *none = Some(Quic::new(prepared, &mut self.groups)),
            }
        }
        // Not for those who are about to leave.
        let staying = self.hands.get(..count).unwrap_or(&self.hands);
        self.open.values_mut().for_each(|opened| opened.staff(staying));
    }

    /// Closes listeners that vanished.
    fn close_all(&mut self, runtime: &Runtime) {
        let gone: Vec<_> =
            self.open.keys().filter(|name| !runtime.listeners.contains_key(*name)).cloned().collect();
        for opened in gone.iter().filter_map(|name| self.open.remove(name)).collect::<Vec<_>>() {
            self.close(opened);
        }
    }

    /// Ends QUIC on listeners that speak it no longer.
    fn close_quic(&mut self, runtime: &Runtime) {
        let speaks = |name| runtime.listeners.get(name).is_some_and(|listener| listener.quic.is_some());
        self.open.iter_mut().filter(|(name, _)| !speaks(*name)).for_each(|(_, opened)| opened.close_quic());
    }

    fn close(&mut self, opened: Opened) {
        let of_leaving = self.leaving.iter().flat_map(|leaving| &leaving.drains);
        of_leaving.filter(|(name, _)| name == opened.name()).for_each(|(_, drain)| drain.begin());
        self.closing.push(opened.close());
    }

    /// Lets the workers go that are too many. Their sockets are taken over first.
    fn dismiss(&mut self, count: usize) {
        if self.hands.len() <= count {
            return;
        }
        let going = self.hands.split_off(count);
        let mut drains: Vec<Vec<_>> = going.iter().map(|_| Vec::new()).collect();
        for opened in self.open.values_mut() {
            for (hand, drains) in going.iter().zip(&mut drains) {
                drains.extend(opened.release(hand.worker.index));
            }
            opened.staff(&self.hands);
        }
        self.leaving.extend(going.into_iter().zip(drains).map(|(hand, drains)| hand.leave(drains)));
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { hands, leaving, .. } = &mut *state;
        // All are told before any is waited for.
        hands.iter_mut().chain(leaving.iter_mut().map(|leaving| &mut leaving.hand)).for_each(Hand::stop);
    }
}

/// The configured bound, or 80 % of the descriptors this process may open (two for each request under way).
fn most_connections(configured: usize) -> usize {
    if configured > 0 {
        return configured;
    }
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|soft| soft.parse::<usize>().ok());
    soft.map_or(0, |soft| soft / 5 * 4)
}
