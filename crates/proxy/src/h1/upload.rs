//! A request's body on its way to an endpoint, gathered behind the head so that a small request leaves in one write.

use std::task::{Context, Poll};

use portcullis_core::{Appended, Body, Error, Kind};

use super::{chunked, framing::Framing};
use crate::{
    buffers,
    io::{Io, poll_write_all},
};

/// How much is gathered before it is written.
const GATHERED: usize = 64 * 1024;

/// A request's body on its way to the endpoint.
pub struct Upload {
    /// What is left of it.
    pub body: Body,
    /// How it is told where the body ends.
    pub framing: Framing,
    /// Gathered: the head, and what is there of the body.
    pub out: Vec<u8>,
    sent: usize,
    /// Nothing more is to be taken from the source.
    pub done: bool,
    /// Some of the body was taken from its source.
    pub spent: bool,
    /// Not before the endpoint (or its silence) allows it.
    pub hold: bool,
}

/// Who ended an upload.
pub enum Cut {
    /// Its source broke.
    Client(Error),
    /// The endpoint takes no more.
    Endpoint,
}

impl Upload {
    /// Begins with an empty buffer, for the head. With `expected`, the body waits for a word of the endpoint.
    pub fn new(body: Body, expected: bool) -> Upload {
        let framing = match body.remaining() {
            Some(0) => Framing::None,
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        };
        let done = framing == Framing::None;
        let hold = expected && !done;
        Upload { body, framing, out: buffers::take(), sent: 0, done, spent: false, hold }
    }

    /// Has all that was gathered left?
    pub fn is_flushed(&self) -> bool {
        self.sent == self.out.len()
    }

    /// Changes whenever there is progress.
    pub fn moved(&self) -> (usize, usize, bool) {
        (self.sent, self.out.len(), self.done)
    }

    /// Moves on as far as it goes; ready when all is sent.
    pub fn poll(&mut self, io: &mut Io, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        loop {
            // The head leaves together with what is there of the body already.
            if !self.done && !self.hold && self.out.len() < GATHERED {
                let pulled = self.pull(cx);
                match pulled {
                    Poll::Ready(Ok(())) if !self.done && self.out.len() < GATHERED => continue,
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Cut::Client(error))),
                    Poll::Pending if self.is_flushed() => {
                        // Whoever waits holds no buffer.
                        self.sent = 0;
                        buffers::give(std::mem::take(&mut self.out));
                        return Poll::Pending;
                    }
                    Poll::Pending => {}
                }
            }
            match poll_write_all(io, cx, &self.out, &mut self.sent) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Cut::Endpoint)),
                Poll::Pending => return Poll::Pending,
            }
            self.out.clear();
            self.sent = 0;
            if self.done {
                buffers::give(std::mem::take(&mut self.out));
                return Poll::Ready(Ok(()));
            }
            if self.hold {
                return Poll::Pending;
            }
        }
    }

    /// Takes one piece from the source.
    fn pull(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.out.capacity() == 0 {
            self.out = buffers::take();
        }
        let is_chunked = self.framing == Framing::Chunked;
        let start = if is_chunked { chunked::open_chunk(&mut self.out) } else { self.out.len() };
        let limit = if is_chunked { chunked::CHUNK_MAX.min(GATHERED) } else { GATHERED };
        let step = self.body.poll_append(cx, &mut self.out, limit);
        if is_chunked {
            chunked::close_chunk(&mut self.out, start);
        }
        let ended = match step {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Ready(Ok(Appended::Data(count))) => {
                self.spent = true;
                if let Framing::Length(left) = &mut self.framing {
                    *left = left.saturating_sub(count as u64);
                    self.done = *left == 0;
                }
                None
            }
            Poll::Ready(Ok(Appended::End)) => Some(None),
            Poll::Ready(Ok(Appended::Trailers(trailers))) => Some(Some(trailers)),
        };
        if let Some(trailers) = ended {
            if is_chunked {
                chunked::end(&mut self.out, trailers.as_ref());
            } else if matches!(self.framing, Framing::Length(left) if left > 0) {
                // A source that promised more than it had: the endpoint must not take it for whole.
                return Poll::Ready(Err(Error::because(Kind::BadRequest, "body shorter than its length")));
            }
            self.done = true;
        }
        Poll::Ready(Ok(()))
    }
}
