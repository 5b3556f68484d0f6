//! Listening sockets: one per worker on the same address (SO_REUSEPORT), so that the kernel spreads connections and
//! workers share nothing.

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Connections that wait for `accept`.
pub const BACKLOG: i32 = 4096;
/// What the system may hold of datagrams for one socket, each way.
const UDP_BUFFER: usize = 2 * 1024 * 1024;

/// Opens `count` sockets on one address. With port 0 all get the port of the first.
///
/// # Errors
/// The address is in use, or may not be used.
pub fn open(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let mut address = address;
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count.max(1) {
        let socket = Bound::new(address)?.listen()?;
        address = socket.local_addr()?;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// A socket that has an address, but takes no connections yet: nobody is lost when it closes.
#[derive(Debug)]
pub struct Bound(Socket);

impl Bound {
    /// Takes an address, which may be that of other sockets of ours.
    ///
    /// # Errors
    /// The address is in use, or may not be used.
    pub fn new(address: SocketAddr) -> io::Result<Bound> {
        bind(address).map(Bound)
    }

    /// Takes connections from now on.
    ///
    /// # Errors
    /// Somebody else listens there.
    pub fn listen(self) -> io::Result<TcpListener> {
        self.0.listen(BACKLOG)?;
        Ok(self.0.into())
    }
}

/// What a listening socket hands on to the connections that it accepts, so that nothing need be said to each of them:
/// without `TCP_NODELAY`, small answers wait for acknowledgements. Failing to set it is no reason to refuse clients.
pub fn prepare(socket: &tokio::net::TcpListener) {
    let _ = SockRef::from(socket).set_tcp_nodelay(true);
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for old connections to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        // `[::]` takes IPv4 clients too, as people expect of "all addresses".
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Is somebody else listening there already? With SO_REUSEPORT a second process would silently take half of the
/// connections, so the first socket of an address is tried without it.
///
/// # Errors
/// The address is in use, or may not be used.
pub fn probe(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(1)
}

/// Opens a UDP socket on an address, which may be that of other sockets of ours.
///
/// # Errors
/// The address may not be used.
pub fn open_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = udp(address)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // Bursts of a client that is far away shall not be lost for want of room; more than the system allows is not given.
    let _ = socket.set_recv_buffer_size(UDP_BUFFER);
    let _ = socket.set_send_buffer_size(UDP_BUFFER);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Does somebody else have a UDP socket there? As [`probe`].
///
/// # Errors
/// The address is in use, or may not be used.
pub fn probe_udp(address: SocketAddr) -> io::Result<()> {
    udp(address)?.bind(&address.into())
}

fn udp(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn connections_have_what_their_listener_was_given() {
        let socket = super::open("127.0.0.1:0".parse().unwrap(), 1).unwrap().remove(0);
        let socket = tokio::net::TcpListener::from_std(socket).unwrap();
        super::prepare(&socket);
        let _client = tokio::net::TcpStream::connect(socket.local_addr().unwrap()).await.unwrap();
        assert!(socket.accept().await.unwrap().0.nodelay().unwrap());
    }
}
