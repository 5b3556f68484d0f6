//! Threads that may wait for the disk, so that no worker has to: a few, with a bounded queue before them.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How many threads.
const THREADS: usize = 4;
/// Of them, so many may write at once: the others are there for reading.
const WRITERS: usize = 2;
/// Reads that wait.
const READS: usize = 1024;
/// Writes that wait, and their bytes.
const WRITES: usize = 1024;
const WRITE_BYTES: u64 = 64 << 20;

/// What is to be done.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// How it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Before all others, and never refused: removing.
    Urgent,
    /// Somebody waits for it.
    Read,
    /// Nobody does. So many bytes.
    Write(u64),
}

/// The threads.
#[derive(Clone)]
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Something to do.
    ready: Condvar,
    /// Nothing left to do.
    idle: Condvar,
}

#[derive(Default)]
struct State {
    urgent: VecDeque<Job>,
    reads: VecDeque<Job>,
    writes: VecDeque<(u64, Job)>,
    write_bytes: u64,
    writing: usize,
    busy: usize,
    open: bool,
    ended: bool,
}

/// What a thread does next.
enum Next {
    Job(Job),
    Write(u64, Job),
}

impl State {
    fn next(&mut self) -> Option<Next> {
        if let Some(job) = self.urgent.pop_front().or_else(|| self.reads.pop_front()) {
            self.busy += 1;
            return Some(Next::Job(job));
        }
        if self.writing >= WRITERS {
            return None;
        }
        let (bytes, job) = self.writes.pop_front()?;
        self.busy += 1;
        self.writing += 1;
        Some(Next::Write(bytes, job))
    }

    fn is_idle(&self) -> bool {
        self.busy == 0 && self.urgent.is_empty() && self.reads.is_empty() && self.writes.is_empty()
    }
}

impl Pool {
    /// Closed: nothing is taken yet.
    pub fn new() -> Pool {
        Pool(Arc::new(Shared { state: Mutex::default(), ready: Condvar::new(), idle: Condvar::new() }))
    }

    /// Starts the threads.
    pub fn start(&self) {
        for number in 0..THREADS {
            let shared = self.0.clone();
            let thread = std::thread::Builder::new().name(format!("cache-disk-{number}"));
            if let Err(error) = thread.spawn(move || shared.work()) {
                tracing::error!(%error, "no thread for the cache on disk");
            }
        }
    }

    /// Takes work from now on.
    pub fn open(&self) {
        self.0.lock().open = true;
    }

    /// Does it, when its turn comes. False when there is too much to do already.
    pub fn submit(&self, lane: Lane, job: Job) -> bool {
        let mut state = self.0.lock();
        if !state.open {
            return false;
        }
        match lane {
            Lane::Urgent => state.urgent.push_back(job),
            Lane::Read if state.reads.len() >= READS => return false,
            Lane::Read => state.reads.push_back(job),
            Lane::Write(bytes) => {
                if state.writes.len() >= WRITES || state.write_bytes.saturating_add(bytes) > WRITE_BYTES {
                    return false;
                }
                state.write_bytes += bytes;
                state.writes.push_back((bytes, job));
            }
        }
        drop(state);
        self.0.ready.notify_one();
        true
    }

    /// Waits until nothing is left to do, and takes nothing more then.
    pub fn close(&self) {
        let mut state = self.0.lock();
        while !state.is_idle() {
            state = self.0.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.open = false;
    }

    /// Waits until nothing is left to do, for so long at most.
    pub fn settle(&self, within: Duration) {
        let until = Instant::now() + within;
        let mut state = self.0.lock();
        while !state.is_idle() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.0.idle.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The threads end when nothing is left to do.
    pub fn end(&self) {
        let mut state = self.0.lock();
        state.open = false;
        state.ended = true;
        drop(state);
        self.0.ready.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            let Some(next) = state.next() else {
                if state.ended && state.is_idle() {
                    return;
                }
                state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            let (written, job) = match next {
                Next::Job(job) => (None, job),
                Next::Write(bytes, job) => (Some(bytes), job),
            };
            // One answer that cannot be handled must not take the thread with it.
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            if outcome.is_err() {
                tracing::error!("work on the cache's disk ended unexpectedly");
            }
            state = self.lock();
            state.busy -= 1;
            if let Some(bytes) = written {
                state.writing -= 1;
                state.write_bytes = state.write_bytes.saturating_sub(bytes);
                // Another writer may have been kept from its work by this one.
                self.ready.notify_one();
            }
            if state.is_idle() {
                self.idle.notify_all();
                if state.ended {
                    self.ready.notify_all();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    };

    use super::*;

    fn started() -> Pool {
        let pool = Pool::new();
        assert!(!pool.submit(Lane::Urgent, Box::new(|| ())), "not open yet");
        pool.start();
        pool.open();
        pool
    }

    /// Writers that hang leave threads for readers; what is too much is refused, and removing never is.
    #[test]
    fn bounded_and_never_all_writing() {
        let pool = started();
        let (let_go, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let refused = (0..2000).filter(|_| {
            let gate = gate.clone();
            let wait = move || drop(gate.lock().map(|gate| gate.recv()));
            !pool.submit(Lane::Write(10), Box::new(wait))
        });
        let refused = refused.count();
        assert!((900..=2000 - WRITES).contains(&refused), "{refused}");
        let (said, heard) = mpsc::channel();
        assert!(pool.submit(Lane::Read, Box::new(move || said.send(()).unwrap())));
        heard.recv_timeout(Duration::from_secs(5)).unwrap();
        assert!(!pool.submit(Lane::Write(WRITE_BYTES), Box::new(|| ())));
        assert!(pool.submit(Lane::Urgent, Box::new(|| ())));
        drop(let_go);
        pool.settle(Duration::from_secs(5));
        pool.end();
    }

    #[test]
    fn closing_waits_and_a_panic_is_no_end() {
        let pool = started();
        let done = Arc::new(AtomicUsize::new(0));
        for number in 0..100 {
            let done = done.clone();
            let job = move || {
                std::thread::sleep(Duration::from_micros(100));
                done.fetch_add(1, SeqCst);
                assert!(number % 10 != 0, "on purpose");
            };
            assert!(pool.submit(Lane::Write(1), Box::new(job)));
        }
        pool.close();
        assert_eq!(done.load(SeqCst), 100);
        assert!(!pool.submit(Lane::Read, Box::new(|| ())));
        pool.end();
    }
}
