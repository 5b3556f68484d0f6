//! What the figures were taken on: without it they mean nothing.

use std::{fs, process::Command};

use serde::{Deserialize, Serialize};

/// The machine, as far as it matters here.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    /// Model name of the processor.
    pub cpu: String,
    /// Cores that programs see.
    pub cores: usize,
    /// Whether these are a hypervisor's.
    #[serde(rename = "virtual")]
    pub virtual_machine: bool,
    /// Memory, GiB.
    pub memory_gib: f64,
    /// Kernel release.
    pub kernel: String,
    /// Day and time (UTC).
    pub date: String,
    /// Commit of the working copy, with `+` when files differ from it.
    pub commit: String,
    /// Version of wrk.
    pub wrk: String,
    /// Version of h2load.
    pub h2load: String,
}

impl Machine {
    /// Looks around.
    pub fn look() -> Machine {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let after = |key: &str| {
            let line = cpuinfo.lines().find(|l| l.starts_with(key));
            line.and_then(|l| l.split_once(':')).map(|(_, v)| v.trim().to_owned())
        };
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib: f64 = meminfo.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0.0);
        let dirty = !said("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty();
        Machine {
            cpu: after("model name").unwrap_or_else(|| "unknown".into()),
            cores: cpuinfo.lines().filter(|l| l.starts_with("processor")).count(),
            virtual_machine: after("flags").is_some_and(|f| f.split(' ').any(|w| w == "hypervisor")),
            memory_gib: kib / f64::from(1 << 20),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            date: said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
            commit: said("git", &["rev-parse", "--short", "HEAD"]) + if dirty { "+" } else { "" },
            wrk: said("wrk", &["-v"]).split_whitespace().nth(1).unwrap_or("unknown").to_owned(),
            // `h2load nghttp2/1.52.0`
            h2load: said("h2load", &["--version"]).rsplit('/').next().unwrap_or("unknown").to_owned(),
        }
    }
}

/// First line of what a program prints; empty when there is none.
fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().map(|o| o.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or_default().trim().to_owned()
}
