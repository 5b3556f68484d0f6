//! HTTP/1.1 towards an endpoint, inline in the task of the client's connection: no task, no channel, no second wake-up.

use std::{
    net::IpAddr,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Instant,
};

use http::{Method, StatusCode};
use portcullis_config::model::{Pool, ServiceTimeouts};
use portcullis_core::{Answer, Error, Exchange, Fields, Kind, Known, Source, exchange::ClientLink};

use super::{
    arriving::Arriving,
    framing::{self, Framing},
    head::{self, AnswerHead, Scan},
    upload::{Cut, Upload},
    writer,
};
use crate::{
    buffers,
    clock::Watch,
    forward::upstream::{InFlight, Open, Pools, Whose},
    io::{Input, Io},
};

/// Largest answer head.
const HEAD: usize = 64 * 1024;
/// How long an endpoint may take to say `100 Continue` before the client is told so anyway (RFC 9110 §10.1.1).
const CONTINUE: std::time::Duration = std::time::Duration::from_secs(1);

/// A connection to an endpoint, idle or in use.
pub struct Conn {
    /// The socket.
    pub io: Io,
    /// Read and not used.
    pub input: Input,
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
    pub fn release(mut self: Box<Self>) {
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
        let upload = Upload::new(body, x.request.expects_continue);
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
        let body = Arriving::new(self.conn, framing, upload, keep, self.in_flight).into_body();
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
    if request.upgrade.is_some() {
        request.fields.remove_known(Known::Te);
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
    } else if request.fields.has(Known::Te) {
        // RFC 9110 §10.1.4: it is for the next hop only, and has to be named.
        writer::field(out, "connection", "te");
    }
    out.extend_from_slice(b"\r\n");
}
