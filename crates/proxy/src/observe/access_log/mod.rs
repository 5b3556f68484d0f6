//! The access log: one line for each request, written off the request's path.
//!
//! A worker formats its line into a buffer of its own and goes on. One thread collects the buffers, at least five times
//! a second, and writes them. When that thread cannot keep up with the traffic, lines are dropped and counted: a full
//! disk or a slow pipe never holds a request up.

use std::{
    fs, io,
    io::IsTerminal,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use portcullis_config::model::{self, AccessLogFormat};
use portcullis_core::Exchange;

pub use self::stamp::rfc3339;
use self::{
    stamp::Stamp,
    writer::{Sink, Target},
};
use super::shards::Padded;
use crate::by_worker::ByWorker;

mod common;
mod escape;
mod json;
mod short;
mod stamp;
mod writer;

/// A buffer that holds this much is collected without waiting for the next round.
const COLLECT_AT: usize = 64 * 1024;
/// A buffer that holds this much takes no more lines.
const FULL_AT: usize = 4 * 1024 * 1024;
/// The longest that [`AccessLog::flush`] waits.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Everything that a line tells of a request.
#[derive(Clone, Copy)]
pub struct Line<'a> {
    /// The request.
    pub x: &'a Exchange,
    /// The status sent; 499 when the client went away before.
    pub status: u16,
    /// Why the gateway itself answered: the slug of the error's kind, or the name of the middleware or built-in service.
    /// `None` when an endpoint's answer was passed on.
    pub reason: Option<&'static str>,
    /// More about the reason, for eyes that may see the log.
    pub detail: Option<&'a str>,
    /// The service chosen.
    pub service: Option<&'a str>,
    /// The endpoint that answered, or was tried last.
    pub endpoint: Option<&'a str>,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// Spent choosing the route and asking the middlewares.
    pub time_route: Duration,
    /// Spent connecting to the endpoint; zero over a connection opened before.
    pub time_connect: Duration,
    /// From the arrival of the request to the head of the answer; zero when there was none.
    pub time_first_byte: Duration,
    /// From the arrival of the request to the last byte of the answer.
    pub time_total: Duration,
    /// How often the request was sent to an endpoint.
    pub attempts: u32,
    /// Did it go over a connection opened before?
    pub reused: bool,
    /// What the cache did, where there is one.
    pub cache: Option<&'static str>,
}

/// The access log.
pub struct AccessLog {
    shared: Arc<Shared>,
}

/// What workers and writer share.
struct Shared {
    format: Format,
    buffers: ByWorker<Padded<Mutex<Buffer>>>,
    writer: writer::State,
}

/// One worker's lines that are not collected yet.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    lines: u64,
    stamp: Stamp,
    /// The writer was asked to come.
    called: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Format {
    Json,
    Common,
    Short { colours: bool },
}

impl AccessLog {
    /// Opens the file, or takes standard output, and starts the writer.
    ///
    /// # Errors
    /// The file cannot be opened, or the thread not started.
    pub fn open(settings: &model::AccessLog, shards: usize) -> io::Result<Arc<AccessLog>> {
        let target = match &settings.file {
            Some(path) => Target::file(path.clone())?,
            None => Target::Stdout,
        };
        let colours = settings.file.is_none()
            && io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let format = match settings.format {
            AccessLogFormat::Json => Format::Json,
            AccessLogFormat::Common => Format::Common,
            AccessLogFormat::Short => Format::Short { colours },
        };
        AccessLog::start(format, shards, target)
    }

    fn start(format: Format, shards: usize, sink: impl Sink) -> io::Result<Arc<AccessLog>> {
        let buffers = ByWorker::new(shards);
        let shared = Arc::new(Shared { format, buffers, writer: writer::State::default() });
        let of_writer = shared.clone();
        std::thread::Builder::new().name("access-log".into()).spawn(move || writer::run(&of_writer, sink))?;
        Ok(Arc::new(AccessLog { shared }))
    }

    /// Writes a line. Never waits for the disk.
    pub fn record(&self, shard: usize, line: &Line<'_>) {
        self.record_at(shard, line, SystemTime::now());
    }

    fn record_at(&self, shard: usize, line: &Line<'_>, now: SystemTime) {
        let shared = &*self.shared;
        let mut buffer = shared.buffers.get(shard).0.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.bytes.len() >= FULL_AT {
            shared.writer.dropped.fetch_add(1, Relaxed);
            return;
        }
        let Buffer { bytes, stamp, .. } = &mut *buffer;
        let started = now.checked_sub(line.time_total).unwrap_or(now);
        match shared.format {
            Format::Json => json::write(line, started, stamp, bytes),
            Format::Common => common::write(line, started, stamp, bytes),
            Format::Short { colours } => short::write(line, started, stamp, colours, bytes),
        }
        buffer.lines += 1;
        let call = buffer.bytes.len() >= COLLECT_AT && !buffer.called;
        buffer.called |= call;
        drop(buffer);
        if call {
            shared.writer.ask(|wishes| wishes.collect = true);
        }
    }

    /// Opens the file anew under its name, for whoever moved the old one away. Lines recorded before may still go to
    /// the old one. When it cannot be opened, the old one stays in use.
    pub fn reopen(&self) {
        self.shared.writer.ask(|wishes| wishes.reopen = true);
    }

    /// Waits until everything recorded so far is written, but not longer than two seconds. Blocks: for the end of the
    /// process, not for a worker.
    pub fn flush(&self) {
        self.shared.writer.wait_for_round(FLUSH_TIMEOUT);
    }

    /// Lines written.
    pub fn written(&self) -> u64 {
        self.shared.writer.written.load(Relaxed)
    }

    /// Lines dropped, because the writer could not keep up or could not write.
    pub fn dropped(&self) -> u64 {
        self.shared.writer.dropped.load(Relaxed)
    }
}

impl Drop for AccessLog {
    /// The writer writes what is there and ends. Nobody waits for it here, since the last holder may be a worker: at the
    /// end of the process call [`AccessLog::flush`] before.
    fn drop(&mut self) {
        self.shared.writer.ask(|wishes| wishes.stop = true);
    }
}

impl std::fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessLog").field("format", &self.shared.format).finish_non_exhaustive()
    }
}

/// Opens a log file for appending: two writers, as during a reload, do not overwrite each other then. Not readable for
/// everybody, since it names people's addresses.
fn open_for_append(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
    options.open(path)
}

impl Target {
    fn file(path: PathBuf) -> io::Result<Target> {
        Ok(Target::File { file: open_for_append(&path)?, path })
    }
}

#[cfg(test)]
mod tests;
