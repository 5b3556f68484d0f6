//! Version 1: a line of text, `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443` and CRLF.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Ends, Invalid, Parsed, Said};

/// How it begins.
pub const SIGNATURE: &[u8] = b"PROXY ";
/// The longest line, its end included.
const LONGEST: usize = 107;

/// Parses bytes that begin as a line does.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Invalid> {
    let seen = bytes.get(..LONGEST).unwrap_or(bytes);
    let Some(end) = seen.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        // An end takes two bytes.
        return if seen.len() < LONGEST - 1 {
            Ok(Parsed::More(seen.len() + 2))
        } else {
            Err(Invalid::Endless)
        };
    };
    match seen.get(end..end + 2) {
        Some(b"\r\n") => {}
        Some(_) => return Err(Invalid::Line),
        None if seen.get(end) == Some(&b'\n') => return Err(Invalid::Line),
        None if end + 2 > LONGEST => return Err(Invalid::Endless),
        None => return Ok(Parsed::More(end + 2)),
    }
    let line = seen.get(..end).and_then(|line| line.strip_prefix(SIGNATURE)).ok_or(Invalid::Line)?;
    Ok(Parsed::Header(end + 2, said(line)?))
}

fn said(line: &[u8]) -> Result<Said, Invalid> {
    // Whatever follows is to be ignored.
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return Ok(Said::Nothing);
    }
    let line = std::str::from_utf8(line).map_err(|_| Invalid::Line)?;
    let mut words = line.split(' ');
    let mut word = || words.next().ok_or(Invalid::Line);
    let family = word()?;
    let (source, destination) = (address(family, word()?)?, address(family, word()?)?);
    let (from, to) = (port(word()?)?, port(word()?)?);
    if words.next().is_some() {
        return Err(Invalid::Line);
    }
    Ok(Said::Ends(Ends {
        source: SocketAddr::new(source, from),
        destination: SocketAddr::new(destination, to),
    }))
}

fn address(family: &str, text: &str) -> Result<IpAddr, Invalid> {
    match family {
        "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| Invalid::Line),
        "TCP6" => text.parse::<Ipv6Addr>().map(|ip| ip.to_canonical()).map_err(|_| Invalid::Line),
        _ => Err(Invalid::Line),
    }
}

/// A decimal number without sign and without leading zeros.
fn port(text: &str) -> Result<u16, Invalid> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain).ok_or(Invalid::Line)
}
