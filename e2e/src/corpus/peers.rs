//! nginx and HAProxy, from Debian's packages, each as a process of its own on loopback, with its own defaults as far as
//! a reverse proxy may keep them.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::{
    ports::free_port,
    wait::{LONG, within},
};

/// A running peer.
pub struct Peer {
    /// Name and version.
    pub title: String,
    /// Where it speaks HTTP/1.1.
    pub http1: SocketAddr,
    /// Where it speaks HTTP/2 by prior knowledge.
    pub http2: SocketAddr,
    child: Child,
    _dir: TempDir,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// nginx: HTTP/1.1 to the endpoint, kept alive, bodies as they come.
pub async fn nginx(endpoint: SocketAddr) -> Peer {
    let (http1, http2) = (local(), local());
    let server = "location / { proxy_pass http://app; proxy_http_version 1.1; proxy_request_buffering off; \
                  proxy_set_header Connection \"\"; proxy_set_header Host $http_host; }";
    let dir = folder();
    let at = dir.path().display();
    let temps: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {at}/{kind};\n"))
        .concat();
    // In one process: what is started here is also what is killed.
    let text = format!(
        "daemon off;\nmaster_process off;\npid {at}/pid;\nerror_log {at}/error.log;\nevents {{}}\nhttp {{\naccess_log off;\n{temps}\
         upstream app {{ server {endpoint}; keepalive 4; }}\n\
         server {{ listen {http1}; {server} }}\nserver {{ listen {http2} http2; {server} }}\n}}\n"
    );
    let file = dir.path().join("nginx.conf");
    std::fs::write(&file, text).expect("write a configuration");
    let mut command = program("nginx");
    command.arg("-e").arg("stderr").arg("-p").arg(dir.path()).arg("-c").arg(&file);
    let title = format!("nginx {}", version("nginx", "-v", "/"));
    start(command, title, http1, http2, dir).await
}

/// HAProxy in mode `http`.
pub async fn haproxy(endpoint: SocketAddr) -> Peer {
    let (http1, http2) = (local(), local());
    let dir = folder();
    let text = format!(
        "global\n    maxconn 1000\n    nbthread 1\ndefaults\n    mode http\n    timeout connect 3s\n    timeout client 30s\n\
         \x20   timeout server 30s\nfrontend web\n    bind {http1}\n    bind {http2} proto h2\n    default_backend app\n\
         backend app\n    option forwardfor\n    server one {endpoint}\n"
    );
    let file = dir.path().join("haproxy.cfg");
    std::fs::write(&file, text).expect("write a configuration");
    let mut command = program("haproxy");
    command.arg("-db").arg("-f").arg(&file);
    let title = format!("HAProxy {}", version("haproxy", "-v", "version "));
    start(command, title, http1, http2, dir).await
}

fn local() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("portcullis-corpus-").tempdir().expect("a temporary folder")
}

/// Debian keeps them where not every user's path leads.
fn program(name: &str) -> Command {
    let known = ["/usr/sbin", "/usr/bin", "/usr/local/sbin"].map(|dir| std::path::Path::new(dir).join(name));
    let found = known.into_iter().find(|path| path.exists());
    Command::new(found.unwrap_or_else(|| panic!("{name} is not installed (Debian package {name})")))
}

fn version(name: &str, argument: &str, before: &str) -> String {
    let output = program(name).arg(argument).output().expect("its version");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    let behind = said.split_once(before).map_or("", |(_, behind)| behind);
    behind.split([' ', '-', '\n']).next().unwrap_or_default().to_owned()
}

async fn start(
    mut command: Command,
    title: String,
    http1: SocketAddr,
    http2: SocketAddr,
    dir: TempDir,
) -> Peer {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let child = child.unwrap_or_else(|error| panic!("start {title}: {error}"));
    let peer = Peer { title, http1, http2, child, _dir: dir };
    within(LONG, "a peer that listens", || async move { TcpStream::connect(http1).await.is_ok() }).await;
    peer
}
