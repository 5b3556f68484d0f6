//! Frames out of the bytes of a stream (RFC 9114 §7), whatever pieces these come in. What a frame says about its length is
//! not believed but bounded: nothing is ever held of a stream but one field section of at most the allowed size.

use bytes::{Buf, Bytes};
use quinn::VarInt;

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

/// What is found on a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
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
pub enum Fault {
    /// The connection must end.
    Connection(VarInt, &'static str),
    /// A frame that is larger than may be.
    TooLarge,
    /// The client has reset the stream.
    Reset,
    /// The connection has ended.
    Gone,
}

/// Finds frames.
#[derive(Debug)]
pub struct Scan {
    unread: Bytes,
    /// Type and length of the next frame, as far as they are there.
    head: Vec<u8>,
    state: State,
    /// The longest frame that is taken whole.
    most: usize,
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

impl Scan {
    /// Takes frames whole up to this length.
    pub fn new(most: usize) -> Scan {
        Scan { unread: Bytes::new(), head: Vec::new(), state: State::Head, most }
    }

    /// Has everything been read that there was?
    pub fn is_dry(&self) -> bool {
        self.unread.is_empty()
    }

    /// More of the stream. It must be dry.
    pub fn feed(&mut self, bytes: Bytes) {
        self.unread = bytes;
    }

    /// Is what was read so far whole, so that the stream may end?
    pub fn is_between(&self) -> bool {
        matches!(self.state, State::Head) && self.head.is_empty()
    }

    /// The integer that a unidirectional stream begins with: its type. `None` when it is not there whole.
    pub(super) fn integer(&mut self) -> Option<u64> {
        while !self.unread.is_empty() {
            self.head.push(self.unread.get_u8());
            if let Some((value, _)) = varint::read(&self.head) {
                self.head.clear();
                return Some(value);
            }
        }
        None
    }

    /// The next byte of a stream without frames.
    pub(super) fn byte(&mut self) -> Option<u8> {
        (!self.unread.is_empty()).then(|| self.unread.get_u8())
    }

    /// The next frame, or piece of one; `None` when that takes more of the stream.
    ///
    /// # Errors
    /// What nobody may send, or not so large.
    pub fn take(&mut self) -> Result<Option<Found>, Fault> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found in bytes that come in pieces; pieces of DATA that follow each other are one.
    fn found(bytes: &[u8], size: usize) -> Result<(Vec<Found>, bool), Fault> {
        let (mut scan, mut all) = (Scan::new(10), Vec::new());
        for piece in bytes.chunks(size) {
            scan.feed(Bytes::copy_from_slice(piece));
            while let Some(found) = scan.take()? {
                match (all.last_mut(), found) {
                    (Some(Found::Data(before)), Found::Data(data))
                        if !before.is_empty() && !data.is_empty() =>
                    {
                        *before = [&before[..], &data[..]].concat().into();
                    }
                    (_, found) => all.push(found),
                }
            }
            assert!(scan.is_dry());
        }
        Ok((all, scan.is_between()))
    }

    #[test]
    fn frames_are_found_in_whatever_pieces_they_come() {
        let bytes = [
            &[0x01, 0x03][..],
            b"abc", // HEADERS
            &[0x00, 0x40, 0x04],
            b"body",       // DATA, its length in two bytes
            &[0x00, 0x00], // DATA of nothing
            &[0x00, 0x02],
            b"xy",
            &[0x21, 0x05],
            b"?????",            // a type that means nothing
            &[0x40, 0x04, 0x00], // SETTINGS, its type in two bytes
        ]
        .concat();
        for size in [1, 2, 3, 7, bytes.len()] {
            let (found, is_between) = found(&bytes, size).unwrap();
            let expected = [
                Found::Frame(kind::HEADERS, b"abc".to_vec()),
                Found::Data(Bytes::from_static(b"body")),
                Found::Data(Bytes::new()),
                Found::Data(Bytes::from_static(b"xy")),
                Found::Unknown,
                Found::Frame(kind::SETTINGS, Vec::new()),
            ];
            assert!(found == expected && is_between, "in pieces of {size}: {found:?}");
        }
        for cut in [1, 4, 6, 9, bytes.len() - 1] {
            assert!(!found(&bytes[..cut], 3).unwrap().1, "cut at {cut}");
        }
    }

    #[test]
    fn what_nobody_may_send_is_refused_before_it_is_there() {
        assert_eq!(found(&[0x01, 0x0b], 1), Err(Fault::TooLarge));
        assert_eq!(found(&[0x04, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 9), Err(Fault::TooLarge));
        for kind in kind::RESERVED {
            let fault = found(&[kind as u8, 0x00], 2).unwrap_err();
            assert!(matches!(fault, Fault::Connection(code::FRAME_UNEXPECTED, _)), "{kind}");
        }
        // Of DATA and of what means nothing, any length may be announced.
        for kind in [0x00, 0x21] {
            assert_eq!(
                found(&[kind, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 1),
                Ok((Vec::new(), false))
            );
        }
    }
}
