//! Against a real redis-server, which scripts/test installs.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use portcullis_config::model::{EndpointAddress, RedisStore};
use portcullis_core::{
    keep::Keep,
    meter::Meters,
    store::{BlobStore, Bound, CounterStore, FailureKind, Put, Take},
};
use tokio::time::sleep;

use super::Redis;
use crate::Around;

/// A server of this test's own, ended with it.
struct Server {
    port: u16,
    child: Child,
    _folder: tempfile::TempDir,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    fn start(port: u16) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server, which scripts/test installs");
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10), "redis-server does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        Server { port, child, _folder: folder }
    }

    /// Says something to it, in its inline form.
    fn say(&self, command: &str) {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.write_all(format!("{command}\r\n").as_bytes()).unwrap();
        let mut answer = [0; 64];
        let read = stream.read(&mut answer).unwrap();
        assert!(answer.starts_with(b"+") || answer.starts_with(b":"), "{:?}", &answer[..read]);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A gateway's view of the server, patient enough for a machine that has much else to do.
fn store(port: u16) -> Arc<Redis> {
    store_with(port, Duration::from_secs(10))
}

/// One that waits for an answer no longer than `timeout`.
fn store_with(port: u16, timeout: Duration) -> Arc<Redis> {
    let settings = RedisStore {
        address: EndpointAddress::Tcp { host: "127.0.0.1".into(), port },
        tls: None,
        username: None,
        password: None,
        database: 1,
        prefix: "test:".into(),
        connect_timeout: Duration::from_secs(1),
        timeout,
    };
    let (keep, meters) = (Keep::default(), Meters::default());
    Redis::kept(
        &"main".into(),
        &settings,
        &Around { keep: &keep, meters: &meters, tls: &|_| Err("none".into()) },
    )
    .unwrap()
}

fn rate(key: &str, per_second: f64, burst: u64, cost: u64) -> Take {
    Take::new(key.into(), Bound::Rate { interval: 1e9 / per_second, burst, more: 0 }, cost)
}

fn quota(key: &str, quota: u64, cost: u64) -> Take {
    let ends = SystemTime::now() + Duration::from_secs(50);
    Take::new(key.into(), Bound::Quota { quota, ends }, cost)
}

#[tokio::test]
async fn several_gateways_count_together_and_take_from_all_or_none() {
    let server = Server::start(free_port());
    let gateways = [store(server.port), store(server.port)];
    let mut passed = 0;
    for n in 0..20 {
        let takes = [rate("a", 0.01, 8, 1), quota("q", 100, 1)];
        let taken = gateways[n % 2].take(&takes, false).await.unwrap();
        if taken.iter().all(|taken| taken.enough) {
            passed += 1;
            assert_eq!((taken[0].left, taken[1].left), (8 - passed, 100 - passed));
            assert_eq!(taken[0].wait, Duration::ZERO);
        } else {
            assert!(!taken[0].enough && taken[1].enough);
            assert!(taken[0].wait > Duration::from_secs(90) && taken[0].wait <= Duration::from_secs(100));
            assert!(taken[0].reset > Duration::from_secs(790), "{taken:?}");
            assert_eq!(taken[1].left, 92, "nothing was taken of the other");
        }
    }
    assert_eq!(passed, 8);
    // What is known only afterwards is taken in any case.
    let forced = gateways[0].take(&[quota("q", 100, 95)], true).await.unwrap();
    assert_eq!((forced[0].enough, forced[0].left), (false, 0));
    assert!(!gateways[1].take(&[quota("q", 100, 1)], false).await.unwrap()[0].enough);
    assert_eq!(
        gateways[1].take(&[rate("b", 1.0, 5, 0)], false).await.unwrap()[0].left,
        5,
        "a look costs nothing"
    );
}

#[tokio::test]
async fn more_is_taken_ahead_as_far_as_there_is_and_what_is_left_of_a_quota_given_back() {
    let server = Server::start(free_port());
    let store = store(server.port);
    let ahead = |take: Take, extra, back| Take { extra, back, ..take };
    let mut seen = Vec::new();
    for (extra, back) in [(5, 0), (50, 0), (5, 0), (5, 9), (0, 1000), (0, 0)] {
        let takes = [ahead(rate("a", 0.01, 20, 1), extra, 0), ahead(quota("q", 30, 1), extra, back)];
        let taken = store.take(&takes, false).await.unwrap();
        seen.push([0, 1].map(|n| (taken[n].enough, taken[n].extra, taken[n].left)));
    }
    let expected = [
        [(true, 5, 14), (true, 5, 24)],
        [(true, 13, 0), (true, 23, 0)],
        // What one has not is taken from none; what is given back, is in any case, but never more than was taken.
        [(false, 0, 0), (false, 0, 0)],
        [(false, 0, 0), (true, 0, 9)],
        [(false, 0, 0), (true, 0, 30)],
        [(false, 0, 0), (true, 0, 30)],
    ];
    assert_eq!(seen, expected);
    let only = ahead(quota("new", 30, 0), 7, 3);
    assert_eq!(store.take(&[only], false).await.unwrap()[0].left, 23, "of nothing, nothing is given back");
}

/// Whatever the machine does meanwhile: a bucket that never gets full loses nothing.
#[tokio::test]
async fn a_bucket_refills_at_its_rate() {
    let server = Server::start(free_port());
    let store = store(server.port);
    let take = async |cost| store.take(&[rate("k", 200.0, 100_000, cost)], false).await.unwrap().remove(0);
    let before = Instant::now();
    assert!(take(100_000).await.enough);
    let (after, mut passed) = (Instant::now(), 0);
    let mut left = 0;
    let (mut asked, mut answered) = (after, after);
    while asked - after < Duration::from_secs(1) {
        asked = Instant::now();
        let taken = take(1).await;
        answered = Instant::now();
        passed += u64::from(taken.enough);
        left = taken.left;
    }
    let refilled = (passed + left) as f64;
    let (least, most) = (200.0 * (asked - after).as_secs_f64(), 200.0 * (answered - before).as_secs_f64());
    assert!(least - 1.5 < refilled && refilled < most + 0.5, "{refilled}, not from {least} to {most}");
}

#[tokio::test]
async fn values_are_kept_whatever_their_bytes_and_purged_by_tag_and_prefix() {
    let server = Server::start(free_port());
    let store = store(server.port);
    let odd = Bytes::from_static(b"\0\xff\r\n$-1\r\n");
    let long = Duration::from_secs(60);
    let now = store.now().await.unwrap();
    store.put("GET a.example/*[x]", odd.clone(), long, &["t1", "t2"], now).await.unwrap();
    store.put("GET a.example/2", odd.clone(), long, &["t2"], now).await.unwrap();
    store.put("GET b.example/1", odd.clone(), long, &[], now).await.unwrap();
    store.put("short", odd.clone(), Duration::from_millis(30), &[], now).await.unwrap();
    assert_eq!(store.get("GET a.example/*[x]").await.unwrap(), Some(odd.clone()));
    assert_eq!(store.get("none").await.unwrap(), None);
    assert_eq!(store.purge_tag("t1").await.unwrap(), 1);
    assert_eq!(store.get("GET a.example/*[x]").await.unwrap(), None);
    let now = store.now().await.unwrap();
    store.put("GET a.example/*[x]", odd.clone(), long, &["t1"], now).await.unwrap();
    assert_eq!(store.purge_prefix("GET a.example/*[").await.unwrap(), 1, "a pattern stands for itself");
    assert_eq!(store.purge_prefix("GET a.example/").await.unwrap(), 1);
    assert!(store.delete("GET b.example/1").await.unwrap());
    assert!(!store.delete("GET b.example/1").await.unwrap());
    for n in 0..1200 {
        store.put(&format!("many/{n}"), odd.clone(), long, &["many"], now).await.unwrap();
    }
    assert_eq!(store.purge_tag("many").await.unwrap(), 1200);
    sleep(Duration::from_millis(30)).await;
    assert_eq!(store.get("short").await.unwrap(), None, "it has expired");
}

/// What was asked for before a purge, by whichever gateway, is not kept after it; what is asked for later is.
#[tokio::test]
async fn what_was_purged_since_it_was_asked_for_is_not_kept() {
    let server = Server::start(free_port());
    let (one, other) = (store(server.port), store(server.port));
    let put = async |key: &str, tags: &[&str], since: u64| {
        let value = Bytes::from_static(b"old");
        one.put(key, value, Duration::from_secs(60), tags, since).await.unwrap()
    };
    let before = one.now().await.unwrap();
    assert_eq!(put("a/1", &["x", "y"], before).await, Put::Kept);
    assert_eq!(other.purge_tag("y").await.unwrap(), 1);
    assert_eq!(put("a/1", &["x", "y"], before).await, Put::Purged);
    assert_eq!(one.get("a/1").await.unwrap(), None);
    assert_eq!(put("a/1", &["x"], before).await, Put::Kept);
    let later = one.now().await.unwrap();
    assert_eq!(put("a/1", &["x", "y"], later).await, Put::Kept);
    assert_eq!(other.purge_prefix("a/").await.unwrap(), 1);
    assert_eq!(put("a/2", &["z"], later).await, Put::Purged);
    assert_eq!(put("a", &["z"], later).await, Put::Kept, "no such prefix");
    let later = one.now().await.unwrap();
    assert_eq!(put("a/2", &[], later).await, Put::Kept);
    assert_eq!(put("b", &["z"], later - 301_000_000).await, Put::Late);
}

#[tokio::test]
async fn a_server_that_goes_costs_nothing_and_one_that_comes_back_is_used_again() {
    let port = free_port();
    let store = store(port);
    let look = [rate("k", 1.0, 5, 1)];
    assert_eq!(store.take(&look, false).await.unwrap_err().kind, FailureKind::Away);
    // The quickest of ten: the machine may have stood still in the others.
    let mut quickest = Duration::MAX;
    for _ in 0..10 {
        let begun = Instant::now();
        for _ in 0..100 {
            assert_eq!(store.take(&look, false).await.unwrap_err().kind, FailureKind::Away);
        }
        quickest = quickest.min(begun.elapsed());
    }
    assert!(quickest < Duration::from_millis(30), "{quickest:?} for 100");
    for _ in 0..2 {
        let server = Server::start(port);
        until_it_answers(&store).await;
        // It has forgotten its scripts.
        server.say("SCRIPT FLUSH");
        store.take(&look, false).await.unwrap();
        let now = store.now().await.unwrap();
        store.put("a", Bytes::from_static(b"a"), Duration::from_secs(9), &["t"], now).await.unwrap();
        drop(server);
        assert!(store.take(&look, false).await.is_err());
    }
}

async fn until_it_answers(store: &Redis) {
    let begun = Instant::now();
    while store.take(&[rate("probe", 1.0, 5, 0)], false).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it is not used again");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_server_that_is_slow_is_left_alone_until_it_is_not() {
    let server = Server::start(free_port());
    let store = store_with(server.port, Duration::from_millis(200));
    until_it_answers(&store).await;
    server.say("CLIENT PAUSE 3000 ALL");
    let look = [rate("k", 1.0, 5, 1)];
    let mut kinds = Vec::new();
    for _ in 0..4 {
        kinds.push(store.take(&look, false).await.unwrap_err().kind);
        tokio::task::yield_now().await;
    }
    assert_eq!(kinds, [FailureKind::Slow, FailureKind::Slow, FailureKind::Slow, FailureKind::Away]);
    until_it_answers(&store).await;
}

#[tokio::test]
async fn a_server_that_is_full_says_so() {
    let server = Server::start(free_port());
    let store = store(server.port);
    until_it_answers(&store).await;
    server.say("CONFIG SET maxmemory-policy noeviction");
    server.say("CONFIG SET maxmemory 1");
    let failure = store.take(&[rate("k", 1.0, 5, 1)], false).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Full, "{failure}");
    let now = store.now().await.unwrap();
    let kept = store.put("a", Bytes::from_static(b"a"), Duration::from_secs(9), &[], now).await;
    assert_eq!(kept.unwrap_err().kind, FailureKind::Full);
    server.say("CONFIG SET maxmemory 0");
    assert!(store.take(&[rate("k", 1.0, 5, 1)], false).await.unwrap()[0].enough);
}
