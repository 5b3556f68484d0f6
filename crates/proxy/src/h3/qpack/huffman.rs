//! The Huffman code of RFC 7541, Appendix B. It is canonical: codes of one length are consecutive, in the order of the
//! symbols they stand for, so that the lengths say everything.

/// Bits of each symbol's code.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7,
    15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24,
    23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23,
    23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26,
    26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20,
    21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27,
    27, 27, 26,
];
/// The shortest code.
const SHORTEST: usize = 5;
/// The longest code. All ones, it is that of the end of string, which may not occur.
const LONGEST: usize = 30;

/// What the lengths say.
struct Code {
    /// Symbols in the order of their codes.
    symbols: [u8; 256],
    /// By length: the first code that is longer, aligned to the left of 32 bits.
    bounds: [u32; LONGEST + 1],
    /// By length: the first code of it, aligned to the right, and its place among the symbols.
    first: [(u32, usize); LONGEST + 1],
}

static CODE: Code = code();

#[allow(clippy::indexing_slicing)] // at compile time, over a constant
const fn code() -> Code {
    let mut made = Code { symbols: [0; 256], bounds: [0; LONGEST + 1], first: [(0, 0); LONGEST + 1] };
    let (mut next, mut place, mut length) = (0_u32, 0, 1);
    while length <= LONGEST {
        next <<= 1;
        made.first[length] = (next, place);
        let mut symbol = 0;
        while symbol < 256 {
            if LENGTHS[symbol] as usize == length {
                made.symbols[place] = symbol as u8;
                place += 1;
                next += 1;
            }
            symbol += 1;
        }
        made.bounds[length] = next << (32 - length);
        length += 1;
    }
    made
}

/// Decodes a string, appending it. `None` for what is no code: the end of string in the middle, padding that is too long
/// or not all ones (RFC 7541 §5.2).
pub(super) fn decode(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (mut window, mut bits) = (0_u64, 0);
    for &byte in bytes {
        window = window << 8 | u64::from(byte);
        bits += 8;
        while bits >= SHORTEST {
            let left = ((window << (64 - bits)) >> 32) as u32;
            let lengths = CODE.bounds.get(SHORTEST..)?;
            let Some(length) = lengths.iter().position(|bound| left < *bound).map(|at| at + SHORTEST) else {
                // Ones so far: it may still be the beginning of a code, but for as many as make the end of string.
                if bits >= LONGEST {
                    return None;
                }
                break;
            };
            if length > bits {
                break;
            }
            let (first, place) = CODE.first.get(length)?;
            let nth = (left >> (32 - length)).checked_sub(*first)? as usize;
            out.push(*CODE.symbols.get(place + nth)?);
            bits -= length;
        }
        window &= (1 << bits) - 1;
    }
    (bits < 8 && window == (1 << bits) - 1).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(text: &[u8]) -> Vec<u8> {
        let (mut window, mut bits, mut out) = (0_u64, 0, Vec::new());
        for &byte in text {
            let length = usize::from(LENGTHS[usize::from(byte)]);
            let (first, place) = CODE.first[length];
            let nth = CODE.symbols[place..].iter().position(|symbol| *symbol == byte).unwrap();
            window = window << length | u64::from(first + nth as u32);
            bits += length;
            while bits >= 8 {
                bits -= 8;
                out.push((window >> bits) as u8);
            }
        }
        if bits > 0 {
            out.push((window << (8 - bits)) as u8 | (0xff >> bits));
        }
        out
    }

    fn decoded(bytes: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        decode(bytes, &mut out).map(|()| out)
    }

    /// RFC 7541, Appendix C.4 and C.6.
    #[test]
    fn the_examples_of_the_rfc() {
        let cases: [(&[u8], &[u8]); 3] = [
            (&[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff], b"www.example.com"),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], b"no-cache"),
            (&[0x64, 0x02], b"302"),
        ];
        for (bytes, text) in cases {
            assert_eq!(decoded(bytes).as_deref(), Some(text));
            assert_eq!(encode(text), bytes);
        }
    }

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        assert_eq!(decoded(&encode(&all)), Some(all));
        assert_eq!(decoded(b""), Some(Vec::new()));
    }

    #[test]
    fn what_is_no_code_is_refused() {
        // The end of string; padding of eight ones and more; padding with a zero in it.
        for bad in [&[0xff, 0xff, 0xff, 0xff][..], &[0xff], &[0x1f, 0xff], &[0x18]] {
            assert_eq!(decoded(bad), None, "{bad:x?}");
        }
        // A symbol of its own, and padding.
        assert_eq!(decoded(&[0x1f]), Some(b"a".to_vec()));
    }
}
