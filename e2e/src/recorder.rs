//! An endpoint that keeps every byte it is sent, and answers whatever it takes for a request with `200`.
//!
//! It reads requests as a plain server would, not a careful one: a gateway that forwards something ambiguous shows in
//! what it recorded.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

use crate::script::find;

/// The answer to everything.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A running recorder.
pub struct Recorder {
    addr: SocketAddr,
    bytes: Arc<Mutex<Vec<u8>>>,
    task: JoinHandle<()>,
}

impl Recorder {
    /// Begins to listen.
    pub async fn start() -> Recorder {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let addr = listener.local_addr().expect("its address");
        let bytes: Arc<Mutex<Vec<u8>>> = Arc::default();
        let into = Arc::clone(&bytes);
        let task = tokio::spawn(async move {
            let mut running = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                running.spawn(converse(stream, Arc::clone(&into)));
            }
        });
        Recorder { addr, bytes, task }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What arrived since the last [`Recorder::take`].
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().expect("the bytes").clone()
    }

    /// The same, and it is forgotten.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.bytes.lock().expect("the bytes"))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(mut stream: TcpStream, into: Arc<Mutex<Vec<u8>>>) {
    let (mut unread, mut piece) = (Vec::new(), [0; 16 * 1024]);
    while let Ok(length @ 1..) = stream.read(&mut piece).await {
        into.lock().expect("the bytes").extend_from_slice(&piece[..length]);
        unread.extend_from_slice(&piece[..length]);
        if expects_continue(&unread) && stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_err() {
            return;
        }
        while let Some(end) = request_end(&unread) {
            unread.drain(..end);
            if stream.write_all(ANSWER).await.is_err() {
                return;
            }
        }
    }
}

/// Is this a head, and nothing more yet, whose sender waits for our word?
fn expects_continue(bytes: &[u8]) -> bool {
    let is_head = bytes.ends_with(b"\r\n\r\n") && request_end(bytes).is_none();
    is_head && String::from_utf8_lossy(bytes).to_lowercase().contains("\r\nexpect: 100-continue\r\n")
}

/// The length of the request that these bytes begin with; `None` while it is not whole.
fn request_end(bytes: &[u8]) -> Option<usize> {
    let body = find(bytes, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..body]).to_lowercase();
    if head.contains("\r\ntransfer-encoding:") {
        let mut at = body;
        loop {
            let line = find(&bytes[at..], b"\r\n")?;
            let size = String::from_utf8_lossy(&bytes[at..at + line]).into_owned();
            at += line + 2;
            match usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16) {
                Ok(0) => break,
                Ok(size) => at += size + 2,
                Err(_) => return None,
            }
            if at > bytes.len() {
                return None;
            }
        }
        while !bytes.get(at..)?.starts_with(b"\r\n") {
            at += find(&bytes[at..], b"\r\n")? + 2;
        }
        return Some(at + 2);
    }
    let length = head.split("\r\ncontent-length:").nth(1).and_then(|rest| rest.lines().next());
    let whole = body + length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
    (bytes.len() >= whole).then_some(whole)
}
