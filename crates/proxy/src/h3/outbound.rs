//! A body going out on a stream. At most one frame of it is held here: what quinn has taken, it holds until the client has
//! acknowledged it, within the window of the connection.

use std::{
    collections::VecDeque,
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use portcullis_core::Fields;
use quinn::SendStream;

use super::{code, frames, head, scan::kind};
use crate::streams::outgoing::Sink;

/// Ready when the client wants no more of a stream, or has all of it.
type Stopped = Pin<Box<dyn Future<Output = bool> + Send + Sync>>;

/// The sending half of a stream.
pub(super) struct Outbound {
    stream: SendStream,
    /// Not taken by quinn yet.
    queue: VecDeque<Bytes>,
    /// Nothing comes behind the queue.
    is_last: bool,
    /// Ended, or broken off.
    is_over: bool,
    stopped: Option<Stopped>,
    /// The client wants no more.
    gave_up: Arc<AtomicBool>,
}

impl Outbound {
    pub(super) fn new(stream: SendStream, gave_up: Arc<AtomicBool>) -> Outbound {
        Outbound { stream, queue: VecDeque::new(), is_last: false, is_over: false, stopped: None, gave_up }
    }

    /// Puts a whole frame into the queue.
    pub(super) fn push(&mut self, frame: Bytes, is_last: bool) {
        self.queue.push_back(frame);
        self.is_last = is_last;
    }

    /// Ready when the client has everything (true), or will never have it.
    pub(super) fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let stream = &self.stream;
        let stopped = self.stopped.get_or_insert_with(|| {
            let stopped = stream.stopped();
            Box::pin(async move { matches!(stopped.await, Ok(None)) })
        });
        let has_all = ready!(stopped.as_mut().poll(cx));
        self.stopped = Some(Box::pin(std::future::ready(has_all)));
        if !has_all && !self.is_over {
            self.gave_up.store(true, Relaxed);
        }
        Poll::Ready(has_all)
    }

    fn give_up(&self) {
        self.gave_up.store(true, Relaxed);
    }

    pub(super) fn break_off(&mut self, why: quinn::VarInt) {
        if !std::mem::replace(&mut self.is_over, true) {
            // It may be over on the client's side already.
            let _ = self.stream.reset(why);
        }
    }
}

impl Sink for Outbound {
    fn poll_room(&mut self, cx: &mut Context<'_>, _: usize) -> Poll<Result<(), ()>> {
        self.poll_flush(cx)
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        piece: &mut Bytes,
        is_last: bool,
    ) -> Poll<Result<bool, ()>> {
        ready!(self.poll_flush(cx))?;
        let mut head = Vec::with_capacity(frames::HEAD);
        super::varint::write(kind::DATA, &mut head);
        super::varint::write(piece.len() as u64, &mut head);
        self.queue.push_back(Bytes::from(head));
        self.queue.push_back(std::mem::take(piece));
        self.is_last = is_last;
        match self.poll_flush(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(is_last)),
            Poll::Ready(Err(())) => Poll::Ready(Err(())),
            // The piece is ours now; whoever sends more waits for it.
            Poll::Pending => Poll::Ready(Ok(false)),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        while !self.queue.is_empty() {
            // quinn's future holds nothing from one poll to the next.
            let written = {
                let queue = self.queue.make_contiguous();
                let mut writing = pin!(self.stream.write_chunks(queue));
                ready!(writing.as_mut().poll(cx))
            };
            match written {
                Ok(written) => drop(self.queue.drain(..written.chunks)),
                Err(error) => {
                    if matches!(error, quinn::WriteError::Stopped(_)) {
                        self.give_up();
                    }
                    return Poll::Ready(Err(()));
                }
            }
        }
        if self.is_last && !std::mem::replace(&mut self.is_over, true) {
            // It fails when the client wants no more, which is no loss now.
            let _ = self.stream.finish();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_end(&mut self, cx: &mut Context<'_>, trailers: Option<&Fields>) -> Poll<Result<(), ()>> {
        if !std::mem::replace(&mut self.is_last, true)
            && let Some(trailers) = trailers
        {
            self.queue.push_back(head::frame(None, trailers, 0, |_| {}));
        }
        self.poll_flush(cx)
    }

    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.poll_settled(cx) {
            Poll::Ready(false) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    fn reset(&mut self, peer_is_gone: bool) {
        self.break_off(if peer_is_gone { code::REQUEST_CANCELLED } else { code::INTERNAL_ERROR });
    }
}

impl Drop for Outbound {
    fn drop(&mut self) {
        // quinn would end the stream as if it were whole.
        self.break_off(code::INTERNAL_ERROR);
    }
}
