//! The bound on a request's body.

use std::task::{Context, Poll};

use portcullis_core::{Appended, Body, Error, Frame, Kind, Request, Stream};

/// Refuses a body that says it is too long, and stops one that becomes so.
///
/// # Errors
/// `BodyTooLarge`.
pub fn body(request: &mut Request, most: Option<u64>) -> Result<(), Error> {
    let Some(most) = most else { return Ok(()) };
    match request.body.remaining() {
        Some(length) if length > most => Err(Error::new(Kind::BodyTooLarge)),
        Some(_) => Ok(()),
        None => {
            let inner = std::mem::take(&mut request.body);
            request.body = Body::stream(Limited { inner, left: most });
            Ok(())
        }
    }
}

struct Limited {
    inner: Body,
    left: u64,
}

impl Limited {
    fn spend(&mut self, bytes: usize) -> Result<(), Error> {
        self.left = self.left.checked_sub(bytes as u64).ok_or(Error::new(Kind::BodyTooLarge))?;
        Ok(())
    }
}

impl Stream for Limited {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        self.inner.poll_frame(cx).map(|frame| match frame {
            Some(Ok(Frame::Data(data))) => Some(self.spend(data.len()).map(|()| Frame::Data(data))),
            other => other,
        })
    }

    fn poll_append(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Poll<Result<Appended, Error>> {
        self.inner.poll_append(cx, out, limit).map(|step| match step {
            Ok(Appended::Data(bytes)) => self.spend(bytes).map(|()| Appended::Data(bytes)),
            other => other,
        })
    }

    fn remaining(&self) -> Option<u64> {
        self.inner.remaining()
    }
}
