//! Frames as they come in on a stream (RFC 9114 §7). What a frame says about its length is not believed but bounded:
//! nothing is ever held of a stream but one field section of at most the allowed size.

use std::{
    pin::pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use quinn::{ReadError, RecvStream, VarInt};

use super::{code, varint};

/// Types of frames (§7.2).
pub(super) mod kind {
    pub(crate) const DATA: u64 = 0x0;
    pub(crate) const HEADERS: u64 = 0x1;
    pub(crate) const CANCEL_PUSH: u64 = 0x3;
    pub(crate) const SETTINGS: u64 = 0x4;
    pub(crate) const PUSH_PROMISE: u64 = 0x5;
    pub(crate) const GOAWAY: u64 = 0x7;
    pub(crate) const MAX_PUSH_ID: u64 = 0xd;
    /// What HTTP/2 had and nobody may send (§7.2.8).
    pub(crate) const RESERVED: [u64; 4] = [0x2, 0x6, 0x8, 0x9];
}

/// The most that is taken from the connection's buffers at once.
const PIECE: usize = 64 * 1024;

/// What is found on a stream.
#[derive(Debug)]
pub(super) enum Found {
    /// A frame that is short and taken whole.
    Frame(u64, Vec<u8>),
    /// A piece of a DATA frame; nothing when the frame is empty.
    Data(Bytes),
    /// A frame of a type that means nothing to us was passed over.
    Unknown,
    /// The stream's end.
    End,
}

/// Why nothing more can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The connection must end.
    Connection(VarInt, &'static str),
    /// A frame that is larger than may be.
    TooLarge,
    /// The client has reset the stream.
    Reset,
    /// The connection has ended.
    Gone,
}

/// Reads frames.
pub(super) struct Frames {
    stream: RecvStream,
    unread: Bytes,
    /// Type and length of the next frame, as far as they are there.
    head: Vec<u8>,
    state: State,
    /// The longest frame that is taken whole.
    most: usize,
    ended: bool,
}

#[derive(Debug)]
enum State {
    /// Between frames, or in the head of one.
    Head,
    /// In a frame that is taken whole: its type, what is missing, what is there.
    Whole(u64, usize, Vec<u8>),
    /// In a DATA frame of nothing.
    Empty,
    /// In a DATA frame: what is missing.
    Data(u64),
    /// In a frame that is passed over: what is missing.
    Unknown(u64),
}

impl Frames {
    pub(super) fn new(stream: RecvStream, most: usize) -> Frames {
        Frames { stream, unread: Bytes::new(), head: Vec::new(), state: State::Head, most, ended: false }
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
        while self.unread.is_empty() && !self.ended {
            match ready!(pin!(self.stream.read_chunk(PIECE, true)).poll(cx)) {
                Ok(Some(chunk)) => self.unread = chunk.bytes,
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
        Poll::Ready(Ok(!self.unread.is_empty()))
    }

    /// The integer that a unidirectional stream begins with: its type. `None` when it ends before that.
    pub(super) fn poll_type(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<u64>, Fault>> {
        loop {
            if let Some((kind, _)) = varint::read(&self.head) {
                self.head.clear();
                return Poll::Ready(Ok(Some(kind)));
            }
            if !ready!(self.poll_fill(cx))? {
                return Poll::Ready(Ok(None));
            }
            self.head.push(self.unread.get_u8());
        }
    }

    /// The next byte of a stream without frames. `None` at its end.
    pub(super) fn poll_byte(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<u8>, Fault>> {
        let is_there = ready!(self.poll_fill(cx))?;
        Poll::Ready(Ok(is_there.then(|| self.unread.get_u8())))
    }

    /// The next frame, or piece of one.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Found, Fault>> {
        loop {
            if let Some(found) = self.take()? {
                return Poll::Ready(Ok(found));
            }
            if !ready!(self.poll_fill(cx))? {
                let is_between = matches!(self.state, State::Head) && self.head.is_empty();
                return Poll::Ready(match is_between {
                    true => Ok(Found::End),
                    // §7.1
                    false => Err(Fault::Connection(code::FRAME_ERROR, "a stream that ends within a frame")),
                });
            }
        }
    }

    /// What can be found without reading more.
    fn take(&mut self) -> Result<Option<Found>, Fault> {
        loop {
            match &mut self.state {
                State::Head => {
                    let Some((kind, length)) = self.take_head() else { return Ok(None) };
                    self.state = self.begin(kind, length)?;
                }
                State::Whole(kind, left, bytes) => {
                    let part = self.unread.split_to(self.unread.len().min(*left));
                    *left -= part.len();
                    bytes.extend_from_slice(&part);
                    if *left > 0 {
                        return Ok(None);
                    }
                    let found = Found::Frame(*kind, std::mem::take(bytes));
                    self.state = State::Head;
                    return Ok(Some(found));
                }
                State::Empty => {
                    self.state = State::Head;
                    return Ok(Some(Found::Data(Bytes::new())));
                }
                State::Data(0) => self.state = State::Head,
                State::Data(left) => {
                    let most = usize::try_from(*left).unwrap_or(usize::MAX);
                    let part = self.unread.split_to(self.unread.len().min(most));
                    *left -= part.len() as u64;
                    return Ok((!part.is_empty()).then_some(Found::Data(part)));
                }
                State::Unknown(left) => {
                    let part = self.unread.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    self.unread.advance(part);
                    *left -= part as u64;
                    if *left > 0 {
                        return Ok(None);
                    }
                    self.state = State::Head;
                    return Ok(Some(Found::Unknown));
                }
            }
        }
    }

    /// Type and length of the next frame.
    fn take_head(&mut self) -> Option<(u64, u64)> {
        loop {
            if let Some((kind, used)) = varint::read(&self.head)
                && let Some((length, _)) = self.head.get(used..).and_then(varint::read)
            {
                self.head.clear();
                return Some((kind, length));
            }
            if self.unread.is_empty() {
                return None;
            }
            self.head.push(self.unread.get_u8());
        }
    }

    fn begin(&self, kind: u64, length: u64) -> Result<State, Fault> {
        Ok(match kind {
            // Told, since it may be where it must not, and counted, since it says nothing.
            kind::DATA if length == 0 => State::Empty,
            kind::DATA => State::Data(length),
            kind::HEADERS
            | kind::CANCEL_PUSH
            | kind::SETTINGS
            | kind::PUSH_PROMISE
            | kind::GOAWAY
            | kind::MAX_PUSH_ID => {
                let length = usize::try_from(length).ok().filter(|length| *length <= self.most);
                State::Whole(kind, length.ok_or(Fault::TooLarge)?, Vec::new())
            }
            kind if kind::RESERVED.contains(&kind) => {
                return Err(Fault::Connection(code::FRAME_UNEXPECTED, "a frame of HTTP/2"));
            }
            _ => State::Unknown(length),
        })
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
