//! One cell per worker, made on first use, each on cache lines of its own.

use std::sync::OnceLock;

use crate::by_worker::ByWorker;

/// Keeps its content off its neighbours' cache lines (two, since processors fetch them in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Padded<T>(pub T);

/// One `T` per worker.
#[derive(Debug)]
pub(super) struct Shards<T>(ByWorker<OnceLock<Box<Padded<T>>>>);

impl<T> Shards<T> {
    /// Room for so many workers, at least one; more find room when they come.
    pub fn new(count: usize) -> Shards<T> {
        Shards(ByWorker::new(count))
    }

    /// The cell of a worker.
    pub fn get(&self, shard: usize, make: impl FnOnce() -> T) -> &T {
        &self.0.get(shard).get_or_init(|| Box::new(Padded(make()))).0
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
    fn cells_are_made_once() {
        let shards: Shards<u32> = Shards::new(2);
        assert_eq!(shards.iter().count(), 0);
        assert_eq!(shards.get(1, || 7), &7);
        assert_eq!(shards.get(1, || 8), &7);
        assert_eq!(shards.get(5, || 9), &9, "a worker that came later");
        assert_eq!(shards.numbered().map(|(shard, &n)| (shard, n)).collect::<Vec<_>>(), [(1, 7), (5, 9)]);
        assert!(std::mem::size_of::<Padded<u8>>() >= 128);
    }
}
