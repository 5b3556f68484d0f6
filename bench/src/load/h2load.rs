//! h2load (of nghttp2): HTTP/2 by ALPN over TLS, or by prior knowledge without. It prints for people, so its output is
//! parsed; percentiles are taken from its log of every request, which it does not give otherwise.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::{Errors, Load, Order};
use crate::{
    endpoint::grpc,
    peers::Wire,
    process::{self, Launch},
    stats::percentiles,
};

/// Loads the target for some seconds, with so many streams on each connection.
pub fn run(order: &Order, streams: usize) -> Result<Load> {
    let Order { scenario: s, target, seconds, cores, dir, .. } = *order;
    let program =
        process::find("h2load").context("h2load is not installed (Debian package nghttp2-client)")?;
    let log = dir.join("h2load.log");
    let mut launch = Launch::new(program, ["--threads", "1", "--groups", "X25519", "--tls13-ciphers"]);
    launch.args.extend(["TLS_AES_128_GCM_SHA256".into(), "--clients".into()]);
    launch.args.extend([s.work.connections.to_string().into(), "--max-concurrent-streams".into()]);
    launch.args.extend([streams.to_string().into(), "--duration".into(), seconds.to_string().into()]);
    launch.args.extend(["--log-file".into(), log.clone().into()]);
    for header in s.headers {
        launch.args.extend(["--header".into(), (*header).into()]);
    }
    if s.work.wire == Wire::H2c {
        let message = dir.join("message");
        fs::write(&message, grpc::message())?;
        launch.args.extend(["--data".into(), message.into()]);
    }
    let scheme = if s.work.wire == Wire::Tls { "https" } else { "http" };
    launch.args.push(format!("{scheme}://{target}{}", s.path).into());
    let output = process::run(&launch, cores, order.deadline());
    let figures = output.and_then(|text| read(&text, seconds as f64)).and_then(|load| latencies(load, &log));
    let _ = fs::remove_file(&log);
    figures
}

/// Reads what it prints at the end:
///
/// ```text
/// finished in 2.00s, 20833.00 req/s, 3.30MB/s
/// requests: 41666 total, 42066 started, 41666 done, 41666 succeeded, 0 failed, 0 errored, 0 timeout
/// status codes: 41666 2xx, 0 3xx, 0 4xx, 0 5xx
/// traffic: 6.60MB (6917348) total, 1.19MB (1250772) headers (space savings 76.92%), 488.27KB (499992) data
/// ```
fn read(text: &str, seconds: f64) -> Result<Load> {
    let line = |key: &str| {
        let found = text.lines().find_map(|l| l.strip_prefix(key));
        found.with_context(|| format!("h2load said no {key:?}:\n{text}"))
    };
    // `41666 total`: the number before the word.
    let counted = |line: &str, word: &str| -> Result<u64> {
        let part = line.split(',').find_map(|p| p.trim().strip_suffix(word));
        part.and_then(|n| n.trim().parse().ok()).with_context(|| format!("no{word} in {line:?}"))
    };
    let (requests, codes, traffic) = (line("requests: ")?, line("status codes: ")?, line("traffic: ")?);
    let bad = counted(codes, " 4xx")? + counted(codes, " 5xx")?;
    let timeout = counted(requests, " timeout")?;
    // `failed` holds those errored, timed out and refused by their status.
    let failed = counted(requests, " failed")?;
    let bytes = traffic.rsplit_once('(').and_then(|(_, n)| n.split(')').next()?.parse().ok());
    Ok(Load {
        requests: counted(requests, " succeeded")? + bad,
        bytes: bytes.with_context(|| format!("no bytes in {traffic:?}"))?,
        seconds,
        errors: Errors {
            read: failed.saturating_sub(timeout + bad),
            timeout,
            status: bad,
            ..Errors::default()
        },
        ..Load::default()
    })
}

/// Adds the latencies: a line for each request with its begin, its status, and microseconds until its end.
fn latencies(load: Load, log: &Path) -> Result<Load> {
    let text = fs::read_to_string(log).context("h2load wrote no log of requests")?;
    let mut all: Vec<u32> = text.lines().filter_map(|l| l.split('\t').nth(2)?.trim().parse().ok()).collect();
    let [p50, p99, p999] = percentiles(&mut all, [0.5, 0.99, 0.999]).context("h2load logged no requests")?;
    Ok(Load { p50, p99, p999, ..load })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "starting benchmark...\n\
        finished in 2.00s, 20833.00 req/s, 3.30MB/s\n\
        requests: 41666 total, 42066 started, 41666 done, 41660 succeeded, 6 failed, 1 errored, 2 timeout\n\
        status codes: 41660 2xx, 0 3xx, 3 4xx, 0 5xx\n\
        traffic: 6.60MB (6917348) total, 1.19MB (1250772) headers (space savings 76.92%), 488.27KB (499992) data\n\
                             min         max         mean         sd        +/- sd\n\
        time for request:      101us     12.34ms      3.84ms       992us    70.91%\n";

    #[test]
    fn the_summary_is_read() {
        let load = read(TEXT, 2.0).unwrap();
        assert_eq!((load.requests, load.bytes, load.seconds), (41663, 499_992, 2.0));
        assert_eq!((load.errors.read, load.errors.timeout, load.errors.status), (1, 2, 3));
        assert!(read("starting benchmark...\n", 2.0).is_err());
        assert!(read(&TEXT.replace("succeeded", "well"), 2.0).is_err());
    }

    #[test]
    fn latencies_come_from_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let lines: String = (1..=1000).map(|n| format!("1700000000000000\t200\t{}\n", n * 1000)).collect();
        fs::write(&log, lines).unwrap();
        let load = latencies(Load::default(), &log).unwrap();
        assert_eq!((load.p50, load.p99, load.p999), (500.0, 990.0, 999.0));
        fs::write(&log, "").unwrap();
        assert!(latencies(Load::default(), &log).is_err());
    }
}
