//! Addresses as people shorten them on a command line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where to listen: without a host, all addresses are meant.
pub fn listening(text: &str) -> Result<SocketAddr, String> {
    parse(text, Ipv4Addr::UNSPECIFIED)
        .ok_or_else(|| format!("`{text}` is no address to listen on; write :8080 or 127.0.0.1:8080"))
}

/// Where the admin listener is: a number alone is a port of this machine's own, not one that all the world can reach.
pub fn admin(text: &str) -> Result<SocketAddr, String> {
    parse(text, Ipv4Addr::LOCALHOST)
        .ok_or_else(|| format!("`{text}` is no address of an admin listener; write 9090 or 127.0.0.1:9090"))
}

fn parse(text: &str, alone: Ipv4Addr) -> Option<SocketAddr> {
    if let Ok(port) = text.parse::<u16>() {
        return Some(SocketAddr::new(IpAddr::V4(alone), port));
    }
    let port = |host: &str| text.strip_prefix(host).and_then(|port| port.parse::<u16>().ok());
    if let Some(port) = port(":") {
        return Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port));
    }
    if let Some(port) = port("localhost:") {
        return Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(address: Result<SocketAddr, String>) -> Option<String> {
        address.ok().map(|address| address.to_string())
    }

    #[test]
    fn addresses_as_people_shorten_them() {
        for (from, to) in [
            (":8080", "0.0.0.0:8080"),
            ("80", "0.0.0.0:80"),
            ("localhost:1", "127.0.0.1:1"),
            ("[::1]:2", "[::1]:2"),
        ] {
            assert_eq!(text(listening(from)).as_deref(), Some(to));
        }
        assert!(listening("example.com:80").is_err() && listening(":99999").is_err());
    }

    #[test]
    fn the_port_of_an_admin_listener_alone_opens_it_to_nobody_else() {
        for (from, to) in [
            ("9090", "127.0.0.1:9090"),
            ("localhost:9090", "127.0.0.1:9090"),
            (":9090", "0.0.0.0:9090"),
            ("[::1]:9090", "[::1]:9090"),
        ] {
            assert_eq!(text(admin(from)).as_deref(), Some(to));
        }
        assert!(admin("admin.example").unwrap_err().contains("write 9090 or 127.0.0.1:9090"));
    }
}
