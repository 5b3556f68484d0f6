//! QUIC on a listener that is open: its endpoints, one for each worker.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Weak, atomic::AtomicUsize},
};

use portcullis_config::model::Name;

use super::hand::Hand;
use crate::listen::{
    Drain, Gate,
    quic::{AcceptingQuic, Group},
};

/// QUIC on a listener that is open.
pub(super) struct Quic {
    group: Arc<Group>,
    /// For workers that have none yet; `None` for one that cannot be opened before the process before this one lets go.
    spare: Vec<Option<UdpSocket>>,
    /// Of its connections, by worker.
    drains: BTreeMap<usize, Drain>,
}

/// Sockets for QUIC on a listener, ready before anything changes.
pub(super) struct Prepared {
    group: Arc<Group>,
    sockets: Vec<Option<UdpSocket>>,
}

/// Addresses with endpoints, for as long as there is one: those that end and those that begin share what comes.
#[derive(Default)]
pub(super) struct Groups(Vec<Weak<Group>>);

impl Groups {
    /// Those on an address, if any are left.
    pub fn on(&self, address: SocketAddr) -> Option<Arc<Group>> {
        self.0.iter().filter_map(Weak::upgrade).find(|group| group.address == address)
    }

    fn remember(&mut self, group: &Arc<Group>) {
        self.0.retain(|known| known.strong_count() > 0);
        if self.on(group.address).is_none() {
            self.0.push(Arc::downgrade(group));
        }
    }
}

impl Prepared {
    /// So many more sockets on an address. `patient`: the process before this one may have it still.
    ///
    /// # Errors
    /// The address is in use, or may not be used.
    pub fn new(groups: &Groups, address: SocketAddr, count: usize, patient: bool) -> io::Result<Prepared> {
        let group = groups.on(address).unwrap_or_else(|| Group::new(address, false));
        let mut sockets = Vec::with_capacity(count);
        for _ in 0..count {
            sockets.push(match group.open() {
                Ok(socket) => Some(socket),
                Err(error) if patient && error.kind() == io::ErrorKind::AddrInUse => None,
                Err(error) => return Err(error),
            });
        }
        Ok(Prepared { group, sockets })
    }
}

impl Quic {
    /// With what was prepared.
    pub fn new(prepared: Prepared, groups: &mut Groups) -> Quic {
        groups.remember(&prepared.group);
        Quic { group: prepared.group, spare: prepared.sockets, drains: BTreeMap::new() }
    }

    /// More sockets.
    pub fn add(&mut self, prepared: Prepared) {
        self.spare.extend(prepared.sockets);
    }

    /// How many more sockets so many workers need.
    pub fn lacks(&self, workers: usize) -> usize {
        workers.saturating_sub(self.drains.len() + self.spare.len())
    }

    /// Gives every worker an endpoint.
    pub fn staff(&mut self, hands: &[Hand], name: &Name, open: &Arc<AtomicUsize>, gate: &Arc<Gate>) {
        for hand in hands {
            let index = hand.worker.index;
            if self.drains.contains_key(&index) {
                continue;
            }
            let Some(socket) = self.spare.pop() else { return };
            let drain = Drain::default();
            self.drains.insert(index, drain.clone());
            hand.accept_quic(AcceptingQuic {
                socket,
                group: self.group.clone(),
                name: name.clone(),
                drain,
                open: open.clone(),
                gate: gate.clone(),
            });
        }
    }

    /// A worker accepts no more. What tells its connections to end is handed out.
    pub fn release(&mut self, worker: usize) -> Option<Drain> {
        self.drains.remove(&worker)
    }

    /// What tells its connections to end.
    pub fn drains(&self) -> impl Iterator<Item = &Drain> {
        self.drains.values()
    }
}
