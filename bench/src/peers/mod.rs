//! The proxies that are compared, one file and one row each. All do the same work: proxy to two endpoints in
//! turn over kept connections, put a fresh request id and `X-Forwarded-For`, `-Proto`, `-Host` on the request,
//! set one field on the answer, count for their metrics page, write no access log. What a scenario asks for beyond that
//! stands in [`Work`].

mod caddy;
mod envoy;
mod haproxy;
mod nginx;
mod portcullis;
mod relay;
mod varnish;

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Result;

use crate::{certificate::Certificate, process::Launch};

/// Idle connections kept to the endpoints: enough for the scenario with the most connections, so that no proxy
/// is measured at opening them.
pub const KEPT: usize = 1024;

/// The field that every proxy sets on the answer.
pub const ANSWER_FIELD: (&str, &str) = ("X-Bench", "on");

/// With everything on: the origin whose pages may use the service.
pub const ORIGIN: &str = "https://shop.example";

/// With everything on: the largest body of a request, in bytes.
pub const BODY_LIMIT: usize = 10 << 20;

/// With everything on: the file of the access log, in the proxy's folder. HAProxy cannot write to a file and says its
/// lines on standard output, which is one too.
pub const ACCESS_LOG: &str = "access.log";

/// What goes over the wires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// HTTP/1.1 on both sides.
    Plain,
    /// TLS 1.3 with clients, who choose HTTP/1.1 or 2 by ALPN; HTTP/1.1 to the endpoints.
    Tls,
    /// HTTP/3 with clients, over QUIC; HTTP/1.1 to the endpoints.
    Quic,
    /// HTTP/2 without TLS on both sides.
    H2c,
}

/// What a scenario asks of the proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// What goes over the wires.
    pub wire: Wire,
    /// `hosts` × `hosts` routes (a host and a path each) instead of one for everything; 0 for that one.
    pub hosts: usize,
    /// Access log as JSON to a file, changes of fields on both ways, CORS, a limit for bodies.
    pub everything: bool,
    /// Answers that may be are kept and served from memory.
    pub cached: bool,
    /// Connections of clients at once.
    pub connections: usize,
}

impl Wire {
    /// Whether clients are shown a certificate.
    pub fn is_secure(self) -> bool {
        matches!(self, Wire::Tls | Wire::Quic)
    }
}

impl Work {
    /// Connections that the proxies prepare for, those to the endpoints included.
    pub fn room(&self) -> usize {
        if self.connections > 2000 { self.connections + 2288 } else { 4096 }
    }
}

/// The host of one of many routes.
pub fn route_host(host: usize) -> String {
    format!("h{host}.example")
}

/// The path below which everything belongs to one of many routes. The endpoint leaves it out of what it is asked for.
pub fn route_path(path: usize) -> String {
    format!("/r/{path}/")
}

/// Where a proxy finds itself: its addresses, its endpoints, its folder, its work.
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
    /// What it shows to clients over TLS.
    pub certificate: Certificate,
    /// What it has to do.
    pub work: Work,
}

impl Site {
    /// Path of its access log.
    pub fn access_log(&self) -> PathBuf {
        self.dir.join(ACCESS_LOG)
    }
}

/// What a proxy is in the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Ours.
    Ours,
    /// The better of these is what targets are set against.
    Reference,
    /// A reference with other sizes of buffers. It takes part where bodies are large, and has a ratio of its own.
    Tuned,
    /// Compared with as well: the best of the references and these is the best peer.
    Other,
    /// A cache before all: it takes part where answers are kept.
    Cache,
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
    /// Whether its cache is compared.
    pub caches: bool,
    /// Why it does not take part where clients speak HTTP/3, if so.
    pub no_http3: Option<&'static str>,
    /// Says its version; an error says why it cannot take part.
    pub version: fn(&Site) -> Result<String>,
    /// Writes its configuration and says how to start it.
    pub launch: fn(&Site) -> Result<Launch>,
}

/// All of them; ours first.
pub const PEERS: &[Peer] = &[
    portcullis::PEER,
    nginx::PEER,
    haproxy::PEER,
    nginx::TUNED,
    haproxy::TUNED,
    caddy::PEER,
    envoy::PEER,
    varnish::PEER,
    relay::PEER,
];
