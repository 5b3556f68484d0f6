//! The cache's disk: what is found again after a restart, whatever happens to the folder, and that none of it is ever an
//! error.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering::SeqCst},
};

use http::{Request, Response};
use portcullis_e2e::{
    Client, Endpoint, Gateway, Reply, Setup,
    client::{empty, full},
    wait::LONG,
    within,
};
use rustix::process::Signal;

mod restart;
mod room;
mod trouble;

/// Behind memory, a disk.
pub(crate) fn near() -> String {
    crate::CACHED.to_owned()
        + r#"
[cache]
memory = "64MB"
store = "near"

[stores.near.disk]
folder = "{folder}"
size = "32MB"
timeout = "5s"
"#
}

pub(crate) const MEMORY: &str = "cache-status";

pub(crate) fn setup(text: &str, app: &Endpoint, folder: &Path) -> Setup {
    Setup::new(text).set("app", app.url()).set("folder", folder.display())
}

pub(crate) async fn gateway(app: &Endpoint, folder: &Path) -> Gateway {
    setup(&near(), app, folder).start().await
}

pub(crate) async fn ask(gateway: &Gateway, path: &str, fields: &[(&str, &str)]) -> Reply {
    let mut request = Request::get(path).header("host", "shop.example");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    Client::h1(gateway.addr()).await.fetch(request.body(empty()).unwrap()).await
}

pub(crate) async fn get(gateway: &Gateway, path: &str) -> Reply {
    ask(gateway, path, &[]).await
}

/// Each answer has a number, and tags; what is at `/v…` varies, what is at `/large…` is large.
pub(crate) async fn counting() -> Endpoint {
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

pub(crate) async fn stored(gateway: &Gateway, entries: u64) {
    within(LONG, "the disk to have it", || async {
        gateway.admin_get("/api/cache").await.json()["disk"]["entries"].as_u64() == Some(entries)
    })
    .await;
}

pub(crate) async fn end(gateway: &mut Gateway, signal: Signal) {
    gateway.signal(signal);
    gateway.ended(LONG).await;
}

pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
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
