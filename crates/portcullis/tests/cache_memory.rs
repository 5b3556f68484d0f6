//! What a small answer takes in the cache's memory beside its key, fields and body, as the process is seen from outside: its
//! resident memory, with the allocator of the binary.
//!
//! ```console
//! $ cargo test --release -p portcullis --test cache_memory -- --ignored --nocapture
//! ```

#![allow(missing_docs)]

use std::{
    cell::Cell,
    fmt::Write,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use portcullis_cache::{Object, Times, date};
use portcullis_core::Fields;
use portcullis_proxy::forward::cache::{Stock, shelf::Entry};
use rustix::time::{ClockId, clock_gettime};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Bytes for each of a million.
const MOST: u64 = 300;
const BODY: usize = 100;

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find(|line| line.starts_with("Rss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn fields() -> Fields {
    [
        ("Content-Type", "application/json"),
        ("Cache-Control", "max-age=600"),
        ("ETag", "\"0123456789abcdef\""),
        ("Date", "Sat, 21 Nov 2026 10:00:00 GMT"),
        ("Content-Length", "100"),
    ]
    .into_iter()
    .collect()
}

/// The time that this thread has been running: what others do to it on a busy machine is no pause of ours.
fn now() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Puts one there as a fetch does; tells how many bytes it is made of, and how long the longest step took.
fn put(stock: &Stock, fields: &Fields, key: &str, body: Bytes) -> (u64, Duration) {
    let times = Times { received: date::now(), lifetime: 600, ..Times::default() };
    let mark = stock.epochs.mark(key.split('\n').next().unwrap().as_bytes(), false);
    let size = key.len() + fields.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>();
    let size = size + body.len();
    let object = Object::new(key.as_bytes(), b"", StatusCode::OK, fields, &[body], times).unwrap();
    let entry = Entry { object, mark, tags: None, refreshing: AtomicBool::new(false) };
    let entry = Arc::new(entry);
    let (mut last, mut longest) = (now(), Duration::ZERO);
    for () in stock.shelf.make_room(&entry, &[]) {
        longest = longest.max(now() - last);
        last = now();
    }
    assert!(stock.keep(&entry, &[]));
    (size as u64, longest.max(now() - last))
}

fn body(bytes: usize) -> Bytes {
    Bytes::from(vec![b'x'; bytes])
}

fn overhead(count: u64) -> u64 {
    let stock = Stock::new(4 << 30, 8 << 20);
    let fields = fields();
    let mut key = String::new();
    put(&stock, &fields, "http://shop.example/first\nroute", body(BODY));
    let before = resident();
    let mut own = 0;
    for number in 0..count {
        key.clear();
        write!(key, "http://shop.example/products/{number:08}\nroute").unwrap();
        own += put(&stock, &fields, &key, body(BODY)).0;
    }
    let filled = stock.filled();
    assert_eq!((filled.entries, filled.evicted), (count + 1, 0));
    let each = (resident() - before).saturating_sub(own) / count;
    let told = (filled.bytes - own) / count;
    println!("{count} objects of {} bytes: {each} bytes of overhead each, {told} counted", own / count);
    // What is counted against `memory` is near what is taken.
    assert!(told.abs_diff(each) < 80, "{told} counted, {each} taken");
    each
}

/// What continuous insertions into a full store take, one by one: the longest; the longest after all has been asked for; and
/// the longest step of large ones.
fn pauses(bytes: u64, fill: u64) -> [Duration; 3] {
    let (fields, none) = (fields(), Fields::new());
    let (small, large) = (body(10), body(7 << 20));
    let stock = Stock::new(bytes, 8 << 20);
    let key = |number: u64| format!("http://shop.example/{number:08}\nroute");
    let find = |number: u64| {
        let hash = stock.shelf.hash(key(number).as_bytes());
        stock.shelf.find(hash, hash, key(number).as_bytes(), &none, date::now())
    };
    let mut number = 0;
    let mut next = |body: &Bytes| {
        number += 1;
        put(&stock, &fields, &key(number), body.clone()).1
    };
    (0..fill).for_each(|_| _ = next(&small));
    assert!(stock.filled().evicted > fill / 10, "{:?}", stock.filled());
    let plain = (0..300_000).map(|_| next(&small)).max().unwrap();
    // All that is there is hot now.
    for number in (0..fill + 300_000).flat_map(|number| [number, number, number]) {
        drop(find(number));
    }
    let hot = (0..300_000).map(|_| next(&small)).max().unwrap();
    let of_large = |_| {
        let took = next(&large);
        (0..20_000).for_each(|_| _ = next(&small));
        took
    };
    [plain, hot, (0..8).map(of_large).max().unwrap()]
}

/// What others may wait for while so many are looked at by a purge, all of them in one part of the store: the longest step,
/// when none goes, when every other goes, when all go, and when there is nothing but the places where they were.
fn pauses_of_purges(count: u64) -> [Duration; 4] {
    let stock = Stock::new(2 << 30, 512 << 20);
    let (fields, body) = (fields(), body(10));
    for number in 0..count {
        put(&stock, &fields, &format!("http://shop.example/{number:08}\nroute"), body.clone());
    }
    let number = |entry: &Entry| entry.object.uri().last().map_or(0, |digit| digit - b'0');
    let step = |is_doomed: &dyn Fn(&Entry) -> bool| {
        let (last, longest) = (Cell::new(now()), Cell::new(Duration::ZERO));
        let tick = || {
            longest.set(longest.get().max(now() - last.get()));
            last.set(now());
        };
        let removed = stock.shelf.remove_where(|entry| {
            tick();
            is_doomed(entry)
        });
        tick();
        (removed, longest.get())
    };
    let steps = [step(&|_| false), step(&|entry| number(entry) % 2 == 0), step(&|_| true), step(&|_| true)];
    assert_eq!(steps.map(|(removed, _)| removed), [0, count / 2, count / 2, 0]);
    steps.map(|(_, longest)| longest)
}

#[test]
fn a_small_answer_takes_little_beside_itself() {
    let each = overhead(100_000);
    assert!(each < MOST, "{each} bytes of overhead each");
}

#[test]
#[ignore = "needs a gigabyte and a release build: how long evicting and purging take, too"]
fn a_million_small_answers_and_what_evicting_and_purging_takes() {
    let each = overhead(1_000_000);
    assert!(each < MOST, "{each} bytes of overhead each");
    for (bytes, fill) in [(256 << 20, 800_000), (1 << 30, 3_000_000)] {
        let longest = pauses(bytes, fill);
        println!("{} MiB: longest insertion {longest:?} (plain, after all was hot, of 7 MiB)", bytes >> 20);
        let most = if cfg!(debug_assertions) { 20 } else { 5 };
        assert!(longest.iter().all(|each| *each < Duration::from_millis(most)), "{longest:?}");
    }
    let longest = pauses_of_purges(1_000_000);
    println!("purges of a million: longest step {longest:?} (of none, of every other, of all, of nothing)");
    assert!(longest.iter().all(|each| *each < Duration::from_millis(5)), "{longest:?}");
}
