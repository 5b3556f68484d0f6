//! A stream as one side of a tunnel (RFC 8441 §5, RFC 9220 §3): DATA frames are its bytes, the stream's end its
//! half-close.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use portcullis_core::Frame;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{incoming::Inbound, outgoing::Sink};

/// The most that is copied for one write.
const PIECE: usize = 16 * 1024;

/// Both halves of a stream.
pub(crate) struct Side<I, S> {
    inbound: I,
    unread: Bytes,
    sink: S,
}

impl<I, S> Side<I, S> {
    pub(crate) fn new(inbound: I, sink: S) -> Side<I, S> {
        Side { inbound, unread: Bytes::new(), sink }
    }
}

fn gone(_: ()) -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl<I: Inbound + Unpin, S: Unpin> AsyncRead for Side<I, S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.unread.is_empty() {
            match ready!(this.inbound.poll_frame(cx)) {
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

impl<I: Unpin, S: Sink + Unpin> AsyncWrite for Side<I, S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let sink = &mut self.get_mut().sink;
        let offered = data.get(..PIECE).unwrap_or(data);
        if offered.is_empty() {
            return Poll::Ready(Ok(0));
        }
        // Nothing is copied for a peer that takes nothing.
        ready!(sink.poll_room(cx, offered.len())).map_err(gone)?;
        let mut piece = Bytes::copy_from_slice(offered);
        ready!(sink.poll_send(cx, &mut piece, false)).map_err(gone)?;
        Poll::Ready(Ok(offered.len() - piece.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().sink.poll_flush(cx).map_err(gone)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().sink.poll_end(cx, None).map_err(gone)
    }
}
