//! The client's side of one stream, as forwarding and middlewares see it.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderValue, Response, StatusCode, header};
use portcullis_core::{BoxFuture, Error, Fields, Kind, exchange::ClientLink};

use super::{head, inbound::Inbound};
use crate::streams::turn::{self, Head, Link as _};

/// A stream that has not been answered yet, or is being.
pub(super) struct Link {
    respond: Mutex<SendResponse<Bytes>>,
    /// The final answer's head has left: who waits for the client's leave now asks the sending half.
    answered: AtomicBool,
    continued: AtomicBool,
    /// Bytes of the request's body so far.
    received: AtomicU64,
}

impl Link {
    pub(super) fn new(respond: SendResponse<Bytes>) -> Link {
        Link {
            respond: Mutex::new(respond),
            answered: AtomicBool::new(false),
            continued: AtomicBool::new(false),
            received: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, SendResponse<Bytes>> {
        self.respond.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl turn::Link for Link {
    type Inbound = Inbound;
    type Sink = h2::SendStream<Bytes>;

    fn answer(&self, head: &Head<'_>, is_whole: bool) -> Result<h2::SendStream<Bytes>, ()> {
        let mut fields = head::to_header_map(head.fields, head.left_out);
        if let Some(length) = head.length {
            fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        if let Some(Ok(now)) = head.with_date(HeaderValue::from_str) {
            fields.insert(header::DATE, now);
        }
        let mut response = Response::new(());
        *response.status_mut() = head.status;
        *response.headers_mut() = fields;
        self.answered.store(true, Relaxed);
        self.lock().send_response(response, is_whole).map_err(drop)
    }

    fn go_on(&self) {
        if !self.answered.load(Relaxed) && !self.continued.swap(true, Relaxed) {
            let mut head = Response::new(());
            *head.status_mut() = StatusCode::CONTINUE;
            // It fails when the client is gone, which others notice.
            let _ = self.lock().send_informational(head);
        }
    }

    fn received(&self) -> &AtomicU64 {
        &self.received
    }
}

impl ClientLink for Link {
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.answered.load(Relaxed) {
            return Poll::Pending;
        }
        self.lock().poll_reset(cx).map(drop)
    }

    fn interim<'a>(&'a self, status: StatusCode, fields: &'a Fields) -> BoxFuture<'a, Result<(), Error>> {
        let sent = if status == StatusCode::CONTINUE {
            self.go_on();
            Ok(())
        } else {
            let mut head = Response::new(());
            *head.status_mut() = status;
            *head.headers_mut() = head::to_header_map(fields, 0);
            self.lock().send_informational(head).map_err(|_| Error::new(Kind::ClientGone))
        };
        Box::pin(std::future::ready(sent))
    }
}
