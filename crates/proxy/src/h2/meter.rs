//! What a client may spend on everything that is no request.
//!
//! `h2` bounds the memory that frames can tie up; it does not bound the work. This counts frames as they are read and
//! calls a connection that spends its time on resets (CVE-2023-44487) or on SETTINGS, PING, PRIORITY, WINDOW_UPDATE
//! and CONTINUATION frames (CVE-2019-9512, -9513, -9515, CVE-2024-27316) an attack; or on heads of which no request
//! comes, which `h2` refuses by itself: HPACK bombs above all. The budgets grow with honest work, so that a busy
//! connection is never mistaken for a hostile one.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    clock::Clock,
    streams::spent::{Spent, UNSERVED},
};

/// The client's preface, before its first frame.
const PREFACE: usize = 24;
/// A frame's header.
const HEADER: usize = 9;
/// Types of frames (RFC 9113 §6), and the flag that ends a head.
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// What the connection's task sees of its meter.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// A budget is overspent.
    over: AtomicBool,
    /// Bytes written, ever.
    written: AtomicU64,
    /// Requests taken, ever.
    requests: AtomicU64,
    /// Heads of new streams that came whole, ever.
    heads: AtomicU64,
}

impl Meter {
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    pub(super) fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// Heads that came whole and became no request, or have not yet.
    pub(super) fn refused(&self) -> u64 {
        self.heads.load(Relaxed).saturating_sub(self.requests.load(Relaxed))
    }

    /// A head became a request.
    pub(super) fn took_request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }
}

/// A connection whose frames are counted as they are read.
#[derive(Debug)]
pub(super) struct Metered<IO> {
    io: IO,
    clock: Arc<Clock>,
    meter: Arc<Meter>,
    frames: Frames,
    spent: Spent,
    /// Heads that may be no request.
    unserved: u64,
}

/// Finds frame headers in a stream of bytes.
#[derive(Debug)]
pub struct Frames {
    /// Bytes to be passed over before the next header.
    skip: usize,
    header: [u8; HEADER],
    have: usize,
    /// The newest stream's number.
    newest: u32,
    /// The head under way begins a stream; and the frame under way ends it.
    is_new: bool,
    is_last: bool,
    /// Heads that began a stream and have come whole.
    heads: u64,
}

impl<IO> Metered<IO> {
    /// `streams` may be open at once.
    pub(super) fn new(io: IO, clock: Arc<Clock>, meter: Arc<Meter>, streams: u32) -> Metered<IO> {
        let frames = Frames::default();
        let spent = Spent::new(clock.now_ms());
        Metered { io, clock, meter, frames, spent, unserved: UNSERVED + u64::from(streams) }
    }

    fn count(&mut self, read: &[u8]) {
        let (now, written) = (self.clock.now_ms(), self.meter.written());
        let requests = self.meter.requests.load(Relaxed);
        self.spent.renew(now, written, requests);
        let spent = &mut self.spent;
        self.frames.scan(read, |kind| match kind {
            // DATA: its own limits are h2's, and it is what connections are for.
            0 => {}
            1 => spent.streams += 1,
            3 => spent.resets += 1,
            _ => spent.control += 1,
        });
        self.meter.heads.store(self.frames.heads, Relaxed);
        if spent.is_over(written) || spent.unserved(requests) > self.unserved {
            self.meter.over.store(true, Relaxed);
        }
    }
}

impl Default for Frames {
    /// The stream has not begun.
    fn default() -> Frames {
        let header = [0; HEADER];
        Frames { skip: PREFACE, header, have: 0, newest: 0, is_new: false, is_last: false, heads: 0 }
    }
}

impl Frames {
    /// Heads that began a stream and have come whole.
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// A frame begins that may be (of) a head.
    fn begin(&mut self, kind: u8, flags: u8, stream: u32) {
        match kind {
            // Another one on the same stream is its trailers.
            HEADERS => {
                self.is_new = stream > self.newest;
                self.newest = self.newest.max(stream);
            }
            CONTINUATION => {}
            _ => return,
        }
        self.is_last = self.is_new && flags & END_HEADERS != 0;
    }

    /// Reads on, and tells the type of each frame that begins.
    pub fn scan(&mut self, mut bytes: &[u8], mut seen: impl FnMut(u8)) {
        loop {
            let passed = self.skip.min(bytes.len());
            self.skip -= passed;
            bytes = bytes.get(passed..).unwrap_or_default();
            if self.skip == 0 && std::mem::take(&mut self.is_last) {
                self.heads += 1;
            }
            let taken = (HEADER - self.have).min(bytes.len());
            let (part, rest) = bytes.split_at(taken);
            if let Some(room) = self.header.get_mut(self.have..self.have + taken) {
                room.copy_from_slice(part);
            }
            self.have += taken;
            bytes = rest;
            if self.have < HEADER {
                return;
            }
            // RFC 9113 §4.1: 24 bits of length, 8 of type, 8 of flags, a reserved one and 31 of the stream.
            let [a, b, c, kind, flags, stream @ ..] = self.header;
            self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
            self.have = 0;
            self.begin(kind, flags, u32::from_be_bytes(stream) & 0x7fff_ffff);
            seen(kind);
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Metered<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        if let Some(new) = buf.filled().get(before..).filter(|new| !new.is_empty()) {
            this.count(new);
        }
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Metered<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, data);
        this.wrote(&written);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, data);
        this.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

impl<IO> Metered<IO> {
    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(count)) = written {
            self.meter.written.fetch_add(*count as u64, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![0, (length >> 8) as u8, length as u8, kind, 0, 0, 0, 0, 1];
        frame.resize(HEADER + length, 7);
        frame
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let mut bytes = vec![0xff; PREFACE];
        let kinds = [4, 1, 0, 0, 3, 6, 8, 1];
        for (index, kind) in kinds.iter().enumerate() {
            bytes.extend(frame(*kind, index * 97 % 400));
        }
        for size in [1, 2, 3, 8, 9, 10, 64, bytes.len()] {
            let mut frames = Frames::default();
            let mut seen = Vec::new();
            bytes.chunks(size).for_each(|part| frames.scan(part, |kind| seen.push(kind)));
            assert_eq!(seen, kinds, "in pieces of {size}");
        }
    }

    #[test]
    fn heads_of_new_streams_are_counted_when_they_are_whole() {
        let head = |kind, flags, stream| {
            let mut bytes = frame(kind, 20);
            (bytes[4], bytes[8]) = (flags, stream);
            bytes
        };
        let parts = [
            vec![0xff; PREFACE],
            head(HEADERS, END_HEADERS, 1),
            head(0, END_HEADERS, 1),
            // Trailers.
            head(HEADERS, END_HEADERS | 1, 1),
            head(HEADERS, 0, 3),
            head(CONTINUATION, 0, 3),
            head(CONTINUATION, END_HEADERS, 3),
            head(HEADERS, 0, 3),
            head(CONTINUATION, END_HEADERS, 3),
            head(HEADERS, END_HEADERS, 9),
        ];
        let counts = [0, 1, 1, 1, 1, 1, 2, 2, 2, 3];
        for size in [1, 7, 64] {
            let (mut frames, mut before) = (Frames::default(), 0);
            for (part, expected) in parts.iter().zip(counts) {
                let (last, most) = part.split_last().unwrap();
                most.chunks(size).for_each(|part| frames.scan(part, |_| {}));
                assert_eq!(frames.heads, before, "one byte is missing");
                frames.scan(&[*last], |_| {});
                assert_eq!(frames.heads, expected);
                before = expected;
            }
        }
    }
}
