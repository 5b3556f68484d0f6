//! Whatever happens to the folder and to the disk below it.

use std::time::{Duration, Instant};

use portcullis_e2e::{wait::LONG, within};
use rustix::process::Signal;
use tempfile::TempDir;

use super::{MEMORY, counting, end, files, gateway, get, near, setup, stored};

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

/// A disk that does not answer: here, because what is in the place of a file is a pipe that nobody writes to.
#[tokio::test]
async fn a_slow_disk_holds_nobody_up_for_long() {
    let (folder, app) = (TempDir::new().unwrap(), counting().await);
    let text = near().replace("\"5s\"", "\"100ms\"");
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
