//! Socket activation: listening sockets from systemd, or whoever speaks its protocol (sd_listen_fds(3)).
//!
//! To make a socket of the number of an inherited descriptor cannot be done without unsafe code; `listenfd` does just
//! that, and looks whether it is one. It changes the environment, which must happen before there are threads.

use std::{env, io};

use listenfd::ListenFd;
use portcullis_proxy::Inherited;

/// The sockets that this process was given. To be called before anything else, once.
///
/// # Errors
/// What was given is no listening socket for TCP.
pub fn sockets() -> io::Result<Vec<Inherited>> {
    let given_to = env::var("LISTEN_PID").ok().and_then(|pid| pid.parse().ok());
    if given_to != Some(std::process::id()) {
        return Ok(Vec::new());
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut given = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..given.len() {
        let listener = names.next().filter(|name| !name.is_empty() && *name != "unknown").map(Into::into);
        if let Some(socket) = given.take_tcp_listener(index)? {
            sockets.push(Inherited { listener, wanted: None, socket });
        }
    }
    Ok(sockets)
}
