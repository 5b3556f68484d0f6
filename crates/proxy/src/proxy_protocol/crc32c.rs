//! CRC-32C (Castagnoli), as RFC 4960 appendix B has it: the checksum of the PROXY protocol. Computed once for a
//! connection at most, so a small table will do.

#[allow(clippy::indexing_slicing)] // at compile time, within bounds
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// The checksum of bytes that come in pieces.
pub fn of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let step = |crc: u32, byte: &u8| {
        let at = (crc ^ u32::from(*byte)) & 0xff;
        (crc >> 8) ^ TABLE.get(at as usize).copied().unwrap_or_default()
    };
    !pieces.into_iter().flatten().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720 appendix B.4.
    #[test]
    fn examples_of_the_standard() {
        assert_eq!(of([&[0; 32][..]]), 0x8a91_36aa);
        assert_eq!(of([&[0xff; 32][..]]), 0x62a8_ab43);
        assert_eq!(of([&b"1234"[..], b"", b"56789"]), 0xe306_9283);
    }
}
