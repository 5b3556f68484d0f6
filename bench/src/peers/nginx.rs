//! nginx, from Debian's package.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result};

use super::{ANSWER_FIELD, KEPT, Peer, Role, Site};
use crate::process::{Launch, find};

/// nginx with its own sizes of buffers.
pub const PEER: Peer =
    Peer { name: "nginx", role: Role::Reference, supervised: true, version, launch: |site| launch(site, "") };

/// nginx with buffers for large bodies: its own are of 4 KiB down and 16 KiB up.
pub const TUNED: Peer = Peer {
    name: "nginx-tuned",
    role: Role::Tuned,
    supervised: true,
    version,
    launch: |site| launch(site, "proxy_buffers 8 32k; proxy_buffer_size 16k; client_body_buffer_size 64k;"),
};

fn program() -> Result<PathBuf> {
    find("nginx").context("nginx is not installed (Debian package nginx-light)")
}

fn version(_: &Site) -> Result<String> {
    // `nginx version: nginx/1.22.1`, on standard error.
    let output = Command::new(program()?).arg("-v").output()?;
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Ok(text.rsplit('/').next().unwrap_or(&text).to_owned())
}

fn launch(site: &Site, buffers: &str) -> Result<Launch> {
    let file = site.dir.join("nginx.conf");
    fs::write(&file, configuration(site, buffers))?;
    let mut launch = Launch::new(program()?, ["-e", "stderr", "-p"]);
    launch.args.extend([site.dir.clone().into(), "-c".into(), file.into()]);
    Ok(launch)
}

/// Limits on requests per connection are lifted, request bodies are streamed and nothing is spilt to disk, as
/// the others do; the rest is nginx's default.
fn configuration(site: &Site, buffers: &str) -> String {
    let Site { listen, admin, endpoints: [a, b], workers, .. } = site;
    let dir = site.dir.display();
    let (field, value) = ANSWER_FIELD;
    let reuseport = if *workers > 1 { " reuseport" } else { "" };
    format!(
        "\
daemon off;
worker_processes {workers};
pid {dir}/nginx.pid;
error_log stderr warn;

events {{
    worker_connections 4096;
}}

http {{
    access_log off;
    server_tokens off;
    sendfile on;
    tcp_nodelay on;
    keepalive_timeout 75s;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    {buffers}
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;

    upstream bench {{
        server {a};
        server {b};
        keepalive {KEPT};
        keepalive_requests 1000000000;
        keepalive_timeout 60s;
    }}

    server {{
        listen {listen} backlog=4096{reuseport};
        location / {{
            proxy_pass http://bench;
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_max_temp_file_size 0;
            proxy_set_header Connection \"\";
            proxy_set_header Host $http_host;
            proxy_set_header X-Request-Id $request_id;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
            add_header {field} {value} always;
        }}
    }}

    server {{
        listen {admin};
        location = /metrics {{
            stub_status;
        }}
    }}
}}
"
    )
}
