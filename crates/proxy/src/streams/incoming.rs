//! The body of a request, at the pace that the listener demands.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
    time::Duration,
};

use portcullis_config::model::ListenerTimeouts;
use portcullis_core::{Body, Error, Frame, Kind, Known, Request, Stream};

use super::turn::Link;
use crate::trailers;

/// The receiving half of a stream.
pub(crate) trait Inbound: Send + 'static {
    /// The next piece; `None` at the end. Errors are those of the data path.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>>;

    /// How many bytes are still to come. Zero only when no trailers follow either.
    fn remaining(&self) -> Option<u64>;
}

/// The body of a request.
struct Incoming<I, L> {
    inbound: I,
    link: Arc<L>,
    /// The client waits for a 100 before it sends.
    expects: bool,
    since: Option<tokio::time::Instant>,
    grace: Duration,
    rate: u64,
}

/// Gives a request the body that comes in on its stream, if any does.
pub(crate) fn give_body<L: Link>(
    request: &mut Request,
    inbound: L::Inbound,
    link: &Arc<L>,
    expects: bool,
    timeouts: &ListenerTimeouts,
) {
    if inbound.remaining() == Some(0) {
        return;
    }
    request.expects_continue = expects;
    // A gRPC stream says little for hours, and is bounded by its own time.
    let is_grpc = request
        .fields
        .known(Known::ContentType)
        .is_some_and(|value| value.get(..16).is_some_and(|v| v.eq_ignore_ascii_case(b"application/grpc")));
    request.body = Body::stream(Incoming {
        inbound,
        link: link.clone(),
        expects,
        since: None,
        grace: timeouts.body_grace,
        rate: if is_grpc { 0 } else { timeouts.body_min_rate },
    });
}

impl<I, L> Incoming<I, L> {
    fn check_pace(&self, received: u64) -> Result<(), Error> {
        let Some(since) = self.since.filter(|_| self.rate > 0) else { return Ok(()) };
        let took = since.elapsed();
        if took > self.grace && (received as f64) < took.as_secs_f64() * self.rate as f64 {
            return Err(Error::because(Kind::RequestTimeout, "body slower than the minimum rate"));
        }
        Ok(())
    }
}

impl<I: Inbound, L: Link> Stream for Incoming<I, L> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        if std::mem::take(&mut self.expects) {
            // Somebody wants it, whether or not anybody asked for it by name.
            self.link.go_on();
        }
        let frame = match self.inbound.poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                self.since.get_or_insert_with(tokio::time::Instant::now);
                return Poll::Pending;
            }
        };
        Poll::Ready(frame.map(|frame| match frame? {
            Frame::Data(data) => {
                let before = self.link.received().fetch_add(data.len() as u64, Relaxed);
                self.check_pace(before + data.len() as u64).map(|()| Frame::Data(data))
            }
            Frame::Trailers(trailers) => trailers::of_request(trailers).map(Frame::Trailers),
        }))
    }

    fn remaining(&self) -> Option<u64> {
        self.inbound.remaining()
    }
}
