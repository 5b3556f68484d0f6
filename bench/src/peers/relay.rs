//! The raw TCP relay of `relay.rs`, as a process of its own.

use anyhow::Result;

use super::{Peer, Role, Site};
use crate::process::Launch;

/// The relay's row.
pub const PEER: Peer = Peer {
    name: "relay",
    role: Role::Floor,
    supervised: false,
    caches: false,
    no_http3: Some("the relay copies TCP"),
    version,
    launch,
};

fn version(_: &Site) -> Result<String> {
    Ok(env!("CARGO_PKG_VERSION").to_owned())
}

fn launch(site: &Site) -> Result<Launch> {
    let mut launch = Launch::new(std::env::current_exe()?, ["relay", "--listen"]);
    launch.args.push(site.listen.to_string().into());
    for endpoint in site.endpoints {
        launch.args.extend(["--to".into(), endpoint.to_string().into()]);
    }
    Ok(launch)
}
