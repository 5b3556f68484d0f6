//! The header of the PROXY protocol at the beginning of a client's connection: who may send one, who must, and how
//! long that may take.
//!
//! The bytes are looked at in the socket's own buffer, and only a whole header is taken out of it. So nothing has to be
//! put back when there is none, and everything after it (TLS, HTTP) reads from a plain socket.

use std::{io, net::SocketAddr, time::Duration};

use rustix::net::{RecvFlags, recv};
use tokio::{io::Interest, net::TcpStream, time::timeout};

use crate::{
    proxy_protocol::{self, Ends, Invalid, Parsed, Said},
    runtime::Listener,
};

/// Room for the headers that there usually are; larger ones get more when they say so.
const USUAL: usize = 256;

/// Why a connection is not let in.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// A trusted peer that must send a header sent something else.
    #[error("no header of the PROXY protocol")]
    Missing,
    /// A header from a peer that may not send one.
    #[error("a header of the PROXY protocol from an address that is not in `proxy_protocol.from`")]
    Untrusted,
    /// A broken header.
    #[error("header of the PROXY protocol: {0}")]
    Invalid(#[from] Invalid),
    /// The header took too long.
    #[error("no whole header of the PROXY protocol in time")]
    Timeout,
    /// The peer has gone.
    #[error("{0}")]
    Gone(#[from] io::Error),
}

impl Refused {
    /// The word for metrics; none for a peer that went away by itself.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Refused::Missing => Some("proxy-protocol-missing"),
            Refused::Untrusted => Some("proxy-protocol-untrusted"),
            Refused::Invalid(_) => Some("proxy-protocol-invalid"),
            Refused::Timeout => Some("proxy-protocol-timeout"),
            Refused::Gone(_) => None,
        }
    }
}

/// The ends of the connection as the listener sees them: the connection's own, or those that a trusted peer tells.
///
/// # Errors
/// The connection is not to be let in.
pub async fn ends(stream: &TcpStream, own: Ends, listener: &Listener) -> Result<Ends, Refused> {
    let settings = &listener.settings;
    let Some(proxied) = &settings.proxy_protocol else { return Ok(own) };
    let timeouts = settings.timeouts;
    let trusted = proxied.from.iter().any(|net| net.contains(&own.source.ip()));
    if !trusted || !proxied.required {
        // A client of its own, perhaps, which may be silent at first as any other.
        within(timeouts.keep_alive, async { Ok(stream.readable().await?) }).await?;
    }
    let mut head = vec![0; USUAL];
    let header = within(timeouts.request_header, look(stream, &mut head)).await?;
    match header {
        Some(_) if !trusted => Err(Refused::Untrusted),
        Some((length, said)) => {
            take(stream, head.get_mut(..length).unwrap_or_default())?;
            Ok(match said {
                Said::Ends(ends) => ends,
                Said::Nothing => own,
            })
        }
        None if trusted && proxied.required => Err(Refused::Missing),
        None => Ok(own),
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Refused>>) -> Result<T, Refused> {
    timeout(limit, work).await.unwrap_or(Err(Refused::Timeout))
}

/// Waits until it is clear whether there is a header, which stays in the socket.
async fn look(stream: &TcpStream, head: &mut Vec<u8>) -> Result<Option<(usize, Said)>, Refused> {
    let found = stream.async_io(Interest::READABLE, || {
        loop {
            let (_, seen) = recv(stream, head.as_mut_slice(), RecvFlags::PEEK)?;
            if seen == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let room = head.len();
            match proxy_protocol::parse(head.get(..seen).unwrap_or_default()) {
                Ok(Parsed::More(wanted)) if wanted > room && seen == room => head.resize(wanted, 0),
                // Until more arrives: what is there will not make the socket readable again.
                Ok(Parsed::More(_)) => return Err(io::ErrorKind::WouldBlock.into()),
                Ok(Parsed::Absent) => return Ok(Ok(None)),
                Ok(Parsed::Header(length, said)) => return Ok(Ok(Some((length, said)))),
                Err(invalid) => return Ok(Err(invalid)),
            }
        }
    });
    Ok(found.await??)
}

/// Takes the header out of the socket, where all of it is.
fn take(stream: &TcpStream, header: &mut [u8]) -> io::Result<()> {
    let mut taken = 0;
    while let Some(rest) = header.get_mut(taken..).filter(|rest| !rest.is_empty()) {
        match stream.try_io(Interest::READABLE, || Ok(recv(stream, rest, RecvFlags::empty())?.1))? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => taken += count,
        }
    }
    Ok(())
}

/// An address as everything else compares it.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
