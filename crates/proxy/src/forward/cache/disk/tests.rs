//! A store on a real disk: restarts, damage, purges, two at once.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use http::StatusCode;
use portcullis_cache::{Times, date};

use super::*;

struct Around {
    folder: tempfile::TempDir,
    stock: Arc<Stock>,
    meters: Meters,
}

const SIZE: u64 = 16 << 20;
const LARGEST: u64 = 8 << 20;

impl Around {
    fn new() -> Around {
        Around {
            folder: tempfile::tempdir().unwrap(),
            stock: Arc::new(Stock::new(1 << 20, 1 << 18)),
            meters: Meters::default(),
        }
    }

    fn settings(&self, size: u64) -> DiskStore {
        DiskStore { folder: self.folder.path().into(), size, timeout: Duration::from_secs(5) }
    }

    async fn disk(&self) -> Disk {
        let disk = Disk::new(&"near".into(), self.folder.path(), &self.meters);
        disk.start(&self.settings(SIZE), LARGEST);
        until(|| disk.filled().known).await;
        disk
    }

    fn put(&self, disk: &Disk, path: &str, variant: &str, body: &[u8]) -> Arc<Entry> {
        let key = format!("http://a{path}\nroute");
        let vary = if variant.is_empty() { "" } else { "X-A" };
        let fields = [("ETag", "\"1\""), ("Vary", vary)].into_iter().filter(|(_, value)| !value.is_empty());
        let times = Times { received: date::now(), lifetime: 60, ..Times::default() };
        let body = [body.to_vec().into()];
        let fields = fields.collect();
        let object =
            Object::new(key.as_bytes(), variant.as_bytes(), StatusCode::OK, &fields, &body, times).unwrap();
        let mark = self.stock.epochs.mark(object.uri(), false);
        let tags = Some([path.split('/').next_back().unwrap_or("").into()].into());
        let entry = Arc::new(Entry { object, mark, tags, refreshing: AtomicBool::new(false) });
        let names: Vec<Box<str>> =
            vary.split(' ').filter(|name| !name.is_empty()).map(|_| "x-a".into()).collect();
        disk.put(&self.stock, &entry, &names);
        disk.settle(Duration::from_secs(10));
        entry
    }

    fn files(&self) -> Vec<PathBuf> {
        fn walk(path: &Path, out: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                if entry.path().is_dir() { walk(&entry.path(), out) } else { out.push(entry.path()) }
            }
        }
        let mut out = Vec::new();
        walk(&self.folder.path().join(names::OBJECTS), &mut out);
        out
    }
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not come");
        sleep(Duration::from_millis(5)).await;
    }
}

async fn find(disk: &Disk, path: &str, request: &[(&str, &str)]) -> Option<Vec<u8>> {
    let key = format!("http://a{path}\nroute");
    let found = disk.find(key.as_bytes(), &request.iter().copied().collect(), false).await?;
    Some(found.body().to_vec())
}

#[tokio::test]
async fn what_is_kept_is_found_by_the_next_process_too() {
    let around = Around::new();
    let disk = around.disk().await;
    let large: Vec<u8> = (0..200_000).map(|n| (n % 253) as u8).collect();
    around.put(&disk, "/a", "", b"one");
    around.put(&disk, "/large", "", &large);
    around.put(&disk, "/v", "\n:1", b"v1");
    around.put(&disk, "/v", "\n:2", b"v2");
    for _ in 0..2 {
        assert_eq!(find(&disk, "/a", &[]).await.as_deref(), Some(&b"one"[..]));
        assert!(find(&disk, "/large", &[]).await == Some(large.clone()));
        assert_eq!(find(&disk, "/v", &[("x-a", "1")]).await.as_deref(), Some(&b"v1"[..]));
        assert_eq!(find(&disk, "/v", &[("x-a", "2")]).await.as_deref(), Some(&b"v2"[..]));
        assert_eq!(find(&disk, "/v", &[]).await, None);
        assert_eq!(find(&disk, "/none", &[]).await, None);
    }
    assert_eq!(disk.filled().entries, 4);
    drop(disk);
    // Before all of it is read again as well: its folder is read when it is asked for.
    let disk = Disk::new(&"near".into(), around.folder.path(), &around.meters);
    disk.start(&around.settings(SIZE), LARGEST);
    until(|| disk.filled().up).await;
    assert_eq!(find(&disk, "/v", &[("x-a", "2")]).await.as_deref(), Some(&b"v2"[..]));
    assert!(find(&disk, "/large", &[]).await == Some(large));
    until(|| disk.filled().known).await;
    assert_eq!((disk.filled().entries, disk.filled().errors), (4, 0));
}

#[tokio::test]
async fn what_is_purged_stays_away() {
    let around = Around::new();
    let disk = around.disk().await;
    for path in ["/a/1", "/a/2", "/b/1", "/b/2", "/c/3"] {
        around.put(&disk, path, "", path.as_bytes());
    }
    assert_eq!(disk.purge(&Purge::Url("http://a/a/1".into())).await, 1);
    assert_eq!(disk.purge(&Purge::Tag("2".into())).await, 2);
    assert_eq!(disk.purge(&Purge::Prefix("http://a/b/".into())).await, 1);
    assert_eq!(around.files().len(), 1, "off the disk when it is told");
    drop(disk);
    let disk = around.disk().await;
    assert_eq!((find(&disk, "/a/1", &[]).await, find(&disk, "/b/1", &[]).await), (None, None));
    assert!(find(&disk, "/c/3", &[]).await.is_some());
    disk.invalidate(b"http://a/c/3", &around.stock).await;
    assert_eq!(around.files().len(), 0);
    around.put(&disk, "/c/3", "", b"new");
    assert!(find(&disk, "/c/3", &[]).await.is_some());
    assert_eq!(disk.purge(&Purge::Everything).await, 1);
    assert_eq!((around.files().len(), disk.filled().bytes), (0, 0));
}

/// What was asked for before a change is not written after it.
#[tokio::test]
async fn what_became_invalid_on_its_way_is_not_kept() {
    let around = Around::new();
    let disk = around.disk().await;
    let entry = around.put(&disk, "/a", "", b"old");
    disk.invalidate(b"http://a/a", &around.stock).await;
    disk.put(&around.stock, &entry, &[]);
    disk.settle(Duration::from_secs(10));
    assert_eq!((find(&disk, "/a", &[]).await, around.files().len()), (None, 0));
}

#[tokio::test]
async fn damage_is_a_miss_and_the_file_goes() {
    let around = Around::new();
    let disk = around.disk().await;
    for (number, damage) in [0, 1, 2].into_iter().enumerate() {
        around.put(&disk, "/a", "", &[b'x'; 3000]);
        let [file] = &around.files()[..] else { panic!("one file") };
        let mut bytes = fs::read(file).unwrap();
        match damage {
            0 => bytes[100] ^= 4,
            1 => bytes.truncate(2000),
            _ => bytes.clear(),
        }
        fs::write(file, bytes).unwrap();
        assert_eq!(find(&disk, "/a", &[]).await, None);
        assert_eq!((around.files().len(), disk.filled().errors), (0, number as u64 + 1));
    }
    // The same, noticed at the start; what is not ours stays.
    around.put(&disk, "/a", "", b"x");
    let file = around.files().remove(0);
    fs::write(&file, b"nonsense").unwrap();
    fs::write(file.with_file_name("notes.txt"), b"mine").unwrap();
    drop(disk);
    let disk = around.disk().await;
    assert_eq!((find(&disk, "/a", &[]).await, around.files().len()), (None, 1));
    // A file that somebody removed.
    around.put(&disk, "/b", "", b"x");
    around.files().iter().for_each(|file| fs::remove_file(file).unwrap());
    assert_eq!((find(&disk, "/b", &[]).await, disk.filled().entries), (None, 0));
}

/// A file that is not what it was taken in as is not used, however whole it is; nor is one that is larger than any of ours,
/// at the cost of a look at its length.
#[tokio::test]
async fn what_stands_in_a_file_is_compared() {
    let around = Around::new();
    let disk = around.disk().await;
    around.put(&disk, "/v", "\n:1", b"v1");
    let first = around.files().remove(0);
    around.put(&disk, "/v", "\n:2", b"v2");
    let second = around.files().into_iter().find(|file| *file != first).unwrap();
    fs::copy(&second, &first).unwrap();
    assert_eq!(find(&disk, "/v", &[("x-a", "1")]).await, None);
    assert_eq!(find(&disk, "/v", &[("x-a", "2")]).await.as_deref(), Some(&b"v2"[..]));
    assert_eq!((around.files(), disk.filled().errors), (vec![second.clone()], 1));
    fs::File::options().write(true).open(&second).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(find(&disk, "/v", &[("x-a", "2")]).await, None);
    assert_eq!((around.files().len(), disk.filled().errors), (0, 2));
}

/// To the byte, however small the file is.
#[tokio::test]
async fn a_body_that_is_too_large_by_now_is_not_used() {
    let around = Around::new();
    let disk = around.disk().await;
    around.put(&disk, "/a", "", &[b'x'; 100]);
    around.put(&disk, "/b", "", &[b'x'; 101]);
    disk.start(&around.settings(SIZE), 100);
    assert!(find(&disk, "/a", &[]).await.is_some() && find(&disk, "/b", &[]).await.is_none());
    assert_eq!(around.files().len(), 1);
    drop(disk);
    let disk = Disk::new(&"near".into(), around.folder.path(), &around.meters);
    disk.start(&around.settings(SIZE), 99);
    until(|| disk.filled().known).await;
    assert_eq!((find(&disk, "/a", &[]).await, around.files().len()), (None, 0));
}

#[tokio::test]
async fn never_more_than_its_size_and_less_after_a_reload() {
    let around = Around::new();
    let disk = around.disk().await;
    for number in 0..40 {
        around.put(&disk, &format!("/{number}"), "", &vec![number; 1 << 20]);
        find(&disk, "/0", &[]).await;
    }
    let filled = disk.filled();
    assert!(filled.bytes <= SIZE && filled.bytes > SIZE / 2, "{filled:?}");
    assert!(
        filled.evicted >= 24 && find(&disk, "/0", &[]).await.is_some(),
        "what is asked for stays: {filled:?}"
    );
    let on_disk: u64 = around.files().iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(on_disk <= SIZE);
    disk.start(&around.settings(4 << 20), LARGEST);
    disk.settle(Duration::from_secs(10));
    assert!(disk.filled().bytes <= 4 << 20 && around.files().len() <= 4);
}

/// One process at a time; whoever waits gets it when the other lets go, and finds what is there.
#[tokio::test]
async fn a_folder_is_used_by_one_at_a_time() {
    let around = Around::new();
    let (one, two) = (around.disk().await, Disk::new(&"other".into(), around.folder.path(), &around.meters));
    two.start(&around.settings(SIZE), LARGEST);
    around.put(&one, "/a", "", b"one");
    around.put(&two, "/b", "", b"two");
    assert!(!two.filled().up && find(&two, "/a", &[]).await.is_none());
    // What is purged while waiting does not come back.
    around.put(&one, "/p", "", b"p");
    assert_eq!(two.purge(&Purge::Url("http://a/p".into())).await, 0);
    one.leave();
    until(|| two.filled().known).await;
    assert_eq!(find(&two, "/a", &[]).await.as_deref(), Some(&b"one"[..]));
    assert_eq!((find(&two, "/p", &[]).await, find(&two, "/b", &[]).await), (None, None));
    around.put(&one, "/c", "", b"one");
    assert!(find(&one, "/a", &[]).await.is_none() && around.files().len() == 1);
}

#[tokio::test]
async fn a_folder_that_goes_away_and_comes_back() {
    let around = Around::new();
    let disk = around.disk().await;
    around.put(&disk, "/a", "", b"one");
    fs::remove_dir_all(around.folder.path()).unwrap();
    assert_eq!(find(&disk, "/a", &[]).await, None);
    around.put(&disk, "/b", "", b"two");
    assert!(disk.filled().errors >= 2);
    until(|| !disk.filled().up).await;
    fs::create_dir(around.folder.path()).unwrap();
    until(|| disk.filled().up).await;
    around.put(&disk, "/b", "", b"two");
    assert!(find(&disk, "/b", &[]).await.is_some());
}

/// What is of no use any longer is not taken in.
#[tokio::test]
async fn what_expired_while_nobody_was_there_goes() {
    let around = Around::new();
    let disk = around.disk().await;
    let entry = around.put(&disk, "/a", "", b"x");
    let times = Times { received: date::now() - 200, lifetime: 60, ..Times::default() };
    let object = entry.object.with_head(&entry.object.fields(), times).unwrap();
    let old = Entry { object, mark: entry.mark, tags: None, refreshing: AtomicBool::new(false) };
    disk.put(&around.stock, &Arc::new(old), &[]);
    disk.settle(Duration::from_secs(10));
    assert_eq!(
        (find(&disk, "/a", &[]).await, around.files().len()),
        (None, 0),
        "nor does it leave what it replaces"
    );
}
