//! A set of statuses, one bit each.

use portcullis_config::model::StatusRange;

/// A set of statuses.
#[derive(Debug, Clone, Default)]
pub struct Statuses([u64; 16]);

impl Statuses {
    /// All in these ranges.
    pub fn new(ranges: &[StatusRange]) -> Statuses {
        let mut bits = [0; 16];
        for status in ranges.iter().flat_map(|range| range.from..=range.to.min(1023)) {
            if let Some(word) = bits.get_mut(usize::from(status / 64)) {
                *word |= 1_u64 << (status % 64);
            }
        }
        Statuses(bits)
    }

    /// Is it one of them?
    pub fn contain(&self, status: u16) -> bool {
        self.0.get(usize::from(status / 64)).is_some_and(|word| word >> (status % 64) & 1 == 1)
    }
}
