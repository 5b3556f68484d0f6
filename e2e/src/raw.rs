//! A client that writes exactly the bytes it is told to, and reads answers as they come.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    script::find,
    wait::{LONG, bounded},
};

/// One TCP connection.
pub struct RawClient {
    /// The socket.
    pub stream: TcpStream,
    read: Vec<u8>,
}

/// An answer as it came.
#[derive(Debug, Clone)]
pub struct RawReply {
    /// The status.
    pub status: u16,
    /// The head, with the status line and without the empty line.
    pub head: String,
    /// The body, without its framing.
    pub body: Vec<u8>,
}

impl RawClient {
    /// Connects.
    pub async fn connect(addr: SocketAddr) -> RawClient {
        let stream = bounded(LONG, "connecting", TcpStream::connect(addr)).await.expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        RawClient { stream, read: Vec::new() }
    }

    /// Connects, writes this, and reads one answer.
    pub async fn ask(addr: SocketAddr, request: impl AsRef<[u8]>) -> RawReply {
        let mut client = RawClient::connect(addr).await;
        client.write(request).await;
        client.reply().await
    }

    /// Writes; that the other side left is no matter.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = bounded(LONG, "writing", self.stream.write_all(bytes.as_ref())).await;
    }

    /// Reads a head only (an interim answer, for instance).
    pub async fn head(&mut self) -> RawReply {
        let what = "the head of an answer";
        let end = loop {
            if let Some(at) = find(&self.read, b"\r\n\r\n") {
                break at;
            }
            let more = bounded(LONG, what, self.stream.read_buf(&mut self.read)).await;
            let said = String::from_utf8_lossy(&self.read).into_owned();
            assert!(matches!(more, Ok(1..)), "the connection ended before {what}: {more:?} {said:?}");
        };
        let rest = self.read.split_off(end + 4);
        let head = std::mem::replace(&mut self.read, rest);
        let head = String::from_utf8_lossy(&head[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        RawReply { status, head, body: Vec::new() }
    }

    /// Reads a whole answer to a request other than HEAD.
    pub async fn reply(&mut self) -> RawReply {
        let mut reply = self.head().await;
        if reply.status == 204 || reply.status == 304 || reply.status < 200 {
            return reply;
        }
        if reply.header("transfer-encoding").eq_ignore_ascii_case("chunked") {
            reply.body = self.chunked().await;
        } else if let Ok(length) = reply.header("content-length").parse() {
            reply.body = self.exactly(length).await;
        } else {
            reply.body = self.to_end().await;
        }
        reply
    }

    /// Reads so many bytes.
    pub async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.read.len() < length {
            let more = bounded(LONG, "the body", self.stream.read_buf(&mut self.read)).await;
            assert!(
                matches!(more, Ok(1..)),
                "the body ended early: {more:?} after {} bytes",
                self.read.len()
            );
        }
        let rest = self.read.split_off(length);
        std::mem::replace(&mut self.read, rest)
    }

    /// Reads to the end of the connection, however it ends.
    pub async fn to_end(&mut self) -> Vec<u8> {
        let reading = async { while let Ok(1..) = self.stream.read_buf(&mut self.read).await {} };
        bounded(LONG, "the end of the connection", reading).await;
        std::mem::take(&mut self.read)
    }

    /// Does the other side close within this time, without saying more?
    pub async fn closes_within(&mut self, limit: Duration) -> bool {
        let mut byte = [0];
        matches!(tokio::time::timeout(limit, self.stream.read(&mut byte)).await, Ok(Ok(0) | Err(_)))
    }

    /// Does the other side close, or say anything, within this time?
    pub async fn closes_or_speaks_within(&mut self, limit: Duration) -> bool {
        let mut byte = [0];
        tokio::time::timeout(limit, self.stream.read(&mut byte)).await.is_ok()
    }

    async fn line(&mut self) -> String {
        let end = loop {
            if let Some(at) = find(&self.read, b"\r\n") {
                break at;
            }
            let more = bounded(LONG, "a chunk", self.stream.read_buf(&mut self.read)).await;
            assert!(matches!(more, Ok(1..)), "the chunked body ended early: {more:?}");
        };
        let rest = self.read.split_off(end + 2);
        let line = std::mem::replace(&mut self.read, rest);
        String::from_utf8_lossy(&line[..end]).into_owned()
    }

    async fn chunked(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let size = self.line().await;
            let size =
                usize::from_str_radix(size.split(';').next().unwrap_or_default(), 16).expect("a chunk size");
            if size == 0 {
                while !self.line().await.is_empty() {}
                return body;
            }
            body.extend(self.exactly(size).await);
            assert_eq!(self.line().await, "", "a chunk ends with a line end");
        }
    }
}

impl RawReply {
    /// A field's value, or the empty text.
    pub fn header(&self, name: &str) -> &str {
        let fields = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        fields
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .next()
            .unwrap_or_default()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
