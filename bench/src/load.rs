//! The load generator: wrk, pinned, with a script that says its figures as one line of JSON.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    process::{self, Launch},
    scenario::Scenario,
};

/// What wrk counted in one run.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Load {
    /// Requests answered.
    pub requests: u64,
    /// Bytes received.
    pub bytes: u64,
    /// Length of the run.
    pub seconds: f64,
    /// Latency, half of the requests below, in milliseconds.
    pub p50: f64,
    /// Latency, 99 % below, in milliseconds.
    pub p99: f64,
    /// What went wrong.
    pub errors: Errors,
}

/// What went wrong in a run. wrk counts an answer as wrong from status 400 on; others than 200 below that are
/// found by the check before the runs and by the bytes received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Errors {
    /// Connections not opened.
    pub connect: u64,
    /// Reads that failed, or connections closed too early.
    pub read: u64,
    /// Writes that failed.
    pub write: u64,
    /// Requests without an answer in time.
    pub timeout: u64,
    /// Answers with a status of 400 or above.
    pub status: u64,
}

impl Errors {
    /// All of them together.
    pub fn total(&self) -> u64 {
        self.connect + self.read + self.write + self.timeout + self.status
    }
}

/// Marks the line of figures among what wrk prints itself.
const MARK: &str = "BENCH ";

/// Says the figures. Defining `done` alone keeps wrk's request static and its answers unparsed by Lua.
const SCRIPT: &str = r#"
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    'BENCH {"requests":%d,"bytes":%d,"us":%d,"p50":%d,"p99":%d,' ..
    '"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d}\n',
    summary.requests, summary.bytes, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect, e.read, e.write, e.timeout, e.status))
end
"#;

/// Loads `target` for some seconds.
pub fn run(s: &Scenario, target: SocketAddr, seconds: u64, cores: &str, dir: &Path) -> Result<Load> {
    let script = dir.join(format!("{}.lua", s.name));
    let body = match s.upload {
        0 => String::new(),
        n => format!("wrk.method = \"POST\"\nwrk.body = string.rep(\"x\", {n})\n"),
    };
    fs::write(&script, body + SCRIPT)?;
    let wrk = process::find("wrk").context("wrk is not installed (Debian package wrk)")?;
    let mut launch = Launch::new(wrk, ["--latency", "--timeout", "10s", "--threads", "1"]);
    launch.args.extend(["--connections".into(), s.connections.to_string().into()]);
    launch.args.extend(["--duration".into(), format!("{seconds}s").into()]);
    launch.args.extend(["--script".into(), script.into()]);
    for header in s.headers {
        launch.args.extend(["--header".into(), (*header).into()]);
    }
    launch.args.push(format!("http://{target}{}", s.path).into());
    read(&process::run(&launch, cores, Duration::from_secs(seconds + 20))?)
}

/// Reads the marked line.
fn read(output: &str) -> Result<Load> {
    let line = output.lines().find_map(|l| l.strip_prefix(MARK));
    let Some(line) = line else { bail!("wrk said no figures:\n{output}") };
    let v: Value = serde_json::from_str(line)?;
    let n = |key: &str| v.get(key).and_then(Value::as_u64).with_context(|| format!("wrk said no {key}"));
    Ok(Load {
        requests: n("requests")?,
        bytes: n("bytes")?,
        seconds: n("us")? as f64 / 1e6,
        p50: n("p50")? as f64 / 1e3,
        p99: n("p99")? as f64 / 1e3,
        errors: Errors {
            connect: n("connect")?,
            read: n("read")?,
            write: n("write")?,
            timeout: n("timeout")?,
            status: n("status")?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marked_line_is_read() {
        let text = "Running 2s test\nBENCH {\"requests\":10,\"bytes\":120,\"us\":2000000,\"p50\":500,\"p99\":900,\
                    \"connect\":1,\"read\":2,\"write\":3,\"timeout\":4,\"status\":5}\n";
        let load = read(text).unwrap();
        assert_eq!((load.requests, load.seconds, load.p50, load.p99), (10, 2.0, 0.5, 0.9));
        assert_eq!(load.errors.total(), 15);
        assert!(read("Running 2s test\n").is_err());
    }
}
