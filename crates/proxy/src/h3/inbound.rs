//! A body coming in on a stream. What is taken of it is what quinn lets the client send more of, so that it sends as fast
//! as the body is consumed, and no faster.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use portcullis_core::{Error, Fields, Frame, Kind, Known};

use super::{
    code,
    frames::Frames,
    head,
    peer::Peer,
    scan::{Fault, Found, kind},
};
use crate::{h1::framing, streams::incoming};

/// The receiving half of a stream, behind its head.
pub(super) struct Inbound {
    frames: Frames,
    peer: Arc<Peer>,
    /// What `Content-Length` leaves to come.
    left: Option<u64>,
    /// Found before anybody asked.
    ahead: Option<Result<Found, Fault>>,
    /// Handed on once nothing follows them.
    trailers: Option<Fields>,
    phase: Phase,
    most_trailers: usize,
    most_bytes: usize,
    /// The client wants no answer any more.
    gave_up: Arc<AtomicBool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Data,
    /// Trailers have come: the end must.
    Trailers,
    Done,
}

impl Inbound {
    /// The body behind a head with these fields. Trailers may have so many bytes, and fields.
    pub(super) fn new(
        frames: Frames,
        peer: Arc<Peer>,
        fields: &Fields,
        (most_bytes, most_trailers): (usize, usize),
        gave_up: Arc<AtomicBool>,
    ) -> Inbound {
        let left = fields.known(Known::ContentLength).and_then(framing::decimal);
        Inbound {
            frames,
            peer,
            left,
            ahead: None,
            trailers: None,
            phase: Phase::Data,
            most_trailers,
            most_bytes,
            gave_up,
        }
    }

    /// Ready when it is known whether anything follows the head.
    pub(super) fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ahead.is_none() {
            let found = ready!(self.poll_known(cx));
            self.ahead = Some(found);
        }
        if matches!(self.ahead, Some(Ok(Found::End))) && self.left.unwrap_or(0) == 0 {
            self.phase = Phase::Done;
        }
        Poll::Ready(())
    }

    /// The next thing that means something.
    fn poll_known(&mut self, cx: &mut Context<'_>) -> Poll<Result<Found, Fault>> {
        if let Some(ahead) = self.ahead.take() {
            return Poll::Ready(ahead);
        }
        loop {
            match ready!(self.frames.poll(cx)) {
                Ok(Found::Unknown) => self.peer.sent_control(),
                Ok(Found::Data(data)) if data.is_empty() && self.phase == Phase::Data => {
                    self.peer.sent_control();
                }
                found => return Poll::Ready(found),
            }
        }
    }

    fn take(&mut self, found: Found) -> Result<Option<Frame>, Error> {
        let unexpected = |inbound: &Inbound| {
            inbound
                .broken(Fault::Connection(code::FRAME_UNEXPECTED, "a frame that has no place in a request"))
        };
        match found {
            Found::Data(data) if self.phase == Phase::Data => {
                if let Some(left) = &mut self.left {
                    *left = left.checked_sub(data.len() as u64).ok_or_else(|| {
                        Error::because(Kind::BadRequest, "more of a body than Content-Length says")
                    })?;
                }
                Ok(Some(Frame::Data(data)))
            }
            Found::Frame(kind::HEADERS, section) if self.phase == Phase::Data => {
                self.phase = Phase::Trailers;
                match head::trailers(&section, self.most_bytes, self.most_trailers) {
                    Ok(fields) => {
                        self.trailers = Some(fields);
                        Ok(None)
                    }
                    Err(head::Fault::Refused(error)) => Err(error),
                    Err(head::Fault::Broken) => {
                        Err(self
                            .broken(Fault::Connection(code::DECOMPRESSION_FAILED, "trailers that are none")))
                    }
                }
            }
            Found::End if self.left.unwrap_or(0) > 0 => {
                Err(Error::because(Kind::BadRequest, "less of a body than Content-Length says"))
            }
            Found::End => Ok(self.trailers.take().map(|trailers| {
                self.phase = Phase::Done;
                Frame::Trailers(trailers)
            })),
            _ => Err(unexpected(self)),
        }
    }

    fn broken(&self, fault: Fault) -> Error {
        self.peer.judge(fault);
        match fault {
            Fault::Connection(_, why) => Error::because(Kind::BadRequest, why),
            Fault::TooLarge => Error::because(Kind::HeadersTooLarge, "trailers"),
            Fault::Reset => {
                // RFC 9114 §4.1.1: who breaks a request off has no use for its answer.
                self.gave_up.store(true, Relaxed);
                Error::because(Kind::ClientGone, "in the middle of the body")
            }
            Fault::Gone => Error::because(Kind::ClientGone, "in the middle of the body"),
        }
    }
}

impl incoming::Inbound for Inbound {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        if self.phase == Phase::Done {
            return Poll::Ready(None);
        }
        let taken = loop {
            match ready!(self.poll_known(cx)).map(|found| self.take(found)) {
                // Trailers: only the end may follow them.
                Ok(Ok(None)) if self.phase == Phase::Trailers && self.trailers.is_some() => {}
                Ok(taken) => break taken,
                Err(fault) => break Err(self.broken(fault)),
            }
        };
        Poll::Ready(match taken {
            Ok(Some(frame)) => Some(Ok(frame)),
            Ok(None) => {
                self.phase = Phase::Done;
                None
            }
            Err(error) => {
                self.phase = Phase::Done;
                self.frames.stop(code::MESSAGE_ERROR);
                Some(Err(error))
            }
        })
    }

    fn remaining(&self) -> Option<u64> {
        match self.phase {
            Phase::Done => Some(0),
            // Nothing may follow trailers, but that has to be seen.
            _ => self.left.filter(|left| *left > 0),
        }
    }
}
