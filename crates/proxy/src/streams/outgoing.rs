//! A body going out on a stream: pulled from its source only when the peer's window and the connection's buffer have
//! taken what was pulled before. Its last bytes end the stream themselves, where they can.

use std::task::{Context, Poll};

use bytes::Bytes;
use portcullis_core::{Body, Error, Fields, Frame};

/// A last piece up to this size is handed over without asking for room first: the peer's window still bounds what is
/// sent, and this what is held.
pub(crate) const SMALL: usize = 16 * 1024;

/// The sending half of a stream, after its head. Errors mean that the peer is gone, or wants no more.
pub(crate) trait Sink: Send + 'static {
    /// Ready when some of so many bytes can be sent.
    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<Result<(), ()>>;

    /// Takes as much of a piece as there is room for, at least something. `is_last`: nothing follows the piece. True
    /// when the stream has ended with it.
    fn poll_send(&mut self, cx: &mut Context<'_>, piece: &mut Bytes, is_last: bool)
    -> Poll<Result<bool, ()>>;

    /// Ready when all that was taken is on its way.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ()>>;

    /// Ends the stream, with these trailers.
    fn poll_end(&mut self, cx: &mut Context<'_>, trailers: Option<&Fields>) -> Poll<Result<(), ()>>;

    /// Ready when the peer wants no more, and that will not show when sending.
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Breaks the stream off, so that nobody takes what there is for the whole: because the peer is gone, or for want of
    /// the rest.
    fn reset(&mut self, peer_is_gone: bool);
}

/// A body and the stream it goes out on.
pub(crate) struct Outgoing<S> {
    sink: S,
    body: Body,
    /// Pulled and not handed over.
    piece: Bytes,
    next: Next,
    /// Bytes handed over.
    pub(crate) sent: u64,
    /// What a `Pending` is about.
    pub(crate) waits: Waits,
    /// Something was taken from the source.
    pub(crate) is_spent: bool,
}

/// What was there of a body before its head had left.
#[derive(Default)]
pub(crate) struct Begun {
    piece: Bytes,
    next: Next,
}

impl Begun {
    /// Takes what is there: a piece, and after a small one what follows it.
    ///
    /// # Errors
    /// The body is broken.
    pub(crate) fn pull(&mut self, cx: &mut Context<'_>, body: &mut Body) -> Result<(), Error> {
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
    /// Nothing: the head has ended the stream.
    Nothing,
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
pub(crate) enum Waits {
    /// The source of the body.
    Source,
    /// The peer: room in its window, or on the way to it.
    Peer,
}

/// Who ended a body before its end.
pub(crate) enum Cut {
    /// Its source.
    Source(Error),
    /// The peer, by resetting the stream or leaving.
    Peer,
}

impl<S: Sink> Outgoing<S> {
    /// A body on its way.
    pub(crate) fn new(sink: S, body: Body) -> Outgoing<S> {
        Outgoing {
            sink,
            body,
            piece: Bytes::new(),
            next: Next::Unknown,
            sent: 0,
            waits: Waits::Source,
            is_spent: false,
        }
    }

    /// A body of which some was taken already.
    pub(crate) fn begun(sink: S, body: Body, begun: Begun) -> Outgoing<S> {
        let Begun { piece, next } = begun;
        Outgoing { piece, next, is_spent: true, ..Outgoing::new(sink, body) }
    }

    /// No body: the head was all.
    pub(crate) fn whole(sink: S) -> Outgoing<S> {
        Outgoing { next: Next::Nothing, waits: Waits::Peer, ..Outgoing::new(sink, Body::Empty) }
    }

    /// The stream.
    pub(crate) fn sink(&mut self) -> &mut S {
        &mut self.sink
    }

    /// Gives the body up, whole if nothing of it is spent.
    pub(crate) fn into_body(self) -> Body {
        self.body
    }

    /// Only the stream is left.
    pub(crate) fn into_sink(self) -> S {
        self.sink
    }

    /// Moves on as far as it goes; ready when all is handed over.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        loop {
            if !self.piece.is_empty() {
                match self.poll_hand_over(cx) {
                    Poll::Ready(Ok(true)) => return Poll::Ready(Ok(())),
                    Poll::Ready(Ok(false)) => continue,
                    Poll::Ready(Err(())) => return Poll::Ready(Err(Cut::Peer)),
                    Poll::Pending => {
                        self.waits = Waits::Peer;
                        return Poll::Pending;
                    }
                }
            }
            let trailers = match &self.next {
                Next::Unknown => match self.poll_pull(cx) {
                    Poll::Ready(next) => {
                        self.next = next;
                        continue;
                    }
                    Poll::Pending => return self.wait_for_source(cx),
                },
                Next::Piece(_) | Next::Error(_) => match std::mem::take(&mut self.next) {
                    Next::Piece(piece) => {
                        self.piece = piece;
                        self.look_ahead(cx);
                        continue;
                    }
                    Next::Error(error) => return Poll::Ready(Err(Cut::Source(error))),
                    _ => continue,
                },
                Next::Trailers(trailers) => Some(trailers),
                Next::End => None,
                Next::Nothing => return self.sink.poll_flush(cx).map_err(|()| Cut::Peer),
            };
            let ended = self.sink.poll_end(cx, trailers);
            self.waits = Waits::Peer;
            return ended.map_err(|()| Cut::Peer);
        }
    }

    /// Meanwhile what was taken goes on its way.
    fn wait_for_source(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        self.waits = match self.sink.poll_flush(cx) {
            Poll::Ready(Ok(())) => Waits::Source,
            Poll::Ready(Err(())) => return Poll::Ready(Err(Cut::Peer)),
            Poll::Pending => Waits::Peer,
        };
        Poll::Pending
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
        let before = self.piece.len();
        let handed = self.sink.poll_send(cx, &mut self.piece, matches!(self.next, Next::End));
        self.sent += (before - self.piece.len()) as u64;
        handed
    }
}
