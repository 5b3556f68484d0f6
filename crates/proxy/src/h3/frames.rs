//! Frames as they come in on a stream.

use std::{
    pin::pin,
    task::{Context, Poll, ready},
};

use quinn::{ReadError, RecvStream, VarInt};

use super::{
    code,
    scan::{Fault, Found, Scan},
    varint,
};

/// The most that is taken from the connection's buffers at once.
const PIECE: usize = 64 * 1024;

/// Reads frames.
pub(super) struct Frames {
    stream: RecvStream,
    scan: Scan,
    ended: bool,
}

impl Frames {
    /// Takes frames whole up to this length.
    pub(super) fn new(stream: RecvStream, most: usize) -> Frames {
        Frames { stream, scan: Scan::new(most), ended: false }
    }

    /// Was the stream opened before the handshake was complete, so that all this may be a replay?
    pub(super) fn is_early(&self) -> bool {
        self.stream.is_0rtt()
    }

    /// Tells the client that nothing more is wanted of this stream.
    pub(super) fn stop(&mut self, why: VarInt) {
        if !std::mem::replace(&mut self.ended, true) {
            // It may have ended by itself meanwhile.
            let _ = self.stream.stop(why);
        }
    }

    /// Makes sure that there is something unread; false at the stream's end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Fault>> {
        while self.scan.is_dry() && !self.ended {
            match ready!(pin!(self.stream.read_chunk(PIECE, true)).poll(cx)) {
                Ok(Some(chunk)) => self.scan.feed(chunk.bytes),
                Ok(None) => self.ended = true,
                Err(error) => {
                    self.ended = true;
                    return Poll::Ready(Err(match error {
                        ReadError::Reset(_) => Fault::Reset,
                        _ => Fault::Gone,
                    }));
                }
            }
        }
        Poll::Ready(Ok(!self.scan.is_dry()))
    }

    /// The integer that a unidirectional stream begins with: its type. `None` when it ends before that.
    pub(super) fn poll_type(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<u64>, Fault>> {
        loop {
            if let Some(kind) = self.scan.integer() {
                return Poll::Ready(Ok(Some(kind)));
            }
            if !ready!(self.poll_fill(cx))? {
                return Poll::Ready(Ok(None));
            }
        }
    }

    /// The next byte of a stream without frames. `None` at its end.
    pub(super) fn poll_byte(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<u8>, Fault>> {
        ready!(self.poll_fill(cx))?;
        Poll::Ready(Ok(self.scan.byte()))
    }

    /// The next frame, or piece of one.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Found, Fault>> {
        loop {
            if let Some(found) = self.scan.take()? {
                return Poll::Ready(Ok(found));
            }
            if !ready!(self.poll_fill(cx))? {
                return Poll::Ready(match self.scan.is_between() {
                    true => Ok(Found::End),
                    // §7.1
                    false => Err(Fault::Connection(code::FRAME_ERROR, "a stream that ends within a frame")),
                });
            }
        }
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        // §4.1.1: an answer may be whole before the request is.
        self.stop(code::NO_ERROR);
    }
}

/// Puts the head of a frame before its payload, which begins after `free` bytes. Returns where the frame begins.
pub(super) fn put_head(kind: u64, free: usize, bytes: &mut [u8]) -> usize {
    let mut head = Vec::with_capacity(free);
    varint::write(kind, &mut head);
    varint::write(bytes.len().saturating_sub(free) as u64, &mut head);
    let at = free.saturating_sub(head.len());
    if let Some(room) = bytes.get_mut(at..free) {
        room.copy_from_slice(&head);
    }
    at
}

/// The longest head that [`put_head`] puts for the types that we send.
pub(super) const HEAD: usize = 9;
