//! HTTP/1.1 towards an endpoint, inline in the task of the client's connection: no task, no channel, no second wake-up.

use std::{
    net::IpAddr,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http::{Method, StatusCode};
use portcullis_config::model::{Pool, ServiceTimeouts};
use portcullis_core::{
    Answer, Appended, Body, Error, Exchange, Fields, Frame, Kind, Known, Source, Stream, exchange::ClientLink,
};

use super::{
    chunked::{self, Chunked, Step},
    framing::{self, Framing},
    head::{self, AnswerHead, Scan},
    writer,
};
use crate::{
    buffers,
    clock::Watch,
    forward::upstream::{InFlight, Open, Pools, Whose},
    io::{Input, Io, poll_read_into, poll_write_all},
};

/// Largest answer head.
const HEAD: usize = 64 * 1024;
/// How much one read of a body may bring.
const READ: usize = 64 * 1024;
/// How long an endpoint may take to say `100 Continue` before the client is told so anyway (RFC 9110 §10.1.1).
const CONTINUE: std::time::Duration = std::time::Duration::from_secs(1);

/// A connection to an endpoint, idle or in use.
pub struct Conn {
    /// The socket.
    pub io: Io,
    input: Input,
    /// Weak: the pool holds its idle connections, and goes with its endpoint when a reload takes that away.
    pools: Weak<Pools>,
    worker: usize,
    max_idle: usize,
    born: Instant,
    /// When its current request began: a clock need not be asked again when it ends.
    leased: Instant,
    used: bool,
    open: Open,
    /// Where it leads.
    pub remote: Option<IpAddr>,
    /// The client's connection that it was opened for, where the endpoint has been told.
    pub whose: Whose,
}

/// What a request needs beside the exchange.
pub struct Ask<'a> {
    /// `Host` to send, where it is not the client's.
    pub host: Option<&'a str>,
    /// Put before the path.
    pub base: &'a str,
    /// The service's timeouts.
    pub timeouts: &'a ServiceTimeouts,
    /// To the answer's head.
    pub response_header: std::time::Duration,
    /// Between two reads of the request's body.
    pub client_body_idle: std::time::Duration,
    /// The client connection's deadline.
    pub watch: &'a Watch,
    /// Total deadline, see [`Watch::total`].
    pub total: u64,
}

/// Why there was no answer.
pub struct Failed {
    /// What happened.
    pub error: Error,
    /// The connection had been used before and closed without a byte: it was stale, and nothing of the request's body
    /// was spent.
    pub stale: bool,
}

impl Conn {
    /// A fresh connection.
    pub fn new(io: Io, pools: &Arc<Pools>, worker: usize, max_idle: usize, open: Open, now: Instant) -> Conn {
        Conn {
            io,
            input: Input::default(),
            pools: Arc::downgrade(pools),
            worker,
            max_idle,
            born: now,
            leased: now,
            used: false,
            open,
            remote: None,
            whose: None,
        }
    }

    /// Begins a request.
    pub fn lease(&mut self, now: Instant) {
        self.leased = now;
    }

    /// Young enough to be used again?
    pub fn is_young(&self, pool: &Pool, now: Instant) -> bool {
        pool.max_age.is_zero() || now.saturating_duration_since(self.born) < pool.max_age
    }

    /// Leaves HTTP: the socket, what was read beyond the head, and what counts it.
    pub fn into_tunnel(self, in_flight: InFlight) -> super::upgrade::Side {
        super::upgrade::Side::new(self.io, self.input, Some((in_flight, self.open)))
    }

    /// Back to the pool, for the next request.
    fn release(mut self: Box<Self>) {
        self.used = true;
        self.input.release();
        let (worker, max_idle, since) = (self.worker, self.max_idle, self.leased);
        if let Some(pools) = self.pools.upgrade() {
            pools.give(worker, self, max_idle, since);
        }
    }
}

/// Sends a request and awaits the head of its answer. `in_flight` counts the request until the answer ends.
///
/// # Errors
/// See [`Failed`]; the connection is closed then.
pub async fn exchange(
    conn: Box<Conn>,
    x: &mut Exchange,
    ask: &Ask<'_>,
    in_flight: InFlight,
) -> Result<Answer, Failed> {
    let mut call = Call::begin(conn, x, in_flight);
    write_head(&mut call.upload.out, x, ask, call.upload.framing);
    loop {
        call.aim(ask);
        let step = std::future::poll_fn(|cx| call.poll(cx, ask, x.client_link.as_ref())).await;
        let head = match step {
            Ok(Some(head)) => head,
            Ok(None) => {
                // The endpoint kept silent about the expectation: the client shall go on.
                call.go_on(x).await?;
                continue;
            }
            Err(error) => return Err(call.failed(x, error)),
        };
        if head.status == StatusCode::CONTINUE {
            call.go_on(x).await?;
        } else if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
            let mut fields = head.fields;
            fields.remove_set(Known::HOP_BY_HOP | Known::ContentLength.bit());
            x.client_link.interim(head.status, &fields).await.map_err(fatal)?;
        } else {
            return call.finish(x, head, ask);
        }
    }
}

fn fatal(error: Error) -> Failed {
    Failed { error, stale: false }
}

/// One request on its way.
struct Call {
    conn: Box<Conn>,
    in_flight: InFlight,
    upload: Upload,
    scan: Scan,
    waits: Waits,
    /// The answer may already be on its way although the endpoint no longer takes the request.
    write_broken: bool,
    /// Interim answers so far; an endpoint that sends them without end is broken.
    interims: u32,
}

/// What the next deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    Nothing,
    Continue,
    ClientBody,
    Write,
    Answer,
}

impl Call {
    fn begin(conn: Box<Conn>, x: &mut Exchange, in_flight: InFlight) -> Call {
        let body = std::mem::take(&mut x.request.body);
        let framing = match body.remaining() {
            Some(0) => Framing::None,
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        };
        let hold = x.request.expects_continue && framing != Framing::None;
        let upload = Upload {
            body,
            framing,
            out: buffers::take(),
            sent: 0,
            done: framing == Framing::None,
            spent: false,
            hold,
        };
        Call {
            conn,
            in_flight,
            upload,
            scan: Scan::default(),
            waits: Waits::Nothing,
            write_broken: false,
            interims: 0,
        }
    }

    /// Arms the deadline for what is being waited for now.
    fn aim(&mut self, ask: &Ask<'_>) {
        let waits = if self.upload.hold && self.upload.is_flushed() {
            Waits::Continue
        } else if !self.upload.is_flushed() && !self.write_broken {
            Waits::Write
        } else if !self.upload.done && !self.write_broken {
            Waits::ClientBody
        } else {
            Waits::Answer
        };
        let after = match waits {
            Waits::Continue => CONTINUE,
            Waits::Write => ask.timeouts.write_idle,
            Waits::ClientBody => ask.client_body_idle,
            Waits::Answer | Waits::Nothing => ask.response_header,
        };
        self.waits = waits;
        ask.watch.set_within(after, ask.total);
    }

    /// Until the head of an answer is there; `None` when an expectation has been waiting for too long.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        ask: &Ask<'_>,
        link: &dyn ClientLink,
    ) -> Poll<Result<Option<AnswerHead>, Error>> {
        if !self.write_broken {
            let moved = self.upload.moved();
            match self.upload.poll(&mut self.conn.io, cx) {
                Poll::Ready(Err(Cut::Client(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(Err(Cut::Endpoint)) => self.write_broken = true,
                _ => {}
            }
            if moved != self.upload.moved() || self.waits_for_other() {
                self.aim(ask);
            }
        }
        if let Poll::Ready(head) = self.poll_head(cx) {
            return Poll::Ready(head.map(Some));
        }
        if link.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Error::new(Kind::ClientGone)));
        }
        std::task::ready!(ask.watch.poll_expired(cx));
        Poll::Ready(match self.waits {
            _ if ask.watch.is_past(ask.total) => Err(Error::new(Kind::TotalTimeout)),
            Waits::Continue => Ok(None),
            Waits::ClientBody => Err(Error::because(Kind::RequestTimeout, "body idle")),
            Waits::Write => Err(Error::new(Kind::WriteTimeout)),
            Waits::Answer | Waits::Nothing => Err(Error::new(Kind::ResponseTimeout)),
        })
    }

    /// Has what is waited for changed since the deadline was armed?
    fn waits_for_other(&self) -> bool {
        match self.waits {
            Waits::Write => self.upload.is_flushed() || self.write_broken,
            Waits::ClientBody => self.upload.done || !self.upload.is_flushed() || self.write_broken,
            _ => false,
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<AnswerHead, Error>> {
        let Conn { io, input, .. } = &mut *self.conn;
        loop {
            if !input.is_empty() {
                let lf = |_| Error::because(Kind::BadResponse, "bare LF in the head");
                if let Some(end) = self.scan.end(input.unread()).map_err(lf)? {
                    let head = head::answer(input.unread().get(..end).unwrap_or_default())?;
                    input.consume(end);
                    self.scan = Scan::default();
                    return Poll::Ready(Ok(head));
                }
                if input.unread().len() > HEAD {
                    return Poll::Ready(Err(Error::new(Kind::ResponseHeadersTooLarge)));
                }
            }
            match std::task::ready!(input.poll_fill(io, cx, buffers::SIZE)) {
                Ok(0) => {
                    return Poll::Ready(Err(Error::because(
                        Kind::ConnectionTerminated,
                        "closed before the answer",
                    )));
                }
                Ok(_) => {}
                Err(error) => {
                    return Poll::Ready(Err(Error::because(Kind::ConnectionTerminated, error.to_string())));
                }
            }
        }
    }

    /// The client may send its body now.
    async fn go_on(&mut self, x: &mut Exchange) -> Result<(), Failed> {
        self.interims += 1;
        if self.interims > 100 {
            return Err(fatal(Error::because(Kind::BadResponse, "interim answers without end")));
        }
        self.upload.hold = false;
        if std::mem::take(&mut x.request.expects_continue) {
            x.client_link.interim(StatusCode::CONTINUE, &Fields::new()).await.map_err(fatal)?;
        }
        Ok(())
    }

    fn failed(mut self, x: &mut Exchange, error: Error) -> Failed {
        let silent = self.conn.used && self.conn.input.is_empty() && error.kind == Kind::ConnectionTerminated;
        let stale = silent && !self.upload.spent;
        if !self.upload.spent {
            // Not a byte of it was taken: whoever tries again can have it.
            x.request.body = std::mem::take(&mut self.upload.body);
        }
        Failed { error, stale }
    }

    fn finish(self, x: &mut Exchange, head: AnswerHead, ask: &Ask<'_>) -> Result<Answer, Failed> {
        let AnswerHead { status, http_10, mut fields } = head;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return super::upgrade::accept(self.conn, x, fields, ask.timeouts.tunnel_idle, self.in_flight)
                .map_err(fatal);
        }
        let bodyless = x.request.method == Method::HEAD
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED;
        let framing = framing::of_answer(&fields, http_10, bodyless).map_err(fatal)?;
        let keep = framing::keeps_open(&fields, http_10)
            && framing != Framing::Close
            && x.request.upgrade.is_none()
            && !self.write_broken;
        portcullis_core::forwarded::strip_hop_by_hop(&mut fields, false);
        let upload = (!self.upload.done && !self.write_broken).then(|| Box::new(self.upload));
        let mut arriving = Arriving {
            conn: Some(self.conn),
            left: Left::of(framing),
            upload,
            keep,
            in_flight: Some(self.in_flight),
        };
        let body = match arriving.left {
            Left::Length(0) if arriving.upload.is_none() => {
                arriving.end();
                Body::Empty
            }
            _ => Body::stream(arriving),
        };
        Ok(Answer { status, fields, body, tunnel: None, source: Source::Endpoint })
    }
}

fn write_head(out: &mut Vec<u8>, x: &mut Exchange, ask: &Ask<'_>, body: Framing) {
    let request = &mut x.request;
    let told = match (request.fields.known(Known::ContentLength).and_then(framing::decimal), body) {
        (Some(told), Framing::Length(length)) => told == length,
        (Some(told), Framing::None) => told == 0,
        _ => false,
    };
    if !told {
        request.fields.remove_known(Known::ContentLength);
    }
    let query = request.query();
    let host = ask.host.unwrap_or(request.authority());
    writer::request_head(
        out,
        request.method.as_str(),
        ask.base,
        request.path(),
        query,
        host,
        &request.fields,
    );
    match body {
        Framing::Length(length) if !told => {
            writer::field(out, "content-length", itoa::Buffer::new().format(length));
        }
        Framing::Chunked => writer::field(out, "transfer-encoding", "chunked"),
        _ => {}
    }
    if let Some(token) = &request.upgrade {
        super::upgrade::ask(out, token);
    }
    out.extend_from_slice(b"\r\n");
}

/// A request's body on its way to the endpoint.
struct Upload {
    body: Body,
    framing: Framing,
    out: Vec<u8>,
    sent: usize,
    done: bool,
    /// Some of the body was taken from its source.
    spent: bool,
    /// Not before the endpoint (or its silence) allows it.
    hold: bool,
}

/// Who ended an upload.
enum Cut {
    Client(Error),
    Endpoint,
}

impl Upload {
    fn is_flushed(&self) -> bool {
        self.sent == self.out.len()
    }

    /// Changes whenever there is progress.
    fn moved(&self) -> (usize, usize, bool) {
        (self.sent, self.out.len(), self.done)
    }

    /// Moves on as far as it goes; ready when all is sent.
    fn poll(&mut self, io: &mut Io, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        loop {
            // The head leaves together with what is there of the body already.
            if !self.done && !self.hold && self.out.len() < READ {
                let pulled = self.pull(cx);
                match pulled {
                    Poll::Ready(Ok(())) if !self.done && self.out.len() < READ => continue,
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Cut::Client(error))),
                    Poll::Pending if self.is_flushed() => return Poll::Pending,
                    Poll::Pending => {}
                }
            }
            match poll_write_all(io, cx, &self.out, &mut self.sent) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Cut::Endpoint)),
                Poll::Pending => return Poll::Pending,
            }
            self.out.clear();
            self.sent = 0;
            if self.done {
                buffers::give(std::mem::take(&mut self.out));
                return Poll::Ready(Ok(()));
            }
            if self.hold {
                return Poll::Pending;
            }
        }
    }

    /// Takes one piece from the source.
    fn pull(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let is_chunked = self.framing == Framing::Chunked;
        let start = if is_chunked { chunked::open_chunk(&mut self.out) } else { self.out.len() };
        let limit = if is_chunked { chunked::CHUNK_MAX.min(READ) } else { READ };
        let step = self.body.poll_append(cx, &mut self.out, limit);
        if is_chunked {
            chunked::close_chunk(&mut self.out, start);
        }
        let ended = match step {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Ready(Ok(Appended::Data(count))) => {
                self.spent = true;
                if let Framing::Length(left) = &mut self.framing {
                    *left = left.saturating_sub(count as u64);
                    self.done = *left == 0;
                }
                None
            }
            Poll::Ready(Ok(Appended::End)) => Some(None),
            Poll::Ready(Ok(Appended::Trailers(trailers))) => Some(Some(trailers)),
        };
        if let Some(trailers) = ended {
            if is_chunked {
                chunked::end(&mut self.out, trailers.as_ref());
            } else if matches!(self.framing, Framing::Length(left) if left > 0) {
                // A source that promised more than it had: the endpoint must not take it for whole.
                return Poll::Ready(Err(Error::because(Kind::BadRequest, "body shorter than its length")));
            }
            self.done = true;
        }
        Poll::Ready(Ok(()))
    }
}

/// An answer's body as it arrives.
struct Arriving {
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

impl Left {
    fn of(framing: Framing) -> Left {
        match framing {
            Framing::None => Left::Length(0),
            Framing::Length(length) => Left::Length(length),
            Framing::Chunked => Left::Chunked(Chunked::default()),
            Framing::Close => Left::Close,
        }
    }
}

impl Arriving {
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
                let count = match std::task::ready!(take(io, input, cx, out, wanted)).map_err(cut)? {
                    0 => return Poll::Ready(Err(Error::new(Kind::ResponseIncomplete))),
                    count => count,
                };
                *left -= count as u64;
                if *left == 0 {
                    self.end();
                }
                Poll::Ready(Ok(Appended::Data(count)))
            }
            Left::Close => match std::task::ready!(take(io, input, cx, out, limit)).map_err(cut)? {
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
                if std::task::ready!(input.poll_fill(io, cx, READ / 2)).map_err(cut)? == 0 {
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

/// What was read already, else one read straight into the caller's buffer.
fn take(
    io: &mut Io,
    input: &mut Input,
    cx: &mut Context<'_>,
    out: &mut Vec<u8>,
    wanted: usize,
) -> Poll<std::io::Result<usize>> {
    if input.is_empty() {
        std::task::ready!(io.poll_something(cx));
        out.reserve(wanted.min(READ));
        return poll_read_into(io, cx, out, wanted);
    }
    let piece = input.unread();
    let piece = piece.get(..wanted).unwrap_or(piece);
    out.extend_from_slice(piece);
    let count = piece.len();
    input.consume(count);
    Poll::Ready(Ok(count))
}

impl Stream for Arriving {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        let mut data = Vec::new();
        self.poll(cx, &mut data, READ / 2).map(|step| match step {
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
