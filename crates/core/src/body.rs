//! The body of a message, pulled by whoever writes it on: nothing is read from the source before there is room for it,
//! which is all of the back-pressure there is.

use std::task::{Context, Poll};

use bytes::Bytes;

use crate::{error::Error, fields::Fields};

/// A body: absent, whole, or arriving.
#[derive(Default)]
pub enum Body {
    /// No body at all.
    #[default]
    Empty,
    /// All of it, in memory.
    Full(Bytes),
    /// Arriving piece by piece.
    Stream(Box<dyn Stream>),
}

/// One piece of a body.
#[derive(Debug)]
pub enum Frame {
    /// Some bytes, never empty.
    Data(Bytes),
    /// The trailer fields; nothing follows.
    Trailers(Fields),
}

/// What one call of [`Stream::poll_append`] brought.
#[derive(Debug)]
pub enum Appended {
    /// So many bytes were appended, at least one.
    Data(usize),
    /// The body ended with these trailers.
    Trailers(Fields),
    /// The body ended.
    End,
}

/// A source of body pieces. After an end or an error it is not polled again.
pub trait Stream: Send {
    /// The next piece; `None` at the end.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>>;

    /// Like `poll_frame`, but appends up to about `limit` bytes to a buffer of the caller's. Sources that read from a
    /// socket fill the buffer directly; the default copies.
    fn poll_append(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Poll<Result<Appended, Error>> {
        let _ = limit;
        self.poll_frame(cx).map(|frame| match frame {
            Some(Ok(Frame::Data(data))) => {
                out.extend_from_slice(&data);
                Ok(Appended::Data(data.len()))
            }
            Some(Ok(Frame::Trailers(trailers))) => Ok(Appended::Trailers(trailers)),
            Some(Err(error)) => Err(error),
            None => Ok(Appended::End),
        })
    }

    /// How many bytes are still to come, when that is known for certain.
    fn remaining(&self) -> Option<u64>;
}

impl Body {
    /// Wraps a source.
    pub fn stream(source: impl Stream + 'static) -> Body {
        Body::Stream(Box::new(source))
    }

    /// How many bytes are still to come, when that is known.
    pub fn remaining(&self) -> Option<u64> {
        match self {
            Body::Empty => Some(0),
            Body::Full(data) => Some(data.len() as u64),
            Body::Stream(source) => source.remaining(),
        }
    }

    /// Is it certain that nothing is to come?
    pub fn is_empty(&self) -> bool {
        matches!(self.remaining(), Some(0))
    }

    /// The next piece; `None` at the end.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        match self {
            Body::Empty => Poll::Ready(None),
            Body::Full(_) => match std::mem::take(self) {
                Body::Full(data) if !data.is_empty() => Poll::Ready(Some(Ok(Frame::Data(data)))),
                _ => Poll::Ready(None),
            },
            Body::Stream(source) => source.poll_frame(cx),
        }
    }

    /// Appends up to about `limit` bytes to a buffer (see [`Stream::poll_append`]).
    pub fn poll_append(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Poll<Result<Appended, Error>> {
        match self {
            Body::Empty => Poll::Ready(Ok(Appended::End)),
            Body::Full(data) if data.is_empty() => Poll::Ready(Ok(Appended::End)),
            Body::Full(data) => {
                let piece = data.split_to(limit.clamp(1, data.len()));
                out.extend_from_slice(&piece);
                Poll::Ready(Ok(Appended::Data(piece.len())))
            }
            Body::Stream(source) => source.poll_append(cx, out, limit),
        }
    }

    /// The next piece, awaited.
    pub async fn frame(&mut self) -> Option<Result<Frame, Error>> {
        std::future::poll_fn(|cx| self.poll_frame(cx)).await
    }

    /// All of it, as long as it is at most `limit` bytes. Trailers are dropped.
    ///
    /// # Errors
    /// `Kind::BodyTooLarge` when it is longer; whatever the source reports.
    pub async fn read_all(&mut self, limit: usize) -> Result<Bytes, Error> {
        let mut all: Vec<u8> = Vec::new();
        loop {
            let step = std::future::poll_fn(|cx| self.poll_append(cx, &mut all, 16 * 1024)).await?;
            if all.len() > limit {
                return Err(Error::new(crate::error::Kind::BodyTooLarge));
            }
            if !matches!(step, Appended::Data(_)) {
                return Ok(Bytes::from(all));
            }
        }
    }
}

impl From<Bytes> for Body {
    fn from(data: Bytes) -> Body {
        if data.is_empty() { Body::Empty } else { Body::Full(data) }
    }
}

impl From<String> for Body {
    fn from(text: String) -> Body {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Body {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Body::Empty => f.write_str("Empty"),
            Body::Full(data) => write!(f, "Full({} bytes)", data.len()),
            Body::Stream(source) => write!(f, "Stream({:?} to come)", source.remaining()),
        }
    }
}
