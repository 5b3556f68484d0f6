//! The sockets that carry HTTP/1.1, as one type: plain TCP, TLS either way round, and Unix sockets.

use std::{
    io::{self, BufRead},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::BufMut;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

use crate::buffers;

/// How much one read of a body may bring.
const READ: usize = 64 * 1024;

/// A byte stream to a client or to an endpoint.
#[derive(Debug)]
pub enum Io {
    /// Plaintext.
    Tcp(TcpStream),
    /// TLS, our side the server.
    TlsServer(Box<tokio_rustls::server::TlsStream<TcpStream>>),
    /// TLS, our side the client.
    TlsClient(Box<tokio_rustls::client::TlsStream<TcpStream>>),
    /// A Unix socket.
    Unix(UnixStream),
    /// Taken away (by a tunnel); reads give the end, writes fail.
    Gone,
}

impl Io {
    /// Is an idle connection still open and silent? Costs no system call while nothing arrived: the reactor knows.
    /// A TLS session ticket that arrived meanwhile is taken in; anything else, the end included, means no.
    pub fn is_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let mut byte = [0_u8; 1];
        let mut buf = ReadBuf::new(&mut byte);
        matches!(Pin::new(self).poll_read(&mut cx, &mut buf), Poll::Pending)
    }

    /// Is closing the socket all there is to its end? (TLS says that it ends, RFC 8446 §6.1.)
    pub fn says_nothing_at_its_end(&self) -> bool {
        !matches!(self, Io::TlsServer(_) | Io::TlsClient(_))
    }

    /// Ready when there is something to read, or there may be: a record of TLS may turn out to be half of one, and of TLS
    /// towards an endpoint nothing is known. The read itself waits then.
    pub fn poll_something(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Io::Tcp(stream) => stream.poll_read_ready(cx).map(drop),
            Io::Unix(stream) => stream.poll_read_ready(cx).map(drop),
            Io::TlsServer(stream) => {
                let (socket, session) = stream.get_mut();
                // What was decrypted already, or the end of the session.
                match session.reader().fill_buf() {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        socket.poll_read_ready(cx).map(drop)
                    }
                    _ => Poll::Ready(()),
                }
            }
            Io::TlsClient(_) | Io::Gone => Poll::Ready(()),
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::TlsServer(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
            Io::TlsClient(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
            Io::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Gone => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Io::Tcp(stream) => Pin::new(stream).poll_write(cx, data),
            Io::TlsServer(stream) => Pin::new(stream.as_mut()).poll_write(cx, data),
            Io::TlsClient(stream) => Pin::new(stream.as_mut()).poll_write(cx, data),
            Io::Unix(stream) => Pin::new(stream).poll_write(cx, data),
            Io::Gone => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::TlsServer(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Io::TlsClient(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Io::Tcp(_) | Io::Unix(_) | Io::Gone => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::TlsServer(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Io::TlsClient(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Io::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Gone => Poll::Ready(Ok(())),
        }
    }
}

/// Bytes that were read and not yet used.
#[derive(Debug, Default)]
pub struct Input {
    bytes: Vec<u8>,
    used: usize,
}

impl Input {
    /// What is there.
    pub fn unread(&self) -> &[u8] {
        self.bytes.get(self.used..).unwrap_or_default()
    }

    /// Marks so many bytes as used.
    pub fn consume(&mut self, bytes: usize) {
        self.used = (self.used + bytes).min(self.bytes.len());
        if self.used == self.bytes.len() {
            self.bytes.clear();
            self.used = 0;
        }
    }

    /// Is there nothing?
    pub fn is_empty(&self) -> bool {
        self.used == self.bytes.len()
    }

    /// Reads once, up to about `room` bytes; 0 is the end.
    pub fn poll_fill(&mut self, io: &mut Io, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        if self.bytes.capacity() == 0 {
            // Whoever waits holds no buffer: it is taken when there is something to put into it.
            std::task::ready!(io.poll_something(cx));
            self.hold();
        }
        if self.used > 0 {
            self.bytes.drain(..self.used);
            self.used = 0;
        }
        if self.bytes.capacity() - self.bytes.len() < room {
            self.bytes.reserve(room);
        }
        let filled = poll_read_into(io, cx, &mut self.bytes, usize::MAX);
        if filled.is_pending() {
            self.release();
        }
        filled
    }

    /// Appends what was read already, else what one read brings straight into `out`; at most `wanted` bytes, 0 is the
    /// end. While nothing comes, nothing is held for it.
    pub fn poll_take(
        &mut self,
        io: &mut Io,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
        wanted: usize,
    ) -> Poll<io::Result<usize>> {
        if self.is_empty() {
            std::task::ready!(io.poll_something(cx));
            out.reserve(wanted.min(READ));
            return poll_read_into(io, cx, out, wanted);
        }
        let piece = self.unread();
        let piece = piece.get(..wanted).unwrap_or(piece);
        out.extend_from_slice(piece);
        let count = piece.len();
        self.consume(count);
        if self.is_empty() {
            self.release();
        }
        Poll::Ready(Ok(count))
    }

    /// Takes a buffer, since there is something to put into it.
    pub fn hold(&mut self) {
        if self.bytes.capacity() == 0 {
            self.bytes = buffers::take();
        }
    }

    /// Gives the buffer back to the thread when nothing is in it.
    pub fn release(&mut self) {
        if self.is_empty() && self.bytes.capacity() > 0 {
            buffers::give(std::mem::take(&mut self.bytes));
        }
    }

    /// An input that already holds these bytes.
    pub fn holding(bytes: Vec<u8>) -> Input {
        Input { bytes, used: 0 }
    }

    /// Takes all that is unread.
    pub fn take(&mut self) -> Vec<u8> {
        let rest = self.unread().to_vec();
        self.bytes.clear();
        self.used = 0;
        rest
    }
}

/// Reads once into the spare room of a buffer, at most `limit` bytes; 0 is the end.
pub fn poll_read_into(
    io: &mut Io,
    cx: &mut Context<'_>,
    out: &mut Vec<u8>,
    limit: usize,
) -> Poll<io::Result<usize>> {
    tokio_util::io::poll_read_buf(Pin::new(io), cx, &mut out.limit(limit))
}

/// Writes as much of `data[*sent..]` as goes now; ready when all of it is gone.
pub fn poll_write_all(
    io: &mut Io,
    cx: &mut Context<'_>,
    data: &[u8],
    sent: &mut usize,
) -> Poll<io::Result<()>> {
    while let Some(rest) = data.get(*sent..).filter(|rest| !rest.is_empty()) {
        match Pin::new(&mut *io).poll_write(cx, rest) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(written)) => *sent += written,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
    }
    Pin::new(io).poll_flush(cx)
}
