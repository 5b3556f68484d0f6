//! What stands at the beginning of a connection to an endpoint that wants to be told.

use std::net::{IpAddr, SocketAddr};

use portcullis_config::model::ProxyProtocol;

use super::{Ends, v2};

/// A header: whose connection is passed on, or that it is nobody's but ours (a health check).
pub fn header(version: ProxyProtocol, ends: Option<Ends>) -> Vec<u8> {
    let ends = ends.map(Ends::of_one_family);
    match version {
        ProxyProtocol::V1 => text(ends),
        ProxyProtocol::V2 => binary(ends),
    }
}

fn text(ends: Option<Ends>) -> Vec<u8> {
    let Some(Ends { source, destination }) = ends else { return b"PROXY UNKNOWN\r\n".to_vec() };
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.port(), destination.port());
    format!("PROXY {family} {} {} {from} {to}\r\n", source.ip(), destination.ip()).into_bytes()
}

fn binary(ends: Option<Ends>) -> Vec<u8> {
    let mut header = v2::SIGNATURE.to_vec();
    let Some(Ends { source, destination }) = ends else {
        header.extend([0x20, 0, 0, 0]);
        return header;
    };
    let (family, length) = if source.is_ipv4() { (0x11, 12) } else { (0x21, 36) };
    header.extend([0x21, family, 0, length]);
    for ip in [source.ip(), destination.ip()] {
        match ip {
            IpAddr::V4(ip) => header.extend(ip.octets()),
            IpAddr::V6(ip) => header.extend(ip.octets()),
        }
    }
    for port in [source.port(), destination.port()] {
        header.extend(port.to_be_bytes());
    }
    header
}

impl Ends {
    /// A header has room for one family. IPv4 stays so only when both are: what came by `[::]` may be either.
    fn of_one_family(self) -> Ends {
        let (source, destination) = (self.source.ip().to_canonical(), self.destination.ip().to_canonical());
        let mapped = |ip: IpAddr| match ip {
            IpAddr::V4(ip) if source.is_ipv4() != destination.is_ipv4() => IpAddr::V6(ip.to_ipv6_mapped()),
            ip => ip,
        };
        Ends {
            source: SocketAddr::new(mapped(source), self.source.port()),
            destination: SocketAddr::new(mapped(destination), self.destination.port()),
        }
    }
}
