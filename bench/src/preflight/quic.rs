//! The same check over HTTP/3.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use http::Request;

use super::{Answer, call::lines};
use crate::{
    peers::ORIGIN,
    quic::{HOST, connect, endpoint, fetch},
};

/// Sends a request some times over one connection.
pub fn exchange(to: SocketAddr, method: &str, path: &str, body: &str, times: usize) -> Result<Vec<Answer>> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let answers = asked(to, method, path, body, times);
        tokio::time::timeout(Duration::from_secs(10), answers).await.context("no answer in time")?
    })
}

async fn asked(to: SocketAddr, method: &str, path: &str, body: &str, times: usize) -> Result<Vec<Answer>> {
    let mut open = connect(&endpoint()?, to).await.context("a connection of QUIC")?;
    let mut out = Vec::new();
    for _ in 0..times {
        let mut request = Request::builder().method(method).uri(format!("https://{HOST}{path}"));
        for (name, value) in [("origin", ORIGIN), ("x-debug", "1"), ("accept", "*/*")] {
            request = request.header(name, value);
        }
        if !body.is_empty() {
            request = request.header("content-length", body.len());
        }
        let reply = fetch(&mut open.sender, request.body(())?, body.to_owned().into());
        let reply = reply.await.with_context(|| format!("{method} {path}"))?;
        out.push(Answer {
            head: format!("HTTP/3 {}\r\n{}", reply.status.as_u16(), lines(&reply.headers)),
            body: String::from_utf8_lossy(&reply.body).into_owned(),
        });
    }
    open.conn.close(0x100_u32.into(), b"");
    Ok(out)
}
