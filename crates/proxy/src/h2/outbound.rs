//! A stream of `h2` as bodies go out on it: its last bytes carry END_STREAM themselves.

use std::task::{Context, Poll};

use bytes::Bytes;
use h2::{Reason, SendStream};
use portcullis_core::Fields;

use super::head;
use crate::streams::outgoing::{Outgoing, SMALL, Sink};

/// A body and the stream it goes out on.
pub(super) type Outbound = Outgoing<SendStream<Bytes>>;

impl Sink for SendStream<Bytes> {
    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<Result<(), ()>> {
        self.reserve_capacity(wanted);
        while self.capacity() == 0 {
            match self.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => return Poll::Ready(Err(())),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        piece: &mut Bytes,
        is_last: bool,
    ) -> Poll<Result<bool, ()>> {
        let room = if is_last && piece.len() <= SMALL {
            piece.len()
        } else {
            match self.poll_room(cx, piece.len()) {
                Poll::Ready(Ok(())) => self.capacity().min(piece.len()),
                Poll::Ready(Err(())) => return Poll::Ready(Err(())),
                Poll::Pending => return Poll::Pending,
            }
        };
        let part = piece.split_to(room);
        let ends = is_last && piece.is_empty();
        Poll::Ready(self.send_data(part, ends).map(|()| ends).map_err(drop))
    }

    /// The connection's task sees to it.
    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_end(&mut self, _: &mut Context<'_>, trailers: Option<&Fields>) -> Poll<Result<(), ()>> {
        Poll::Ready(
            match trailers {
                Some(trailers) => self.send_trailers(head::to_header_map(trailers, 0)),
                None => self.send_data(Bytes::new(), true),
            }
            .map_err(drop),
        )
    }

    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        SendStream::poll_reset(self, cx).map(drop)
    }

    fn reset(&mut self, peer_is_gone: bool) {
        // The client must not take what it has for the whole (RFC 9113 §8.1).
        self.send_reset(if peer_is_gone { Reason::CANCEL } else { Reason::INTERNAL_ERROR });
    }
}
