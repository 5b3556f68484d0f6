//! The server behind the proxies: small and fast, so that the core it shares with the load generator is not
//! what is measured. Every answer is prepared at the start and leaves in one write.
//!
//! Paths: `/small` (12 bytes), `/fresh` (the same, for caches to keep), `/10k`, `/1m`, `/upload` (drains the body, answers
//! its length), `/echo` (answers with the request head as it arrived, for the check that all proxies do the same work),
//! `/stats` (counters). All of them also stand below `/r/N/`, for the scenario with many routes.

pub mod grpc;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Result;
use memchr::{memchr, memmem};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};

/// Bytes of the bodies, also used to check the answers.
pub const SMALL: usize = 12;
pub const TEN_KIB: usize = 10 << 10;
pub const ONE_MIB: usize = 1 << 20;

/// A request head longer than this closes the connection.
const HEAD_LIMIT: usize = 64 << 10;

/// What all connections share.
pub struct Answers {
    by_path: HashMap<&'static [u8], Vec<u8>>,
    requests: AtomicU64,
    connections: AtomicU64,
}

/// What the answer to a request depends on.
struct Head {
    path: Vec<u8>,
    body: usize,
    close: bool,
    chunked: bool,
}

/// Serves until the process is stopped.
pub fn run(listen: &[SocketAddr]) -> Result<()> {
    let sizes = [(&b"/small"[..], SMALL), (b"/10k", TEN_KIB), (b"/1m", ONE_MIB)];
    let mut by_path: HashMap<_, _> =
        sizes.into_iter().map(|(path, len)| (path, answer("200 OK", &vec![b'x'; len]))).collect();
    by_path.insert(b"/fresh", fresh());
    let answers = Arc::new(Answers { by_path, requests: AtomicU64::new(0), connections: AtomicU64::new(0) });
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        for (index, address) in listen.iter().enumerate() {
            tokio::spawn(accept(bind(*address)?, index, answers.clone()));
        }
        std::future::pending::<Result<()>>().await
    })
}

/// A listening socket whose backlog holds the thousand connections of one scenario at once.
pub fn bind(address: SocketAddr) -> Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket.listen(4096)?)
}

async fn accept(listener: TcpListener, index: usize, answers: Arc<Answers>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                answers.connections.fetch_add(1, Relaxed);
                let _ = stream.set_nodelay(true);
                tokio::spawn(connection(stream, index, answers.clone()));
            }
            // Out of file descriptors: try again, others will close.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// One connection, to its end; an error of the peer only ends it.
async fn connection(mut stream: TcpStream, index: usize, answers: Arc<Answers>) -> Option<()> {
    let mut first = [0; 4];
    // Proxies send the preface of HTTP/2 in one piece, and no method of HTTP/1.1 in use begins like it.
    if stream.peek(&mut first).await.ok()? == first.len() && grpc::PREFACE.starts_with(&first) {
        return grpc::connection(stream, index, answers).await.ok();
    }
    let mut buffer = Vec::with_capacity(16 << 10);
    loop {
        let end = loop {
            if let Some(at) = memmem::find(&buffer, b"\r\n\r\n") {
                break at + 4;
            }
            if buffer.len() > HEAD_LIMIT || stream.read_buf(&mut buffer).await.ok()? == 0 {
                return None;
            }
        };
        let head = read_head(buffer.get(..end)?)?;
        answers.requests.fetch_add(1, Relaxed);
        let echo = (head.path == b"/echo").then(|| buffer.get(..end).map(<[u8]>::to_vec)).flatten();
        buffer.drain(..end);
        if head.chunked {
            let _ = stream.write_all(&answer("411 Length Required", b"")).await;
            return None;
        }
        drain(&mut stream, &mut buffer, head.body).await?;
        match answers.by_path.get(head.path.as_slice()) {
            Some(ready) => stream.write_all(ready).await.ok()?,
            None => stream.write_all(&rare(&head, echo, index, &answers)).await.ok()?,
        }
        if head.close {
            return None;
        }
    }
}

/// Reads the request's body and forgets it; what follows it in the buffer is kept.
async fn drain(stream: &mut TcpStream, buffer: &mut Vec<u8>, body: usize) -> Option<()> {
    let mut left = body;
    loop {
        let have = buffer.len().min(left);
        buffer.drain(..have);
        left -= have;
        if left == 0 {
            return Some(());
        }
        buffer.reserve(64 << 10);
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// The answers that are not prepared.
fn rare(head: &Head, echo: Option<Vec<u8>>, index: usize, answers: &Answers) -> Vec<u8> {
    match (head.path.as_slice(), echo) {
        (b"/echo", Some(mut text)) => {
            text.extend_from_slice(format!("endpoint: {index}\r\n").as_bytes());
            answer("200 OK", &text)
        }
        (b"/upload", _) => answer("200 OK", head.body.to_string().as_bytes()),
        (b"/stats", _) => {
            let (requests, connections) = (answers.requests.load(Relaxed), answers.connections.load(Relaxed));
            answer("200 OK", format!(r#"{{"requests":{requests},"connections":{connections}}}"#).as_bytes())
        }
        _ => answer("404 Not Found", b"no such path\n"),
    }
}

/// An answer to be kept. Without a date, of which caches count its age.
fn fresh() -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nServer: endpoint\r\nCache-Control: max-age=3600\r\nContent-Type: text/plain\r\n\
         Content-Length: {SMALL}\r\n\r\n{}",
        "x".repeat(SMALL)
    )
    .into_bytes()
}

/// A whole answer with the fields that a common application server sends.
fn answer(status: &str, body: &[u8]) -> Vec<u8> {
    let mut out = format!(
        "HTTP/1.1 {status}\r\nServer: endpoint\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
         Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    out.extend_from_slice(body);
    out
}

/// Takes from a head what the answer depends on. The peers are proxies under test that are trusted to frame
/// well; a head that does not parse closes the connection, which the load generator then counts as an error.
fn read_head(head: &[u8]) -> Option<Head> {
    let mut lines = Lines(head);
    let mut words = lines.next()?.split(|b| *b == b' ');
    let (_method, path) = (words.next()?, words.next()?);
    let mut out = Head { path: below_route(path).to_vec(), body: 0, close: false, chunked: false };
    for line in lines {
        // Only three fields matter, and they begin with `c` or `t`.
        if !matches!(line.first(), Some(b'c' | b'C' | b't' | b'T')) {
            continue;
        }
        let colon = memchr(b':', line)?;
        let (name, value) = (line.get(..colon)?, line.get(colon + 1..)?.trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            out.body = std::str::from_utf8(value).ok()?.parse().ok()?;
        } else if name.eq_ignore_ascii_case(b"connection") {
            out.close = value.eq_ignore_ascii_case(b"close");
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            out.chunked = true;
        }
    }
    Some(out)
}

/// A path without the `/r/N` of one of many routes.
fn below_route(path: &[u8]) -> &[u8] {
    let inner = path.strip_prefix(b"/r/").and_then(|rest| rest.get(memchr(b'/', rest)?..));
    inner.unwrap_or(path)
}

/// The lines of a head without their CR LF.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = memchr(b'\n', self.0)?;
        let (line, rest) = self.0.split_at_checked(end + 1)?;
        self.0 = rest;
        Some(line.trim_ascii_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_gives_path_length_and_close() {
        let head = read_head(
            b"POST /upload HTTP/1.1\r\nHost: a\r\ncontent-LENGTH: 42\r\nX: y\r\nConnection: Close\r\n\r\n",
        )
        .unwrap();
        assert_eq!(
            (head.path.as_slice(), head.body, head.close, head.chunked),
            (&b"/upload"[..], 42, true, false)
        );
    }

    #[test]
    fn a_route_s_own_path_is_left_out() {
        for (path, inner) in [("/r/57/small", "/small"), ("/small", "/small"), ("/r/57", "/r/57")] {
            assert_eq!(below_route(path.as_bytes()), inner.as_bytes());
        }
    }

    #[test]
    fn a_chunked_head_is_seen_and_nonsense_is_refused() {
        assert!(read_head(b"POST /upload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap().chunked);
        assert!(read_head(b"GET\r\n\r\n").is_none());
        assert!(read_head(b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n").is_none());
    }

    #[test]
    fn an_answer_is_framed_by_its_length() {
        let text = String::from_utf8(answer("200 OK", b"hello")).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("Content-Length: 5\r\n\r\nhello"));
    }
}
