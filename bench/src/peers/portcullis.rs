//! Portcullis itself: the binary as it is released, run from a file.

use std::{fmt::Write, fs, process::Command};

use anyhow::{Context, Result, bail};

use super::{ANSWER_FIELD, BODY_LIMIT, KEPT, ORIGIN, Peer, Role, Site, Wire, route_host, route_path};
use crate::process::Launch;

/// Our row.
pub const PEER: Peer = Peer {
    name: "portcullis",
    role: Role::Ours,
    supervised: false,
    caches: true,
    no_http3: None,
    version,
    launch,
};

fn version(site: &Site) -> Result<String> {
    let path = &site.portcullis;
    if !path.is_file() {
        bail!("{} is not built (cargo build --release -p portcullis, or --portcullis PATH)", path.display());
    }
    // `portcullis 0.1.0`
    let output = Command::new(path).arg("--version").output().context("portcullis --version")?;
    if !output.status.success() {
        bail!("{} --version failed ({})", path.display(), output.status);
    }
    if !Command::new(path).args(["run", "--help"]).output()?.status.success() {
        bail!("{} has no `run` yet", path.display());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.split_whitespace().nth(1).unwrap_or("unknown").to_owned())
}

/// The file is checked first, so that a mistake in it is said with its findings and not as a process that
/// does not listen.
fn launch(site: &Site) -> Result<Launch> {
    let file = site.dir.join("portcullis.toml");
    fs::write(&file, configuration(site))?;
    let check = Command::new(&site.portcullis).arg("check").arg("-c").arg(&file).output()?;
    if !check.status.success() {
        let (out, err) = (String::from_utf8_lossy(&check.stdout), String::from_utf8_lossy(&check.stderr));
        bail!("portcullis check -c {} ({}):\n{out}{err}", file.display(), check.status);
    }
    let mut launch = Launch::new(&site.portcullis, ["run", "-c"]);
    launch.args.push(file.into());
    Ok(launch)
}

fn configuration(site: &Site) -> String {
    let Site { listen, admin, endpoints: [a, b], workers, certificate, work, .. } = site;
    let (field, value) = ANSWER_FIELD;
    let scheme = if work.wire == Wire::H2c { "h2c" } else { "http" };
    let mut tls = match work.wire.is_secure() {
        true => format!("tls = {{ cert = {:?}, key = {:?} }}\n", certificate.chain, certificate.key),
        false => String::new(),
    };
    if work.wire == Wire::Quic {
        tls.push_str("http3 = true\n");
    }
    let cached = work.cached;
    let log = match work.everything {
        true => format!("[access_log]\nformat = \"json\"\nfile = {:?}\n", site.access_log()),
        false => String::new(),
    };
    let base = "\"answer-field\", \"request-id\"";
    let asked =
        if work.everything { format!("\"cors\", \"limit\", \"fields\", {base}") } else { base.into() };
    let routes = routes(work.hosts, &asked);
    let more = if work.everything { everything() } else { String::new() };
    format!(
        "\
workers = {workers}

[listeners.web]
address = \"{listen}\"
{tls}
[listeners.web.limits]
requests_per_connection = 0

[admin]
address = \"{admin}\"

[log]
filter = \"warn\"

{log}
{routes}
[services.bench]
endpoints = [{{ url = \"{scheme}://{a}\" }}, {{ url = \"{scheme}://{b}\" }}]
strategy = \"round_robin\"
cache = {cached}
pool = {{ max_idle = {KEPT} }}

[middlewares.answer-field]
headers = {{ response = {{ set = {{ \"{field}\" = \"{value}\" }} }} }}

[middlewares.request-id]
request_id = {{}}
{more}"
    )
}

fn routes(hosts: usize, middlewares: &str) -> String {
    let mut out = String::new();
    let mut route = |name: &str, on: &str| {
        let _ = writeln!(
            out,
            "[[routes]]\nname = \"{name}\"\n{on}\nmiddlewares = [{middlewares}]\nservice = \"bench\"\n"
        );
    };
    if hosts == 0 {
        route("bench", "path = \"/*\"");
    }
    for (h, p) in (0..hosts).flat_map(|h| (0..hosts).map(move |p| (h, p))) {
        let on = format!("hosts = [\"{}\"]\npath = \"{}*\"", route_host(h), route_path(p));
        route(&format!("r{h}-{p}"), &on);
    }
    out
}

fn everything() -> String {
    format!(
        "
[middlewares.cors.cors]
origins = [\"{ORIGIN}\"]

[middlewares.limit.body_limit]
max = {BODY_LIMIT}

[middlewares.fields.headers]
request.set.X-Env = \"bench\"
request.remove = [\"X-Debug\"]
response.set.X-Frame-Options = \"DENY\"
response.set.X-Content-Type-Options = \"nosniff\"
response.remove = [\"Server\"]
"
    )
}
