//! The client's side of one stream, as forwarding and middlewares see it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use http::{StatusCode, header};
use portcullis_core::{BoxFuture, Error, Fields, Kind, exchange::ClientLink};
use quinn::SendStream;

use super::{code, head, inbound::Inbound, outbound::Outbound};
use crate::streams::{
    outgoing::Sink,
    turn::{self, Head, Link as _},
};

/// A stream that has not been answered yet, or is being.
pub(super) struct Link {
    /// Taken by the final answer.
    stream: Mutex<Option<Outbound>>,
    continued: AtomicBool,
    /// Bytes of the request's body so far.
    received: AtomicU64,
    /// The client wants no answer any more.
    gave_up: Arc<AtomicBool>,
}

impl Link {
    pub(super) fn new(stream: SendStream) -> Link {
        let gave_up = Arc::new(AtomicBool::new(false));
        Link {
            stream: Mutex::new(Some(Outbound::new(stream, gave_up.clone()))),
            continued: AtomicBool::new(false),
            received: AtomicU64::new(0),
            gave_up,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Outbound>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the client given it up?
    pub(super) fn gave_up(&self) -> bool {
        self.gave_up.load(Relaxed)
    }

    /// What says so, for the half that reads.
    pub(super) fn giving_up(&self) -> Arc<AtomicBool> {
        self.gave_up.clone()
    }

    /// Breaks the stream off.
    pub(super) fn break_off(&self, why: quinn::VarInt) {
        if let Some(stream) = &mut *self.lock() {
            stream.break_off(why);
        }
    }

    fn send_interim(&self, status: StatusCode, fields: &Fields) -> Result<(), Error> {
        let mut stream = self.lock();
        let Some(stream) = &mut *stream else { return Ok(()) };
        stream.push(head::frame(Some(status), fields, 0, |_| {}), false);
        // What does not leave at once leaves with the final answer.
        match stream.poll_flush(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Err(())) => Err(Error::new(Kind::ClientGone)),
            _ => Ok(()),
        }
    }
}

impl turn::Link for Link {
    type Inbound = Inbound;
    type Sink = Outbound;

    fn answer(&self, head: &Head<'_>, is_whole: bool) -> Result<Outbound, ()> {
        let mut stream = self.lock().take().ok_or(())?;
        if self.gave_up() {
            stream.break_off(code::REQUEST_CANCELLED);
            return Err(());
        }
        let frame = head::frame(Some(head.status), head.fields, head.left_out, |section| {
            if let Some(length) = head.length {
                let mut digits = itoa::Buffer::new();
                section.add(header::CONTENT_LENGTH.as_str().as_bytes(), digits.format(length).as_bytes());
            }
            let _ = head.with_date(|now| section.add(b"date", now.as_bytes()));
        });
        stream.push(frame, is_whole);
        Ok(stream)
    }

    fn go_on(&self) {
        if !self.continued.swap(true, Relaxed) {
            // It fails when the client is gone, which others notice.
            let _ = self.send_interim(StatusCode::CONTINUE, &Fields::new());
        }
    }

    fn received(&self) -> &AtomicU64 {
        &self.received
    }
}

impl ClientLink for Link {
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut *self.lock() {
            Some(stream) => stream.poll_reset(cx),
            None => Poll::Pending,
        }
    }

    fn interim<'a>(&'a self, status: StatusCode, fields: &'a Fields) -> BoxFuture<'a, Result<(), Error>> {
        let sent = if status == StatusCode::CONTINUE {
            self.go_on();
            Ok(())
        } else {
            self.send_interim(status, fields)
        };
        Box::pin(std::future::ready(sent))
    }
}
