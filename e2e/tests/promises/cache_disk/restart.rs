//! What stands on the disk is there for the next process, and what was taken away is not.

use std::time::Duration;

use http::{Request, Response};
use portcullis_e2e::{
    Client, Endpoint, Lineage,
    client::{empty, full},
    gateway::{binary, install},
    wait::LONG,
    within,
};
use rustix::process::Signal;
use tempfile::TempDir;

use super::{MEMORY, ask, counting, end, files, gateway, get, near, setup, stored};

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
    let text = near().replace("cache = true", "cache.key.ignore_query = \"utm_*\"");
    let start = || setup(&text, &app, folder.path()).start();
    let mut one = start().await;
    for path in ["/a?x=1&utm_s=1", "/b?utm_s=1", "/c?x=1"] {
        get(&one, path).await;
    }
    stored(&one, 3).await;
    end(&mut one, Signal::KILL).await;
    let mut two = start().await;
    // What it has not yet read of the folder is purged as well, but counted only when it is read.
    stored(&two, 3).await;
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
    let status = reply.header(MEMORY);
    assert!(status.contains("fwd=stale;") && status.contains("stale-if-error"), "{status}");
    let other = get(&two, "/b").await;
    assert!(other.status >= 500 && other.header(MEMORY).contains("fwd=uri-miss"), "{:?}", other.headers);
}

/// What is found on the disk and has to be confirmed was no miss: it is told and counted like what memory has.
#[tokio::test]
async fn what_is_confirmed_was_found() {
    let folder = TempDir::new().unwrap();
    let app = Endpoint::with(|seen| {
        let reply = Response::builder().header("ETag", "\"1\"");
        let reply = reply.header("Cache-Control", "max-age=1, stale-if-error=600");
        match seen.header("if-none-match") {
            "\"1\"" => reply.status(304).body(full("")).unwrap(),
            _ => reply.body(full("here")).unwrap(),
        }
    })
    .await;
    let mut one = gateway(&app, folder.path()).await;
    get(&one, "/a").await;
    get(&one, "/b").await;
    stored(&one, 2).await;
    end(&mut one, Signal::TERM).await;
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let two = gateway(&app, folder.path()).await;
    let reply = get(&two, "/a").await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "here"));
    assert!(reply.header(MEMORY).contains("fwd=stale; fwd-status=304"), "{:?}", reply.headers);
    let part = ask(&two, "/b", &[("range", "bytes=-2")]).await;
    assert!(part.header(MEMORY).contains("fwd=stale"), "{:?}", part.headers);
    let metrics = two.metrics().await;
    assert_eq!(metrics.sum("gateway_cache_requests_total", &[("outcome", "revalidated")]), 1.0);
    assert_eq!(metrics.sum("gateway_cache_requests_total", &[("outcome", "miss")]), 0.0);
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
    let text = near().replace("cache = true", "cache = true\nfallback = { stale = \"1h\" }");
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
    let setup = setup(&near(), &app, folder.path());
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
