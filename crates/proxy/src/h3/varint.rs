//! Integers of variable length (RFC 9000 §16).

/// Reads one; `None` when there is not all of it. Also how many bytes it has.
pub(super) fn read(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let length = 1 << (first >> 6);
    let rest = bytes.get(1..length)?;
    let value = rest.iter().fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte));
    Some((value, length))
}

/// Appends one of at most 62 bits.
pub(super) fn write(value: u64, out: &mut Vec<u8>) {
    let bytes = value.to_be_bytes();
    let (flags, length) = match value {
        0..0x40 => (0x00, 1),
        0x40..0x4000 => (0x40, 2),
        0x4000..0x4000_0000 => (0x80, 4),
        _ => (0xc0, 8),
    };
    let at = out.len();
    out.extend_from_slice(bytes.get(8 - length..).unwrap_or_default());
    if let Some(first) = out.get_mut(at) {
        *first |= flags;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc_and_the_edges() {
        let cases: [(&[u8], u64); 4] = [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ];
        for (bytes, value) in cases {
            assert_eq!(read(bytes), Some((value, bytes.len())));
            let mut written = Vec::new();
            write(value, &mut written);
            assert_eq!(written, bytes);
            assert_eq!(read(&bytes[..bytes.len() - 1]), None);
        }
        // Longer than it need be is allowed.
        assert_eq!(read(&[0x40, 0x25]), Some((37, 2)));
        for value in [0, 0x3f, 0x40, 0x3fff, 0x4000, 0x3fff_ffff, 0x4000_0000, (1 << 62) - 1] {
            let mut written = Vec::new();
            write(value, &mut written);
            assert_eq!(read(&written), Some((value, written.len())));
        }
    }
}
