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

use crate::clock::Clock;

/// Budgets are counted anew after this time.
const WINDOW_MS: u64 = 30_000;
/// Resets in one window that are always forgiven; more must be fewer than half of the streams begun.
const RESETS: u64 = 100;
/// Control frames in one window that are always forgiven.
const CONTROL: u64 = 1000;
/// And so many more for each stream begun.
const CONTROL_PER_STREAM: u64 = 20;
/// Heads in one window that are no request and always forgiven, beside one for each request (its trailers) and as many as
/// may be open at once (which may have been read and not looked at).
const UNSERVED: u64 = 100;
/// And one more control frame for so many bytes written: receivers give windows back.
const WRITTEN_PER_CONTROL: u64 = 512;

/// The client's preface, before its first frame.
const PREFACE: usize = 24;
/// A frame's header.
const HEADER: usize = 9;

/// What the connection's task sees of its meter.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// A budget is overspent.
    over: AtomicBool,
    /// Bytes written, ever.
    written: AtomicU64,
    /// Requests taken, ever.
    requests: AtomicU64,
}

impl Meter {
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    pub(super) fn written(&self) -> u64 {
        self.written.load(Relaxed)
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
struct Frames {
    /// Bytes to be passed over before the next header.
    skip: usize,
    header: [u8; HEADER],
    have: usize,
}

/// Frames of one window, by what they cost.
#[derive(Debug, Default)]
struct Spent {
    since_ms: u64,
    /// Bytes written before it.
    written: u64,
    /// Requests taken before it.
    requests: u64,
    streams: u64,
    resets: u64,
    control: u64,
}

impl<IO> Metered<IO> {
    /// `streams` may be open at once.
    pub(super) fn new(io: IO, clock: Arc<Clock>, meter: Arc<Meter>, streams: u32) -> Metered<IO> {
        let frames = Frames { skip: PREFACE, header: [0; HEADER], have: 0 };
        let spent = Spent { since_ms: clock.now_ms(), ..Spent::default() };
        Metered { io, clock, meter, frames, spent, unserved: UNSERVED + u64::from(streams) }
    }

    fn count(&mut self, read: &[u8]) {
        let (now, written) = (self.clock.now_ms(), self.meter.written());
        let requests = self.meter.requests.load(Relaxed);
        if now.saturating_sub(self.spent.since_ms) > WINDOW_MS {
            self.spent = Spent { since_ms: now, written, requests, ..Spent::default() };
        }
        let spent = &mut self.spent;
        self.frames.scan(read, |kind| spent.add(kind));
        if spent.is_over(written) || spent.unserved(requests) > self.unserved {
            self.meter.over.store(true, Relaxed);
        }
    }
}

impl Frames {
    fn scan(&mut self, mut bytes: &[u8], mut seen: impl FnMut(u8)) {
        loop {
            let passed = self.skip.min(bytes.len());
            self.skip -= passed;
            bytes = bytes.get(passed..).unwrap_or_default();
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
            // RFC 9113 §4.1: 24 bits of length, 8 of type.
            let [a, b, c, kind, ..] = self.header;
            self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
            self.have = 0;
            seen(kind);
        }
    }
}

impl Spent {
    fn add(&mut self, kind: u8) {
        match kind {
            // DATA: its own limits are h2's, and it is what connections are for.
            0 => {}
            1 => self.streams += 1,
            3 => self.resets += 1,
            _ => self.control += 1,
        }
    }

    /// Heads that were neither a request's nor its trailers.
    fn unserved(&self, requests: u64) -> u64 {
        self.streams.saturating_sub(2 * requests.saturating_sub(self.requests))
    }

    fn is_over(&self, written: u64) -> bool {
        let bytes = written.saturating_sub(self.written);
        (self.resets > RESETS && self.resets > self.streams / 2)
            || self.control > CONTROL + CONTROL_PER_STREAM * self.streams + bytes / WRITTEN_PER_CONTROL
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
            let mut frames = Frames { skip: PREFACE, header: [0; HEADER], have: 0 };
            let mut seen = Vec::new();
            bytes.chunks(size).for_each(|part| frames.scan(part, |kind| seen.push(kind)));
            assert_eq!(seen, kinds, "in pieces of {size}");
        }
    }

    #[test]
    fn budgets_grow_with_honest_work() {
        let spent = |streams, resets, control| Spent { streams, resets, control, ..Spent::default() };
        assert_eq!(spent(300, 0, 0).unserved(150), 0, "each with trailers");
        assert_eq!(Spent { requests: 10, ..spent(300, 0, 0) }.unserved(20), 280, "an HPACK bomb each");
        assert!(!spent(100, 100, 0).is_over(0), "a hundred are forgiven");
        assert!(spent(101, 101, 0).is_over(0), "rapid reset");
        assert!(!spent(1000, 499, 0).is_over(0), "half of a busy connection's may be cancelled");
        assert!(!spent(1, 0, 1020).is_over(0));
        assert!(spent(1, 0, 1021).is_over(0), "a flood of pings");
        assert!(!spent(1, 0, 100_000).is_over(1 << 30), "window updates of a large download");
    }
}
