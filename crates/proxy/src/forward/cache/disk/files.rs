//! What a store on a disk is, and the work that its threads do.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool, AtomicU32, AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use portcullis_cache::{
    Object,
    date::{self, Seconds},
};
use portcullis_config::model::DiskStore;
use portcullis_core::meter::Meters;

use super::{
    super::{far::lifetime, shelf::Entry, stock::Stock},
    index::{Index, Record},
    keeper::Life,
    layout::{self, Tail},
    meters::{DiskMeters, Trouble},
    names::{Id, UNFINISHED, key_digest, object_digest, uri_hash},
    pool::{Lane, Pool},
};

/// After so many look-ups in a row that took too long, the disk is left alone for a while.
const SLOW: u32 = 3;
const AVOIDED: Duration = Duration::from_secs(1);

/// The store.
pub(super) struct Core {
    pub root: PathBuf,
    pub limits: Limits,
    pub pool: Pool,
    pub meters: DiskMeters,
    pub life: Life,
    pub slow: Slow,
    index: Mutex<Index>,
    up: AtomicBool,
    stamps: AtomicU64,
}

/// Settings that may change while it runs.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// Bytes.
    pub size: AtomicU64,
    /// Milliseconds.
    pub timeout: AtomicU64,
    /// Bytes of the largest body: a larger file is none of ours, or no longer.
    pub largest: AtomicU64,
}

/// Something to keep.
pub(super) struct Item {
    pub stock: Arc<Stock>,
    pub entry: Arc<Entry>,
    pub names: Box<[Box<str>]>,
}

/// Knows whether the disk answers in time.
pub(super) struct Slow {
    began: Instant,
    in_a_row: AtomicU32,
    until: AtomicU64,
}

impl Slow {
    fn new() -> Slow {
        Slow { began: Instant::now(), in_a_row: AtomicU32::new(0), until: AtomicU64::new(0) }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Something took too long.
    pub fn again(&self) {
        if self.in_a_row.fetch_add(1, Relaxed) + 1 >= SLOW {
            self.until.store(self.now().saturating_add(AVOIDED.as_millis() as u64), Relaxed);
        }
    }

    /// Something was done, be it late.
    pub fn over(&self) {
        self.in_a_row.store(0, Relaxed);
    }

    /// Is it not worth asking?
    pub fn is_avoided(&self) -> bool {
        self.in_a_row.load(Relaxed) >= SLOW && self.now() < self.until.load(Relaxed)
    }
}

impl Core {
    pub fn new(name: &Arc<str>, folder: &Path, meters: &Meters) -> Core {
        Core {
            root: folder.to_owned(),
            limits: Limits::default(),
            pool: Pool::new(),
            meters: DiskMeters::new(name, meters),
            life: Life::default(),
            slow: Slow::new(),
            index: Mutex::new(Index::new()),
            up: AtomicBool::new(false),
            stamps: AtomicU64::new(0),
        }
    }

    /// Other settings.
    pub fn set(&self, settings: &DiskStore, largest: u64) {
        self.limits.size.store(settings.size, Relaxed);
        self.limits.largest.store(largest, Relaxed);
        let timeout = u64::try_from(settings.timeout.as_millis()).unwrap_or(u64::MAX);
        self.limits.timeout.store(timeout, Relaxed);
        self.meters.capacity.set(settings.size as f64);
    }

    /// Is the folder ours, and in use?
    pub fn is_up(&self) -> bool {
        self.up.load(Acquire)
    }

    /// It is now, or is not any longer.
    pub fn set_up(&self, up: bool) {
        self.up.store(up, Release);
        self.meters.up.set(f64::from(u8::from(up)));
    }

    pub fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the metrics what is there. Under the lock, so that of two at a time the later has the last word.
    pub fn show(&self) {
        let index = self.index();
        let (objects, bytes) = index.filled();
        self.meters.objects.set(objects as f64);
        self.meters.bytes.set(bytes as f64);
    }

    /// A number that is greater than all before, also those of processes before this one.
    pub fn stamp(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let next = |last: u64| Some(now.max(last.saturating_add(1)));
        let before = self.stamps.fetch_update(AcqRel, Acquire, next).unwrap_or_default();
        now.max(before.saturating_add(1))
    }

    /// All that follow are greater than this one too.
    pub fn later_than(&self, stamp: u64) {
        self.stamps.fetch_max(stamp, AcqRel);
    }

    /// These were thrown out.
    pub fn evicted(&self, gone: &[Id]) {
        self.meters.evicted.add(gone.len() as u64);
        self.show();
    }

    /// Removes files, on a thread for that.
    pub fn remove_later(self: &Arc<Self>, gone: Vec<Id>) {
        if !gone.is_empty() {
            let core = self.clone();
            self.pool.submit(Lane::Urgent, Box::new(move || core.remove(&gone)));
        }
    }

    /// Removes files.
    pub fn remove(&self, gone: &[Id]) {
        for id in gone {
            match fs::remove_file(id.path(&self.root)) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    self.trouble(&error, "a file cannot be removed, and comes back with a restart");
                }
                _ => {}
            }
        }
    }

    /// Counts and tells trouble.
    pub fn trouble(&self, error: &io::Error, what: &str) {
        self.meters.trouble(Trouble::of(error), what, &error.to_string());
    }

    /// Reads an answer. What cannot be read is forgotten.
    pub fn read(&self, id: Id) -> Option<Object> {
        let error = match self.load(id) {
            Ok(Some(object)) => return Some(object),
            Ok(None) => io::Error::new(ErrorKind::UnexpectedEof, id.path(&self.root).display().to_string()),
            // Replaced or purged since it was looked up.
            Err(error) if error.kind() == ErrorKind::NotFound && !self.index().remove(id) => return None,
            Err(error) => error,
        };
        self.trouble(&error, "a file cannot be used");
        // What lacks descriptors or permission may be good another time.
        if !matches!(error.raw_os_error().map(rustix::io::Errno::from_raw_os_error), Some(errno) if is_ours(errno))
        {
            self.index().remove(id);
            let _ = fs::remove_file(id.path(&self.root));
        }
        self.show();
        None
    }

    fn load(&self, id: Id) -> io::Result<Option<Object>> {
        let (file, length) = open(&id.path(&self.root))?;
        let Some((tail, end)) = self.tail(&file, length, layout::WHOLE)? else { return Ok(None) };
        // Whatever became of the file since it was taken in: only what it was taken in as is used.
        if record_of(&tail, id.stamp, length, 0).id.object != id.object {
            return Ok(None);
        }
        let body = layout::body(&file, &tail, &end, length)?;
        Ok(body.map(|body| tail.object.with_body(body)))
    }

    /// Reads the end of a file, as [`Tail::read`] does; `None` also when its body is larger than any that is written.
    pub fn tail(&self, file: &File, length: u64, first: u64) -> io::Result<Option<(Tail, Bytes)>> {
        let largest = self.limits.largest.load(Relaxed);
        if length > layout::longest(largest) {
            return Ok(None);
        }
        Ok(Tail::read(file, length, first)?.filter(|(tail, _)| tail.body <= largest))
    }

    /// Writes an answer, unless it was made invalid meanwhile.
    pub fn keep(&self, item: &Item) {
        let entry = &item.entry;
        let object = object_digest(key_digest(entry.object.key()), &item.names, entry.object.variant());
        let Some(left) = lifetime(&entry.object, date::now()) else { return self.supersede(object) };
        let body = entry.object.body_bytes();
        let tail = Tail {
            object: entry.object.without_body(),
            body: body.len() as u64,
            sums: layout::sums(body),
            by_path: entry.mark.by_path,
            names: item.names.to_vec(),
            tags: entry.tags().to_vec(),
        };
        let stamp = self.stamp();
        let until = date::now().saturating_add(left.as_secs());
        let end = tail.encode();
        let record = record_of(&tail, stamp, body.len() as u64 + end.len() as u64, until);
        let size = self.limits.size.load(Relaxed);
        let Some(gone) = self.index().reserve(record.length, size) else {
            self.meters.dropped_writes.inc();
            return self.supersede(object);
        };
        self.evicted(&gone);
        self.remove(&gone);
        let length = record.length;
        let written = self.write(record.id, &[body, &end], || item.is_valid());
        let mut index = self.index();
        index.release(length);
        let gone = match written {
            // Under the lock that whoever makes it invalid takes too: it is either seen here, or seen there.
            Ok(true) if item.is_valid() => index.insert(record),
            Ok(_) => {
                index.remove(record.id);
                vec![record.id]
            }
            Err(error) => {
                drop(index);
                self.supersede(object);
                return self.unwritten(&error, length, size);
            }
        };
        drop(index);
        self.meters.writes.inc();
        self.meters.written.add(length);
        self.show();
        self.remove(&gone);
    }

    /// What could not be written must not leave behind what it would have replaced.
    fn supersede(&self, object: u128) {
        let gone = self.index().remove_object(object);
        self.show();
        self.remove(gone.as_slice());
    }

    /// Writes a file aside and gives it its name; false when it is not wanted any longer.
    fn write(&self, id: Id, parts: &[&[u8]], is_wanted: impl Fn() -> bool) -> io::Result<bool> {
        let aside = self.root.join(UNFINISHED).join(id.file_name());
        let written = (|| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
            parts.iter().try_for_each(|part| file.write_all(part))?;
            if !is_wanted() {
                return Ok(false);
            }
            let path = id.path(&self.root);
            match fs::rename(&aside, &path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    // Its folder's folder has been there since the start.
                    path.parent().map_or(Ok(()), folder)?;
                    fs::rename(&aside, &path)
                }
                result => result,
            }?;
            Ok(true)
        })();
        if !matches!(written, Ok(true)) {
            let _ = fs::remove_file(&aside);
        }
        written
    }

    /// A file could not be written. Where the disk is full, there shall be room for the next.
    fn unwritten(&self, error: &io::Error, length: u64, size: u64) {
        self.trouble(error, "a file cannot be written");
        if Trouble::of(error) == Trouble::Full {
            let gone = {
                let mut index = self.index();
                let (_, bytes) = index.filled();
                index.shrink(bytes.min(size).saturating_sub(length.saturating_mul(4)))
            };
            self.evicted(&gone);
            self.remove(&gone);
        }
    }

    /// Throws out what is of no use to anybody any longer.
    pub fn sweep(&self) {
        let now = date::now();
        let mut next = Some(0);
        while let Some(after) = next {
            let (gone, then) = self.index().remove_where(after, 4096, |record| record.until <= now);
            self.remove(&gone);
            next = then;
        }
        self.show();
    }
}

impl Item {
    fn is_valid(&self) -> bool {
        self.stock.may_keep(&self.entry)
    }
}

/// Is it this process that lacks something, rather than the file?
fn is_ours(errno: rustix::io::Errno) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::ACCESS, Errno::PERM].contains(&errno)
}

/// Makes a folder, for ourselves alone, unless it is there.
pub(super) fn folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Opens a file, and tells how long it is.
pub(super) fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

pub(super) fn record_of(tail: &Tail, stamp: u64, length: u64, until: Seconds) -> Record {
    let object = &tail.object;
    let key = key_digest(object.key());
    let digest = object_digest(key, &tail.names, object.variant());
    Record {
        id: Id { uri: uri_hash(object.uri(), tail.by_path), object: digest, stamp },
        key,
        length,
        until,
        uri: object.uri().into(),
        by_path: tail.by_path,
        names: tail.names.clone().into(),
        tags: tail.tags.clone().into(),
    }
}
