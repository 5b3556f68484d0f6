//! The thread that writes.

use std::{
    fs, io,
    io::Write,
    path::PathBuf,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::{Shared, open_for_append};

/// Between two rounds, when nobody asks for one earlier.
const ROUND: Duration = Duration::from_millis(200);
/// A collected buffer larger than this gives its memory back.
const KEPT: usize = 1024 * 1024;

/// What the writer is asked for, and how far it is.
#[derive(Default)]
pub(super) struct State {
    wishes: Mutex<Wishes>,
    asked: Condvar,
    done: Condvar,
    pub written: AtomicU64,
    pub dropped: AtomicU64,
}

/// What the writer is asked for.
#[derive(Default)]
pub(super) struct Wishes {
    pub collect: bool,
    pub reopen: bool,
    pub stop: bool,
    /// Rounds begun and rounds ended.
    begun: u64,
    ended: u64,
    stopped: bool,
}

impl State {
    fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a wish and wakes the writer.
    pub fn ask(&self, wish: impl FnOnce(&mut Wishes)) {
        wish(&mut self.wishes());
        self.asked.notify_one();
    }

    /// Waits for the end of a round that begins after this call.
    pub fn wait_for_round(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let mut wishes = self.wishes();
        let wanted = wishes.begun + 1;
        wishes.collect = true;
        self.asked.notify_one();
        while wishes.ended < wanted && !wishes.stopped {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            wishes = self.done.wait_timeout(wishes, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until there is something to do; tells whether to reopen and whether to stop after this round.
    fn next(&self) -> (bool, bool) {
        let deadline = Instant::now() + ROUND;
        let mut wishes = self.wishes();
        while !(wishes.collect || wishes.reopen || wishes.stop) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            wishes = self.asked.wait_timeout(wishes, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        wishes.begun += 1;
        wishes.collect = false;
        (std::mem::take(&mut wishes.reopen), wishes.stop)
    }

    fn round_ended(&self, stopped: bool) {
        let mut wishes = self.wishes();
        wishes.ended += 1;
        wishes.stopped = stopped;
        self.done.notify_all();
    }
}

/// Where lines go.
pub(super) trait Sink: Send + 'static {
    fn write(&mut self, lines: &[u8]) -> io::Result<()>;

    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file or standard output.
pub(super) enum Target {
    Stdout,
    File { path: PathBuf, file: fs::File },
}

impl Sink for Target {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Target::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(lines)?;
                out.flush()
            }
            Target::File { file, .. } => file.write_all(lines),
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let Target::File { path, file } = self {
            *file = open_for_append(path)?;
        }
        Ok(())
    }
}

/// Collects and writes until asked to stop.
pub(super) fn run(shared: &Shared, mut sink: impl Sink) {
    let mut spare = Vec::new();
    let mut failing = false;
    loop {
        let (reopen, stop) = shared.writer.next();
        if reopen && let Err(error) = sink.reopen() {
            tracing::error!(%error, "access log cannot be reopened; the old file stays in use");
        }
        for cell in shared.buffers.iter() {
            let lines = {
                let mut buffer = cell.0.lock().unwrap_or_else(PoisonError::into_inner);
                buffer.called = false;
                std::mem::swap(&mut buffer.bytes, &mut spare);
                std::mem::take(&mut buffer.lines)
            };
            if lines == 0 {
                continue;
            }
            match sink.write(&spare) {
                Ok(()) => {
                    shared.writer.written.fetch_add(lines, Relaxed);
                    failing = false;
                }
                Err(error) => {
                    shared.writer.dropped.fetch_add(lines, Relaxed);
                    if !failing {
                        tracing::error!(%error, "access log cannot be written; lines are lost");
                    }
                    failing = true;
                }
            }
            spare.clear();
            spare.shrink_to(KEPT);
        }
        shared.writer.round_ended(stop);
        if stop {
            return;
        }
    }
}
