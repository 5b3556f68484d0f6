//! Version 2: a signature, four bytes, addresses, and entries of type, length and value.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Ends, Invalid, LONGEST, Parsed, Said, crc32c};

/// How it begins.
pub const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, command, family, length.
pub const FIXED: usize = 16;
/// The type of the entry that holds the checksum.
const CRC32C: u8 = 0x03;

/// Parses bytes that begin as a header does.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Invalid> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED>() else { return Ok(Parsed::More(FIXED)) };
    let [.., command, family, high, low] = *fixed;
    if !matches!(command, 0x20 | 0x21) {
        return Err(Invalid::Command(command));
    }
    let addresses = match family {
        0x00 => 0,
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        0x31 | 0x32 => 216,
        // LOCAL: receivers are to ignore the family, whatever it is.
        _ if command == 0x20 => 0,
        _ => return Err(Invalid::Family(family)),
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if FIXED + length > LONGEST {
        return Err(Invalid::Long);
    }
    let Some(block) = rest.get(..length) else { return Ok(Parsed::More(FIXED + length)) };
    // LOCAL, and a family that is not told: the block means nothing.
    if command == 0x20 || family == 0x00 {
        return Ok(Parsed::Header(FIXED + length, Said::Nothing));
    }
    let (addresses, entries) = block.split_at_checked(addresses).ok_or(Invalid::Short)?;
    check_entries(fixed, addresses, entries)?;
    let said = match family >> 4 {
        1 => ends(addresses, |bytes: [u8; 4]| IpAddr::V4(Ipv4Addr::from(bytes))),
        2 => ends(addresses, |bytes: [u8; 16]| Ipv6Addr::from(bytes).to_canonical()),
        // A Unix socket has no address that anything here could go by.
        _ => Some(Said::Nothing),
    };
    Ok(Parsed::Header(FIXED + length, said.ok_or(Invalid::Short)?))
}

/// Two addresses, then two ports.
fn ends<const N: usize>(bytes: &[u8], address: impl Fn([u8; N]) -> IpAddr) -> Option<Said> {
    let (source, rest) = bytes.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (from, rest) = rest.split_first_chunk::<2>()?;
    let to = rest.first_chunk::<2>()?;
    Some(Said::Ends(Ends {
        source: SocketAddr::new(address(*source), u16::from_be_bytes(*from)),
        destination: SocketAddr::new(address(*destination), u16::from_be_bytes(*to)),
    }))
}

/// Every entry must fit, and the checksum must be right where there is one.
fn check_entries(fixed: &[u8], addresses: &[u8], entries: &[u8]) -> Result<(), Invalid> {
    let mut rest = entries;
    let mut checked = false;
    while !rest.is_empty() {
        let (&[kind, high, low], after) = rest.split_first_chunk::<3>().ok_or(Invalid::Entry)?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, next) = after.split_at_checked(length).ok_or(Invalid::Entry)?;
        if kind == CRC32C {
            let told: [u8; 4] = value.try_into().map_err(|_| Invalid::Entry)?;
            let before = entries.get(..entries.len() - next.len() - 4).unwrap_or_default();
            let found = crc32c::of([fixed, addresses, before, &[0; 4], next]);
            if checked || found != u32::from_be_bytes(told) {
                return Err(Invalid::Checksum);
            }
            checked = true;
        }
        rest = next;
    }
    Ok(())
}
