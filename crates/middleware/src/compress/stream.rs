//! A body, compressed while it passes. Nothing is held back: when the source pauses, the encoder is flushed, and what is
//! there goes out.

use std::task::{Context, Poll};

use bytes::Bytes;
use portcullis_core::{Appended, Body, Error, Fields, Frame, Stream};

use super::coding::Encoder;

/// So much output is handed out at once, if there is so much.
const HAND_OUT: usize = 16 * 1024;
/// So much is read at once.
const READ: usize = 16 * 1024;
/// So much input is taken in one turn; then other tasks get theirs, even if no output came of it.
const TURN: usize = 256 * 1024;

/// A compressed body.
pub struct Compressed {
    source: Body,
    stage: Stage,
    /// What was read and goes into the encoder next.
    input: Vec<u8>,
    /// Did the encoder take in something that it has not put out for certain?
    unflushed: bool,
    trailers: Option<Fields>,
}

enum Stage {
    Running(Encoder),
    /// The source ended; this is the rest of the output.
    Ending(Vec<u8>),
}

impl Compressed {
    /// Compresses a body.
    pub fn new(source: Body, encoder: Encoder) -> Compressed {
        let input = Vec::new();
        Compressed { source, stage: Stage::Running(encoder), input, unflushed: false, trailers: None }
    }

    fn output(&mut self) -> &mut Vec<u8> {
        match &mut self.stage {
            Stage::Running(encoder) => encoder.output(),
            Stage::Ending(rest) => rest,
        }
    }

    /// Ready when there is output, or none will follow.
    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut taken = 0;
        while let Stage::Running(encoder) = &mut self.stage {
            if encoder.output().len() >= HAND_OUT {
                break;
            }
            if taken >= TURN {
                if encoder.output().is_empty() {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                break;
            }
            self.input.clear();
            match self.source.poll_append(cx, &mut self.input, READ) {
                Poll::Ready(Ok(Appended::Data(bytes))) => {
                    encoder.write(&self.input)?;
                    self.unflushed = true;
                    taken += bytes;
                }
                Poll::Ready(Ok(Appended::Trailers(trailers))) => {
                    self.trailers = Some(trailers);
                    self.finish()?;
                }
                Poll::Ready(Ok(Appended::End)) => self.finish()?,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    if std::mem::take(&mut self.unflushed) {
                        encoder.flush()?;
                    }
                    // The source has our waker: what is there goes out now, and we are called when there is more.
                    if encoder.output().is_empty() {
                        return Poll::Pending;
                    }
                    break;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn finish(&mut self) -> Result<(), Error> {
        if let Stage::Running(encoder) = std::mem::replace(&mut self.stage, Stage::Ending(Vec::new())) {
            self.stage = Stage::Ending(encoder.finish()?);
            self.input = Vec::new();
        }
        Ok(())
    }
}

impl Stream for Compressed {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        if let Err(error) = std::task::ready!(self.poll_output(cx)) {
            return Poll::Ready(Some(Err(error)));
        }
        let data = std::mem::take(self.output());
        if !data.is_empty() {
            return Poll::Ready(Some(Ok(Frame::Data(Bytes::from(data)))));
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::Trailers(trailers))))
    }

    fn poll_append(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Poll<Result<Appended, Error>> {
        std::task::ready!(self.poll_output(cx))?;
        let ready = self.output();
        if !ready.is_empty() {
            let length = ready.len().min(limit.max(1));
            out.extend(ready.drain(..length));
            return Poll::Ready(Ok(Appended::Data(length)));
        }
        Poll::Ready(Ok(self.trailers.take().map_or(Appended::End, Appended::Trailers)))
    }

    fn remaining(&self) -> Option<u64> {
        None
    }
}
