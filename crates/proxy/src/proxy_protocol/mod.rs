//! The PROXY protocol: a header that a proxy puts before everything else on a connection, to say whose connection it
//! passes on. Specified by HAProxy's `doc/proxy-protocol.txt`, versions 1 (text) and 2 (binary).
//!
//! Ours, and strict, because it decides who a client is: it needs a parser that says how much is missing, checks the
//! checksum, and takes nothing that another receiver could read in another way. The crate `ppp` has none of the three.

mod crc32c;
mod v1;
mod v2;
mod write;

use std::net::SocketAddr;

pub use write::header;

/// The longest header taken. What senders put into it beside addresses (a name, an id, a certificate) fits easily.
pub const LONGEST: usize = 16 * 1024;

/// What the bytes at the beginning of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// Perhaps a header: that takes so many bytes in all, at least.
    More(usize),
    /// No header, whatever follows.
    Absent,
    /// A header of so many bytes, and what it says.
    Header(usize, Said),
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Whose connection it is, and where it led.
    Ends(Ends),
    /// Nothing to go by: the proxy's own connection (a health check), or addresses that are none of IP. Those of the
    /// connection itself hold.
    Nothing,
}

/// The two ends of the connection that is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The client.
    pub source: SocketAddr,
    /// Where it had connected to.
    pub destination: SocketAddr,
}

/// Why a header is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Version 1 beyond 107 bytes.
    #[error("the line has no end")]
    Endless,
    /// Version 1 that is not as specified, to the byte.
    #[error("the line is malformed")]
    Line,
    /// Version 2 with another version or command.
    #[error("unknown version or command {0:#04x}")]
    Command(u8),
    /// Version 2 with another family or protocol.
    #[error("unknown family or protocol {0:#04x}")]
    Family(u8),
    /// Version 2 too short for its addresses.
    #[error("too short for its addresses")]
    Short,
    /// Version 2 that is longer than anybody needs.
    #[error("longer than {LONGEST} bytes")]
    Long,
    /// Version 2 with an entry that does not fit.
    #[error("an entry does not fit")]
    Entry,
    /// Version 2 whose checksum is not that of its bytes.
    #[error("the checksum is wrong")]
    Checksum,
}

/// Looks at the first bytes of a connection.
///
/// # Errors
/// They begin as a header does, and are none.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Invalid> {
    let begins = |signature: &[u8]| {
        let both = signature.len().min(bytes.len());
        bytes.get(..both) == signature.get(..both)
    };
    if begins(v2::SIGNATURE) {
        v2::parse(bytes)
    } else if begins(v1::SIGNATURE) {
        v1::parse(bytes)
    } else {
        Ok(Parsed::Absent)
    }
}

#[cfg(test)]
mod tests;
