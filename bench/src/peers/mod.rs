//! The proxies that are compared, one file and one row each. All do the same work: proxy to two endpoints in
//! turn over kept connections, put a fresh request id and `X-Forwarded-For`, `-Proto`, `-Host` on the request,
//! set one field on the answer, count for their metrics page, write no access log.

mod haproxy;
mod nginx;
mod portcullis;
mod relay;

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Result;

use crate::process::Launch;

/// Idle connections kept to the endpoints: enough for the scenario with the most connections, so that no proxy
/// is measured at opening them.
pub const KEPT: usize = 1024;

/// The field that every proxy sets on the answer.
pub const ANSWER_FIELD: (&str, &str) = ("X-Bench", "on");

/// Where a proxy finds itself: its addresses, its endpoints, its folder.
#[derive(Debug, Clone)]
pub struct Site {
    /// Folder for its configuration and whatever it writes.
    pub dir: PathBuf,
    /// Where the load arrives.
    pub listen: SocketAddr,
    /// Where its metrics page is.
    pub admin: SocketAddr,
    /// What is behind it.
    pub endpoints: [SocketAddr; 2],
    /// Worker threads or processes.
    pub workers: usize,
    /// The gateway's binary.
    pub portcullis: PathBuf,
}

/// What a proxy is in the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Ours.
    Ours,
    /// The better of these is what ratios are taken against.
    Reference,
    /// A reference with other sizes of buffers. It takes part where bodies are large, and has a ratio of its own.
    Tuned,
    /// Not a proxy of HTTP: the least that moving the bytes costs.
    Floor,
}

/// One row of the table.
pub struct Peer {
    /// As on the command line and in the tables.
    pub name: &'static str,
    /// What it is in the comparison.
    pub role: Role,
    /// Its first process only watches over the workers; its memory is not counted (its CPU time is).
    pub supervised: bool,
    /// Says its version; an error says why it cannot take part.
    pub version: fn(&Site) -> Result<String>,
    /// Writes its configuration and says how to start it.
    pub launch: fn(&Site) -> Result<Launch>,
}

/// All of them; ours first.
pub const PEERS: &[Peer] =
    &[portcullis::PEER, nginx::PEER, haproxy::PEER, nginx::TUNED, haproxy::TUNED, relay::PEER];
