//! HTTP/1.1 towards the client: one task per connection, reading requests and writing answers in turn.

use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use http::{Method, StatusCode};
use portcullis_config::model::ListenerTimeouts;
use portcullis_core::{Answer, Appended, Connection, Error, Exchange, Kind, Known, answer::Tunnel};

use super::{
    arrived::{self, Arrived},
    closing,
    head::Scan,
    incoming::{Link, Pace},
    outgoing::{Client, Out},
    upgrade::Side,
    writer::{self, Delimit},
};
use crate::{
    buffers,
    clock::Watch,
    date,
    forward::tunnel,
    io::Io,
    listen::{Cancelled, Drain},
    refused,
    rounds::Place,
    runtime::Listener,
    serve::serve,
    ticket::Ticket,
    worker::Worker,
};

/// What is left of a request's body is read and thrown away up to this size, so that the connection can be used again.
const DISCARD: u64 = 64 * 1024;
/// What a client of HTTP/2 begins with (RFC 9113 §3.4), as far as it looks like a request.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

/// Serves a connection until it ends. When the client turns out to speak HTTP/2 by prior knowledge, and the listener
/// does too, the socket is handed back with what was read of it.
pub async fn serve_connection(
    io: Io,
    worker: Arc<Worker>,
    connection: Arc<Connection>,
    drain: Drain,
) -> Option<(Io, Vec<u8>)> {
    let timeouts = timeouts(&worker, &connection)?;
    let pace = Pace { since: None, grace: timeouts.body_grace, rate: timeouts.body_min_rate };
    let watch = worker.clock.watch();
    let cancelled = drain.cancelled();
    let opened = worker.clock.now_ms();
    let link = Link::new(io, pace);
    let place = Place::new(worker.rounds.clone());
    let mut server = Server {
        link,
        worker,
        connection,
        watch,
        drain,
        cancelled,
        is_listening: false,
        patience: Patience::of(&timeouts),
        requests: 0,
        opened,
        is_http2: false,
        linger: closing::LINGER,
        is_last: false,
        place,
    };
    while server.turn().await {}
    // Closing takes as long as the client lets it, and keeps nobody else waiting.
    server.place.end();
    if server.is_http2 {
        let mut state = server.link.lock();
        let (io, read) = (std::mem::replace(&mut state.io, Io::Gone), state.input.take());
        return Some((io, read));
    }
    let is_over = server.is_last && server.rest() == Rest::Nothing;
    closing::close(&server.link, &server.watch, server.linger, is_over).await;
    None
}

fn timeouts(worker: &Worker, connection: &Connection) -> Option<ListenerTimeouts> {
    let runtime = worker.runtime()?;
    Some(runtime.listeners.get(&connection.listener)?.settings.timeouts)
}

fn speaks_http2(worker: &Worker, connection: &Connection) -> bool {
    let runtime = worker.runtime();
    let listener = runtime.as_ref().and_then(|runtime| runtime.listeners.get(&connection.listener));
    connection.tls.is_none() && listener.is_some_and(|listener| listener.settings.http2)
}

/// One connection.
struct Server {
    link: Arc<Link>,
    worker: Arc<Worker>,
    connection: Arc<Connection>,
    watch: Watch,
    drain: Drain,
    /// Ready when the connection shall end; made once, asked between requests.
    cancelled: Cancelled,
    is_listening: bool,
    /// Those in force at the last request.
    patience: Patience,
    requests: u64,
    /// By the worker's clock.
    opened: u64,
    is_http2: bool,
    /// How long to read on when it closes.
    linger: Duration,
    /// The client has said that its last request was its last.
    is_last: bool,
    /// Among those who want to begin a request.
    place: Place,
}

/// How long a connection is waited for, of [`ListenerTimeouts`].
#[derive(Clone, Copy)]
struct Patience {
    keep_alive: Duration,
    request_header: Duration,
    body_idle: Duration,
    write_idle: Duration,
}

impl Patience {
    fn of(timeouts: &ListenerTimeouts) -> Patience {
        let ListenerTimeouts { keep_alive, request_header, body_idle, write_idle, .. } = *timeouts;
        Patience { keep_alive, request_header, body_idle, write_idle }
    }
}

/// Why there is no request.
enum Missing {
    /// The connection ended between requests, or nobody is to be told.
    Silence,
    /// The client is told, then the connection closes.
    Refused(Error),
    /// The client speaks HTTP/2.
    Http2,
}

impl Server {
    /// One request and its answer; false when the connection is to be closed.
    async fn turn(&mut self) -> bool {
        match self.arrive().await {
            // In a box: what a request needs lives in memory that the last request has just left, and is in the
            // processor's cache, which the memory of a connection that waited is not. And waiting costs less memory.
            Ok(arrived) => Box::pin(self.answer(arrived)).await,
            Err(Missing::Silence) => {
                self.linger = closing::IDLE_LINGER;
                false
            }
            Err(Missing::Http2) => {
                self.is_http2 = true;
                false
            }
            Err(Missing::Refused(error)) => {
                Box::pin(self.refuse(error)).await;
                false
            }
        }
    }

    /// Waits for a request's head.
    async fn arrive(&mut self) -> Result<Arrived, Missing> {
        let Server {
            link,
            worker,
            connection,
            watch,
            drain,
            cancelled,
            is_listening,
            patience,
            requests,
            place,
            ..
        } = self;
        let (mut scan, mut began, mut empty_lines) = (Scan::default(), false, 0);
        place.end();
        watch.set(patience.keep_alive);
        poll_fn(|cx| {
            let state = &mut *link.lock();
            loop {
                // Empty lines before a request line are forgiven, a few of them (RFC 9112 §2.2).
                while empty_lines < 2 && state.input.unread().starts_with(b"\r\n") {
                    state.input.consume(2);
                    scan = Scan::default();
                    empty_lines += 1;
                }
                if !state.input.is_empty() {
                    if !began {
                        began = true;
                        watch.set(patience.request_header);
                    }
                    if state.input.unread().starts_with(PREFACE)
                        && *requests == 0
                        && speaks_http2(worker, connection)
                    {
                        return Poll::Ready(Err(Missing::Http2));
                    }
                    let read = arrived::read(&mut scan, state.input.unread(), worker, connection, link);
                    if let Some((arrived, used)) = read.map_err(Missing::Refused)? {
                        state.input.consume(used);
                        state.input.release();
                        return Poll::Ready(Ok(arrived));
                    }
                }
                if !began {
                    if state.io.poll_something(cx).is_pending() {
                        break;
                    }
                    // Its turn is waited for before a byte is read, or a buffer held. A request has come meanwhile, so
                    // this is not the time to find that there has been none for long, or to close because of a drain.
                    ready!(place.poll_begin(cx));
                    state.input.hold();
                }
                match state.input.poll_fill(&mut state.io, cx, buffers::SIZE / 2) {
                    Poll::Ready(Ok(0)) | Poll::Ready(Err(_)) => {
                        state.gone = true;
                        return Poll::Ready(Err(Missing::Silence));
                    }
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => break,
                }
            }
            if !began {
                place.end();
                state.input.release();
                // Registered once per connection: the task stays the same, and so does whom to wake.
                if (!*is_listening || drain.is_draining()) && cancelled.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(Missing::Silence));
                }
                *is_listening = true;
            }
            watch.poll_expired(cx).map(|()| {
                Err(match began {
                    true => Missing::Refused(Error::because(Kind::RequestTimeout, "head")),
                    false => Missing::Silence,
                })
            })
        })
        .await
    }

    /// Serves a request and writes its answer.
    async fn answer(&mut self, arrived: Arrived) -> bool {
        let Arrived { mut ticket, framing, keep, http_10, runtime, listener } = arrived;
        self.requests += 1;
        self.is_last = !keep;
        self.patience = Patience::of(&listener.settings.timeouts);
        ticket.x.request.body = self.link.body(framing, http_10);
        let to_head = ticket.x.request.method == Method::HEAD;
        let answer = serve(&self.worker, &runtime, &mut ticket, &self.watch).await;
        drop(runtime);
        ticket.status = answer.status.as_u16();
        if self.link.lock().gone {
            ticket.end(self.received(), 0, Err(Error::new(Kind::ClientGone)));
            return false;
        }
        let keep = keep && self.may_go_on(&listener);
        drop(listener);
        if answer.tunnel.is_some() {
            self.place.end();
            Box::pin(self.tunnel(answer, ticket)).await;
            return false;
        }
        self.write(answer, ticket, Writing { to_head, http_10, keep }).await
    }

    fn received(&self) -> u64 {
        self.link.lock().received
    }

    fn age(&self) -> Duration {
        Duration::from_millis(self.worker.clock.now_ms().saturating_sub(self.opened))
    }

    /// Shall this connection serve more requests?
    fn may_go_on(&self, listener: &Listener) -> bool {
        let limits = listener.settings.limits;
        let max_age = listener.settings.timeouts.max_age;
        !self.drain.is_draining()
            && (limits.requests_per_connection == 0 || self.requests < limits.requests_per_connection)
            && (max_age.is_zero() || self.age() < max_age)
    }

    /// Answers what could not become a request.
    async fn refuse(&mut self, error: Error) {
        let Some(runtime) = self.worker.runtime() else { return };
        let Some(listener) = runtime.listeners.get(&self.connection.listener).cloned() else { return };
        listener.metrics.refused(error.mapping().slug);
        let request = refused::of_head(self.link.lock().input.unread());
        let to_head = request.method == Method::HEAD;
        let x = Exchange::new(request, self.connection.clone(), self.link.clone(), std::time::Instant::now());
        let mut ticket = Ticket::begin(self.worker.index, runtime.clone(), x);
        ticket.blame(&error);
        let answer = runtime.pages.answer(&mut ticket.x, &error);
        ticket.status = answer.status.as_u16();
        self.patience = Patience::of(&listener.settings.timeouts);
        self.link.lock().body = super::incoming::Left::Broken;
        self.write(answer, ticket, Writing { to_head, http_10: false, keep: false }).await;
    }

    /// Writes an answer; true when the connection can go on.
    async fn write(&mut self, mut answer: Answer, mut ticket: Box<Ticket>, writing: Writing) -> bool {
        let delimit = writer::delimit(&answer, writing.to_head, writing.http_10);
        // Whoever still waits for 100 will not send its body now: it cannot be read to its end.
        let rest = if ticket.x.request.expects_continue { Rest::Much } else { self.rest() };
        let keep = writing.keep && delimit != Delimit::Close && rest != Rest::Much;
        let connection = match (keep, writing.http_10) {
            (false, _) => Some("close"),
            (true, true) => Some("keep-alive"),
            (true, false) => None,
        };
        let mut out = Out::new(delimit);
        date::with(&self.worker.clock, |date| {
            writer::answer_head(&mut out.bytes, &mut answer, delimit, connection, date);
        });
        if delimit == Delimit::Nothing {
            answer.body = portcullis_core::Body::Empty;
        }
        let to = Client {
            link: &self.link,
            watch: &self.watch,
            body_idle: ticket.body_idle,
            write_idle: self.patience.write_idle,
            total: ticket.total,
        };
        let result = out.pump(&mut answer, &to).await;
        // The body may hold what is left of the request; only without it is that nobody's.
        drop(answer);
        // An answer that broke before a byte of it left is no answer: the client is told what happened instead.
        if let Err(error) = &result
            && !out.started
            && error.kind != Kind::ClientGone
            && let Some(instead) = ticket.instead(error)
        {
            buffers::give(out.bytes);
            return Box::pin(self.write(instead, ticket, Writing { keep: false, ..writing })).await;
        }
        let ok = result.is_ok();
        let bytes_out = out.body;
        buffers::give(out.bytes);
        ticket.end(self.received(), bytes_out, result);
        ok && keep && (self.rest() == Rest::Nothing || Box::pin(self.discard()).await)
    }

    /// How much of the request's body has not been read.
    fn rest(&self) -> Rest {
        match &self.link.lock().body {
            super::incoming::Left::Nothing => Rest::Nothing,
            super::incoming::Left::Length(left) if *left <= DISCARD => Rest::Little,
            _ => Rest::Much,
        }
    }

    /// Reads what is left of a request's body and forgets it; false when it does not come.
    async fn discard(&self) -> bool {
        let mut body = self.link.rest();
        self.watch.set(self.patience.body_idle);
        let mut scratch = buffers::take();
        let whole = poll_fn(|cx| {
            loop {
                scratch.clear();
                match body.poll_append(cx, &mut scratch, buffers::SIZE) {
                    Poll::Ready(Ok(Appended::Data(_))) => {}
                    Poll::Ready(Ok(_)) => return Poll::Ready(true),
                    Poll::Ready(Err(_)) => return Poll::Ready(false),
                    Poll::Pending => return self.watch.poll_expired(cx).map(|()| false),
                }
            }
        })
        .await;
        buffers::give(scratch);
        whole
    }

    /// Leaves HTTP: 101, then bytes both ways. The configuration is let go.
    async fn tunnel(&mut self, mut answer: Answer, mut ticket: Box<Ticket>) {
        let Some(tunnel) = answer.tunnel.take() else { return };
        let Tunnel { mut io, idle } = *tunnel;
        let token = ticket.x.request.upgrade.clone().unwrap_or_default();
        let mut out = buffers::take();
        writer::status_line(&mut out, StatusCode::SWITCHING_PROTOCOLS);
        answer.fields.remove_known(Known::ContentLength);
        answer.fields.write_to(&mut out);
        writer::field(&mut out, "connection", "upgrade");
        writer::field(&mut out, "upgrade", &token);
        out.extend_from_slice(b"\r\n");
        ticket.detach();
        drop(answer);
        self.watch.set(self.patience.write_idle);
        let sent = self.link.write(&out).await.is_ok();
        buffers::give(out);
        let (moved, result) = if sent {
            let mut client = {
                let mut state = self.link.lock();
                Side::new(std::mem::replace(&mut state.io, Io::Gone), std::mem::take(&mut state.input), None)
            };
            let mut cut = self.drain.cut();
            let mut tunnel = pin!(tunnel::run(&mut client, &mut *io, idle, &self.watch));
            poll_fn(|cx| match tunnel.as_mut().poll(cx) {
                Poll::Ready(done) => Poll::Ready(done),
                Poll::Pending => cut.as_mut().poll(cx).map(|()| (tunnel::Moved::default(), Ok(()))),
            })
            .await
        } else {
            (tunnel::Moved::default(), Ok(()))
        };
        let result = result.map_err(|error| Error::because(Kind::ConnectionTerminated, error.to_string()));
        ticket.end(moved.up, moved.down, result);
    }
}

/// What decides how an answer is written.
struct Writing {
    to_head: bool,
    http_10: bool,
    keep: bool,
}

/// What is left of a request's body.
#[derive(Debug, PartialEq, Eq)]
enum Rest {
    Nothing,
    /// Worth reading so that the connection can be used again.
    Little,
    Much,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each connection costs as long as it is open, and what the caches of a processor hold of it.
    #[tokio::test]
    async fn the_state_of_a_connection_stays_small() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let x = Exchange::for_test(portcullis_core::Request::new(Method::GET));
        let serving =
            serve_connection(Io::Tcp(stream), Worker::new(0), x.connection.clone(), Drain::default());
        let size = std::mem::size_of_val(&serving);
        assert!(size <= 1024, "{size} bytes");
    }
}
