//! Varnish, from Debian's package, with its store in memory.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result};

use super::{ANSWER_FIELD, Peer, Role, Site};
use crate::process::{Launch, find};

/// Varnish's row.
pub const PEER: Peer = Peer {
    name: "varnish",
    role: Role::Cache,
    supervised: true,
    caches: true,
    no_http3: Some("Varnish has no HTTP/3"),
    version,
    launch,
};

fn program() -> Result<PathBuf> {
    find("varnishd").context("Varnish is not installed (Debian package varnish)")
}

fn version(_: &Site) -> Result<String> {
    // `varnishd (varnish-7.1.1 revision …)`, on standard error.
    let output = Command::new(program()?).arg("-V").output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let version = text.split("(varnish-").nth(1).and_then(|rest| rest.split_ascii_whitespace().next());
    Ok(version.unwrap_or("unknown").to_owned())
}

/// In the foreground; what does not say how long it may be kept is not kept, as in the others.
fn launch(site: &Site) -> Result<Launch> {
    let file = site.dir.join("varnish.vcl");
    fs::write(&file, configuration(site))?;
    let mut launch = Launch::new(program()?, ["-F", "-j", "none", "-t", "0", "-s", "malloc,64m", "-f"]);
    launch.args.extend([file.into(), "-n".into(), site.dir.join("work").into(), "-a".into()]);
    launch.args.push(site.listen.to_string().into());
    Ok(launch)
}

fn configuration(site: &Site) -> String {
    let [a, b] = site.endpoints;
    let (name, value) = ANSWER_FIELD;
    format!(
        "\
vcl 4.1;
import directors;
backend a {{ .host = \"{}\"; .port = \"{}\"; }}
backend b {{ .host = \"{}\"; .port = \"{}\"; }}
sub vcl_init {{
    new both = directors.round_robin();
    both.add_backend(a);
    both.add_backend(b);
}}
sub vcl_recv {{
    set req.backend_hint = both.backend();
    set req.http.X-Request-Id = \"0000000000000000\" + req.xid;
    set req.http.X-Forwarded-Proto = \"http\";
    set req.http.X-Forwarded-Host = req.http.Host;
    if (req.method == \"GET\") {{
        return (hash);
    }}
    return (pass);
}}
sub vcl_deliver {{
    set resp.http.{name} = \"{value}\";
}}
",
        a.ip(),
        a.port(),
        b.ip(),
        b.port(),
    )
}
