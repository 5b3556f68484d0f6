//! What two processes say to each other over the socket between them.
//!
//! The old one sends once: the length of a document, the document, and the listening sockets (SCM_RIGHTS, see unix(7)), in
//! batches. The new one answers with one line. The two are seldom of the same version: what one does not know is left
//! out or passed over, and [`PROTOCOL`] changes only with what cannot be passed over.

use std::{
    io::{self, BufRead, BufReader, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::Arc,
};

use portcullis_core::{
    endpoint::{EndpointState, Health},
    keep::Keep,
};
use portcullis_proxy::{Inherited, runtime::compile::endpoint_state};
use rustix::{
    io::retry_on_intr,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, recvmsg, sendmsg,
    },
};
use serde::{Deserialize, Serialize};

/// The version of all this.
const PROTOCOL: u32 = 1;
/// Sockets sent at once; the kernel takes 253.
const BATCH: usize = 64;
/// The longest document read.
const MOST_BYTES: u64 = 64 << 20;

/// What the old process hands over.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Estate {
    /// See [`PROTOCOL`]; filled in by [`send`], as are the sockets.
    pub protocol: u32,
    /// One for each socket, in the order in which they are sent.
    pub sockets: Vec<Deed>,
    /// What active checks know of endpoints.
    #[serde(default)]
    pub health: Vec<Known>,
    /// Upgrades that succeeded, this one included, and that failed.
    #[serde(default)]
    pub upgrades: (u64, u64),
}

/// What a socket is for.
#[derive(Debug, Serialize, Deserialize)]
pub struct Deed {
    /// Name of the listener.
    listener: Arc<str>,
    /// Its address as configured.
    wanted: SocketAddr,
}

/// What active checks know of an endpoint.
#[derive(Debug, Serialize, Deserialize)]
pub struct Known {
    /// Qualified name of the service.
    pub service: Arc<str>,
    /// Its URL.
    pub url: Arc<str>,
    /// Is it in service?
    pub healthy: bool,
}

impl Known {
    /// An endpoint that was never asked is not known.
    pub fn of(service: &Arc<str>, url: &Arc<str>, health: Health) -> Option<Known> {
        let healthy = match health {
            Health::Starting => return None,
            Health::Healthy => true,
            Health::Unhealthy => false,
        };
        Some(Known { service: service.clone(), url: url.clone(), healthy })
    }

    /// The endpoint's state, which a configuration finds for as long as this is held.
    pub fn remembered(&self, keep: &Keep) -> Arc<EndpointState> {
        let state = endpoint_state(keep, &self.service, &self.url, true);
        state.set_health(if self.healthy { Health::Healthy } else { Health::Unhealthy });
        state
    }
}

/// What the new process answers.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It serves.
    Ready {
        /// Its version.
        version: String,
        /// The listeners of which it took the sockets, by the names that they have in the old process.
        taken: Vec<Arc<str>>,
    },
    /// It cannot, and ends.
    Failed(String),
}

/// Sends everything.
pub fn send(stream: &mut UnixStream, mut estate: Estate, sockets: &[Inherited]) -> io::Result<()> {
    let named = sockets.iter().filter_map(|socket| {
        Some((Deed { listener: socket.listener.clone()?, wanted: socket.wanted? }, &socket.socket))
    });
    let (deeds, sockets): (Vec<_>, Vec<_>) = named.unzip();
    (estate.protocol, estate.sockets) = (PROTOCOL, deeds);
    let document = serde_json::to_vec(&estate)?;
    stream.write_all(&(document.len() as u64).to_be_bytes())?;
    stream.write_all(&document)?;
    for batch in sockets.chunks(BATCH) {
        let descriptors: Vec<_> = batch.iter().map(|socket| socket.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::Error::other("no room for sockets"));
        }
        // They travel with a byte, since a stream has no empty messages.
        retry_on_intr(|| sendmsg(&*stream, &[IoSlice::new(b"s")], &mut control, SendFlags::NOSIGNAL))?;
    }
    Ok(())
}

/// Receives everything.
pub fn receive(stream: &mut UnixStream) -> io::Result<(Estate, Vec<Inherited>)> {
    let bad = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let mut length = [0; 8];
    stream.read_exact(&mut length)?;
    let length = u64::from_be_bytes(length);
    if length > MOST_BYTES {
        return Err(bad(format!("{length} bytes are no document")));
    }
    let mut document = Vec::new();
    stream.take(length).read_to_end(&mut document)?;
    let mut estate: Estate = serde_json::from_slice(&document)?;
    if estate.protocol != PROTOCOL {
        return Err(bad(format!(
            "the running process speaks version {} of the protocol of upgrades, this one version {PROTOCOL}",
            estate.protocol
        )));
    }
    let mut descriptors = Vec::new();
    while descriptors.len() < estate.sockets.len() {
        descriptors.append(&mut batch(stream)?);
    }
    let deeds = std::mem::take(&mut estate.sockets).into_iter();
    let sockets = deeds.zip(descriptors).map(|(deed, descriptor)| Inherited {
        listener: Some(deed.listener),
        wanted: Some(deed.wanted),
        socket: TcpListener::from(descriptor),
    });
    let sockets = sockets.collect();
    Ok((estate, sockets))
}

/// Some sockets. Only the byte that they travel with is read, so that none is lost with what follows.
fn batch(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = retry_on_intr(|| {
        recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            descriptors.extend(some);
        }
    }
    if received.bytes == 0 || descriptors.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "sockets are missing"));
    }
    Ok(descriptors)
}

/// Sends an answer.
pub fn answer(stream: &mut UnixStream, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// Reads the answer; `None` when the other end is closed without one.
pub fn answered(stream: &UnixStream) -> io::Result<Option<Answer>> {
    let mut line = Vec::new();
    BufReader::new(stream.take(MOST_BYTES)).read_until(b'\n', &mut line)?;
    if line.last() != Some(&b'\n') {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&line)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_arrive_with_what_they_are_for() {
        let (mut old, mut new) = UnixStream::pair().unwrap();
        let sockets: Vec<Inherited> = (0..BATCH + 3)
            .map(|number| Inherited {
                listener: Some(format!("l{number}").into()),
                wanted: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
                socket: TcpListener::bind("127.0.0.1:0").unwrap(),
            })
            .collect();
        let known = Known::of(&"s".into(), &"http://a".into(), Health::Unhealthy).unwrap();
        assert!(Known::of(&"s".into(), &"http://b".into(), Health::Starting).is_none());
        let estate = Estate { health: vec![known], upgrades: (3, 4), ..Estate::default() };
        send(&mut old, estate, &sockets).unwrap();
        let (estate, received) = receive(&mut new).unwrap();
        assert_eq!((estate.upgrades, estate.health.len(), received.len()), ((3, 4), 1, BATCH + 3));
        for (sent, received) in sockets.iter().zip(&received) {
            assert_eq!(sent.listener, received.listener);
            assert_eq!(sent.socket.local_addr().unwrap(), received.socket.local_addr().unwrap());
        }
        // What follows is not lost.
        let ready = Answer::Ready { version: "1".into(), taken: vec!["l0".into()] };
        answer(&mut new, &ready).unwrap();
        drop(new);
        assert_eq!(answered(&old).unwrap(), Some(ready));
    }

    #[test]
    fn an_end_is_no_answer_and_another_protocol_is_refused() {
        let (mut old, new) = UnixStream::pair().unwrap();
        drop(new);
        assert_eq!(answered(&old).unwrap(), None);
        assert!(send(&mut old, Estate::default(), &[]).is_err());
        let (mut old, mut new) = UnixStream::pair().unwrap();
        let document = br#"{"protocol":2,"sockets":[],"new":1}"#;
        old.write_all(&(document.len() as u64).to_be_bytes()).unwrap();
        old.write_all(document).unwrap();
        let refused = receive(&mut new).unwrap_err().to_string();
        assert!(refused.contains("version 2"), "{refused}");
    }
}
