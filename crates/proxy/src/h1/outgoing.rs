//! An answer on its way to the client: gathered, and written when there is enough of it or nothing more for now.

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use portcullis_core::{Answer, Appended, Body, Error, Kind, exchange::ClientLink};

use super::{chunked, incoming::Link, writer::Delimit};
use crate::{buffers, clock::Watch, io::poll_write_all, ticket::TAKES_NOTHING};

/// How much of an answer is gathered before it is written.
const WRITE: usize = 64 * 1024;

/// What is gathered of it.
pub struct Out {
    /// Gathered: the head, and what is there of the body.
    pub bytes: Vec<u8>,
    sent: usize,
    /// Bytes of the body taken from its source.
    pub body: u64,
    /// Has anything left already?
    pub started: bool,
    /// How the client is told where the body ends.
    pub delimit: Delimit,
}

/// To whom it goes, and how long it may take.
pub struct Client<'a> {
    /// The connection.
    pub link: &'a Link,
    /// Its deadline.
    pub watch: &'a Watch,
    /// Between two pieces of the body.
    pub body_idle: Duration,
    /// A write that makes no progress.
    pub write_idle: Duration,
    /// See [`Watch::total`].
    pub total: u64,
}

impl Out {
    /// Nothing yet.
    pub fn new(delimit: Delimit) -> Out {
        Out { bytes: buffers::take(), sent: 0, body: 0, started: false, delimit }
    }

    /// Moves the answer from its source to the client: gathers what is there, and writes when there is enough, or
    /// nothing more for now.
    pub async fn pump(&mut self, answer: &mut Answer, to: &Client<'_>) -> Result<(), Error> {
        let mut ended = matches!(answer.body, Body::Empty);
        if ended && self.delimit == Delimit::Chunks {
            chunked::end(&mut self.bytes, None);
        }
        // What the deadline is for: 0 nothing yet, 1 the source, 2 the client.
        let mut waits = 0;
        poll_fn(|cx| {
            loop {
                let pulled = if ended || self.bytes.len() - self.sent >= WRITE {
                    None
                } else {
                    Some(self.pull(cx, answer))
                };
                match pulled {
                    Some(Poll::Ready(Ok(more))) => {
                        ended = !more;
                        waits = 0;
                        continue;
                    }
                    Some(Poll::Ready(Err(error))) => return Poll::Ready(Err(error)),
                    Some(Poll::Pending) if self.is_flushed() => {
                        if waits != 1 {
                            waits = 1;
                            to.watch.set_within(to.body_idle, to.total);
                        }
                        if to.link.poll_gone(cx).is_ready() {
                            return Poll::Ready(Err(Error::new(Kind::ClientGone)));
                        }
                        // Whoever waits holds no buffer.
                        buffers::give(std::mem::take(&mut self.bytes));
                        break;
                    }
                    _ => {}
                }
                match poll_write_all(&mut to.link.lock().io, cx, &self.bytes, &mut self.sent) {
                    Poll::Ready(Ok(())) => {
                        self.flushed();
                        if ended {
                            return Poll::Ready(Ok(()));
                        }
                    }
                    Poll::Ready(Err(_)) => {
                        return Poll::Ready(Err(Error::because(Kind::ClientGone, "write failed")));
                    }
                    Poll::Pending => {
                        let progress = self.progress();
                        if waits != 2 || progress {
                            waits = 2;
                            to.watch.set_within(to.write_idle, to.total);
                        }
                        break;
                    }
                }
            }
            to.watch.poll_expired(cx).map(|()| {
                Err(match waits {
                    _ if to.watch.is_past(to.total) => Error::new(Kind::TotalTimeout),
                    2 => Error::because(Kind::ClientGone, TAKES_NOTHING),
                    _ => Error::new(Kind::ReadTimeout),
                })
            })
        })
        .await
    }

    fn is_flushed(&self) -> bool {
        self.sent == self.bytes.len()
    }

    /// All gathered bytes are written.
    fn flushed(&mut self) {
        self.started = true;
        self.bytes.clear();
        self.sent = 0;
    }

    /// Did the last write move anything? What is written is taken away, so that the question can be asked again.
    fn progress(&mut self) -> bool {
        let moved = self.sent > 0;
        self.started |= moved;
        self.bytes.drain(..self.sent);
        self.sent = 0;
        moved
    }

    /// Takes one piece from the source; false at the end.
    fn pull(&mut self, cx: &mut Context<'_>, answer: &mut Answer) -> Poll<Result<bool, Error>> {
        if self.bytes.capacity() == 0 {
            self.bytes = buffers::take();
        }
        let is_chunked = self.delimit == Delimit::Chunks;
        let start = if is_chunked { chunked::open_chunk(&mut self.bytes) } else { 0 };
        let limit = if is_chunked { chunked::CHUNK_MAX.min(WRITE) } else { WRITE };
        let step = answer.body.poll_append(cx, &mut self.bytes, limit);
        if is_chunked {
            chunked::close_chunk(&mut self.bytes, start);
        }
        let trailers = match step {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Ready(Ok(Appended::Data(count))) => {
                self.body += count as u64;
                // A body of known length is over when that is reached: no second question to its source.
                let over = matches!(self.delimit, Delimit::Length(_)) && answer.body.is_empty();
                return Poll::Ready(Ok(!over));
            }
            Poll::Ready(Ok(Appended::End)) => None,
            Poll::Ready(Ok(Appended::Trailers(trailers))) => Some(trailers),
        };
        if is_chunked {
            chunked::end(&mut self.bytes, trailers.as_ref());
        }
        Poll::Ready(Ok(false))
    }
}
