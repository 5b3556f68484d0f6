//! `[dns]`.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;

use super::{Lit, literal::Literal};
use crate::scalar::Problem;

/// How the names of endpoints are looked up: in the background, again when their answers expire. When that fails, the last
/// good addresses stay.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dns {
    /// Name servers, `10.0.0.2` or `127.0.0.1:5353`. Default: those of `/etc/resolv.conf`, with its search list.
    /// `/etc/hosts` comes first either way.
    pub servers: Option<Vec<Lit<NameServer>>>,
    /// How long a server may take for an answer. Default 2 s.
    pub timeout: Option<Lit<Duration>>,
    /// An answer is used for so long at least, whatever its time to live. Default 1 s.
    pub min_ttl: Option<Lit<Duration>>,
    /// After so long at most a name is looked up again, whatever its time to live. Default 5 min.
    pub max_ttl: Option<Lit<Duration>>,
}

/// A name server; port 53 when none is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameServer(pub SocketAddr);

impl Literal for NameServer {
    const EXPECTED: &'static str = "the address of a name server such as \"10.0.0.2\" or \"127.0.0.1:5353\"";

    fn text(text: &str) -> Result<Self, Problem> {
        let plain = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        let address = plain.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53)).or_else(|_| text.parse());
        match address {
            Ok(address) if address.port() != 0 => Ok(NameServer(address)),
            Ok(_) => Err(Problem::new(format!("`{text}` has no port"), "leave the port away for 53")),
            Err(_) => Err(Problem::new(
                format!("`{text}` is not the address of a name server"),
                "write an IP address, with or without a port: 10.0.0.2, 127.0.0.1:5353, [::1]:53",
            )),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "title": "name server", "examples": ["10.0.0.2", "127.0.0.1:5353"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers() {
        let read = |text| NameServer::text(text).map(|server| server.0.to_string()).ok();
        for (text, address) in [
            ("10.0.0.2", "10.0.0.2:53"),
            ("127.0.0.1:5353", "127.0.0.1:5353"),
            ("::1", "[::1]:53"),
            ("[::1]", "[::1]:53"),
            ("[::1]:5353", "[::1]:5353"),
        ] {
            assert_eq!(read(text).as_deref(), Some(address), "{text}");
        }
        for bad in ["dns.example", ":53", "10.0.0.2:0", "10.0.0.2:99999", "", "10.0.0.2/8"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
