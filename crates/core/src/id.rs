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

/// The two hexadecimal digits of every byte.
#[allow(clippy::indexing_slicing)] // at compile time, over a constant
const HEX: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    table
};

/// 48 bits of time, the version, 12 bits of `a`, the variant, 62 bits of `b`.
fn format_v7(millis: u64, a: u64, b: u64) -> Box<str> {
    let high = (millis << 16) | 0x7000 | (a & 0x0fff);
    let low = (b & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
    let mut text = *b"00000000-0000-0000-0000-000000000000";
    // Where each of the sixteen bytes stands in the text.
    const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    let bytes = high.to_be_bytes().into_iter().chain(low.to_be_bytes());
    for (place, byte) in PLACES.into_iter().zip(bytes) {
        if let (Some(to), Some(digits)) = (text.get_mut(place..place + 2), HEX.get(usize::from(byte))) {
            to.copy_from_slice(digits);
        }
    }
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
    fn ids_differ_and_sort_by_time() {
        let many: std::collections::HashSet<_> = (0..1000).map(|_| new_id()).collect();
        assert_eq!(many.len(), 1000);
        assert!(format_v7(1, u64::MAX, u64::MAX) < format_v7(2, 0, 0));
        assert!(new_id().chars().all(|c| c == '-' || c.is_ascii_hexdigit()));
    }
}
