//! A cache's folder that was damaged, or that somebody else wrote into: it is read back without a panic and without more
//! memory than an object may take, and whatever is found is what was asked for, as it was kept.
//!
//! The first byte chooses one of the files that a store has written; whether it is spoilt before the store starts or after
//! it has been read once; and whether its checksums are made right again (so that somebody wrote it, rather than chance).
//! The second says how it is spoilt: by the input in its place, another file in its place, cut off, its body a hole of any
//! length, or bytes changed.
#![no_main]

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::StatusCode;
use libfuzzer_sys::fuzz_target;
use portcullis_cache::{Object, Times, date, object::checksum, present::present, vary::write_variant};
use portcullis_config::model::DiskStore;
use portcullis_core::{Fields, meter::Meters};
use portcullis_proxy::forward::cache::{Disk, Stock, shelf::Entry};
use tokio::runtime::Runtime;

const LARGEST: u64 = 1 << 20;
/// So much of a body has a checksum of its own.
const CHUNK: usize = 64 * 1024;
/// Magic, length of the body, of the head and of what is beside it, checksum.
const FOOTER: usize = 32;
/// What stands before the lines of a head; its checksum is the end of it.
const HEADER: usize = 68;

/// One that was kept.
struct Kept {
    key: String,
    request: Fields,
    variant: Vec<u8>,
    body: Vec<u8>,
    /// Where it is below the folder, and what stands there.
    file: PathBuf,
    bytes: Vec<u8>,
}

/// What becomes of a file: so much of nothing, and then these bytes.
struct Spoilt {
    hole: u64,
    bytes: Vec<u8>,
}

fuzz_target!(|data: &[u8]| {
    static KEPT: OnceLock<Vec<Kept>> = OnceLock::new();
    let kept = KEPT.get_or_init(kept);
    let Some((&[choice, how], data)) = data.split_first_chunk() else { return };
    let which = usize::from(choice & 7) % kept.len();
    let (is_known, is_mended) = (choice & 8 != 0, choice & 16 != 0);
    // A fuzzer finds the checksum of a few bytes of its choice, too.
    let is_by_chance = !is_mended && (matches!(how % 5, 1..=3) || data.len() < 9);
    let mut spoilt = spoilt(kept, which, how, data);
    if is_mended {
        let _ = mend(&mut spoilt.bytes);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let folder = folder();
    let path = folder.join(&kept[which].file);
    fs::create_dir_all(path.parent().expect("in a folder")).expect("a folder");
    let disk = if is_known {
        fs::write(&path, &kept[which].bytes).expect("written");
        let disk = started(&folder);
        assert!(found(&runtime, &disk, &kept[which]).is_some(), "what was kept is found");
        spoilt.write(&path);
        disk
    } else {
        spoilt.write(&path);
        started(&folder)
    };
    for each in kept {
        if let Some(object) = found(&runtime, &disk, each) {
            check(each, &object, is_by_chance);
        }
    }
    drop(disk);
    let _ = fs::remove_dir_all(folder);
});

/// What is found is what was asked for: to the last bit, where its checksums were not made by somebody else.
fn check(kept: &Kept, object: &Object, is_by_chance: bool) {
    assert_eq!((object.key(), object.variant()), (kept.key.as_bytes(), &kept.variant[..]));
    assert!(object.body_bytes().len() as u64 <= LARGEST);
    assert!(!is_by_chance || object.body_bytes() == kept.body);
    for range in [None, Some(("range", "bytes=1-2"))] {
        let answer = present(object, &range.into_iter().collect(), false, date::now());
        let said = answer.fields.get_all("content-length").next();
        let said = said.and_then(|value| std::str::from_utf8(value).ok()?.parse::<u64>().ok());
        assert!(said.is_none() || said == answer.body.remaining());
        assert!(
            answer.fields.iter().all(|(_, value)| !value.iter().any(|byte| matches!(byte, b'\r' | b'\n')))
        );
    }
}

fn found(runtime: &Runtime, disk: &Disk, kept: &Kept) -> Option<Object> {
    runtime.block_on(disk.find(kept.key.as_bytes(), &kept.request, false))
}

/// A folder of its own for each run.
fn folder() -> PathBuf {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let base = if Path::new("/dev/shm").is_dir() { "/dev/shm".into() } else { std::env::temp_dir() };
    let number = NUMBER.fetch_add(1, Relaxed);
    let folder = base.join(format!("portcullis-fuzz-{}-{number}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// A store that has its folder.
fn started(folder: &Path) -> Disk {
    let disk = Disk::new(&"near".into(), folder, &Meters::default());
    let settings = DiskStore { folder: folder.into(), size: 64 << 20, timeout: Duration::from_secs(60) };
    disk.start(&settings, LARGEST);
    let began = Instant::now();
    while !disk.filled().up {
        assert!(began.elapsed() < Duration::from_secs(5), "it does not start");
        std::thread::sleep(Duration::from_micros(100));
    }
    disk
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            out.extend(files(&entry.path()));
        } else if entry.file_name() != "portcullis.lock" {
            out.push(entry.path());
        }
    }
    out
}

/// Keeps a few, and looks what was written.
fn kept() -> Vec<Kept> {
    let (stock, folder) = (Arc::new(Stock::new(8 << 20, LARGEST)), folder());
    let disk = started(&folder);
    let mut all: Vec<Kept> = Vec::new();
    let wanted = [
        ("/a", None, 0),
        ("/b", None, 700),
        ("/large", None, 200_000),
        ("/v", Some("1"), 3),
        ("/v", Some("2"), 3),
    ];
    for (number, (path, value, length)) in wanted.into_iter().enumerate() {
        let key = format!("http://a{path}\nroute");
        let body: Vec<u8> = (0..length).map(|at| ((at * 7 + number) % 251) as u8).collect();
        let names: Vec<Box<str>> = value.map(|_| "x-a".into()).into_iter().collect();
        let request: Fields = value.map(|value| ("x-a", value)).into_iter().collect();
        let mut variant = Vec::new();
        if value.is_some() {
            write_variant(&names, &request, &mut variant);
        }
        let fields =
            [("ETag", "\"1\""), ("Cache-Tag", "all")].into_iter().chain(value.map(|_| ("Vary", "X-A")));
        let times = Times { received: date::now(), lifetime: 1 << 30, ..Times::default() };
        let pieces = [Bytes::copy_from_slice(&body)];
        let object = Object::new(key.as_bytes(), &variant, StatusCode::OK, &fields.collect(), &pieces, times)
            .expect("small");
        let mark = stock.epochs.mark(object.uri(), false);
        let entry = Entry { object, mark, tags: None, refreshing: AtomicBool::new(false) };
        disk.put(&stock, &Arc::new(entry), &names);
        disk.settle(Duration::from_secs(60));
        let is_new = |file: &PathBuf| all.iter().all(|kept| folder.join(&kept.file) != *file);
        let path = files(&folder).into_iter().find(is_new).expect("it is kept");
        let bytes = fs::read(&path).expect("its file");
        let file = path.strip_prefix(&folder).expect("below the folder").to_owned();
        all.push(Kept { key, request, variant, body, file, bytes });
    }
    drop(disk);
    let _ = fs::remove_dir_all(folder);
    all
}

impl Spoilt {
    fn write(&self, path: &Path) {
        let file = File::create(path).expect("made");
        file.set_len(self.hole).expect("a hole");
        file.write_all_at(&self.bytes, self.hole).expect("written");
    }
}

fn spoilt(kept: &[Kept], which: usize, how: u8, data: &[u8]) -> Spoilt {
    let Kept { bytes, body, .. } = &kept[which];
    let number = || data.iter().take(5).fold(0, |sum, byte| sum * 256 + u64::from(*byte));
    let (mut hole, mut bytes) = (0, bytes.clone());
    match how % 5 {
        0 => bytes = data.to_vec(),
        1 => bytes = kept[usize::from(how / 5) % kept.len()].bytes.clone(),
        2 => bytes.truncate((number() % (bytes.len() as u64 + 1)) as usize),
        3 => {
            // A body of zeros, all of whose checksums are right.
            hole = number() % (4 << 30);
            let tail = bytes.split_off(body.len() + body.len().div_ceil(CHUNK) * 8);
            let (whole, rest) = ((hole / CHUNK as u64) as usize, (hole % CHUNK as u64) as usize);
            let (of_whole, of_rest) = (checksum(&[&[0; CHUNK]]), checksum(&[&vec![0; rest]]));
            bytes = of_whole.to_le_bytes().repeat(whole);
            if rest > 0 {
                bytes.extend_from_slice(&of_rest.to_le_bytes());
            }
            bytes.extend_from_slice(&tail);
            let at = bytes.len() - FOOTER + 8;
            bytes[at..at + 8].copy_from_slice(&hole.to_le_bytes());
        }
        _ => {
            // From its end: all but the body stands there.
            for patch in data.chunks_exact(3) {
                let back = usize::from(u16::from_le_bytes([patch[0], patch[1]])) + 1;
                if let Some(at) = bytes.len().checked_sub(back) {
                    bytes[at] = patch[2];
                }
            }
        }
    }
    Spoilt { hole, bytes }
}

/// Makes the checksum of the head right, and that of all behind the body.
fn mend(bytes: &mut [u8]) -> Option<()> {
    let footer = bytes.len().checked_sub(FOOTER)?;
    let u32_at = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize);
    let (head, beside) = (u32_at(footer + 16)?, u32_at(footer + 20)?);
    let body = u64::from_le_bytes(*bytes.get(footer + 8..)?.first_chunk()?);
    let at = footer.checked_sub(beside)?.checked_sub(head)?;
    let (start, rest) = bytes.get_mut(at..at + head)?.split_at_mut_checked(HEADER)?;
    let length = u32::from_le_bytes(*start[48..].first_chunk()?) as usize;
    let (lines, behind) = rest.split_at(length.min(rest.len()));
    let sum = checksum(&[&start[..HEADER - 8], lines, behind]);
    start[HEADER - 8..].copy_from_slice(&sum.to_le_bytes());
    let sums = usize::try_from(body.div_ceil(CHUNK as u64)).ok()?.checked_mul(8)?;
    let end = bytes.len() - 8;
    let sum = checksum(&[bytes.get(at.checked_sub(sums)?..end)?]);
    bytes[end..].copy_from_slice(&sum.to_le_bytes());
    Some(())
}
