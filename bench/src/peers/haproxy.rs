//! HAProxy, from Debian's package.

use std::{fmt::Write, fs, path::PathBuf, process::Command};

use anyhow::{Context, Result};

use super::{ANSWER_FIELD, BODY_LIMIT, KEPT, ORIGIN, Peer, Role, Site, Wire, route_host, route_path};
use crate::process::{Launch, find};

/// HAProxy with its own size of buffers.
pub const PEER: Peer = Peer {
    name: "haproxy",
    role: Role::Reference,
    supervised: false,
    caches: false,
    no_http3: NO_HTTP3,
    version,
    launch: |site| launch(site, "", ""),
};

/// HAProxy with buffers of 64 KiB instead of 16, and bodies spliced within the kernel where it sees fit.
pub const TUNED: Peer = Peer {
    name: "haproxy-tuned",
    role: Role::Tuned,
    supervised: false,
    caches: false,
    no_http3: NO_HTTP3,
    version,
    launch: |site| launch(site, "tune.bufsize 65536", "option splice-auto"),
};

const NO_HTTP3: Option<&str> = Some("Debian's HAProxy 2.6 has no HTTP/3: it is built without QUIC");

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
    if site.work.hosts > 0 {
        fs::write(site.dir.join("routes.map"), routes(site.work.hosts))?;
    }
    let mut launch = Launch::new(program()?, ["-db", "-f"]);
    launch.args.push(file.into());
    Ok(launch)
}

/// `http-reuse always` is the mode that shares connections to endpoints most freely; idle ones are neither
/// capped below what the others keep nor purged during a run. (By its own ratios it stops keeping them at a fifth of
/// the file descriptors that `maxconn` asks for, which the thousand connections reach.)
fn configuration(site: &Site, global: &str, defaults: &str) -> String {
    let Site { listen, admin, endpoints: [a, b], workers, certificate, work, .. } = site;
    let (field, value) = ANSWER_FIELD;
    let room = work.room();
    let (bind, scheme, server) = match work.wire {
        Wire::Plain => (String::new(), "http", ""),
        Wire::Tls | Wire::Quic => {
            let both = certificate.both.display();
            (format!("ssl crt {both} alpn h2,http/1.1 ssl-min-ver TLSv1.3"), "https", "")
        }
        Wire::H2c => ("proto h2".to_owned(), "http", "proto h2"),
    };
    // It asks for two descriptors per connection, more than a system may grant, and would not start. Idle clients share
    // a few connections to the endpoints.
    let limits = if work.connections > 2000 { "no strict-limits" } else { "" };
    let more = if work.everything { everything() } else { String::new() };
    let log = if work.everything { "log stdout len 4096 format raw local0" } else { "" };
    let route = match work.hosts {
        0 => "default_backend bench".to_owned(),
        _ => format!("use_backend %[base,map_beg({}/routes.map)]", site.dir.display()),
    };
    format!(
        "\
global
    nbthread {workers}
    maxconn {room}
    tune.pool-low-fd-ratio 80
    tune.pool-high-fd-ratio 90
    {limits}
    {log}
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
    bind {listen} {bind}
    option forwardfor
    http-request set-header X-Request-Id %[uuid()]
    http-request set-header X-Forwarded-Proto {scheme}
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-response set-header {field} {value}
{more}    {route}

backend bench
    balance roundrobin
    default-server pool-max-conn {KEPT} pool-purge-delay 60s {server}
    server a {a}
    server b {b}

frontend metrics
    bind {admin}
    http-request use-service prometheus-exporter if {{ path /metrics }}
"
    )
}

/// A map by prefixes of host and path, which HAProxy keeps as a tree.
fn routes(hosts: usize) -> String {
    let mut out = String::new();
    for (h, p) in (0..hosts).flat_map(|h| (0..hosts).map(move |p| (h, p))) {
        let _ = writeln!(out, "{}{} bench", route_host(h), route_path(p));
    }
    out
}

fn everything() -> String {
    let fields = [
        r#""time":"%[date,utime(%Y-%m-%dT%H:%M:%SZ)]""#,
        r#""method":"%HM""#,
        r#""host":"%[capture.req.hdr(0),json(utf8s)]""#,
        r#""path":"%[var(txn.path),json(utf8s)]""#,
        r#""query":"%[var(txn.query),json(utf8s)]""#,
        r#""protocol":"%HV""#,
        r#""client":"%ci""#,
        r#""connection":%cp"#,
        r#""request_id":"%[var(txn.id)]""#,
        r#""user_agent":"%[capture.req.hdr(1),json(utf8s)]""#,
        r#""referer":"%[capture.req.hdr(2),json(utf8s)]""#,
        r#""status":%ST"#,
        r#""service":"%b""#,
        r#""endpoint":"%s""#,
        r#""bytes_in":%U"#,
        r#""bytes_out":%B"#,
        r#""duration_ms":%Ta"#,
        r#""connect_ms":%Tc"#,
        r#""first_byte_ms":%Tr"#,
    ];
    // Quoting for the configuration: the format is one word between double quotes, with escaped ones in it.
    let format = format!("{{{}}}", fields.join(",")).replace('"', "\\\"");
    format!(
        "    log global
    log-format \"{format}\"
    http-request capture req.hdr(host) len 128
    http-request capture req.hdr(user-agent) len 1024
    http-request capture req.hdr(referer) len 1024
    http-request set-var(txn.path) path
    http-request set-var(txn.query) query
    http-request set-var(txn.id) req.hdr(x-request-id)
    http-request set-var(txn.origin) req.hdr(origin)
    http-request deny status 413 if {{ req.body_size gt {BODY_LIMIT} }}
    http-request set-header X-Env bench
    http-request del-header X-Debug
    http-response set-header X-Frame-Options DENY
    http-response set-header X-Content-Type-Options nosniff
    http-response del-header Server
    http-response set-header Access-Control-Allow-Origin %[var(txn.origin)] if {{ var(txn.origin) -m str {ORIGIN} }}
    http-response add-header Vary Origin
"
    )
}
