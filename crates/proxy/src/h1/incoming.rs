//! The client's side of an HTTP/1.1 connection as it is shared between the connection's task and the body of the
//! request it is serving. Both run in one task, so the lock is never contended; it is there because a middleware may
//! hand a body to another task.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use portcullis_core::{Appended, BoxFuture, Error, Fields, Frame, Kind, Stream, exchange::ClientLink};

use super::{
    chunked::{Chunked, Step},
    framing::Framing,
    writer,
};
use crate::{
    io::{Input, Io, poll_write_all},
    trailers,
};

/// How much is read at once where nobody says how much.
const READ: usize = 16 * 1024;
/// How much a client may send ahead of its turn before we stop looking whether it is still there.
const AHEAD: usize = 16 * 1024;

/// A client's connection.
#[derive(Debug)]
pub struct Link {
    state: Mutex<State>,
}

/// What the lock guards.
#[derive(Debug)]
pub struct State {
    /// The socket.
    pub io: Io,
    /// Read and not used.
    pub input: Input,
    /// What is left of the current request's body.
    pub body: Left,
    /// The client closed its side, or the connection broke.
    pub gone: bool,
    /// The client speaks HTTP/1.0, and knows no interim answers (RFC 9110 §15.2).
    pub http_10: bool,
    /// Bytes of the current request's body so far.
    pub received: u64,
    /// Slowest allowed average, after a grace; see the listener's timeouts.
    pub pace: Pace,
}

/// What is left of a body.
#[derive(Debug)]
pub enum Left {
    /// Nothing.
    Nothing,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunked),
    /// It broke; the connection cannot be used again.
    Broken,
}

/// A minimum rate.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// When the body began to be read.
    pub since: Option<tokio::time::Instant>,
    /// Before this time nothing is judged.
    pub grace: Duration,
    /// Bytes per second; 0 = off.
    pub rate: u64,
}

impl Link {
    /// Takes a socket over, and what was read from it already.
    pub fn new(io: Io, pace: Pace) -> Arc<Link> {
        let state = State {
            io,
            input: Input::default(),
            body: Left::Nothing,
            gone: false,
            http_10: false,
            received: 0,
            pace,
        };
        Arc::new(Link { state: Mutex::new(state) })
    }

    /// The state. Held only within one poll.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body of the request whose head was just read.
    pub fn body(self: &Arc<Link>, framing: Framing, http_10: bool) -> portcullis_core::Body {
        let mut state = self.lock();
        state.received = 0;
        state.http_10 = http_10;
        state.pace.since = None;
        state.body = match framing {
            Framing::None | Framing::Close | Framing::Length(0) => Left::Nothing,
            Framing::Length(length) => Left::Length(length),
            Framing::Chunked => Left::Chunked(Chunked::default()),
        };
        match state.body {
            Left::Nothing => portcullis_core::Body::Empty,
            _ => portcullis_core::Body::stream(Incoming { link: self.clone() }),
        }
    }

    /// What is left of the current request's body.
    pub fn rest(self: &Arc<Link>) -> portcullis_core::Body {
        portcullis_core::Body::stream(Incoming { link: self.clone() })
    }
}

impl State {
    /// Has the whole body been read?
    pub fn is_complete(&self) -> bool {
        matches!(self.body, Left::Nothing)
    }

    /// Appends what comes of the body, up to about `limit` bytes.
    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Poll<Result<Appended, Error>> {
        let outcome = match &self.body {
            Left::Nothing => Poll::Ready(Ok(Appended::End)),
            Left::Broken => Poll::Ready(Err(Error::new(Kind::ClientGone))),
            Left::Length(left) => self.poll_length(cx, out, limit, *left),
            Left::Chunked(_) => self.poll_chunked(cx, out, limit),
        };
        match &outcome {
            Poll::Ready(Ok(Appended::Data(bytes))) => {
                self.received += *bytes as u64;
                if let Err(error) = self.check_pace() {
                    self.body = Left::Broken;
                    return Poll::Ready(Err(error));
                }
            }
            Poll::Ready(Err(_)) => self.body = Left::Broken,
            Poll::Ready(Ok(_)) => {}
            Poll::Pending => {
                self.pace.since.get_or_insert_with(tokio::time::Instant::now);
            }
        }
        outcome
    }

    fn poll_length(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
        limit: usize,
        left: u64,
    ) -> Poll<Result<Appended, Error>> {
        let wanted = limit.min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = match std::task::ready!(self.input.poll_take(&mut self.io, cx, out, wanted)) {
            Ok(0) | Err(_) => {
                self.gone = true;
                return Poll::Ready(Err(Error::because(Kind::ClientGone, "in the middle of the body")));
            }
            Ok(count) => count,
        };
        let left = left - count as u64;
        self.body = if left == 0 { Left::Nothing } else { Left::Length(left) };
        Poll::Ready(Ok(Appended::Data(count)))
    }

    fn poll_chunked(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Poll<Result<Appended, Error>> {
        loop {
            let Left::Chunked(chunked) = &mut self.body else { return Poll::Ready(Ok(Appended::End)) };
            match chunked.step(&mut self.input, out, limit) {
                Ok(Step::Data(count)) => return Poll::Ready(Ok(Appended::Data(count))),
                Ok(Step::End(trailers)) => {
                    let trailers = trailers.map(trailers::of_request).transpose()?;
                    self.body = Left::Nothing;
                    return Poll::Ready(Ok(trailers.map_or(Appended::End, Appended::Trailers)));
                }
                Ok(Step::More) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            match self.input.poll_fill(&mut self.io, cx, READ) {
                Poll::Ready(Ok(0)) | Poll::Ready(Err(_)) => {
                    self.gone = true;
                    return Poll::Ready(Err(Error::because(Kind::ClientGone, "in the middle of the body")));
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn check_pace(&self) -> Result<(), Error> {
        let Some(since) = self.pace.since.filter(|_| self.pace.rate > 0) else { return Ok(()) };
        let took = since.elapsed();
        if took > self.pace.grace && (self.received as f64) < took.as_secs_f64() * self.pace.rate as f64 {
            return Err(Error::because(Kind::RequestTimeout, "body slower than the minimum rate"));
        }
        Ok(())
    }
}

/// The body of a request that is arriving on a [`Link`].
struct Incoming {
    link: Arc<Link>,
}

impl Stream for Incoming {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        let mut data = Vec::new();
        self.poll_append(cx, &mut data, READ).map(|step| match step {
            Ok(Appended::Data(_)) => Some(Ok(Frame::Data(Bytes::from(data)))),
            Ok(Appended::Trailers(trailers)) => Some(Ok(Frame::Trailers(trailers))),
            Ok(Appended::End) => None,
            Err(error) => Some(Err(error)),
        })
    }

    fn poll_append(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Poll<Result<Appended, Error>> {
        self.link.lock().poll_body(cx, out, limit)
    }

    fn remaining(&self) -> Option<u64> {
        match self.link.lock().body {
            Left::Nothing => Some(0),
            Left::Length(left) => Some(left),
            Left::Chunked(_) | Left::Broken => None,
        }
    }
}

impl ClientLink for Link {
    /// Reads ahead (a pipelined request, at most) and notices the end. A client that closes its writing half while it
    /// waits counts as gone, as with the other proxies.
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let state = &mut *self.lock();
        if state.gone {
            return Poll::Ready(());
        }
        while state.is_complete() && state.input.unread().len() < AHEAD {
            match state.input.poll_fill(&mut state.io, cx, 1024) {
                Poll::Ready(Ok(0)) | Poll::Ready(Err(_)) => {
                    state.gone = true;
                    return Poll::Ready(());
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => break,
            }
        }
        Poll::Pending
    }

    fn interim<'a>(&'a self, status: StatusCode, fields: &'a Fields) -> BoxFuture<'a, Result<(), Error>> {
        if self.lock().http_10 {
            // RFC 9110 §15.2: a client of HTTP/1.0 would take it for the answer.
            return Box::pin(std::future::ready(Ok(())));
        }
        let mut out = Vec::with_capacity(128);
        writer::status_line(&mut out, status);
        fields.write_to(&mut out);
        out.extend_from_slice(b"\r\n");
        Box::pin(async move { self.write(&out).await.map_err(|_| Error::new(Kind::ClientGone)) })
    }
}

impl Link {
    /// Writes all of it.
    ///
    /// # Errors
    /// What the socket says.
    pub async fn write(&self, data: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        std::future::poll_fn(|cx| poll_write_all(&mut self.lock().io, cx, data, &mut sent)).await
    }
}
