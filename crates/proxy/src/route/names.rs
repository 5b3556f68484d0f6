//! Maps by host, path or segment, with a hash that is quick on short text.
//!
//! What is in the maps comes from the configuration; requests are only looked up. So nobody can fill a bucket from
//! outside, and the keyed hash of the standard library would protect nothing here, at four times the cost.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
};

/// A map by name.
pub(super) type Names<T> = HashMap<Arc<str>, T, BuildHasherDefault<Quick>>;

/// Eight bytes at a time: rotate, xor, multiply; the halves folded at the end.
#[derive(Debug, Default)]
pub(super) struct Quick(u64);

/// 2^64 divided by the golden ratio, odd.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl Quick {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(FACTOR);
    }
}

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.add(u64::from_le_bytes(*word)));
        if !rest.is_empty() {
            let mut last = [0; 8];
            last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            self.add(u64::from_le_bytes(last));
        }
        self.add(bytes.len() as u64);
    }

    fn write_u8(&mut self, _: u8) {
        // The end mark of a string; the length is mixed in already.
    }

    fn finish(&self) -> u64 {
        (self.0 ^ (self.0 >> 32)).wrapping_mul(FACTOR).rotate_left(32)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::*;

    #[test]
    fn like_names_are_spread() {
        let hash = |text: &str| BuildHasherDefault::<Quick>::default().hash_one(text);
        let names: Vec<String> = (0..10_000).map(|i| format!("tenant-{i}.example.com")).collect();
        // Both ends are used by the map: the low bits choose the bucket, the high ones tell its neighbours apart.
        for part in [|hash: u64| hash & 0xffff, |hash: u64| hash >> 48] {
            let mut seen: Vec<u64> = names.iter().map(|name| part(hash(name))).collect();
            seen.sort_unstable();
            seen.dedup();
            // 10,000 balls in 65,536 bins leave about 9,280 bins in use.
            assert!(seen.len() > 9_000, "{}", seen.len());
        }
        assert_ne!(hash("a"), hash("a\0"));
    }
}
