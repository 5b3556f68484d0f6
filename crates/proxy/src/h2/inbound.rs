//! A body coming in on a stream. What is taken is given back to the flow-control window as it is taken, so that the
//! peer sends as fast as the body is consumed, and no faster.

use std::task::{Context, Poll, ready};

use h2::RecvStream;
use http::{HeaderMap, header};
use portcullis_core::{Error, Frame, Kind};

use super::head;
use crate::streams::incoming;

/// The receiving half of a stream.
#[derive(Debug)]
pub(super) struct Inbound {
    stream: RecvStream,
    /// What `Content-Length` leaves to come. `h2` sees to it that it is true.
    left: Option<u64>,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Data,
    Trailers,
    Done,
}

impl Inbound {
    /// The body behind a head with these fields.
    pub(super) fn new(stream: RecvStream, fields: &HeaderMap) -> Inbound {
        let length = fields.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        Inbound { stream, left: length, phase: Phase::Data }
    }

    /// The next piece; `None` at the end.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, h2::Error>>> {
        while self.phase == Phase::Data {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    // Refused only when more is given back than was taken.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(Ok(Frame::Data(data))));
                }
                Some(Err(error)) => {
                    self.phase = Phase::Done;
                    return Poll::Ready(Some(Err(error)));
                }
                None => self.phase = Phase::Trailers,
            }
        }
        if self.phase == Phase::Done {
            return Poll::Ready(None);
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        self.phase = Phase::Done;
        Poll::Ready(match trailers {
            Ok(trailers) => trailers.map(|map| Ok(Frame::Trailers(head::fields(&map)))),
            Err(error) => Some(Err(error)),
        })
    }

    /// How many bytes are still to come. Zero only when no trailers follow either.
    pub(super) fn remaining(&self) -> Option<u64> {
        if self.phase == Phase::Done || self.stream.is_end_stream() {
            return Some(0);
        }
        self.left.filter(|left| *left > 0)
    }
}

/// On the side of the clients.
impl incoming::Inbound for Inbound {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        self.poll(cx).map_err(|error| match error {
            // `h2` found it to be longer or shorter than its Content-Length.
            error if error.is_library() => Error::because(Kind::BadRequest, error.to_string()),
            _ => Error::because(Kind::ClientGone, "in the middle of the body"),
        })
    }

    fn remaining(&self) -> Option<u64> {
        self.remaining()
    }
}
