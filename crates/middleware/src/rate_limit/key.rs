//! Whom a request counts for.

use std::{
    fmt::Write,
    hash::{BuildHasher, Hasher, RandomState},
    net::IpAddr,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use portcullis_core::{Exchange, Known, cookie::cookies, middleware::Problem};
use ring::{digest, hmac};

use super::settings::{KeyPart, Keys};
use crate::{addresses::network, settings};

/// What keys are hashed with: this process's own, so that nobody can aim at another's counter.
pub struct Random {
    text: RandomState,
    address: [u64; 4],
}

impl Random {
    /// New randomness.
    pub fn new() -> Random {
        let text = RandomState::new();
        Random { address: std::array::from_fn(|n| text.hash_one(n)), text }
    }

    /// Of an address, quickly: two multiplications of 64 by 64 bits under a secret that no answer shows. It needs no more,
    /// since all inputs are equally long and few are alike.
    fn address(&self, client: IpAddr, ipv6_prefix: u8) -> u64 {
        let number = network(client, ipv6_prefix);
        let [a, b, c, d] = self.address;
        let v6 = u64::from(matches!(client.to_canonical(), IpAddr::V6(_)));
        let half = fold(number as u64 ^ a, (number >> 64) as u64 ^ b);
        fold(half ^ c, (number as u64).rotate_left(32) ^ v6 ^ d)
    }
}

/// Both halves of a product.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// Whom requests count for, compiled.
#[derive(Debug, Clone)]
pub struct Key {
    parts: Vec<Part>,
    ipv6_prefix: u8,
}

#[derive(Debug, Clone)]
enum Part {
    Client,
    Header(Known, String),
    Cookie(String),
    Parameter(String),
    Identity,
    Claim(String),
    Host,
    Route,
}

impl Part {
    /// Further values of the same header: whoever reads the last, or all of them, must not be told another key than we saw.
    fn others(&self, x: &Exchange, take: &mut impl FnMut(&[u8])) {
        let Part::Header(_, name) = self else { return };
        for value in x.request.fields.get_all(name).skip(1) {
            take(&u64::MAX.to_le_bytes());
            take(value);
        }
    }
}

impl Key {
    /// Compiles the setting at a path.
    pub fn compile(keys: &Keys, path: &str, ipv6_prefix: u8) -> Result<Key, Problem> {
        let mut parts = Vec::with_capacity(keys.0.len());
        for (index, key) in keys.0.iter().enumerate() {
            let path = if keys.0.len() > 1 { format!("{path}[{index}]") } else { path.to_owned() };
            parts.push(match key {
                KeyPart::All if keys.0.len() > 1 => {
                    let help = "leave it out of the list, or write \"all\" alone";
                    return Err(Problem::at(path, "`all` together with others means nothing").help(help));
                }
                KeyPart::All => continue,
                KeyPart::Client => Part::Client,
                KeyPart::Header(name) => {
                    settings::name(&format!("{path}.header"), name)?;
                    Part::Header(Known::of(name.as_bytes()), name.clone())
                }
                KeyPart::Cookie(name) => {
                    settings::name(&format!("{path}.cookie"), name)?;
                    Part::Cookie(name.clone())
                }
                KeyPart::Parameter(name) => Part::Parameter(name.clone()),
                KeyPart::Identity => Part::Identity,
                KeyPart::Claim(name) if name.is_empty() => {
                    let help = "such as { claim = \"tenant\" }";
                    return Err(Problem::at(format!("{path}.claim"), "no claim is named").help(help));
                }
                KeyPart::Claim(name) => Part::Claim(name.clone()),
                KeyPart::Host => Part::Host,
                KeyPart::Route => Part::Route,
            });
        }
        Ok(Key { parts, ipv6_prefix })
    }

    /// Does everything count together?
    pub fn is_all(&self) -> bool {
        self.parts.is_empty()
    }

    /// Hands the bytes of each part over; no two keys give the same.
    fn each(&self, x: &Exchange, mut take: impl FnMut(&[u8])) {
        for part in &self.parts {
            let claim;
            let value = match part {
                Part::Client => None,
                Part::Header(Known::Other, name) => x.request.fields.get(name),
                Part::Header(known, _) => x.request.fields.known(*known),
                Part::Cookie(name) => cookies(&x.request.fields, name.as_bytes()).next(),
                Part::Parameter(name) => {
                    let of = x.parameters.iter().find(|(parameter, _)| **parameter == **name);
                    of.map(|(_, value)| value.as_bytes())
                }
                Part::Identity => match x.identity() {
                    Some(identity) => {
                        for part in identity.parts() {
                            take(&(part.len() as u64 + 1).to_le_bytes());
                            take(part.as_bytes());
                        }
                        continue;
                    }
                    None => None,
                },
                Part::Claim(name) => {
                    claim = x.identity().and_then(|identity| identity.claim(name));
                    claim.as_deref().map(str::as_bytes)
                }
                Part::Host => Some(x.request.host().as_bytes()),
                Part::Route => Some(x.route.as_bytes()),
            };
            match value {
                Some(value) => {
                    take(&(value.len() as u64 + 1).to_le_bytes());
                    take(value);
                    part.others(x, &mut take);
                }
                // Who does not tell counts by address.
                None => {
                    let mut bytes = [0; 8 + 1 + 16];
                    bytes[8] = u8::from(matches!(x.client.to_canonical(), IpAddr::V6(_)));
                    if let Some(end) = bytes.last_chunk_mut() {
                        *end = network(x.client, self.ipv6_prefix).to_le_bytes();
                    }
                    take(&bytes);
                }
            }
        }
    }

    /// As a number, for this process.
    pub fn hash(&self, x: &Exchange, random: &Random) -> u64 {
        if let [Part::Client] = self.parts.as_slice() {
            return random.address(x.client, self.ipv6_prefix);
        }
        let mut hasher = random.text.build_hasher();
        self.each(x, |bytes| hasher.write(bytes));
        hasher.finish()
    }

    /// As a text that is the same in every gateway, and tells nobody who looks into the store what it was made of.
    pub fn text(&self, x: &Exchange) -> String {
        let mut context = digest::Context::new(&digest::SHA256);
        self.each(x, |bytes| context.update(bytes));
        let mut text = String::with_capacity(32);
        for byte in context.finish().as_ref().iter().take(16) {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
    /// As a name for the client, under a secret (RFC 2104): who does not know that cannot find out what it was made of, and
    /// what is told tells nothing of the number that counters go by.
    pub fn partition(&self, x: &Exchange, secret: &hmac::Key) -> String {
        let mut context = hmac::Context::with_key(secret);
        self.each(x, |bytes| context.update(bytes));
        // 72 bits are enough for names that only their own clients compare, and need no padding.
        STANDARD.encode(context.sign().as_ref().first_chunk::<9>().copied().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_numbers_of_their_own_that_fall_everywhere() {
        let random = Random::new();
        let v4 = (0..50_000_u32).map(|n| IpAddr::from(n.wrapping_mul(3).to_be_bytes()));
        let v6 = (0..50_000_u128).map(|n| IpAddr::from((0x2001_0db8 << 96 | n << 64 | 1).to_be_bytes()));
        let numbers: Vec<u64> = v4.chain(v6).map(|address| random.address(address, 64)).collect();
        let distinct: std::collections::HashSet<&u64> = numbers.iter().collect();
        assert_eq!(distinct.len(), numbers.len());
        // Top and bottom bits choose the place in the table.
        for shift in [0, 25, 57] {
            let mut counts = [0_u32; 128];
            numbers.iter().for_each(|number| counts[(number >> shift) as usize % 128] += 1);
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(*least > 550 && *most < 1050, "{least} to {most} of 781 at bit {shift}");
        }
    }

    #[test]
    fn one_site_is_one_and_versions_are_two() {
        let random = Random::new();
        let of = |text: &str, prefix| random.address(text.parse().unwrap(), prefix);
        assert_eq!(of("2001:db8::1", 64), of("2001:db8::2", 64));
        assert_ne!(of("2001:db8::1", 128), of("2001:db8::2", 128));
        assert_eq!(of("::ffff:192.0.2.1", 64), of("192.0.2.1", 64));
        assert_ne!(of("::c000:201", 128), of("192.0.2.1", 128));
    }
}
