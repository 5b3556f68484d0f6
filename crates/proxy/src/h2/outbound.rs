//! A body going out on a stream: pulled from its source only when the peer's window and the connection's buffer have
//! taken what was pulled before. Its last bytes carry END_STREAM themselves.

use std::task::{Context, Poll};

use bytes::Bytes;
use h2::SendStream;
use portcullis_core::{Body, Error, Fields, Frame};

use super::head;

/// A last piece up to this size is handed over without asking for room first: the peer's window still bounds what is
/// sent, and this what is held.
const SMALL: usize = 16 * 1024;

/// A body and the stream it goes out on.
pub(super) struct Outbound {
    stream: SendStream<Bytes>,
    body: Body,
    /// Pulled and not handed over.
    piece: Bytes,
    next: Next,
    /// Bytes handed over.
    pub(super) sent: u64,
    /// What a `Pending` is about.
    pub(super) waits: Waits,
    /// Something was taken from the source.
    pub(super) is_spent: bool,
}

/// What was there of a body before its head had left.
#[derive(Default)]
pub(super) struct Begun {
    piece: Bytes,
    next: Next,
}

impl Begun {
    /// Takes what is there: a piece, and after a small one what follows it.
    ///
    /// # Errors
    /// The body is broken.
    pub(super) fn pull(&mut self, cx: &mut Context<'_>, body: &mut Body) -> Result<(), Error> {
        while self.piece.len() < SMALL && matches!(self.next, Next::Unknown) {
            if body.remaining() == Some(0) {
                self.next = Next::End;
                break;
            }
            let Poll::Ready(frame) = body.poll_frame(cx) else { break };
            match Next::of(frame) {
                Next::Error(error) => return Err(error),
                Next::Piece(piece) if self.piece.is_empty() => self.piece = piece,
                next => self.next = next,
            }
        }
        Ok(())
    }
}

/// What comes behind the piece in hand.
#[derive(Default)]
enum Next {
    /// Not known yet.
    #[default]
    Unknown,
    Piece(Bytes),
    Trailers(Fields),
    End,
    Error(Error),
}

impl Next {
    fn of(frame: Option<Result<Frame, Error>>) -> Next {
        match frame {
            Some(Ok(Frame::Data(data))) => Next::Piece(data),
            Some(Ok(Frame::Trailers(trailers))) => Next::Trailers(trailers),
            Some(Err(error)) => Next::Error(error),
            None => Next::End,
        }
    }
}

/// What is being waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    /// The source of the body.
    Source,
    /// The peer: room in its window, or on the way to it.
    Peer,
}

/// Who ended a body before its end.
pub(super) enum Cut {
    /// Its source.
    Source(Error),
    /// The peer, by resetting the stream or leaving.
    Peer,
}

impl Outbound {
    /// A body on its way.
    pub(super) fn new(stream: SendStream<Bytes>, body: Body) -> Outbound {
        Outbound {
            stream,
            body,
            piece: Bytes::new(),
            next: Next::Unknown,
            sent: 0,
            waits: Waits::Source,
            is_spent: false,
        }
    }

    /// A body of which some was taken already.
    pub(super) fn begun(stream: SendStream<Bytes>, body: Body, begun: Begun) -> Outbound {
        let Begun { piece, next } = begun;
        Outbound { piece, next, is_spent: true, ..Outbound::new(stream, body) }
    }

    /// The stream.
    pub(super) fn stream(&mut self) -> &mut SendStream<Bytes> {
        &mut self.stream
    }

    /// Gives the body up, whole if nothing of it is spent.
    pub(super) fn into_body(self) -> Body {
        self.body
    }

    /// Moves on as far as it goes; ready when all is handed over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        loop {
            if !self.piece.is_empty() {
                match self.poll_hand_over(cx) {
                    Poll::Ready(Ok(true)) => return Poll::Ready(Ok(())),
                    Poll::Ready(Ok(false)) => continue,
                    Poll::Ready(Err(())) => return Poll::Ready(Err(Cut::Peer)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            let finished = match std::mem::replace(&mut self.next, Next::Unknown) {
                Next::Unknown => match self.poll_pull(cx) {
                    Poll::Ready(next) => {
                        self.next = next;
                        continue;
                    }
                    Poll::Pending => {
                        self.waits = Waits::Source;
                        return Poll::Pending;
                    }
                },
                Next::Piece(piece) => {
                    self.piece = piece;
                    self.look_ahead(cx);
                    continue;
                }
                Next::Trailers(trailers) => self.stream.send_trailers(head::to_header_map(&trailers, 0)),
                Next::End => self.stream.send_data(Bytes::new(), true),
                Next::Error(error) => return Poll::Ready(Err(Cut::Source(error))),
            };
            return Poll::Ready(finished.map_err(|_| Cut::Peer));
        }
    }

    fn poll_pull(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let frame = std::task::ready!(self.body.poll_frame(cx));
        self.is_spent = true;
        Poll::Ready(Next::of(frame))
    }

    /// Learns what follows the piece in hand, where that is free: then the last piece ends the stream itself.
    fn look_ahead(&mut self, cx: &mut Context<'_>) {
        match self.body.remaining() {
            Some(0) => self.next = Next::End,
            Some(_) => {}
            None => {
                if let Poll::Ready(next) = self.poll_pull(cx) {
                    self.next = next;
                }
            }
        }
    }

    /// Hands over as much of the piece as there is room for; true when the stream has ended with it.
    fn poll_hand_over(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, ()>> {
        let is_last = matches!(self.next, Next::End);
        let room = if is_last && self.piece.len() <= SMALL {
            self.piece.len()
        } else {
            self.stream.reserve_capacity(self.piece.len());
            loop {
                match self.stream.capacity() {
                    0 => {}
                    room => break room.min(self.piece.len()),
                }
                match self.stream.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(_) => return Poll::Ready(Err(())),
                    Poll::Pending => {
                        self.waits = Waits::Peer;
                        return Poll::Pending;
                    }
                }
            }
        };
        let part = self.piece.split_to(room);
        let ends = is_last && self.piece.is_empty();
        self.sent += part.len() as u64;
        Poll::Ready(self.stream.send_data(part, ends).map(|()| ends).map_err(drop))
    }
}
