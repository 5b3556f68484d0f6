//! How names of endpoints are looked up.

use std::{net::SocketAddr, time::Duration};

use serde::Serialize;

use crate::human;

/// How names of endpoints are looked up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dns {
    /// Asked instead of the system's; empty = those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// For one question to one server. Default 2 s.
    #[serde(serialize_with = "human::time")]
    pub timeout: Duration,
    /// An answer is used so long at least. Default 1 s.
    #[serde(serialize_with = "human::time")]
    pub min_ttl: Duration,
    /// An answer is used no longer before it is asked for again. Default 5 min.
    #[serde(serialize_with = "human::time")]
    pub max_ttl: Duration,
}
