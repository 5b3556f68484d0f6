//! An endpoint that does with its socket what the test says: lies, resets, hangs, or speaks garbage.

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// How the gateway's health checks call themselves.
pub const CHECK: &str = "portcullis-health";

/// A running script: one call per connection accepted.
pub struct Script {
    addr: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

/// One connection of a script.
pub struct Conversation {
    stream: TcpStream,
    read: Vec<u8>,
    heads: Arc<Mutex<Vec<String>>>,
    /// Which connection this is, from 0.
    pub number: usize,
}

impl Script {
    /// Runs this for every connection.
    pub async fn start<F, C>(script: F) -> Script
    where
        F: Fn(Conversation) -> C + Send + Sync + 'static,
        C: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let addr = listener.local_addr().expect("its address");
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let into = Arc::clone(&heads);
        let task = tokio::spawn(async move {
            let mut running = JoinSet::new();
            let mut number = 0;
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                running.spawn(script(Conversation {
                    stream,
                    read: Vec::new(),
                    heads: Arc::clone(&into),
                    number,
                }));
                number += 1;
            }
        });
        Script { addr, heads, task }
    }

    /// Answers every request head with these bytes, and closes afterwards.
    pub async fn answering(answer: impl Into<Vec<u8>>) -> Script {
        let answer = answer.into();
        Script::start(move |mut conversation| {
            let answer = answer.clone();
            async move {
                if conversation.head().await.is_some() {
                    conversation.write(&answer).await;
                }
            }
        })
        .await
    }

    /// `http://127.0.0.1:12345`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Every request head that was read, exactly as it came; without health checks: the system may have given this port to
    /// an endpoint of another test before, whose gateway still looks after it.
    pub fn heads(&self) -> Vec<String> {
        self.of(false)
    }

    /// The same of health checks.
    pub fn checks(&self) -> Vec<String> {
        self.of(true)
    }

    fn of(&self, checks: bool) -> Vec<String> {
        let heads = self.heads.lock().expect("the heads");
        heads.iter().filter(|head| head.contains(CHECK) == checks).cloned().collect()
    }

    /// The last of them.
    pub fn last_head(&self) -> String {
        self.heads().pop().expect("a request arrived")
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Conversation {
    /// Reads a request's head, up to and with the empty line; `None` when the client left before.
    pub async fn head(&mut self) -> Option<String> {
        let end = loop {
            if let Some(at) = find(&self.read, b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await?;
        };
        let rest = self.read.split_off(end);
        let head = String::from_utf8_lossy(&std::mem::replace(&mut self.read, rest)).into_owned();
        self.heads.lock().expect("the heads").push(head.clone());
        Some(head)
    }

    /// Reads exactly so many bytes of a body.
    pub async fn body(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.read.len() < length {
            self.more().await?;
        }
        let rest = self.read.split_off(length);
        Some(std::mem::replace(&mut self.read, rest))
    }

    /// Reads until what was read ends with this.
    pub async fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        while find(&self.read, end).is_none() {
            self.more().await?;
        }
        Some(std::mem::take(&mut self.read))
    }

    async fn more(&mut self) -> Option<()> {
        match self.stream.read_buf(&mut self.read).await {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(()),
        }
    }

    /// Writes; a client that left is no matter.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Says nothing more until the other side leaves (or for two minutes).
    pub async fn hang(&mut self) {
        let left = async {
            let mut sink = [0; 4096];
            while let Ok(1..) = self.stream.read(&mut sink).await {}
        };
        let _ = tokio::time::timeout(Duration::from_secs(120), left).await;
    }

    /// Closes with a reset instead of an orderly end.
    pub fn reset(self) {
        let _ = self.stream.set_zero_linger();
    }
}

/// Where a sequence of bytes starts in another.
pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
