//! The load, one file for each kind of it: two tools of others (wrk, h2load) and four of ours. What they counted has
//! one form.

pub mod h2load;
pub mod handshakes;
pub mod http3;
pub mod idle;
pub mod pace;
mod tally;
pub mod wrk;

use std::{ffi::OsString, net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{
    process::{self, Launch},
    scenario::{Scenario, Tool},
};

/// What was counted in one run.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Load {
    /// Requests answered (handshakes completed, where those are what is counted).
    pub requests: u64,
    /// Bytes received.
    pub bytes: u64,
    /// Length of the run.
    pub seconds: f64,
    /// Latency, half of the requests below, in milliseconds.
    pub p50: f64,
    /// Latency, 99 % below, in milliseconds.
    pub p99: f64,
    /// Latency, 99.9 % below, in milliseconds.
    pub p999: f64,
    /// What went wrong.
    pub errors: Errors,
}

/// What went wrong in a run. An answer is wrong from status 400 on; others than 200 below that are found by the check
/// before the runs and by the bytes received. A handshake that was to be resumed and was not (or the other way round)
/// counts as one too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
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

/// How a load of our own is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Run {
    /// Where to.
    #[arg(long)]
    pub to: SocketAddr,
    /// How long.
    #[arg(long)]
    pub seconds: u64,
    /// Over how many connections at a time.
    #[arg(long)]
    pub connections: usize,
}

/// What a run is to do.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// What is sent.
    pub scenario: &'a Scenario,
    /// Where to.
    pub target: SocketAddr,
    /// How long.
    pub seconds: u64,
    /// Requests per second, where the rate is fixed.
    pub pace: Option<u64>,
    /// Cores for the load.
    pub cores: &'a str,
    /// Folder for scripts and logs.
    pub dir: &'a Path,
}

impl Order<'_> {
    /// Connections of the tool, a number of seconds, and room to come to an end.
    fn deadline(&self) -> Duration {
        Duration::from_secs(self.seconds + 20)
    }

    /// Runs a part of this program as the load.
    fn own(&self, part: &str, more: &[OsString]) -> Result<Load> {
        let mut launch = Launch::new(std::env::current_exe()?, [part, "--to"]);
        launch.args.extend([self.target.to_string().into(), "--seconds".into()]);
        launch.args.extend([self.seconds.to_string().into(), "--connections".into()]);
        launch.args.push(self.scenario.work.connections.to_string().into());
        launch.args.extend_from_slice(more);
        read(&process::run(&launch, self.cores, self.deadline())?)
    }
}

/// Loads the target for some seconds.
pub fn run(order: &Order) -> Result<Load> {
    match order.scenario.tool {
        Tool::Wrk => wrk::run(order),
        Tool::H2load { streams } => h2load::run(order, streams),
        Tool::Handshakes { resumed: true } => order.own("handshakes", &["--resumed".into()]),
        Tool::Handshakes { resumed: false } => order.own("handshakes", &[]),
        Tool::Http3 { streams: Some(streams) } => {
            order.own("http3", &["--streams".into(), streams.to_string().into()])
        }
        Tool::Http3 { streams: None } => order.own("http3", &[]),
        Tool::Pace => match order.pace {
            Some(rate) => order.own("pace", &["--rate".into(), rate.to_string().into()]),
            // The warm-up, and the search for the peak.
            None => wrk::run(order),
        },
        Tool::Idle => bail!("idle connections are held, not loaded"),
    }
}

/// Marks the line of figures among what a tool prints itself.
pub const MARK: &str = "BENCH ";

/// Prints what was counted as the line that [`read`] reads.
pub fn say(load: &Load) {
    let e = &load.errors;
    let us = |ms: f64| (ms * 1e3).round() as u64;
    let line = json!({
        "requests": load.requests, "bytes": load.bytes, "us": (load.seconds * 1e6).round() as u64,
        "p50": us(load.p50), "p99": us(load.p99), "p999": us(load.p999),
        "connect": e.connect, "read": e.read, "write": e.write, "timeout": e.timeout, "status": e.status,
    });
    println!("{MARK}{line}");
}

/// Reads the marked line.
pub fn read(output: &str) -> Result<Load> {
    let line = output.lines().find_map(|l| l.strip_prefix(MARK));
    let Some(line) = line else { bail!("the load generator said no figures:\n{output}") };
    let v: Value = serde_json::from_str(line)?;
    let n = |key: &str| v.get(key).and_then(Value::as_u64).with_context(|| format!("no {key} in {line}"));
    Ok(Load {
        requests: n("requests")?,
        bytes: n("bytes")?,
        seconds: n("us")? as f64 / 1e6,
        p50: n("p50")? as f64 / 1e3,
        p99: n("p99")? as f64 / 1e3,
        p999: n("p999")? as f64 / 1e3,
        errors: Errors {
            connect: n("connect")?,
            read: n("read")?,
            write: n("write")?,
            timeout: n("timeout")?,
            status: n("status")?,
        },
    })
}

/// OpenSSL's settings for the tools that have none of their own: every proxy encrypts with the same suite over the
/// same curve, whatever its own preference.
pub const OPENSSL_CONF: &str = "\
openssl_conf = bench
[bench]
ssl_conf = ssl
[ssl]
system_default = tls
[tls]
MinProtocol = TLSv1.3
Ciphersuites = TLS_AES_128_GCM_SHA256
Groups = X25519
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marked_line_is_read() {
        let text = "Running 2s test\nBENCH {\"requests\":10,\"bytes\":120,\"us\":2000000,\"p50\":500,\"p99\":900,\
                    \"p999\":1000,\"connect\":1,\"read\":2,\"write\":3,\"timeout\":4,\"status\":5}\n";
        let load = read(text).unwrap();
        assert_eq!((load.requests, load.seconds), (10, 2.0));
        assert_eq!((load.p50, load.p99, load.p999), (0.5, 0.9, 1.0));
        assert_eq!(load.errors.total(), 15);
        assert!(read("Running 2s test\n").is_err());
        assert!(read("BENCH {\"requests\":10}\n").is_err(), "a figure that is missing is no zero");
    }
}
