//! Ports for the gateway's listeners.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU16, Ordering::Relaxed},
};

/// A port that nobody listens on, and that no other test of this process was given.
///
/// Taken from below the range from which the system gives ports to connections, so that none of the thousands that the
/// tests make can take it between our finding it free and the gateway's binding it.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = u32::from(first_ephemeral() - LOWEST);
    // Where to begin is the process's own, so that two runs at once do not try the same.
    let begin = std::process::id().wrapping_mul(7919) % span;
    for _ in 0..span {
        let step = u32::from(NEXT.fetch_add(1, Relaxed));
        let port = LOWEST + ((begin + step) % span) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

/// The lowest port given to a gateway.
const LOWEST: u16 = 12_000;

/// Where the system's own range begins.
fn first_ephemeral() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    range
        .split_whitespace()
        .next()
        .and_then(|first| first.parse().ok())
        .filter(|first| *first > LOWEST)
        .unwrap_or(32_768)
}
