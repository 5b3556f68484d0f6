//! How much the disk may take, and where.

use portcullis_e2e::{wait::LONG, within};
use tempfile::TempDir;

use super::{counting, files, gateway, get, near, stored};

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

/// A reload that changes how much it may take, and one that changes the folder.
#[tokio::test]
async fn a_reload_changes_size_and_folder() {
    let (folder, other, app) = (TempDir::new().unwrap(), TempDir::new().unwrap(), counting().await);
    let mut one = gateway(&app, folder.path()).await;
    for number in 0..40 {
        get(&one, &format!("/large{number}")).await;
    }
    stored(&one, 40).await;
    one.rewrite(&near().replace("32MB", "16MB"));
    assert_eq!(one.admin_post("/reload").await.status, 200);
    within(LONG, "what is too much to go", || async {
        let bytes: u64 =
            files(folder.path()).iter().filter_map(|file| file.metadata().ok()).map(|m| m.len()).sum();
        bytes <= 16_000_000
    })
    .await;
    let elsewhere = near().replace("{folder}", &other.path().display().to_string());
    one.rewrite(&elsewhere);
    assert_eq!(one.admin_post("/reload").await.status, 200);
    get(&one, "/new").await;
    within(LONG, "the other folder to be used", || async { files(other.path()).len() == 1 }).await;
}
