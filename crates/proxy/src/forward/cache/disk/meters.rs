//! What a store on a disk counts, and what it says of its trouble: a line a minute, not one a request.

use std::{
    io::{Error, ErrorKind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use portcullis_core::meter::{Counter, Gauge, Meters};

/// For so long nothing more is said of the same trouble.
const SILENCE: Duration = Duration::from_secs(60);

/// What goes wrong with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No space left, or a quota is used up.
    Full,
    /// A file is not what was written.
    Damaged,
    /// A file or the folder is not there any longer.
    Gone,
    /// We may not.
    Denied,
    /// Another process uses the folder.
    Busy,
    /// Anything else.
    Io,
}

impl Trouble {
    const ALL: [Trouble; 6] =
        [Trouble::Full, Trouble::Damaged, Trouble::Gone, Trouble::Denied, Trouble::Busy, Trouble::Io];

    fn as_str(self) -> &'static str {
        match self {
            Trouble::Full => "full",
            Trouble::Damaged => "damaged",
            Trouble::Gone => "gone",
            Trouble::Denied => "denied",
            Trouble::Busy => "busy",
            Trouble::Io => "io",
        }
    }

    /// What the system said.
    pub fn of(error: &Error) -> Trouble {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Trouble::Full,
            ErrorKind::NotFound => Trouble::Gone,
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Trouble::Denied,
            ErrorKind::UnexpectedEof => Trouble::Damaged,
            _ => Trouble::Io,
        }
    }
}

/// What came of a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sought {
    /// It was there.
    Hit,
    /// It was not.
    Miss,
    /// It took too long.
    Slow,
    /// It failed, or too much was being read already, or the disk is not in use.
    Failure,
}

/// Counters of one store.
pub(super) struct DiskMeters {
    store: Arc<str>,
    sought: [(Sought, Arc<Counter>); 4],
    errors: Vec<(Trouble, Arc<Counter>, AtomicU64)>,
    began: Instant,
    /// Writes and reads that found the queue full.
    pub dropped_writes: Arc<Counter>,
    /// See above.
    pub dropped_reads: Arc<Counter>,
    /// Files written.
    pub writes: Arc<Counter>,
    /// Their bytes.
    pub written: Arc<Counter>,
    /// Objects thrown out to make room.
    pub evicted: Arc<Counter>,
    /// Objects there.
    pub objects: Arc<Gauge>,
    /// Bytes that they take.
    pub bytes: Arc<Gauge>,
    /// Bytes that they may take.
    pub capacity: Arc<Gauge>,
    /// In use?
    pub up: Arc<Gauge>,
}

impl DiskMeters {
    pub fn new(store: &Arc<str>, meters: &Meters) -> DiskMeters {
        let named = [("store", &**store)];
        let sought = |sought: Sought, result: &str| {
            let help = "Look-ups in the cache on disk, by result.";
            let labels = [("store", &**store), ("result", result)];
            (sought, meters.counter("gateway_cache_disk_requests_total", help, &labels))
        };
        let error = |trouble: Trouble| {
            let help = "What went wrong with the cache on disk; each of it was a miss.";
            let labels = [("store", &**store), ("error", trouble.as_str())];
            (trouble, meters.counter("gateway_cache_disk_errors_total", help, &labels), AtomicU64::new(0))
        };
        let dropped = |operation: &str| {
            let help = "What was not done since too much waited for the disk already.";
            let labels = [("store", &**store), ("operation", operation)];
            meters.counter("gateway_cache_disk_dropped_total", help, &labels)
        };
        let counter = |name: &'static str, help: &'static str| meters.counter(name, help, &named);
        let gauge = |name: &'static str, help: &'static str| meters.gauge(name, help, &named);
        DiskMeters {
            store: store.clone(),
            sought: [
                sought(Sought::Hit, "hit"),
                sought(Sought::Miss, "miss"),
                sought(Sought::Slow, "timeout"),
                sought(Sought::Failure, "failure"),
            ],
            errors: Trouble::ALL.into_iter().map(error).collect(),
            began: Instant::now(),
            dropped_writes: dropped("write"),
            dropped_reads: dropped("read"),
            writes: counter("gateway_cache_disk_writes_total", "Answers written to the cache on disk."),
            written: counter("gateway_cache_disk_written_bytes_total", "Bytes written to the cache on disk."),
            evicted: counter(
                "gateway_cache_disk_evictions_total",
                "Answers thrown out of the cache on disk to make room.",
            ),
            objects: gauge("gateway_cache_disk_entries", "Answers in the cache on disk."),
            bytes: gauge("gateway_cache_disk_bytes", "Bytes that they take, in whole blocks."),
            capacity: gauge("gateway_cache_disk_capacity_bytes", "Bytes that they may take."),
            up: gauge("gateway_cache_disk_up", "1 when the cache on disk is in use."),
        }
    }

    /// Something was looked for.
    pub fn sought(&self, result: Sought) {
        if let Some((_, counter)) = self.sought.iter().find(|(each, _)| *each == result) {
            counter.inc();
        }
    }

    /// Hits, and errors of all kinds.
    pub fn hits_and_errors(&self) -> (u64, u64) {
        let hits = self.sought.iter().find(|(each, _)| *each == Sought::Hit);
        let hits = hits.map_or(0, |(_, counter)| counter.get());
        (hits, self.errors.iter().map(|(_, counter, _)| counter.get()).sum())
    }

    /// Something went wrong: counted, and said, unless the same was said a moment ago.
    pub fn trouble(&self, trouble: Trouble, what: &str, detail: &str) {
        let Some((_, counter, said)) = self.errors.iter().find(|(each, ..)| *each == trouble) else { return };
        counter.inc();
        // Counted from one: zero is never.
        let now = self.began.elapsed().as_secs() + 1;
        let before = said.load(Relaxed);
        let is_time = before == 0 || now >= before + SILENCE.as_secs();
        if is_time && said.compare_exchange(before, now, Relaxed, Relaxed).is_ok() {
            let (store, error) = (&*self.store, trouble.as_str());
            tracing::warn!(store, error, detail, "cache on disk: {what}; answers come without it");
        }
    }
}
