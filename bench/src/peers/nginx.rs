//! nginx, from Debian's package.

use std::{fmt::Write, fs, path::PathBuf, process::Command};

use anyhow::{Context, Result};

use super::{ANSWER_FIELD, BODY_LIMIT, KEPT, ORIGIN, Peer, Role, Site, Wire, route_host, route_path};
use crate::process::{Launch, find};

/// nginx with its own sizes of buffers.
pub const PEER: Peer = Peer {
    name: "nginx",
    role: Role::Reference,
    supervised: true,
    caches: true,
    no_http3: NO_HTTP3,
    version,
    launch: |site| launch(site, ""),
};

/// It came with 1.25.
const NO_HTTP3: Option<&str> = Some("Debian's nginx 1.22 has no HTTP/3");

/// nginx with buffers for large bodies: its own are of 4 KiB down and 16 KiB up.
pub const TUNED: Peer = Peer {
    name: "nginx-tuned",
    role: Role::Tuned,
    supervised: true,
    caches: false,
    no_http3: NO_HTTP3,
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
    let Site { admin, endpoints: [a, b], workers, work, .. } = site;
    let dir = site.dir.display();
    let room = work.room();
    let log = if work.everything { everything(site) } else { "access_log off;".into() };
    let cache = if work.cached {
        format!("proxy_cache_path {dir}/cache keys_zone=bench:16m;\n    proxy_cache bench;")
    } else {
        String::new()
    };
    let limit = if work.everything { BODY_LIMIT } else { 0 };
    let (fields, servers) = (fields(site), servers(site));
    format!(
        "\
daemon off;
worker_processes {workers};
pid {dir}/nginx.pid;
error_log stderr error;
worker_rlimit_nofile {files};

events {{
    worker_connections {room};
}}

http {{
    {log}
    server_tokens off;
    sendfile on;
    tcp_nodelay on;
    keepalive_timeout 75s;
    keepalive_requests 1000000000;
    client_max_body_size {limit};
    {buffers}
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    {cache}

    upstream bench {{
        server {a};
        server {b};
        keepalive {KEPT};
        keepalive_requests 1000000000;
        keepalive_timeout 60s;
    }}

{fields}
{servers}
    server {{
        listen {admin};
        location = /metrics {{
            stub_status;
        }}
    }}
}}
",
        files = room + 1024
    )
}

/// What every location inherits.
fn fields(site: &Site) -> String {
    let (field, value) = ANSWER_FIELD;
    let kind = if site.work.wire == Wire::H2c { "grpc" } else { "proxy" };
    let mut out = match site.work.wire {
        Wire::H2c => String::new(),
        _ => "\
    proxy_http_version 1.1;
    proxy_request_buffering off;
    proxy_max_temp_file_size 0;
    proxy_set_header Connection \"\";
"
        .to_owned(),
    };
    for (name, value) in [
        ("Host", "$http_host"),
        ("X-Request-Id", "$request_id"),
        ("X-Forwarded-For", "$proxy_add_x_forwarded_for"),
        ("X-Forwarded-Proto", "$scheme"),
        ("X-Forwarded-Host", "$http_host"),
    ] {
        // Over HTTP/2 clients name the host in `:authority`, which is no `$http_host` in this version.
        let value = if kind == "grpc" && value == "$http_host" { "$host" } else { value };
        let _ = writeln!(out, "    {kind}_set_header {name} {value};");
    }
    let _ = writeln!(out, "    add_header {field} {value} always;");
    if site.work.everything {
        out.push_str(
            "\
    proxy_set_header X-Env bench;
    proxy_set_header X-Debug \"\";
    proxy_hide_header Server;
    add_header X-Frame-Options DENY always;
    add_header X-Content-Type-Options nosniff always;
    add_header Access-Control-Allow-Origin $allowed_origin always;
    add_header Vary Origin always;
",
        );
    }
    out
}

fn servers(site: &Site) -> String {
    let Site { listen, certificate, workers, work, .. } = site;
    let wire = match work.wire {
        Wire::Plain => "",
        Wire::Tls | Wire::Quic => " ssl http2",
        Wire::H2c => " http2",
    };
    let reuseport = if *workers > 1 { " reuseport" } else { "" };
    let tls = match work.wire.is_secure() {
        true => format!(
            "ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.3;",
            certificate.chain.display(),
            certificate.key.display()
        ),
        false => String::new(),
    };
    let pass = if work.wire == Wire::H2c { "grpc_pass grpc://bench;" } else { "proxy_pass http://bench;" };
    if work.hosts == 0 {
        return format!(
            "    server {{\n        listen {listen} backlog=4096{wire}{reuseport};\n        {tls}\n        \
             location / {{ {pass} }}\n    }}\n"
        );
    }
    // Hosts of no route are not the first route's, as they would be otherwise.
    let mut out = format!(
        "    server {{\n        listen {listen} default_server backlog=4096{wire}{reuseport};\n        \
         {tls}\n        return 404;\n    }}\n"
    );
    for host in 0..work.hosts {
        let _ = writeln!(out, "    server {{\n        listen {listen};");
        let _ = writeln!(out, "        server_name {};", route_host(host));
        for path in 0..work.hosts {
            let _ = writeln!(out, "        location {} {{ {pass} }}", route_path(path));
        }
        out.push_str("    }\n");
    }
    out
}

fn everything(site: &Site) -> String {
    format!(
        "\
log_format json escape=json '{{\"time\":\"$time_iso8601\",\"method\":\"$request_method\",\"scheme\":\"$scheme\",'
        '\"host\":\"$host\",\"path\":\"$uri\",\"query\":\"$args\",\"protocol\":\"$server_protocol\",'
        '\"client\":\"$remote_addr\",\"connection\":$connection,\"request_id\":\"$request_id\",'
        '\"user_agent\":\"$http_user_agent\",\"referer\":\"$http_referer\",\"status\":$status,'
        '\"endpoint\":\"$upstream_addr\",\"bytes_in\":$request_length,\"bytes_out\":$body_bytes_sent,'
        '\"duration\":\"$request_time\",\"connect\":\"$upstream_connect_time\",'
        '\"first_byte\":\"$upstream_header_time\"}}';
    access_log {} json buffer=64k flush=1s;
    map $http_origin $allowed_origin {{
        default \"\";
        {ORIGIN} $http_origin;
    }}",
        site.access_log().display()
    )
}
