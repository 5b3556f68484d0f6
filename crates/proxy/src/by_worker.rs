//! One value per worker, for things that outlive a change of the number of workers.

use std::sync::OnceLock;

/// One `T` per worker, all of them made when it is. Workers that come later get theirs when they first ask: values are
/// added behind those that are there, which stay where they are, so that nobody who reads one waits.
#[derive(Debug)]
pub struct ByWorker<T> {
    values: Box<[T]>,
    more: OnceLock<Box<ByWorker<T>>>,
}

impl<T: Default> ByWorker<T> {
    /// Values for so many workers, at least one.
    pub fn new(workers: usize) -> ByWorker<T> {
        ByWorker { values: (0..workers.max(1)).map(|_| T::default()).collect(), more: OnceLock::new() }
    }

    /// The value of a worker.
    pub fn get(&self, worker: usize) -> &T {
        match self.values.get(worker) {
            Some(value) => value,
            None => self.added(worker - self.values.len()),
        }
    }

    #[cold]
    fn added(&self, worker: usize) -> &T {
        self.more.get_or_init(|| Box::new(ByWorker::new(2 * self.values.len()))).get(worker)
    }
}

impl<T> ByWorker<T> {
    /// All values made so far, in the order of the workers' numbers.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        std::iter::successors(Some(self), |values| values.more.get().map(Box::as_ref))
            .flat_map(|values| &values.values)
    }
}

impl<T: Default> Default for ByWorker<T> {
    fn default() -> ByWorker<T> {
        ByWorker::new(1)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[test]
    fn workers_that_come_later_get_values_of_their_own() {
        let values: ByWorker<AtomicUsize> = ByWorker::new(2);
        let first: *const AtomicUsize = values.get(0);
        assert_eq!(values.iter().count(), 2);
        for worker in (0..40).rev() {
            values.get(worker).fetch_add(worker + 1, Relaxed);
        }
        assert!(std::ptr::eq(first, values.get(0)), "what is there stays where it is");
        let seen: Vec<_> = values.iter().map(|value| value.load(Relaxed)).filter(|&n| n > 0).collect();
        assert_eq!(seen, (1..=40).collect::<Vec<_>>());
        assert_eq!(ByWorker::<AtomicUsize>::new(0).get(7).load(Relaxed), 0);
    }
}
