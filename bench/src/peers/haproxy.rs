//! HAProxy, from Debian's package.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result};

use super::{ANSWER_FIELD, KEPT, Peer, Role, Site};
use crate::process::{Launch, find};

/// HAProxy with its own size of buffers.
pub const PEER: Peer = Peer {
    name: "haproxy",
    role: Role::Reference,
    supervised: false,
    version,
    launch: |site| launch(site, "", ""),
};

/// HAProxy with buffers of 64 KiB instead of 16, and bodies spliced within the kernel where it sees fit.
pub const TUNED: Peer = Peer {
    name: "haproxy-tuned",
    role: Role::Tuned,
    supervised: false,
    version,
    launch: |site| launch(site, "tune.bufsize 65536", "option splice-auto"),
};

fn program() -> Result<PathBuf> {
    find("haproxy").context("HAProxy is not installed (Debian package haproxy)")
}

fn version(_: &Site) -> Result<String> {
    // `HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/`
    let output = Command::new(program()?).arg("-v").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.split_whitespace().nth(2).unwrap_or("unknown").to_owned())
}

fn launch(site: &Site, global: &str, defaults: &str) -> Result<Launch> {
    let file = site.dir.join("haproxy.cfg");
    fs::write(&file, configuration(site, global, defaults))?;
    let mut launch = Launch::new(program()?, ["-db", "-f"]);
    launch.args.push(file.into());
    Ok(launch)
}

/// `http-reuse always` is the mode that shares connections to endpoints most freely; idle ones are neither
/// capped below what the others keep nor purged during a run. (By its own ratios it stops keeping them at a fifth of
/// the file descriptors that `maxconn` asks for, which the thousand connections reach.)
fn configuration(site: &Site, global: &str, defaults: &str) -> String {
    let Site { listen, admin, endpoints: [a, b], workers, .. } = site;
    let (field, value) = ANSWER_FIELD;
    format!(
        "\
global
    nbthread {workers}
    maxconn 4096
    tune.pool-low-fd-ratio 80
    tune.pool-high-fd-ratio 90
    {global}

defaults
    mode http
    timeout connect 3s
    timeout client 60s
    timeout server 60s
    timeout http-request 10s
    timeout http-keep-alive 75s
    http-reuse always
    {defaults}

frontend web
    bind {listen}
    option forwardfor
    http-request set-header X-Request-Id %[uuid()]
    http-request set-header X-Forwarded-Proto http
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-response set-header {field} {value}
    default_backend bench

backend bench
    balance roundrobin
    default-server pool-max-conn {KEPT} pool-purge-delay 60s
    server a {a}
    server b {b}

frontend metrics
    bind {admin}
    http-request use-service prometheus-exporter if {{ path /metrics }}
"
    )
}
