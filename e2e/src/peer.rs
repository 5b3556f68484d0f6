//! Other people's servers around the gateway: nginx, HAProxy and Prometheus as processes, with a configuration in a
//! folder of their own.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::ports::free_port;

/// A running server. It is killed when it is dropped.
pub struct Peer {
    child: Child,
    addr: SocketAddr,
    dir: TempDir,
}

impl Peer {
    /// HAProxy with these sections. `{port}` becomes its port, `{dir}` its folder, in which these files are.
    pub fn haproxy(sections: &str, files: &[(&str, &str)]) -> Peer {
        let text = format!(
            "global\n  maxconn 100\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 20s\n  \
             timeout server 20s\n{sections}\n"
        );
        Peer::start("haproxy.cfg", &text, files, |config, _| {
            let mut command = Command::new("haproxy");
            command.args(["-db", "-q", "-f", config]);
            command
        })
    }

    /// nginx with this in its `http` block. `{port}` becomes its port, `{dir}` its folder.
    pub fn nginx(http: &str) -> Peer {
        let text = format!(
            "daemon off; master_process off; pid {{dir}}/pid; error_log stderr;\nevents {{ }}\n\
             http {{\n access_log off; client_body_temp_path {{dir}}/a; proxy_temp_path {{dir}}/b;\n \
             fastcgi_temp_path {{dir}}/c; uwsgi_temp_path {{dir}}/d; scgi_temp_path {{dir}}/e;\n{http}\n}}\n"
        );
        Peer::start("nginx.conf", &text, &[], |config, _| {
            let mut command = Command::new("nginx");
            command.args(["-c", config]);
            command
        })
    }

    /// Prometheus with this scrape file. It keeps what it scrapes in a folder of its own.
    pub fn prometheus(text: &str) -> Peer {
        Peer::start("prometheus.yml", text, &[], |config, port| {
            let mut command = Command::new("prometheus");
            command.arg(format!("--config.file={config}"));
            command.arg(format!("--storage.tsdb.path={config}.data"));
            command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
            command
        })
    }

    fn start(name: &str, text: &str, files: &[(&str, &str)], command: impl Fn(&str, u16) -> Command) -> Peer {
        let dir = tempfile::Builder::new().prefix("portcullis-peer-").tempdir().expect("a temporary folder");
        let port = free_port();
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let folder = dir.path().display().to_string();
        let text = text.replace("{port}", &port.to_string()).replace("{dir}", &folder);
        for (name, content) in files {
            std::fs::write(dir.path().join(name), content).expect("write a file");
        }
        let config = dir.path().join(name);
        std::fs::write(&config, text).expect("write the configuration");
        let log = std::fs::File::create(dir.path().join("log")).expect("a log");
        let mut command = command(&config.display().to_string(), port);
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        command.env("PATH", path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().expect("it is installed (scripts/test sees to it)");
        let mut peer = Peer { child, addr, dir };
        let end = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(addr).is_err() {
            let ended = peer.child.try_wait().expect("its status").is_some();
            assert!(!ended && Instant::now() < end, "{name} does not run: {}", peer.said());
            std::thread::sleep(Duration::from_millis(10));
        }
        peer
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it wrote to its standard error.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
