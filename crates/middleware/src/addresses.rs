//! A set of IP addresses, made from ranges: merged and sorted once, so that even a list of a hundred thousand ranges
//! costs a request one binary search.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use portcullis_core::middleware::Problem;

use crate::settings::Strings;

/// A set of addresses. IPv4 addresses in their IPv6 clothes (`::ffff:192.0.2.1`) count as what they are.
#[derive(Debug, Default)]
pub struct Addresses {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Addresses {
    /// Reads addresses and CIDR ranges that stand at `path` in the settings.
    pub fn compile(path: &str, ranges: &Strings) -> Result<Addresses, Problem> {
        let mut set = Addresses::default();
        for (index, text) in ranges.0.iter().enumerate() {
            let Some(range) = parse(text.trim()) else {
                let at = format!("{path}[{index}]");
                let message = format!("`{}` is not an address or range", text.escape_debug());
                return Err(
                    Problem::at(at, message).help("such as `192.0.2.7`, `10.0.0.0/8` or `2001:db8::/32`")
                );
            };
            match range {
                IpNet::V4(range) => set.v4.push((range.network().into(), range.broadcast().into())),
                IpNet::V6(range) => set.v6.push((range.network().into(), range.broadcast().into())),
            }
        }
        merge(&mut set.v4, |end| end.saturating_add(1));
        merge(&mut set.v6, |end| end.saturating_add(1));
        Ok(set)
    }

    /// Is the address in the set?
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => holds(&self.v4, address.into()),
            IpAddr::V6(address) => holds(&self.v6, address.into()),
        }
    }
}

fn parse(text: &str) -> Option<IpNet> {
    let range = match text.parse::<IpNet>() {
        Ok(range) => range,
        Err(_) => IpNet::from(text.parse::<IpAddr>().ok()?),
    };
    // A range of mapped addresses is a range of IPv4.
    match range {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.network().to_ipv4_mapped() {
            Some(v4) => ipnet::Ipv4Net::new(v4, v6.prefix_len() - 96).ok().map(IpNet::V4),
            None => Some(range),
        },
        _ => Some(range),
    }
}

/// Sorts ranges and joins those that overlap or touch.
fn merge<T: Ord + Copy>(ranges: &mut Vec<(T, T)>, next: fn(T) -> T) {
    ranges.sort_unstable();
    ranges.dedup_by(|later, earlier| {
        let joined = later.0 <= next(earlier.1);
        if joined {
            earlier.1 = earlier.1.max(later.1);
        }
        joined
    });
    ranges.shrink_to_fit();
}

fn holds<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    let behind = ranges.partition_point(|&(start, _)| start <= address);
    behind.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|&(_, end)| address <= end)
}

/// The network of an address with so many bits, as a number: what clients of one IPv6 site have in common.
pub fn network(address: IpAddr, v6_bits: u8) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => match u32::from(v6_bits.min(128)) {
            0 => 0,
            bits => u128::from(address) & (u128::MAX << (128 - bits)),
        },
    }
}

/// Reads one address out of a list field such as `X-Forwarded-For`: with a port and brackets, or without.
pub fn parse_listed(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let v6 = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    match v6 {
        Some((inside, "")) => inside.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        Some((inside, port)) => {
            let is_port = port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
            inside.parse::<Ipv6Addr>().ok().filter(|_| is_port).map(IpAddr::V6)
        }
        None => text.parse().ok().or_else(|| {
            let (address, port) = text.split_once(':')?;
            port.parse::<u16>().ok()?;
            address.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[&str]) -> Addresses {
        Addresses::compile("ranges", &Strings(ranges.iter().map(|r| (*r).to_owned()).collect())).unwrap()
    }

    #[test]
    fn ranges_hold_their_addresses() {
        let set = set(&[
            "10.0.0.0/8",
            "10.1.0.0/16",
            "11.0.0.0/8",
            "192.0.2.7",
            "2001:db8::/32",
            "::ffff:198.51.100.0/120",
        ]);
        assert_eq!((set.v4.len(), set.v6.len()), (3, 1));
        for (address, inside) in [
            ("10.0.0.0", true),
            ("11.255.255.255", true),
            ("12.0.0.0", false),
            ("9.255.255.255", false),
            ("192.0.2.7", true),
            ("::ffff:192.0.2.7", true),
            ("192.0.2.8", false),
            ("198.51.100.255", true),
            ("2001:db8:ffff::1", true),
            ("2001:db9::", false),
        ] {
            assert_eq!(set.contains(address.parse().unwrap()), inside, "{address}");
        }
    }

    #[test]
    fn the_edges_of_the_address_space() {
        let all = set(&["0.0.0.0/0", "::/0"]);
        for address in ["0.0.0.0", "255.255.255.255", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] {
            assert!(all.contains(address.parse().unwrap()));
            assert!(!set(&[]).contains(address.parse().unwrap()));
        }
    }

    #[test]
    fn merged_ranges_answer_as_the_plain_list_does() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let nets: Vec<IpNet> = (0..random.usize(0..12))
                .map(|_| {
                    let address = Ipv4Addr::from(random.u32(..) & 0x0000_0fff);
                    IpNet::new(IpAddr::V4(address), random.u8(20..=32)).unwrap()
                })
                .collect();
            let merged =
                Addresses::compile("", &Strings(nets.iter().map(IpNet::to_string).collect())).unwrap();
            for _ in 0..200 {
                let address = IpAddr::V4(Ipv4Addr::from(random.u32(..) & 0x0000_1fff));
                assert_eq!(
                    merged.contains(address),
                    nets.iter().any(|net| net.contains(&address)),
                    "{nets:?}"
                );
            }
        }
    }

    #[test]
    fn bad_ranges_say_where() {
        let ranges = Strings(vec!["10.0.0.0/8".into(), "10.0.0.0/33".into()]);
        assert_eq!(Addresses::compile("ranges", &ranges).unwrap_err().path, "ranges[1]");
    }

    #[test]
    fn listed_addresses() {
        for (text, address) in [
            (" 192.0.2.1", Some("192.0.2.1")),
            ("192.0.2.1:80", Some("192.0.2.1")),
            ("[2001:db8::1]:443", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[::1]x", None),
            ("unknown", None),
            ("", None),
        ] {
            assert_eq!(parse_listed(text), address.map(|a| a.parse().unwrap()), "{text}");
        }
    }
}
