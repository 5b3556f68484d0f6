//! The cache in tiers: memory, a disk, and a Redis that gateways share.

use std::time::Duration;

use portcullis_e2e::{Gateway, redis::Redis, wait::LONG, within};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::cache_disk::{MEMORY, counting, end, files, get, near, setup, stored};

/// So many hits of memory, disk and Redis are counted, and in all as many as hits.
async fn hits(gateway: &Gateway, wanted: [f64; 3]) {
    let page = gateway.metrics().await;
    let of = |tier| page.sum("gateway_cache_tier_hits_total", &[("path", "/*"), ("tier", tier)]);
    assert_eq!(["memory", "disk", "redis"].map(of), wanted);
    for name in ["gateway_cache_tier_hits_total", "gateway_cache_hits_total"] {
        assert_eq!(page.sum(name, &[]), wanted.iter().sum::<f64>(), "{name}");
    }
}

/// PET3, PET4: what one gateway fetched, another one finds in Redis and brings forward to its own disk; and it is counted
/// which of them had it.
#[tokio::test]
async fn three_tiers() {
    let text = format!(
        "{}\n[stores.shared]\nredis = \"{{redis}}\"\n",
        near().replace("\"near\"", "[\"near\", \"shared\"]")
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
    hits(&one, [0.0, 0.0, 0.0]).await;
    get(&one, "/a").await;
    hits(&one, [1.0, 0.0, 0.0]).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(get(&two, "/a").await.header(MEMORY).contains("detail=store"));
    stored(&two, 1).await;
    get(&two, "/a").await;
    hits(&two, [1.0, 0.0, 1.0]).await;
    end(&mut two, Signal::TERM).await;
    let two = setup(&text, &app, second.path()).set("redis", redis.url()).start().await;
    assert!(get(&two, "/a").await.header(MEMORY).contains("detail=disk"));
    hits(&two, [0.0, 1.0, 0.0]).await;
    get(&two, "/a").await;
    hits(&two, [1.0, 1.0, 0.0]).await;
    assert_eq!(app.count(), 1);
    // A purge reaches all tiers of the gateway that is told.
    assert_eq!(two.admin_post("/api/cache/purge?tag=all").await.status, 200);
    assert_eq!(files(second.path()).len(), 0);
    get(&two, "/a").await;
    hits(&two, [1.0, 1.0, 0.0]).await;
    assert_eq!(app.count(), 2);
}
