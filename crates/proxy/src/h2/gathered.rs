//! Writes gathered into few.
//!
//! `h2` writes and flushes every DATA frame by itself, which for small answers means a system call (and a TLS record)
//! for each. Here frames are gathered until the connection has nothing more to say for now, and leave together: whoever
//! drives the connection calls [`Gathered::poll_drain`] when `h2` waits, since only it knows that moment.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::buffers;

/// With so much gathered, a write comes first.
const ENOUGH: usize = 64 * 1024;

/// A connection, shared by `h2` and whoever drives it: always the same task, so that the lock is never contended.
#[derive(Debug)]
pub(super) struct Gathered<IO>(Arc<Mutex<Inner<IO>>>);

#[derive(Debug)]
struct Inner<IO> {
    io: IO,
    out: Vec<u8>,
    sent: usize,
}

impl<IO> Clone for Gathered<IO> {
    fn clone(&self) -> Gathered<IO> {
        Gathered(self.0.clone())
    }
}

impl<IO> Gathered<IO> {
    pub(super) fn new(io: IO) -> Gathered<IO> {
        Gathered(Arc::new(Mutex::new(Inner { io, out: Vec::new(), sent: 0 })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner<IO>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<IO: AsyncWrite + Unpin> Gathered<IO> {
    /// Writes what is gathered; ready when all of it has left.
    pub(super) fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().poll_drain(cx)
    }
}

impl<IO: AsyncWrite + Unpin> Inner<IO> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while let Some(rest) = self.out.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.io).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.sent += count,
            }
        }
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.sent = 0;
        buffers::give(std::mem::take(&mut self.out));
        Poll::Ready(Ok(()))
    }

    fn poll_gather<'a>(
        &mut self,
        cx: &mut Context<'_>,
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> Poll<io::Result<usize>> {
        if self.out.len() >= ENOUGH {
            ready!(self.poll_drain(cx))?;
        }
        if self.out.capacity() == 0 {
            self.out = buffers::take();
        }
        let before = self.out.len();
        pieces.for_each(|piece| self.out.extend_from_slice(piece));
        Poll::Ready(Ok(self.out.len() - before))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Gathered<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().io).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Gathered<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.lock().poll_gather(cx, std::iter::once(data))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.lock().poll_gather(cx, data.iter().map(|piece| &**piece))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Not yet: that is the point.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.lock();
        ready!(inner.poll_drain(cx))?;
        Pin::new(&mut inner.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn writes_leave_together_and_whole() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let gathered = Gathered::new(near);
        let mut writing = gathered.clone();
        writing.write_all(b"one").await.unwrap();
        writing.flush().await.unwrap();
        writing.write_all(b"two").await.unwrap();
        let mut seen = [0; 16];
        let early = tokio::time::timeout(std::time::Duration::from_millis(20), far.read(&mut seen)).await;
        assert!(early.is_err(), "nothing leaves before it is told to");
        poll_fn(|cx| gathered.poll_drain(cx)).await.unwrap();
        assert_eq!(far.read(&mut seen).await.unwrap(), 6);
        assert_eq!(&seen[..6], b"onetwo");
    }

    #[tokio::test]
    async fn no_more_is_gathered_than_enough() {
        let (near, mut far) = tokio::io::duplex(1000);
        let mut gathered = Gathered::new(near);
        let piece: Vec<u8> = (0..=255).cycle().take(16 * 1024).collect();
        let mut taken = 0;
        let wait = std::time::Duration::from_millis(20);
        while tokio::time::timeout(wait, gathered.write_all(&piece)).await.is_ok() {
            taken += 1;
        }
        assert_eq!(taken, ENOUGH / piece.len());
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap();
            all
        });
        gathered.shutdown().await.unwrap();
        drop(gathered);
        assert!(reader.await.unwrap() == piece.repeat(taken), "the rest leaves before the end is told");
    }
}
