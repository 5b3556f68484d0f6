//! An answer's body as it arrives from an endpoint, read into the buffer from which it leaves.

use std::task::{Context, Poll};

use bytes::Bytes;
use portcullis_core::{Appended, Body, Error, Frame, Kind, Stream};

use super::{
    chunked::{Chunked, Step},
    client::Conn,
    framing::Framing,
    upload::{Cut, Upload},
};
use crate::forward::upstream::InFlight;

/// How much is read at once where nobody says how much.
const READ: usize = 32 * 1024;

/// The rest of an answer, and the connection it arrives on.
pub struct Arriving {
    conn: Option<Box<Conn>>,
    left: Left,
    /// The rest of the request's body, when the endpoint answered before it had all of it: rare, hence in a box.
    upload: Option<Box<Upload>>,
    keep: bool,
    in_flight: Option<InFlight>,
}

enum Left {
    Length(u64),
    Chunked(Chunked),
    Close,
    Done,
}

impl Arriving {
    /// Of an answer whose head has been read from this connection. `keep`: it stays open behind the answer.
    pub fn new(
        conn: Box<Conn>,
        framing: Framing,
        upload: Option<Box<Upload>>,
        keep: bool,
        in_flight: InFlight,
    ) -> Arriving {
        let left = match framing {
            Framing::None => Left::Length(0),
            Framing::Length(length) => Left::Length(length),
            Framing::Chunked => Left::Chunked(Chunked::default()),
            Framing::Close => Left::Close,
        };
        Arriving { conn: Some(conn), left, upload, keep, in_flight: Some(in_flight) }
    }

    /// As the body of an answer. An empty one is over at once.
    pub fn into_body(mut self) -> Body {
        if matches!(self.left, Left::Length(0)) && self.upload.is_none() {
            self.end();
            return Body::Empty;
        }
        Body::stream(self)
    }

    /// The body is over: the connection goes back, if nothing speaks against it.
    fn end(&mut self) {
        self.left = Left::Done;
        self.in_flight = None;
        let whole = self.upload.as_ref().is_none_or(|upload| upload.done && upload.is_flushed());
        if let Some(conn) = self.conn.take() {
            // Bytes behind the end of an answer belong to nobody: such a connection is not used again.
            if self.keep && whole && conn.input.is_empty() {
                conn.release();
            }
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Poll<Result<Appended, Error>> {
        let Some(conn) = self.conn.as_mut() else { return Poll::Ready(Ok(Appended::End)) };
        let Conn { io, input, .. } = &mut **conn;
        if let Some(upload) = &mut self.upload {
            match upload.poll(io, cx) {
                Poll::Ready(Ok(())) => self.upload = None,
                Poll::Ready(Err(Cut::Client(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(Err(Cut::Endpoint)) => {
                    self.upload = None;
                    self.keep = false;
                }
                Poll::Pending => {}
            }
        }
        let cut = |error: std::io::Error| Error::because(Kind::ConnectionTerminated, error.to_string());
        match &mut self.left {
            Left::Done => Poll::Ready(Ok(Appended::End)),
            Left::Length(0) => {
                self.end();
                Poll::Ready(Ok(Appended::End))
            }
            Left::Length(left) => {
                let wanted = limit.min(usize::try_from(*left).unwrap_or(usize::MAX));
                let count = match std::task::ready!(input.poll_take(io, cx, out, wanted)).map_err(cut)? {
                    0 => return Poll::Ready(Err(Error::new(Kind::ResponseIncomplete))),
                    count => count,
                };
                *left -= count as u64;
                if *left == 0 {
                    self.end();
                }
                Poll::Ready(Ok(Appended::Data(count)))
            }
            Left::Close => match std::task::ready!(input.poll_take(io, cx, out, limit)).map_err(cut)? {
                0 => {
                    self.end();
                    Poll::Ready(Ok(Appended::End))
                }
                count => Poll::Ready(Ok(Appended::Data(count))),
            },
            Left::Chunked(chunked) => loop {
                match chunked.step(input, out, limit).map_err(answer_fault)? {
                    Step::Data(count) => return Poll::Ready(Ok(Appended::Data(count))),
                    Step::End(trailers) => {
                        self.end();
                        return Poll::Ready(Ok(trailers.map_or(Appended::End, Appended::Trailers)));
                    }
                    Step::More => {}
                }
                if std::task::ready!(input.poll_fill(io, cx, READ)).map_err(cut)? == 0 {
                    return Poll::Ready(Err(Error::new(Kind::ResponseIncomplete)));
                }
            },
        }
    }
}

/// The same mistake, made by an endpoint.
fn answer_fault(mut error: Error) -> Error {
    error.kind = Kind::BadResponse;
    error
}

impl Stream for Arriving {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        let mut data = Vec::new();
        self.poll(cx, &mut data, READ).map(|step| match step {
            Ok(Appended::Data(_)) => Some(Ok(Frame::Data(Bytes::from(data)))),
            Ok(Appended::Trailers(trailers)) => Some(Ok(Frame::Trailers(trailers))),
            Ok(Appended::End) => None,
            Err(error) => Some(Err(error)),
        })
    }

    fn poll_append(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Poll<Result<Appended, Error>> {
        self.poll(cx, out, limit)
    }

    fn remaining(&self) -> Option<u64> {
        match self.left {
            Left::Length(left) => Some(left),
            Left::Done => Some(0),
            Left::Chunked(_) | Left::Close => None,
        }
    }
}
