//! The cache's disk: what is found again after a restart, whatever happens to the folder, and that none of it is ever an
//! error.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    time::{Duration, Instant},
};

use http::{Request, Response};
use portcullis_e2e::{
    Client, Endpoint, Gateway, Lineage, Reply, Setup,
    client::{empty, full},
    gateway::{binary, install},
    redis::Redis,
    wait::LONG,
    within,
};
use rustix::process::Signal;
use tempfile::TempDir;

const NEAR: &str = r#"
[[routes]]
path = "/*"
service = "app"

[services.app]
endpoints = ["{app}"]
cache = true

[cache]
memory = "64MB"
store = "near"

[stores.near.disk]
folder = "{folder}"
size = "32MB"
timeout = "5s"
"#;

const MEMORY: &str = "cache-status";

fn setup(text: &str, app: &Endpoint, folder: &Path) -> Setup {
    Setup::new(text).set("app", app.url()).set("folder", folder.display())
}

async fn gateway(app: &Endpoint, folder: &Path) -> Gateway {
    setup(NEAR, app, folder).start().await
}

async fn ask(gateway: &Gateway, path: &str, fields: &[(&str, &str)]) -> Reply {
    let mut request = Request::get(path).header("host", "shop.example");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    Client::h1(gateway.addr()).await.fetch(request.body(empty()).unwrap()).await
}

async fn get(gateway: &Gateway, path: &str) -> Reply {
    ask(gateway, path, &[]).await
}

/// Each answer has a number, and tags; what is at `/v…` varies, what is at `/large…` is large.
async fn counting() -> Endpoint {
    let count = AtomicU32::new(0);
    Endpoint::with(move |seen| {
        let number = count.fetch_add(1, SeqCst) + 1;
        let last = seen.target.rsplit('/').next().unwrap_or_default().to_owned();
        let mut reply = Response::builder()
            .header(
                "Cache-Control",
                if last == "short" { "max-age=1" } else { "max-age=600, stale-if-error=600" },
            )
            .header("ETag", format!("\"{number}\""))
            .header("Cache-Tag", format!("all, {last}"));
        if last.starts_with('v') {
            reply = reply.header("Vary", "X-Kind");
        }
        let filling =
            if last.starts_with("large") { "0123456789abcdef".repeat(40_000) } else { String::new() };
        reply.body(full(format!("answer {number} {}{filling}", seen.header("x-kind")))).unwrap()
    })
    .await
}

async fn stored(gateway: &Gateway, entries: u64) {
    within(LONG, "the disk to have it", || async {
        gateway.admin_get("/api/cache").await.json()["disk"]["entries"].as_u64() == Some(entries)
    })
    .await;
}

async fn end(gateway: &mut Gateway, signal: Signal) {
    gateway.signal(signal);
    gateway.ended(LONG).await;
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            out.extend(files(&entry.path()));
        } else if entry.file_name() != "portcullis.lock" {
            out.push(entry.path());
        }
    }
    out
}

/// However it ended: what was stored is there, with its age, its variants and its parts, and the service is not asked.
#[tokio::test]
async fn a_restart_finds_what_was_stored() {
    for signal in [Signal::TERM, Signal::KILL] {
        let (folder, app) = (TempDir::new().unwrap(), counting().await);
        let mut one = gateway(&app, folder.path()).await;
        let plain = get(&one, "/a").await;
        let large = get(&one, "/large").await;
        let kind = ask(&one, "/v", &[("x-kind", "b")]).await;
        if signal == Signal::KILL {
            stored(&one, 3).await;
        }
        end(&mut one, signal).await;
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let asked = app.count();
        let two = gateway(&app, folder.path()).await;
        let again = get(&two, "/a").await;
        assert_eq!(again.text(), plain.text());
        assert!(again.header(MEMORY).contains("hit") && again.header(MEMORY).contains("detail=disk"));
        assert!(again.header("age").parse::<u32>().unwrap() >= 1, "{:?}", again.headers);
        // From then on it is in memory.
        assert!(!get(&two, "/a").await.header(MEMORY).contains("disk"));
        let part = ask(&two, "/large", &[("range", "bytes=100-199")]).await;
        assert_eq!((part.status, part.body.len()), (206, 100));
        assert_eq!(part.body, large.body.slice(100..200));
        assert!(get(&two, "/large").await.body == large.body);
        assert_eq!(ask(&two, "/v", &[("x-kind", "b")]).await.text(), kind.text());
        let not = ask(&two, "/a", &[("if-none-match", plain.header("etag"))]).await;
        assert_eq!(not.status, 304);
        assert_eq!(app.count(), asked, "{signal:?}: nothing was asked for");
        assert_ne!(ask(&two, "/v", &[("x-kind", "c")]).await.text(), kind.text());
        let page = two.metrics().await;
        let hits = page.sum("gateway_cache_disk_requests_total", &[("store", "near"), ("result", "hit")]);
        assert_eq!((hits, page.sum("gateway_cache_disk_up", &[])), (3.0, 1.0));
        // The gauge follows the shelf, which is told after whoever asked.
        within(LONG, "the bytes on disk", || async {
            two.metrics().await.sum("gateway_cache_disk_bytes", &[]) > 600_000.0
        })
        .await;
    }
}

/// HEAD, parts and `only-if-cached` find it too, although nothing would be fetched for their sake.
#[tokio::test]
async fn what_is_not_fetched_is_found() {
    let (folder, app) = (TempDir::new().unwrap(), counting().await);
    let mut one = gateway(&app, folder.path()).await;
    for path in ["/a", "/b", "/c"] {
        get(&one, path).await;
    }
    end(&mut one, Signal::TERM).await;
    let two = gateway(&app, folder.path()).await;
    assert_eq!(ask(&two, "/a", &[("range", "bytes=0-5")]).await.text(), "answer");
    assert_eq!(ask(&two, "/b", &[("cache-control", "only-if-cached")]).await.status, 200);
    let head = Request::head("/c").header("host", "shop.example").body(empty()).unwrap();
    let head = Client::h1(two.addr()).await.fetch(head).await;
    assert!(head.header(MEMORY).contains("hit"), "{:?}", head.headers);
    assert_eq!(ask(&two, "/none", &[("cache-control", "only-if-cached")]).await.status, 504);
    assert_eq!(app.count(), 3);
}

/// What was purged, or changed by a request, stays away after a restart; whoever kills the process at once gains nothing.
#[tokio::test]
async fn a_purge_holds_after_a_restart() {
    let (folder, app) = (TempDir::new().unwrap(), counting().await);
    let mut one = gateway(&app, folder.path()).await;
    let paths = ["/url", "/x/1", "/x/2", "/y/tag", "/post", "/stays"];
    for path in paths {
        get(&one, path).await;
    }
    stored(&one, 6).await;
    for purge in ["url=http://shop.example/url", "prefix=http://shop.example/x/", "tag=tag"] {
        let reply = one.admin_post(&format!("/api/cache/purge?{purge}")).await;
        assert!(reply.json()["purged"].as_u64() > Some(0), "{purge}: {}", reply.text());
    }
    let post = Request::post("/post").header("host", "shop.example").body(full("x")).unwrap();
    one.send(post).await;
    end(&mut one, Signal::KILL).await;
    assert_eq!(files(folder.path()).len(), 1);
    let asked = app.count();
    let two = gateway(&app, folder.path()).await;
    for (number, path) in paths.into_iter().take(5).enumerate() {
        assert!(get(&two, path).await.header(MEMORY).contains("fwd=uri-miss"), "{path}");
        assert_eq!(app.count(), asked + number + 1, "{path}");
    }
    get(&two, "/stays").await;
    assert_eq!(app.count(), asked + 5);
}

/// Keys that leave parameters away: what is stored for several URLs goes with each of them, also when it stood on the disk
/// alone.
#[tokio::test]
async fn keys_for_several_urls() {
    let (folder, app) = (TempDir::new().unwrap(), counting().await);
    let text = NEAR.replace("cache = true", "cache.key.ignore_query = \"utm_*\"");
    let start = || setup(&text, &app, folder.path()).start();
    let mut one = start().await;
    for path in ["/a?x=1&utm_s=1", "/b?utm_s=1", "/c?x=1"] {
        get(&one, path).await;
    }
    stored(&one, 3).await;
    end(&mut one, Signal::KILL).await;
    let mut two = start().await;
    assert!(get(&two, "/a?x=1&utm_s=2").await.header(MEMORY).contains("detail=disk"));
    let post = Request::post("/a?utm_s=9&x=1").header("host", "shop.example").body(full("x")).unwrap();
    two.send(post).await;
    let purged = two.admin_post("/api/cache/purge?url=http%3A%2F%2Fshop.example%2Fb%3Futm_s%3D7").await;
    assert_eq!(purged.json()["purged"], 1, "{}", purged.text());
    end(&mut two, Signal::KILL).await;
    let three = start().await;
    let asked = app.count();
    for path in ["/a?x=1", "/b", "/c?x=1&utm_s=1"] {
        get(&three, path).await;
    }
    assert_eq!(app.count(), asked + 2, "/c alone was still there");
}

/// Bits that flipped, a file that was cut, files that are gone, a folder that is gone: misses, counted, told once.
#[tokio::test]
async fn whatever_happens_to_the_folder_is_a_miss() {
    let (folder, app) = (TempDir::new().unwrap(), counting().await);
    let mut one = gateway(&app, folder.path()).await;
    for number in 0..4 {
        get(&one, &format!("/large{number}")).await;
    }
    end(&mut one, Signal::TERM).await;
    let found = files(folder.path());
    assert_eq!(found.len(), 4);
    for (number, file) in found.iter().enumerate() {
        let mut bytes = std::fs::read(file).unwrap();
        let half = bytes.len() / 2;
        match number {
            0 => bytes[half] ^= 1,
            1 => bytes.truncate(half),
            2 => bytes.clear(),
            _ => bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_mul(31)),
        }
        std::fs::write(file, bytes).unwrap();
    }
    let two = gateway(&app, folder.path()).await;
    for number in 0..4 {
        let reply = get(&two, &format!("/large{number}")).await;
        assert_eq!((reply.status, app.count()), (200, 5 + number));
        assert!(reply.body.ends_with(b"abcdef") && reply.header(MEMORY).contains("fwd=uri-miss"));
    }
    let page = two.metrics().await;
    let damaged = page.sum("gateway_cache_disk_errors_total", &[("error", "damaged")]);
    assert!(damaged >= 4.0, "{damaged}");
    assert_eq!(two.stderr().matches("cache on disk: a file").count(), 1, "{}", two.stderr());
    std::fs::remove_dir_all(folder.path()).unwrap();
    for number in 0..20 {
        assert_eq!(get(&two, &format!("/g{number}")).await.status, 200);
    }
    within(LONG, "the folder to be missed", || async {
        two.metrics().await.sum("gateway_cache_disk_up", &[]) == 0.0
    })
    .await;
    assert!(get(&two, "/g0").await.header(MEMORY).contains("hit"), "memory has it all the same");
    std::fs::create_dir(folder.path()).unwrap();
    within(LONG, "the folder to be used again", || async {
        two.metrics().await.sum("gateway_cache_disk_up", &[]) == 1.0
    })
    .await;
    get(&two, "/again").await;
    stored(&two, 1).await;
}

/// Never more than it may take: what nobody asks for goes.
#[tokio::test]
async fn a_full_disk_store_throws_out() {
    let (folder, app) = (TempDir::new().unwrap(), counting().await);
    let one = gateway(&app, folder.path()).await;
    for number in 0..80 {
        assert_eq!(get(&one, &format!("/large{number}")).await.status, 200);
    }
    within(LONG, "something to go", || async {
        let page = one.metrics().await;
        page.sum("gateway_cache_disk_writes_total", &[]) == 80.0
            && page.sum("gateway_cache_disk_evictions_total", &[]) >= 28.0
    })
    .await;
    let bytes: u64 =
        files(folder.path()).iter().filter_map(|file| file.metadata().ok()).map(|m| m.len()).sum();
    assert!(bytes <= 32_000_000 && bytes > 16_000_000, "{bytes}");
}

/// The service is away, and what the disk has is stale: better than an error, where the answer allowed it.
#[tokio::test]
async fn stale_from_the_disk_while_the_service_is_away() {
    let (folder, mut app) = (
        TempDir::new().unwrap(),
        Endpoint::with(|_| {
            Response::builder()
                .header("Cache-Control", "max-age=1, stale-if-error=600")
                .body(full("here"))
                .unwrap()
        })
        .await,
    );
    let mut one = gateway(&app, folder.path()).await;
    get(&one, "/a").await;
    end(&mut one, Signal::TERM).await;
    app.stop().await;
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let two = gateway(&app, folder.path()).await;
    let reply = get(&two, "/a").await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "here"));
    assert!(reply.header(MEMORY).contains("stale-if-error"), "{:?}", reply.headers);
    assert!(get(&two, "/b").await.status >= 500);
}

/// The same where the configuration allows it rather than the answer: also what is found after a restart.
#[tokio::test]
async fn a_fallback_from_the_disk() {
    let folder = TempDir::new().unwrap();
    let mut app = Endpoint::with(|_| {
        let reply = Response::builder().header("Cache-Control", "max-age=1, must-revalidate");
        reply.body(full("here")).unwrap()
    })
    .await;
    let text = NEAR.replace("cache = true", "cache = true\nfallback = { stale = \"1h\" }");
    let mut one = setup(&text, &app, folder.path()).start().await;
    get(&one, "/a").await;
    get(&one, "/b").await;
    stored(&one, 2).await;
    end(&mut one, Signal::TERM).await;
    app.stop().await;
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let two = setup(&text, &app, folder.path()).start().await;
    let reply = ask(&two, "/b", &[("range", "bytes=-2")]).await;
    assert_eq!((reply.status, reply.text().as_str()), (206, "re"));
    let reply = get(&two, "/a").await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "here"));
    assert!(reply.header(MEMORY).contains("stale-if-error"), "{:?}", reply.headers);
}

/// An upgrade: the folder passes from the old process to the new one, whole.
#[tokio::test]
async fn an_upgrade_hands_the_folder_over() {
    let (folder, app) = (TempDir::new().unwrap(), counting().await);
    let setup = setup(NEAR, &app, folder.path());
    let program = setup.dir().join("portcullis-installed");
    install(&binary(), &program);
    let old = setup.called(&program).start().await;
    get(&old, "/a").await;
    stored(&old, 1).await;
    let mut lineage = Lineage::default();
    lineage.follow_reply(&old.admin_post("/upgrade").await);
    within(LONG, "the new process to have the folder", || async {
        let seen = old.admin_get("/api/cache").await.json();
        seen["disk"]["complete"] == true && seen["disk"]["entries"] == 1
    })
    .await;
    let asked = app.count();
    let reply = get(&old, "/a").await;
    assert!(reply.header(MEMORY).contains("detail=disk"), "{:?}", reply.headers);
    get(&old, "/b").await;
    stored(&old, 2).await;
    assert_eq!(app.count(), asked + 1);
}

/// A reload that changes how much it may take, and one that changes the folder.
#[tokio::test]
async fn a_reload_changes_size_and_folder() {
    let (folder, other, app) = (TempDir::new().unwrap(), TempDir::new().unwrap(), counting().await);
    let mut one = gateway(&app, folder.path()).await;
    for number in 0..40 {
        get(&one, &format!("/large{number}")).await;
    }
    stored(&one, 40).await;
    one.rewrite(&NEAR.replace("32MB", "16MB"));
    assert_eq!(one.admin_post("/reload").await.status, 200);
    within(LONG, "what is too much to go", || async {
        let bytes: u64 =
            files(folder.path()).iter().filter_map(|file| file.metadata().ok()).map(|m| m.len()).sum();
        bytes <= 16_000_000
    })
    .await;
    let elsewhere = NEAR.replace("{folder}", &other.path().display().to_string());
    one.rewrite(&elsewhere);
    assert_eq!(one.admin_post("/reload").await.status, 200);
    get(&one, "/new").await;
    within(LONG, "the other folder to be used", || async { files(other.path()).len() == 1 }).await;
}

/// Memory, disk and Redis: what one gateway fetched, another one finds in Redis and brings forward to its own disk.
#[tokio::test]
async fn three_tiers() {
    let text = format!(
        "{}\n[stores.shared]\nredis = \"{{redis}}\"\n",
        NEAR.replace("\"near\"", "[\"near\", \"shared\"]")
    );
    let (redis, app) = (Redis::start().await, counting().await);
    let (first, second) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let one = setup(&text, &app, first.path()).set("redis", redis.url()).start().await;
    let mut two = setup(&text, &app, second.path()).set("redis", redis.url()).start().await;
    for gateway in [&one, &two] {
        within(LONG, "the store", || async { gateway.metrics().await.sum("gateway_store_up", &[]) >= 1.0 })
            .await;
    }
    get(&one, "/a").await;
    stored(&one, 1).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(get(&two, "/a").await.header(MEMORY).contains("detail=store"));
    stored(&two, 1).await;
    end(&mut two, Signal::TERM).await;
    let two = setup(&text, &app, second.path()).set("redis", redis.url()).start().await;
    assert!(get(&two, "/a").await.header(MEMORY).contains("detail=disk"));
    assert_eq!(app.count(), 1);
    // A purge reaches all tiers of the gateway that is told.
    assert_eq!(two.admin_post("/api/cache/purge?tag=all").await.status, 200);
    assert_eq!(files(second.path()).len(), 0);
    get(&two, "/a").await;
    assert_eq!(app.count(), 2);
}

/// A disk that does not answer: here, because what is in the place of a file is a pipe that nobody writes to.
#[tokio::test]
async fn a_slow_disk_holds_nobody_up_for_long() {
    let (folder, app) = (TempDir::new().unwrap(), counting().await);
    let text = NEAR.replace("\"5s\"", "\"100ms\"");
    let mut one = setup(&text, &app, folder.path()).start().await;
    for number in 0..10 {
        get(&one, &format!("/{number}")).await;
    }
    end(&mut one, Signal::TERM).await;
    let two = setup(&text, &app, folder.path()).start().await;
    within(LONG, "all to be known", || async {
        two.admin_get("/api/cache").await.json()["disk"]["complete"] == true
    })
    .await;
    for file in files(folder.path()) {
        std::fs::remove_file(&file).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&file).status().unwrap();
        assert!(made.success());
    }
    let began = Instant::now();
    for number in 0..10 {
        assert_eq!(get(&two, &format!("/{number}")).await.status, 200);
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(app.count(), 20);
    let page = two.metrics().await;
    assert!(page.sum("gateway_cache_disk_requests_total", &[("result", "timeout")]) >= 3.0);
}
