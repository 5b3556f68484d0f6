//! One cell per worker, made on first use, each on cache lines of its own.

use std::sync::OnceLock;

/// Keeps its content off its neighbours' cache lines (two, since processors fetch them in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Padded<T>(pub T);

/// One `T` per worker.
#[derive(Debug)]
pub(super) struct Shards<T>(Box<[OnceLock<Box<Padded<T>>>]>);

impl<T> Shards<T> {
    /// Room for so many workers, at least one.
    pub fn new(count: usize) -> Shards<T> {
        Shards((0..count.max(1)).map(|_| OnceLock::new()).collect())
    }

    /// The cell of a worker. Numbers beyond the last wrap round: two workers that share a cell count right, only slower.
    pub fn get(&self, shard: usize, make: impl FnOnce() -> T) -> Option<&T> {
        let cell = self.0.get(shard % self.0.len().max(1))?;
        Some(&cell.get_or_init(|| Box::new(Padded(make()))).0)
    }

    /// The cells in use, with the numbers of their workers.
    pub fn numbered(&self) -> impl Iterator<Item = (usize, &T)> {
        self.0.iter().enumerate().filter_map(|(shard, cell)| Some((shard, &cell.get()?.0)))
    }

    /// The cells in use.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.numbered().map(|(_, cell)| cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_made_once_and_wrap_round() {
        let shards: Shards<u32> = Shards::new(2);
        assert_eq!(shards.iter().count(), 0);
        assert_eq!(shards.get(1, || 7), Some(&7));
        assert_eq!(shards.get(3, || 8), Some(&7));
        assert_eq!(shards.iter().copied().collect::<Vec<_>>(), [7]);
        assert_eq!(Shards::<u32>::new(0).get(5, || 1), Some(&1));
        assert!(std::mem::size_of::<Padded<u8>>() >= 128);
    }
}
