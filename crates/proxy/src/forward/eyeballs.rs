//! Connecting to one of several addresses: the next is tried when one fails, or has not answered for a quarter of a
//! second (RFC 8305 §5); the first that answers wins.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{net::TcpStream, task::JoinSet, time::timeout};

/// The "Connection Attempt Delay" that RFC 8305 §8 recommends.
const DELAY: Duration = Duration::from_millis(250);

/// The order in which addresses are tried: IPv6 first, then the families in turn (RFC 8305 §4); within a family each
/// connection begins with the next address, so that all of them get their share.
pub fn order(addresses: &[IpAddr], port: u16, turn: usize) -> VecDeque<SocketAddr> {
    let mut families = [true, false].map(|six| {
        let mut family: VecDeque<IpAddr> =
            addresses.iter().copied().filter(|ip| ip.is_ipv6() == six).collect();
        let first = turn.checked_rem(family.len()).unwrap_or_default();
        family.rotate_left(first);
        family
    });
    let mut order = VecDeque::with_capacity(addresses.len());
    while order.len() < addresses.len() {
        for family in &mut families {
            order.extend(family.pop_front().map(|ip| SocketAddr::new(ip, port)));
        }
    }
    order
}

/// Connects to one of these. How long that may take is the caller's business.
///
/// # Errors
/// None of them can be reached; what the most telling of them said.
pub async fn connect(mut left: VecDeque<SocketAddr>) -> io::Result<TcpStream> {
    // Most often there is one, which needs no race.
    if let (Some(only), 1) = (left.front(), left.len()) {
        return TcpStream::connect(only).await;
    }
    // Those that lose are dropped with it.
    let mut under_way = JoinSet::new();
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        if let Some(next) = left.pop_front() {
            under_way.spawn(TcpStream::connect(next));
        }
        let limit = if left.is_empty() { Duration::MAX } else { DELAY };
        match timeout(limit, under_way.join_next()).await {
            Err(_) => {}
            Ok(None) => return Err(failed),
            Ok(Some(Ok(Ok(stream)))) => return Ok(stream),
            Ok(Some(Ok(Err(error)))) => {
                // That nobody listens says more than that there is no way.
                if failed.kind() != io::ErrorKind::ConnectionRefused {
                    failed = error;
                }
            }
            Ok(Some(Err(error))) => failed = io::Error::other(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_alternate_and_addresses_rotate() {
        let addresses = ips(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "::1", "::2"]);
        let ordered = |turn| order(&addresses, 1, turn).iter().map(|at| at.ip()).collect::<Vec<_>>();
        assert_eq!(ordered(0), ips(&["::1", "10.0.0.1", "::2", "10.0.0.2", "10.0.0.3"]));
        assert_eq!(ordered(1), ips(&["::2", "10.0.0.2", "::1", "10.0.0.3", "10.0.0.1"]));
        assert_eq!(ordered(2)[1], ips(&["10.0.0.3"])[0]);
        assert!(order(&[], 1, 7).is_empty());
    }

    /// An address whose backlog is full: it never answers. What fills it must live as long.
    async fn silent() -> (SocketAddr, Vec<TcpStream>, TcpListener) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut held = Vec::new();
        while let Ok(Ok(stream)) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            held.push(stream);
            assert!(held.len() < 100);
        }
        (address, held, listener)
    }

    #[tokio::test]
    async fn silence_costs_a_quarter_of_a_second_and_refusal_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let (silent, _held, _listener) = silent().await;
        let refusing = TcpListener::bind("127.0.0.3:0").await.unwrap().local_addr().unwrap();

        let begun = Instant::now();
        let stream = connect(VecDeque::from([refusing, good])).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        assert!(begun.elapsed() < DELAY, "{:?}", begun.elapsed());

        let begun = Instant::now();
        let stream = connect(VecDeque::from([silent, good])).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        assert!(begun.elapsed() >= DELAY && begun.elapsed() < 10 * DELAY, "{:?}", begun.elapsed());

        // The last may take its time, however many have failed before.
        let slow = connect(VecDeque::from([refusing, silent]));
        assert!(timeout(2 * DELAY, slow).await.is_err());
    }

    #[tokio::test]
    async fn the_most_telling_failure_is_told() {
        let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        // Nobody may connect to a broadcast address.
        let impossible = SocketAddr::from(([255, 255, 255, 255], 1));
        for addresses in [[refusing, impossible], [impossible, refusing]] {
            let error = connect(VecDeque::from(addresses)).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        }
        assert!(connect(VecDeque::new()).await.is_err());
    }
}
