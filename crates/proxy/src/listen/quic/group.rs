//! Datagrams for the right worker.
//!
//! Each worker has a UDP socket of its own on a listener's address, and the kernel spreads datagrams over them by the
//! addresses of both ends. That suits new connections. But a client may get another address in the middle of a connection
//! (a phone that leaves the house, a NAT that forgets), and a socket that is opened or closed changes where others'
//! datagrams go. So every connection id that we give out says whose it is, and whoever receives a datagram for another
//! hands it on.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use quinn::{ConnectionId, ConnectionIdGenerator, udp::RecvMeta};
use tokio::sync::mpsc;

use crate::{listen::socket, tls};

/// Datagrams that may wait for another worker; more are lost, as datagrams may be.
const WAITING: usize = 1024;
/// Length of our connection ids: a nonce, the place, and what proves that we made it.
const LENGTH: usize = 8;
const NONCE: usize = 3;

/// Datagrams that came to somebody else.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) meta: RecvMeta,
    pub(super) bytes: Bytes,
}

/// All endpoints on one address.
#[derive(Debug)]
pub struct Group {
    /// The address.
    pub address: SocketAddr,
    places: RwLock<Vec<Option<Place>>>,
    /// Makes and proves connection ids.
    keys: RandomState,
    /// Proves that we have forgotten a connection: the same for all, since any of them may be asked.
    reset_key: [u8; 64],
    /// Handshakes under way.
    pub handshakes: AtomicUsize,
    /// Nobody else has the address. Until that is so, nothing is opened.
    is_ours: Mutex<bool>,
}

/// An endpoint as the others see it.
#[derive(Debug)]
struct Place {
    inbox: mpsc::Sender<Parcel>,
    /// It takes new connections.
    accepts: Arc<AtomicBool>,
}

/// A place in the group, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) group: Arc<Group>,
    pub(super) number: u8,
    accepts: Arc<AtomicBool>,
}

impl Group {
    /// An empty one. `is_ours`: it is known that nobody else has the address.
    pub fn new(address: SocketAddr, is_ours: bool) -> Arc<Group> {
        Arc::new(Group {
            address,
            places: RwLock::default(),
            keys: RandomState::new(),
            reset_key: tls::secret(),
            handshakes: AtomicUsize::new(0),
            is_ours: Mutex::new(is_ours),
        })
    }

    /// A socket on its address.
    ///
    /// # Errors
    /// Somebody else has it, or it may not be used.
    pub fn open(&self) -> io::Result<UdpSocket> {
        let mut is_ours = self.is_ours.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_ours {
            socket::probe_udp(self.address)?;
        }
        let opened = socket::open_udp(self.address)?;
        *is_ours = true;
        Ok(opened)
    }

    /// Joins it, with what is for the new member.
    pub(super) fn join(self: &Arc<Group>) -> Option<(Membership, mpsc::Receiver<Parcel>)> {
        let (inbox, parcels) = mpsc::channel(WAITING);
        let accepts = Arc::new(AtomicBool::new(true));
        let place = Place { inbox, accepts: accepts.clone() };
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        let free = places.iter().position(Option::is_none).unwrap_or(places.len());
        let number = u8::try_from(free).ok()?;
        match places.get_mut(free) {
            Some(empty) => *empty = Some(place),
            None => places.push(Some(place)),
        }
        drop(places);
        Some((Membership { group: self.clone(), number, accepts }, parcels))
    }

    /// The key of stateless resets.
    pub(super) fn reset_key(&self) -> Arc<dyn quinn::crypto::HmacKey> {
        Arc::new(ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &self.reset_key))
    }

    /// Whose connection id it is; `None` when it is not one of ours.
    fn whose(&self, id: &[u8]) -> Option<u8> {
        let (nonce, rest) = id.split_at_checked(NONCE)?;
        let (hidden, proof) = rest.split_first()?;
        let number = hidden ^ (self.hash(nonce, None) as u8);
        let expected = self.hash(nonce, Some(number)).to_le_bytes();
        (expected.get(..proof.len()) == Some(proof) && id.len() == LENGTH).then_some(number)
    }

    fn hash(&self, nonce: &[u8], number: Option<u8>) -> u64 {
        let mut hasher = self.keys.build_hasher();
        hasher.write(nonce);
        if let Some(number) = number {
            hasher.write_u8(number);
        }
        hasher.finish()
    }
}

impl Membership {
    /// Takes no new connections any more: they go to others, where there are any.
    pub(super) fn retire(&self) {
        self.accepts.store(false, Relaxed);
    }

    /// Hands datagrams on that are for somebody else. True when that was done, or they are lost.
    pub(super) fn hand_on(&self, meta: &RecvMeta, bytes: &[u8]) -> bool {
        let whose = destination(bytes).and_then(|id| self.group.whose(id));
        let accepts = || self.accepts.load(Relaxed);
        if whose == Some(self.number) || (whose.is_none() && accepts()) {
            return false;
        }
        let places = self.group.places.read().unwrap_or_else(PoisonError::into_inner);
        let taker = match whose {
            Some(number) => places.get(usize::from(number)).and_then(Option::as_ref),
            None => places.iter().flatten().find(|place| place.accepts.load(Relaxed)),
        };
        // For one that is gone: we say so.
        let Some(taker) = taker else { return false };
        let _ = taker.inbox.try_send(Parcel { meta: *meta, bytes: Bytes::copy_from_slice(bytes) });
        true
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut places = self.group.places.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = places.get_mut(usize::from(self.number)) {
            *place = None;
        }
    }
}

/// The connection id that a packet is for (RFC 8999 §5).
fn destination(packet: &[u8]) -> Option<&[u8]> {
    match packet.first()? & 0x80 {
        0 => packet.get(1..=LENGTH),
        _ => {
            let length = usize::from(*packet.get(5)?);
            packet.get(6..6 + length)
        }
    }
}

/// Makes connection ids of one member.
#[derive(Debug)]
pub(super) struct Ids {
    pub(super) group: Arc<Group>,
    pub(super) number: u8,
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; LENGTH];
        let nonce: [u8; NONCE] = tls::secret();
        let hidden = self.number ^ (self.group.hash(&nonce, None) as u8);
        let proof = self.group.hash(&nonce, Some(self.number)).to_le_bytes();
        let bytes = nonce.into_iter().chain([hidden]).chain(proof);
        id.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        LENGTH
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> RecvMeta {
        RecvMeta::default()
    }

    fn short(id: &ConnectionId) -> Vec<u8> {
        [&[0x40][..], id, b"payload"].concat()
    }

    fn long(id: &[u8]) -> Vec<u8> {
        [&[0xc0, 0, 0, 0, 1, id.len() as u8][..], id, b"payload"].concat()
    }

    #[test]
    fn datagrams_find_whose_connection_they_are_for() {
        let group = Group::new("127.0.0.1:0".parse().unwrap(), true);
        let (first, mut of_first) = group.join().unwrap();
        let (second, mut of_second) = group.join().unwrap();
        let mut ids = Ids { group: group.clone(), number: second.number };
        let id = ids.generate_cid();
        assert_eq!(group.whose(&id), Some(1));
        assert!(!second.hand_on(&meta(), &short(&id)), "it is at home");
        assert!(first.hand_on(&meta(), &short(&id)));
        assert!(first.hand_on(&meta(), &long(&id)));
        assert_eq!(&of_second.try_recv().unwrap().bytes[..], short(&id));
        assert_eq!(&of_second.try_recv().unwrap().bytes[..], long(&id));
        // A new connection stays where it came, unless nobody takes it there.
        let fresh = long(b"made by the client");
        assert!(!first.hand_on(&meta(), &fresh));
        first.retire();
        assert!(first.hand_on(&meta(), &fresh) && of_second.try_recv().is_ok());
        second.retire();
        assert!(!first.hand_on(&meta(), &fresh), "somebody has to refuse it");
        // Whoever is gone has left nobody to hand on to, and the place to the next.
        drop(second);
        assert!(!first.hand_on(&meta(), &short(&id)));
        assert_eq!(group.join().unwrap().0.number, 1);
        for odd in [&b""[..], b"\x40", b"\xc0\0\0\0\x01", b"\xc0\0\0\0\x01\xff123"] {
            let _ = first.hand_on(&meta(), odd);
        }
        assert!(of_first.try_recv().is_err());
    }

    #[test]
    fn what_we_did_not_make_is_nobodys() {
        let group = Group::new("127.0.0.1:0".parse().unwrap(), true);
        let mut ids = Ids { group: group.clone(), number: 0 };
        let id = ids.generate_cid();
        for at in 0..LENGTH {
            let mut other = id.to_vec();
            other[at] ^= 1;
            assert_eq!(group.whose(&other), None, "byte {at}");
        }
        let other = Group::new("127.0.0.1:0".parse().unwrap(), true);
        assert_eq!(other.whose(&id), None);
    }
}
