//! Trailers of requests without the fields that tell the service who a client is: endpoints may merge them into those of
//! the head (CGI and its kin do), where only the gateway says that.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use portcullis_core::{Appended, Body, Error, Fields, Frame, Stream, forwarded::is_spelling_of};

/// Takes trailers named as these headers (and the claims in them), in any spelling, out of a body that is still to come.
pub fn without(body: &mut Body, headers: &Arc<[(String, String)]>) {
    if let Body::Stream(_) = body {
        *body = Body::stream(Without { inner: std::mem::take(body), headers: headers.clone() });
    }
}

struct Without {
    inner: Body,
    headers: Arc<[(String, String)]>,
}

impl Without {
    fn clean(&self, trailers: &mut Fields) {
        trailers
            .retain(|_, name, _| !self.headers.iter().any(|(own, _)| is_spelling_of(name, own.as_bytes())));
    }
}

impl Stream for Without {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        let mut frame = std::task::ready!(self.inner.poll_frame(cx));
        if let Some(Ok(Frame::Trailers(trailers))) = &mut frame {
            self.clean(trailers);
        }
        Poll::Ready(frame)
    }

    fn poll_append(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Poll<Result<Appended, Error>> {
        let mut appended = std::task::ready!(self.inner.poll_append(cx, out, limit))?;
        if let Appended::Trailers(trailers) = &mut appended {
            self.clean(trailers);
        }
        Poll::Ready(Ok(appended))
    }

    fn remaining(&self) -> Option<u64> {
        self.inner.remaining()
    }
}
