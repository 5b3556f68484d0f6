//! Request identifiers: UUIDs of version 7 (RFC 9562 §5.7), which sort by time.

use std::{
    cell::RefCell,
    hash::{BuildHasher, RandomState},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::Exchange;

thread_local! {
    /// Seeded from the operating system's randomness (through `RandomState`), so that neither threads nor machines
    /// share a sequence. Ids must be unique, not secret: they are shown to clients.
    static RANDOM: RefCell<fastrand::Rng> =
        RefCell::new(fastrand::Rng::with_seed(RandomState::new().hash_one("request id")));
}

/// A new identifier, 36 characters.
pub fn new_id() -> Box<str> {
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let (a, b) = RANDOM
        .try_with(|random| {
            let mut random = random.borrow_mut();
            (random.u64(..), random.u64(..))
        })
        .unwrap_or_else(|_| (fastrand::u64(..), fastrand::u64(..)));
    format_v7(millis, a, b)
}

impl Exchange {
    /// The request's id; one is made when it has none yet.
    pub fn id_or_new(&mut self) -> &str {
        self.id.get_or_insert_with(new_id)
    }
}

/// The eight hexadecimal digits of a number, all at once: its nibbles are spread over the bytes of a word, and those
/// above nine moved on to the letters.
fn hex(number: u32) -> [u8; 8] {
    let mut spread = u64::from(number);
    spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = ((spread + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
    (spread + 0x3030_3030_3030_3030 + letters * 0x27).to_be_bytes()
}

/// 48 bits of time, the version, 12 bits of `a`, the variant, 62 bits of `b`.
#[allow(clippy::many_single_char_names)] // digits
fn format_v7(millis: u64, a: u64, b: u64) -> Box<str> {
    let high = (millis << 16) | 0x7000 | (a & 0x0fff);
    let low = (b & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
    let [a, b, c, d, e, f, g, h] = hex((high >> 32) as u32);
    let [i, j, k, l, m, n, o, p] = hex(high as u32);
    let [q, r, s, t, u, v, w, x] = hex((low >> 32) as u32);
    let [y, z, aa, ab, ac, ad, ae, af] = hex(low as u32);
    #[rustfmt::skip]
    let text = [
        a, b, c, d, e, f, g, h, b'-', i, j, k, l, b'-', m, n, o, p, b'-',
        q, r, s, t, b'-', u, v, w, x, y, z, aa, ab, ac, ad, ae, af,
    ];
    std::str::from_utf8(&text).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_standard() {
        // RFC 9562 appendix A.6.
        let id = format_v7(0x017f_22e2_79b0, 0xcc3, 0x18c4_dc0c_0c07_398f);
        assert_eq!(&*id, "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
    }

    #[test]
    fn digits() {
        for number in [0, 1, 0x0123_4567, 0x89ab_cdef, u32::MAX, 0x9a9a_0f0f] {
            assert_eq!(std::str::from_utf8(&hex(number)).unwrap(), format!("{number:08x}"));
        }
    }

    #[test]
    fn ids_differ_and_sort_by_time() {
        let many: std::collections::HashSet<_> = (0..1000).map(|_| new_id()).collect();
        assert_eq!(many.len(), 1000);
        assert!(format_v7(1, u64::MAX, u64::MAX) < format_v7(2, 0, 0));
        assert!(new_id().chars().all(|c| c == '-' || c.is_ascii_hexdigit()));
    }
}
