//! A short line for people who watch a terminal.

use std::{io::Write, time::SystemTime};

use super::{Line, escape, stamp::Stamp};

/// Writes the line: `12:00:01 200 GET /users/7 → users@file http://10.0.0.1:80 12.345ms 512B`.
pub(super) fn write(
    line: &Line<'_>,
    started: SystemTime,
    stamp: &mut Stamp,
    colours: bool,
    out: &mut Vec<u8>,
) {
    let x = line.x;
    let paint = |code: &'static str| if colours { code } else { "" };
    let (dim, plain) = (paint("\x1b[2m"), paint("\x1b[0m"));
    let status = paint(match line.status {
        200..=299 => "\x1b[32m",
        300..=399 => "\x1b[36m",
        400..=499 => "\x1b[33m",
        500.. => "\x1b[1;31m",
        _ => "",
    });
    // Writing to a vector cannot fail.
    let clock = stamp.clock(started);
    let _ = write!(out, "{dim}{clock}{plain} {status}{}{plain} {} ", line.status, x.request.method);
    escape::common(x.request.original_path().as_bytes(), out);
    if let Some(query) = x.request.original_query() {
        out.push(b'?');
        escape::common(escape::redacted(query).as_bytes(), out);
    }
    if let Some(target) = line.service.or(Some(&*x.route)).filter(|target| !target.is_empty()) {
        let _ = write!(out, " {dim}→{plain} ");
        escape::json(target, out);
    }
    if let Some(endpoint) = line.endpoint {
        let _ = write!(out, " {dim}");
        escape::json(endpoint, out);
        out.extend_from_slice(plain.as_bytes());
    }
    out.push(b' ');
    escape::millis(line.time_total, out);
    out.extend_from_slice(b"ms ");
    size(line.bytes_out, out);
    if let Some(reason) = line.reason {
        let _ = write!(out, " {status}{reason}{plain}");
    }
    if let Some(detail) = line.detail {
        let _ = write!(out, " {dim}(");
        escape::json(detail, out);
        let _ = write!(out, "){plain}");
    }
    out.push(b'\n');
}

fn size(bytes: u64, out: &mut Vec<u8>) {
    let _ = match bytes {
        0..1024 => write!(out, "{bytes}B"),
        1024..1_048_576 => write!(out, "{:.1}KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => write!(out, "{:.1}MiB", bytes as f64 / 1_048_576.0),
        _ => write!(out, "{:.1}GiB", bytes as f64 / 1_073_741_824.0),
    };
}
