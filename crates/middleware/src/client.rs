//! Which address a policy about clients looks at.

use std::net::IpAddr;

use portcullis_core::{Exchange, Known, middleware::Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    addresses::{Addresses, parse_listed},
    settings::Strings,
};

/// Where to take the client's address from. Without this: the address that the listener found, which is the peer's, or
/// what its `trusted_proxies` said.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientSettings {
    /// Take the n-th address from the right of `X-Forwarded-For` (1 is the last).
    pub depth: Option<usize>,
    /// Take the first address from the right of `X-Forwarded-For` that is not in these ranges.
    #[serde(default)]
    pub excluded_ips: Strings,
}

/// Compiled form of [`ClientSettings`].
#[derive(Debug)]
pub enum ClientAddress {
    /// As the listener found it.
    Found,
    /// The n-th from the right.
    Depth(usize),
    /// The first from the right that is not in the set.
    Outside(Addresses),
}

impl ClientAddress {
    /// Compiles settings that stand at `path`.
    pub fn compile(path: &str, settings: &ClientSettings) -> Result<ClientAddress, Problem> {
        match (settings.depth, settings.excluded_ips.0.is_empty()) {
            (Some(_), false) => {
                let problem = Problem::at(path, "`depth` and `excluded_ips` exclude each other");
                Err(problem.help("keep one of them"))
            }
            (Some(0), true) => {
                Err(Problem::at(format!("{path}.depth"), "0 is no place in a list")
                    .help("1 is the last address"))
            }
            (Some(depth), true) => Ok(ClientAddress::Depth(depth)),
            (None, false) => Addresses::compile(&format!("{path}.excluded_ips"), &settings.excluded_ips)
                .map(ClientAddress::Outside),
            (None, true) => Ok(ClientAddress::Found),
        }
    }

    /// The address, if there is one. What an untrusted peer writes into `X-Forwarded-For` is not looked at.
    pub fn of(&self, x: &Exchange) -> Option<IpAddr> {
        match self {
            ClientAddress::Found => Some(x.client),
            _ if !x.connection.trusted => None,
            ClientAddress::Depth(depth) => parse_listed(from_right(x).nth(depth.checked_sub(1)?)?),
            ClientAddress::Outside(excluded) => {
                // Text that is no address ends the search: nothing to its left can be believed.
                from_right(x)
                    .map(parse_listed)
                    .find(|entry| !entry.is_some_and(|ip| excluded.contains(ip)))?
            }
        }
    }
}

/// The entries of `X-Forwarded-For`, the last first.
fn from_right(x: &Exchange) -> impl Iterator<Item = &str> {
    let lines: Vec<&[u8]> = x.request.fields.known_all(Known::XForwardedFor).collect();
    let text = |line| std::str::from_utf8(line).unwrap_or_default();
    lines.into_iter().rev().flat_map(move |line| text(line).rsplit(','))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;
    use portcullis_core::Request;

    fn found(settings: ClientSettings, trusted: bool, lines: &[&str]) -> Option<String> {
        let mut x = Exchange::for_test(Request::new(Method::GET));
        if trusted {
            crate::testing::trusted(&mut x);
        }
        lines.iter().for_each(|line| x.request.fields.append("x-forwarded-for", line));
        let address = ClientAddress::compile("client", &settings).unwrap().of(&x);
        address.map(|address| address.to_string())
    }

    fn depth(depth: usize) -> ClientSettings {
        ClientSettings { depth: Some(depth), ..ClientSettings::default() }
    }

    fn excluding(ranges: &str) -> ClientSettings {
        ClientSettings { depth: None, excluded_ips: Strings(vec![ranges.to_owned()]) }
    }

    #[test]
    fn strategies() {
        let list = ["203.0.113.9, 10.0.0.1", "10.0.0.2:99"];
        assert_eq!(found(ClientSettings::default(), true, &list).as_deref(), Some("127.0.0.1"));
        assert_eq!(found(depth(1), true, &list).as_deref(), Some("10.0.0.2"));
        assert_eq!(found(depth(3), true, &list).as_deref(), Some("203.0.113.9"));
        assert_eq!(found(depth(4), true, &list), None);
        assert_eq!(found(depth(1), false, &list), None);
        assert_eq!(found(excluding("10.0.0.0/8"), true, &list).as_deref(), Some("203.0.113.9"));
        assert_eq!(found(excluding("10.0.0.2"), true, &list).as_deref(), Some("10.0.0.1"));
        assert_eq!(found(excluding("0.0.0.0/0"), true, &list), None);
        assert_eq!(found(excluding("10.0.0.0/8"), true, &["203.0.113.9, junk, 10.0.0.1"]), None);
    }

    #[test]
    fn contradictions_are_refused() {
        let both = ClientSettings { depth: Some(1), ..excluding("::/0") };
        assert_eq!(ClientAddress::compile("client", &both).unwrap_err().path, "client");
        assert_eq!(ClientAddress::compile("client", &depth(0)).unwrap_err().path, "client.depth");
    }
}
