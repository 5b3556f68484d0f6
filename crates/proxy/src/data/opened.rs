//! A listener that is open: its sockets, and who accepts on them.
//!
//! Each worker accepts on a socket of its own. A socket never closes as long as its listener is there: whoever has
//! connected and waits at it, or is about to, would be reset. The socket of a worker that leaves is accepted on by all
//! that stay, until a new worker takes it over.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Weak, atomic::AtomicUsize},
};

use portcullis_config::model::Name;
use socket2::SockRef;
use tokio_util::sync::CancellationToken;

use super::{hand::Hand, inherited::Inherited, quic::Quic};
use crate::listen::{Accepting, Drain, Gate};

/// A listener that is open.
pub(super) struct Opened {
    name: Name,
    pub wanted: SocketAddr,
    pub bound: SocketAddr,
    /// Connections open on it, all workers together.
    pub count: Arc<AtomicUsize>,
    gate: Arc<Gate>,
    /// Its socket came from outside and shares its address with no other: all workers accept on it.
    alone: bool,
    /// Its first sockets came from outside.
    pub from_outside: bool,
    places: Vec<Place>,
    /// HTTP/3 on the same port.
    pub quic: Option<Quic>,
    /// Of its connections, by worker.
    drains: BTreeMap<usize, Drain>,
}

/// A socket.
struct Place {
    socket: Arc<TcpListener>,
    /// The worker whose own it is; the others only help out.
    owner: Option<usize>,
    /// Who accepts on it, and the wish that they leave it to others.
    takers: Vec<(usize, CancellationToken)>,
}

impl Place {
    fn of(socket: TcpListener) -> Place {
        Place { socket: Arc::new(socket), owner: None, takers: Vec::new() }
    }

    /// Nobody accepts on it any longer whom the filter names.
    fn dismiss(&mut self, whom: impl Fn(usize) -> bool) {
        self.takers.retain(|(worker, leave)| {
            let goes = whom(*worker);
            if goes {
                leave.cancel();
            }
            !goes
        });
    }
}

impl Opened {
    /// With these sockets, on which nobody accepts before [`Opened::staff`].
    pub fn new(name: Name, wanted: SocketAddr, sockets: Vec<TcpListener>, gate: Arc<Gate>) -> Opened {
        let bound = sockets.first().and_then(|socket| socket.local_addr().ok()).unwrap_or(wanted);
        // Where nothing is known of it, there is none to be had.
        let shares = |socket: &TcpListener| SockRef::from(socket).reuse_port().unwrap_or(false);
        let alone = sockets.first().is_some_and(|socket| !shares(socket));
        let places = sockets.into_iter().map(Place::of).collect();
        Opened {
            name,
            wanted,
            bound,
            count: Arc::default(),
            gate,
            alone,
            from_outside: false,
            places,
            quic: None,
            drains: BTreeMap::new(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// How many more sockets so many workers need.
    pub fn lacks(&self, workers: usize) -> usize {
        if self.alone { 0 } else { workers.saturating_sub(self.places.len()) }
    }

    /// One more socket.
    pub fn add(&mut self, socket: TcpListener) {
        self.places.push(Place::of(socket));
    }

    /// A worker accepts no more. What tells its connections to end is handed out.
    pub fn release(&mut self, worker: usize) -> impl Iterator<Item = (Name, Drain)> + use<> {
        for place in &mut self.places {
            place.dismiss(|taker| taker == worker);
            if place.owner == Some(worker) {
                place.owner = None;
            }
        }
        let of_quic = self.quic.as_mut().and_then(|quic| quic.release(worker));
        let name = self.name.clone();
        self.drains.remove(&worker).into_iter().chain(of_quic).map(move |drain| (name.clone(), drain))
    }

    /// Gives every worker a socket of its own, as far as there are enough, and sees to it that somebody accepts on each.
    pub fn staff(&mut self, hands: &[Hand]) {
        for hand in hands {
            let index = hand.worker.index;
            if self.places.iter().any(|place| place.owner == Some(index)) {
                continue;
            }
            let Some(at) = self.places.iter().position(|place| place.owner.is_none()) else { continue };
            if let Some(place) = self.places.get_mut(at) {
                place.owner = Some(index);
            }
            self.send(at, hand);
            // Those who helped out go after the owner has come.
            if let Some(place) = self.places.get_mut(at) {
                place.dismiss(|taker| taker != index);
            }
        }
        for at in 0..self.places.len() {
            if self.places.get(at).is_some_and(|place| place.owner.is_none()) {
                hands.iter().for_each(|hand| self.send(at, hand));
            }
        }
        // A socket could not be opened for everybody: who has none helps out at the first.
        for hand in
            hands.iter().filter(|hand| !self.drains.contains_key(&hand.worker.index)).collect::<Vec<_>>()
        {
            self.send(0, hand);
        }
        if let Some(quic) = &mut self.quic {
            quic.staff(hands, &self.name, &self.count, &self.gate);
        }
    }

    /// Speaks HTTP/3 no longer.
    pub fn close_quic(&mut self) {
        if let Some(quic) = self.quic.take() {
            quic.drains().for_each(Drain::begin);
        }
    }

    /// Lets a worker accept on a socket, if it does not yet.
    fn send(&mut self, at: usize, hand: &Hand) {
        let index = hand.worker.index;
        let Some(place) = self.places.get_mut(at) else { return };
        if place.takers.iter().any(|(taker, _)| *taker == index) {
            return;
        }
        let leave = CancellationToken::new();
        place.takers.push((index, leave.clone()));
        hand.accept(Accepting {
            socket: place.socket.clone(),
            leave,
            name: self.name.clone(),
            drain: self.drains.entry(index).or_default().clone(),
            open: self.count.clone(),
            gate: self.gate.clone(),
        });
    }

    /// What tells its connections to end.
    pub fn drains(&self) -> impl Iterator<Item = &Drain> {
        self.drains.values().chain(self.quic.iter().flat_map(Quic::drains))
    }

    /// All of its sockets once more, for another process.
    pub fn duplicates(&self) -> io::Result<Vec<Inherited>> {
        let duplicate = |place: &Place| {
            let socket = place.socket.try_clone()?;
            Ok(Inherited { listener: Some(self.name.clone()), wanted: Some(self.wanted), socket })
        };
        self.places.iter().map(duplicate).collect()
    }

    /// Leaves its sockets, and whoever waits at them, to another process that accepts on them by now. Connections end
    /// when it costs nobody anything.
    pub fn hand_over(mut self) {
        self.drains().for_each(Drain::wind_down);
        self.places.iter_mut().for_each(|place| place.dismiss(|_| true));
    }

    /// Closes it: whoever has connected is let in, and then its sockets go, which can be watched.
    pub fn close(self) -> (SocketAddr, Vec<Weak<TcpListener>>) {
        self.drains().for_each(Drain::begin);
        (self.bound, self.places.iter().map(|place| Arc::downgrade(&place.socket)).collect())
    }
}
