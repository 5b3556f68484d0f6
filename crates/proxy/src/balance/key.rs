//! What a hash strategy hashes: one number from a request. The functions are fixed and without a seed, since every
//! replica and every restart must come to the same endpoint.

use std::net::IpAddr;

use portcullis_config::model::{HashKey, Strategy};
use portcullis_core::{Exchange, Known, cookie::cookies};

/// A hash of bytes that is the same everywhere and for ever: FNV-1a, mixed so that every bit depends on all. This is
/// also how the `hash` of an endpoint is made from its URL.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    stable_hash_of(bytes.iter().copied())
}

fn stable_hash_of(bytes: impl Iterator<Item = u8>) -> u64 {
    mix(bytes
        .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)))
}

/// MurmurHash3's finaliser: a bijection in which every bit depends on all.
pub(super) fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    hash ^ (hash >> 33)
}

/// Takes from a request what its service hashes by.
#[derive(Debug)]
pub struct KeyOf(Source);

#[derive(Debug)]
enum Source {
    Client,
    Path,
    Host,
    Header(Box<str>),
    Cookie(Box<[u8]>),
    Query(Box<[u8]>),
}

impl KeyOf {
    /// Compiles what to hash by.
    pub fn new(by: &HashKey) -> KeyOf {
        KeyOf(match by {
            HashKey::Client => Source::Client,
            HashKey::Path => Source::Path,
            // The host is not among the fields.
            HashKey::Header(name) if Known::of(name.as_bytes()) == Known::Host => Source::Host,
            HashKey::Header(name) => Source::Header(name.as_ref().into()),
            HashKey::Cookie(name) => Source::Cookie(name.as_bytes().into()),
            HashKey::Query(name) => Source::Query(name.as_bytes().into()),
        })
    }

    /// What a strategy hashes by; `None` when it does not hash.
    pub fn of(strategy: &Strategy) -> Option<KeyOf> {
        match strategy {
            Strategy::IpHash => Some(KeyOf::new(&HashKey::Client)),
            Strategy::Hash { by, .. } => Some(KeyOf::new(by)),
            Strategy::RoundRobin | Strategy::LeastConnections | Strategy::Random | Strategy::P2c => None,
        }
    }

    /// The key of a request; `None` when what it is made from is missing or empty, upon which the choice is random: a
    /// client that sends no such header must not make all its like meet at one endpoint.
    ///
    /// Of several values the first counts. A query parameter is decoded; the path is taken as it is forwarded.
    pub fn key(&self, x: &Exchange) -> Option<u64> {
        let fields = &x.request.fields;
        match &self.0 {
            Source::Client => Some(of_address(x.client)),
            Source::Path => Some(stable_hash(x.request.path().as_bytes())),
            Source::Host => of_bytes(x.request.authority().as_bytes()),
            Source::Header(name) => of_bytes(fields.get(name)?),
            Source::Cookie(name) => of_bytes(cookies(fields, name).next()?),
            Source::Query(name) => of_query(x.request.query()?, name),
        }
    }
}

fn of_bytes(bytes: &[u8]) -> Option<u64> {
    (!bytes.is_empty()).then(|| stable_hash(bytes))
}

/// An IPv4 address, also when it is written as IPv6, or the network of an IPv6 host: its other half is changed for
/// privacy as often as a client likes (RFC 8981).
fn of_address(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(v4) => stable_hash(&v4.octets()),
        IpAddr::V6(v6) => stable_hash_of(v6.octets().into_iter().take(8)),
    }
}

fn of_query(query: &str, name: &[u8]) -> Option<u64> {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let (_, value) = pairs.find(|(key, _)| decoded(key).eq(name.iter().copied()))?;
    (!value.is_empty()).then(|| stable_hash_of(decoded(value)))
}

/// The bytes of a query's name or value (`application/x-www-form-urlencoded`); broken escapes stand for themselves.
fn decoded(text: &str) -> impl Iterator<Item = u8> {
    let mut rest = text.as_bytes();
    std::iter::from_fn(move || {
        let (&first, after) = rest.split_first()?;
        rest = after;
        let escaped = match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                hex(*high).zip(hex(*low)).map(|(high, low)| (high * 16 + low, after))
            }
            _ => None,
        };
        match (escaped, first) {
            (Some((byte, after)), _) => {
                rest = after;
                Some(byte)
            }
            (None, b'+') => Some(b' '),
            (None, plain) => Some(plain),
        }
    })
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use http::Method;
    use portcullis_core::Request;

    use super::*;

    fn exchange(path: &str, query: Option<&str>) -> Exchange {
        let mut request = Request::new(Method::GET);
        request.arrive(path, query);
        request.set_authority("Shop.example:8080");
        request.fields.append("X-Tenant", "blue");
        request.fields.append("X-Empty", "");
        request.fields.append("Cookie", "other=1; session=abc");
        Exchange::for_test(request)
    }

    #[test]
    fn the_hash_never_changes() {
        assert_eq!(stable_hash(b""), 0xEFD0_1F60_BA99_2926);
        assert_eq!(stable_hash(b"http://10.0.0.1:80"), 0xD9EB_4E5A_B980_14B4);
    }

    #[test]
    fn every_source_gives_the_hash_of_its_value() {
        let x = exchange("/a/b", Some("x=1&user=Ann%20B&user=2"));
        for (by, value) in [
            (HashKey::Path, "/a/b"),
            (HashKey::Header("x-tenant".into()), "blue"),
            (HashKey::Header("HOST".into()), "shop.example:8080"),
            (HashKey::Cookie("session".into()), "abc"),
            (HashKey::Query("user".into()), "Ann B"),
        ] {
            assert_eq!(KeyOf::new(&by).key(&x), Some(stable_hash(value.as_bytes())), "{by:?}");
        }
    }

    #[test]
    fn the_missing_and_the_empty_have_no_key() {
        let x = exchange("/", Some("a&b="));
        for by in [
            HashKey::Header("x-none".into()),
            HashKey::Header("x-empty".into()),
            HashKey::Cookie("x".into()),
            HashKey::Query("a".into()),
            HashKey::Query("b".into()),
            HashKey::Query("c".into()),
        ] {
            assert_eq!(KeyOf::new(&by).key(&x), None, "{by:?}");
        }
    }

    #[test]
    fn spellings_of_a_parameter_are_one() {
        let key = |query| KeyOf::new(&HashKey::Query("user id".into())).key(&exchange("/", Some(query)));
        assert!(key("user%20id=a+b").is_some());
        assert_eq!(key("user%20id=a+b"), key("user+id=%61%20b"));
        assert_ne!(key("user+id=%"), key("user+id=%2"));
    }

    #[test]
    fn clients_are_told_apart_by_address_and_ipv6_network() {
        let key = |address: &str| {
            let mut x = exchange("/", None);
            x.client = address.parse().unwrap();
            KeyOf::of(&Strategy::IpHash).unwrap().key(&x).unwrap()
        };
        assert_eq!(key("10.0.0.1"), key("::ffff:10.0.0.1"));
        assert_ne!(key("10.0.0.1"), key("10.0.0.2"));
        assert_eq!(key("2001:db8:1:2::3"), key("2001:db8:1:2:9999::4"));
        assert_ne!(key("2001:db8:1:2::3"), key("2001:db8:1:3::3"));
    }
}
