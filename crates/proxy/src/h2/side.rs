//! A stream as one side of a tunnel (RFC 8441 §5): DATA frames are its bytes, END_STREAM its half-close.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use h2::SendStream;
use portcullis_core::Frame;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::inbound::Inbound;

/// Both halves of a stream.
pub(super) struct Side {
    inbound: Inbound,
    unread: Bytes,
    outbound: SendStream<Bytes>,
}

impl Side {
    pub(super) fn new(inbound: Inbound, outbound: SendStream<Bytes>) -> Side {
        Side { inbound, unread: Bytes::new(), outbound }
    }
}

impl AsyncRead for Side {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.unread.is_empty() {
            match ready!(this.inbound.poll(cx)) {
                Some(Ok(Frame::Data(data))) => this.unread = data,
                Some(Ok(Frame::Trailers(_))) => {}
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = this.unread.len().min(buf.remaining());
        buf.put_slice(this.unread.get(..count).unwrap_or_default());
        this.unread.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Side {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let stream = &mut self.get_mut().outbound;
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        stream.reserve_capacity(data.len());
        while stream.capacity() == 0 {
            match ready!(stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let count = stream.capacity().min(data.len());
        let piece = Bytes::copy_from_slice(data.get(..count).unwrap_or_default());
        Poll::Ready(stream.send_data(piece, false).map(|()| count).map_err(io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.get_mut().outbound.send_data(Bytes::new(), true).map_err(io::Error::other))
    }
}
