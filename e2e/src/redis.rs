//! A real redis-server of the test's own, and a way to it that can be slow. scripts/test installs the server; without it
//! the tests fail.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::sleep,
};

use crate::{certs::Authority, wait::LONG, within};

/// A running server. It ends when it is dropped.
pub struct Redis {
    port: u16,
    /// Where it speaks TLS.
    secure: Option<u16>,
    child: Child,
    folder: tempfile::TempDir,
}

impl Redis {
    /// An empty server on a free port.
    pub async fn start() -> Redis {
        let port = crate::ports::free_port();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut redis = Redis { port, secure: None, child: spawn(port, None, folder.path()), folder };
        redis.is_up().await;
        redis
    }

    /// One that also speaks TLS, at another port, with a certificate of this authority.
    pub async fn secure(authority: &Authority) -> Redis {
        let (port, secure) = (crate::ports::free_port(), crate::ports::free_port());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let pair = authority.issue(&["127.0.0.1"]);
        for (name, text) in [("cert.pem", pair.cert), ("key.pem", pair.key), ("ca.pem", authority.pem())] {
            std::fs::write(folder.path().join(name), text).expect("write a certificate");
        }
        let child = spawn(port, Some(secure), folder.path());
        let mut redis = Redis { port, secure: Some(secure), child, folder };
        redis.is_up().await;
        redis
    }

    /// Where it speaks TLS, as a URL of a user (`name:password@`), though not yet of TLS.
    pub fn secure_url(&self, user: &str) -> String {
        format!("redis://{user}127.0.0.1:{}", self.secure.expect("it speaks TLS"))
    }

    /// Its address as a URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Ends it at once, with everything that it knew.
    pub fn kill(&mut self) {
        self.child.kill().expect("it was there");
        self.child.wait().expect("it ended");
    }

    /// Starts it again at the same port, empty.
    pub async fn again(&mut self) {
        self.child = spawn(self.port, self.secure, self.folder.path());
        self.is_up().await;
    }

    async fn is_up(&mut self) {
        let addr = self.addr();
        within(LONG, "redis-server starts", || async { TcpStream::connect(addr).await.is_ok() }).await;
    }

    /// Says a command to it, in its inline form; the first line of what it answers.
    pub async fn say(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(self.addr()).await.expect("redis-server");
        stream.write_all(format!("{command}\r\n").as_bytes()).await.expect("a command");
        let mut answer = vec![0; 1024];
        let read = stream.read(&mut answer).await.expect("an answer");
        let text = String::from_utf8_lossy(&answer[..read]).into_owned();
        assert!(!text.starts_with('-'), "{command}: {text}");
        text.lines().next().unwrap_or_default().to_owned()
    }

    /// How often a command has been called, also by scripts.
    pub async fn calls(&self, command: &str) -> u64 {
        let mut stream = TcpStream::connect(self.addr()).await.expect("redis-server");
        stream.write_all(b"INFO commandstats\r\nQUIT\r\n").await.expect("a command");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an answer");
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
    }

    /// It stops where it is, with all connections open, until it is told to go on.
    pub fn freeze(&self, frozen: bool) {
        let signal = if frozen { Signal::STOP } else { Signal::CONT };
        kill_process(Pid::from_child(&self.child), signal).expect("it is there");
    }
}

fn spawn(port: u16, secure: Option<u16>, folder: &std::path::Path) -> Child {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    if let Some(secure) = secure {
        command.args(["--tls-port", &secure.to_string(), "--tls-auth-clients", "no"]);
        for (name, file) in [("cert", "cert.pem"), ("key", "key.pem"), ("ca-cert", "ca.pem")] {
            command.arg(format!("--tls-{name}-file")).arg(folder.join(file));
        }
    }
    command
        .arg("--dir")
        .arg(folder)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server, which scripts/test installs")
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A relay that holds what a server says for a while.
pub struct Slow {
    addr: SocketAddr,
    millis: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Slow {
    /// To a server; not slow yet.
    pub async fn to(server: SocketAddr) -> Slow {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let addr = listener.local_addr().expect("its address");
        let millis = Arc::new(AtomicU64::new(0));
        let delay = millis.clone();
        let task = tokio::spawn(async move {
            let mut relays = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                relays.spawn(relay(client, server, delay.clone()));
            }
        });
        Slow { addr, millis, task }
    }

    /// Its address as a URL.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// Answers come so much later from now on.
    pub fn by(&self, delay: Duration) {
        self.millis.store(delay.as_millis() as u64, Relaxed);
    }
}

async fn relay(client: TcpStream, server: SocketAddr, delay: Arc<AtomicU64>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let forth = async move { tokio::io::copy(&mut from_client, &mut to_server).await.map(drop) };
    let back = async move {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let read = from_server.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            sleep(Duration::from_millis(delay.load(Relaxed))).await;
            to_client.write_all(&buffer[..read]).await?;
        }
    };
    // Either side's end is the end.
    let _: Result<(), std::io::Error> = tokio::select! {
        ended = forth => ended,
        ended = back => ended,
    };
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.task.abort();
    }
}
