//! Portcullis itself: the binary as it is released, run from a file.

use std::{fs, process::Command};

use anyhow::{Context, Result, bail};

use super::{ANSWER_FIELD, KEPT, Peer, Role, Site};
use crate::process::Launch;

/// Our row.
pub const PEER: Peer = Peer { name: "portcullis", role: Role::Ours, supervised: false, version, launch };

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
    let Site { listen, admin, endpoints: [a, b], workers, .. } = site;
    let (field, value) = ANSWER_FIELD;
    format!(
        "\
workers = {workers}

[listeners.web]
address = \"{listen}\"

[listeners.web.limits]
requests_per_connection = 0

[admin]
address = \"{admin}\"

[log]
filter = \"warn\"

[[routes]]
name = \"bench\"
path = \"/*\"
middlewares = [\"answer-field\", \"request-id\"]
service = \"bench\"

[services.bench]
endpoints = [{{ url = \"http://{a}\" }}, {{ url = \"http://{b}\" }}]
strategy = \"round_robin\"
pool = {{ max_idle = {KEPT} }}

[middlewares.answer-field]
headers = {{ response = {{ set = {{ \"{field}\" = \"{value}\" }} }} }}

[middlewares.request-id]
request_id = {{}}
"
    )
}
