//! Connections that are kept open after one request each, and do nothing.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use memchr::memmem;

use crate::endpoint::SMALL;

/// Open connections; dropping them closes them.
pub struct Held(Vec<TcpStream>);

/// So many are opened at a time: few, since each of them may make the proxy open one to an endpoint.
const BATCH: usize = 16;

/// Opens so many, and has one request answered on each.
pub fn hold(to: SocketAddr, count: usize) -> Result<Held> {
    let mut out = Vec::with_capacity(count);
    while out.len() < count {
        let first = out.len();
        for number in first..count.min(first + BATCH) {
            let stream = ask(to).with_context(|| format!("connection {} of {count}", number + 1))?;
            out.push(stream);
        }
        for stream in out.iter_mut().skip(first) {
            answered(stream)
                .with_context(|| format!("connections {first} to {} of {count}", first + BATCH))?;
        }
    }
    Ok(Held(out))
}

impl Held {
    /// How many the other side has closed or said something on.
    pub fn lost(&self) -> Result<u64> {
        let mut lost = 0;
        for mut stream in &self.0 {
            stream.set_nonblocking(true)?;
            let waits = matches!(stream.read(&mut [0]), Err(e) if e.kind() == ErrorKind::WouldBlock);
            lost += u64::from(!waits);
        }
        Ok(lost)
    }
}

fn ask(to: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /small HTTP/1.1\r\nHost: bench.example\r\n\r\n")?;
    Ok(stream)
}

fn answered(stream: &mut TcpStream) -> Result<()> {
    let (mut got, mut chunk) = (Vec::new(), [0; 2048]);
    while memmem::find(&got, b"\r\n\r\n").is_none_or(|end| got.len() < end + 4 + SMALL) {
        let n = stream.read(&mut chunk)?;
        ensure!(n > 0, "closed before the answer");
        got.extend_from_slice(chunk.get(..n).unwrap_or_default());
    }
    ensure!(got.starts_with(b"HTTP/1.1 200 "), "answered {:?}", String::from_utf8_lossy(&got));
    Ok(())
}
