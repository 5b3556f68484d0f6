//! Requests over HTTP/3, as many as the answers let it send: over kept connections with so many streams each, or each over
//! a connection of its own, with a full handshake.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::Request;
use quinn::Endpoint;
use tokio::time::timeout;

use super::{Run, say, tally::Tally};
use crate::quic::{self, HOST, Sender};

/// A request without an answer after this long has failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks for `path` for some seconds and says what it counted. Without `streams`, every request opens a connection of its
/// own.
pub fn main(run: &Run, streams: Option<usize>, path: &str) -> Result<()> {
    let &Run { to, seconds, connections } = run;
    let request = Request::get(format!("https://{HOST}{path}")).body(())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let load = runtime.block_on(async {
        let mut open = Vec::new();
        for _ in 0..connections {
            let endpoint = quic::endpoint()?;
            let kept = match streams {
                Some(_) => Some(quic::connect(&endpoint, to).await.context("opening the connections")?),
                None => None,
            };
            open.push((endpoint, kept));
        }
        let begun = Instant::now();
        let until = begun + Duration::from_secs(seconds);
        let mut tasks = Vec::new();
        for (endpoint, kept) in &open {
            match kept {
                None => tasks.push(tokio::spawn(fresh(endpoint.clone(), to, request.clone(), until))),
                Some(kept) => tasks.extend((0..streams.unwrap_or(1)).map(|_| {
                    let request = request.clone();
                    tokio::spawn(stream(kept.sender.clone(), request, until))
                })),
            }
        }
        let mut all = Tally::default();
        for task in tasks {
            all += task.await?;
        }
        all.load(begun)
    })?;
    say(&load);
    Ok(())
}

impl Tally {
    /// One request; false when it failed.
    async fn ask(&mut self, sender: &mut Sender, request: &Request<()>, begun: Instant) -> bool {
        match timeout(PATIENCE, quic::fetch(sender, request.clone(), Bytes::new())).await {
            Err(_) => self.errors.timeout += 1,
            Ok(Err(_)) => self.errors.read += 1,
            Ok(Ok(reply)) => {
                self.errors.status += u64::from(reply.status.as_u16() >= 400);
                self.bytes += reply.body.len() as u64;
                self.done(begun.elapsed());
                return true;
            }
        }
        false
    }
}

/// One request after the other on a connection that others share. It ends with the first that fails: the connection is
/// broken, and trying on would only count that.
async fn stream(mut sender: Sender, request: Request<()>, until: Instant) -> Tally {
    let mut seen = Tally::default();
    while Instant::now() < until {
        if !seen.ask(&mut sender, &request, Instant::now()).await {
            break;
        }
    }
    seen
}

/// One connection after the other, with a request each. The time of a request holds its connection's.
async fn fresh(endpoint: Endpoint, to: SocketAddr, request: Request<()>, until: Instant) -> Tally {
    let mut seen = Tally::default();
    while Instant::now() < until {
        let begun = Instant::now();
        match timeout(PATIENCE, quic::connect(&endpoint, to)).await {
            Ok(Ok(mut open)) => {
                seen.ask(&mut open.sender, &request, begun).await;
                // H3_NO_ERROR (RFC 9114 §8.1).
                open.conn.close(0x100_u32.into(), b"");
            }
            _ => seen.errors.connect += 1,
        }
    }
    seen
}
