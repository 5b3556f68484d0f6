//! The time that a client has for its request: it bounds what the gateway does for it, and endpoints are told what is left.
//!
//! ```text
//! client ── grpc-timeout: 2S ──► gateway ── 1.98 s left ──► attempt 1 ── fails after 1.2 s
//!                                        ── 0.75 s left ──► attempt 2
//!                                        ── over: 504, or the gRPC status DEADLINE_EXCEEDED
//! ```

use std::{
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use portcullis_config::model::{self, DeadlineFrom, TimeUnit};
use portcullis_core::{Answer, Body, Error, Fields, Frame, Kind, Known, Request, Stream};

use crate::{
    clock::{Clock, Watch},
    runtime::Route,
    ticket::Ticket,
};

/// The longest time that is taken for one: beyond it, whatever is said means none.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// When a request must be done, and how endpoints are told.
#[derive(Debug, Clone)]
pub struct Deadline {
    at: Instant,
    /// It is the client's own, and sooner than the route's: that it was missed says nothing of an endpoint.
    pub is_clients: bool,
    grpc: bool,
    header: Option<(Arc<str>, TimeUnit)>,
    /// The gateway ended the answer with a status of its own.
    over: Arc<AtomicBool>,
}

/// Takes what a request says of its time: its ticket's total becomes shorter by it, never longer.
pub fn take(ticket: &mut Ticket, route: &Route, watch: &Watch) {
    let settings = route.deadline.as_deref();
    let x = &mut ticket.x;
    let own = settings.and_then(|settings| Some((settings.header.clone()?, settings)));
    let is_trusted =
        |settings: &model::Deadline| settings.from == DeadlineFrom::Anyone || x.connection.trusted;
    let by_header = own.as_ref().and_then(|(name, settings)| {
        let text = x.request.fields.get_str(name).filter(|_| is_trusted(settings))?;
        number(text, settings.unit)
    });
    if let Some((name, _)) = &own {
        x.request.fields.remove(name);
    }
    let by_grpc = settings.is_none_or(|settings| settings.grpc).then(|| grpc_timeout(&x.request)).flatten();
    let asked = by_header.into_iter().chain(by_grpc).min();
    let Some(all) = asked.into_iter().chain(route.total_timeout).min() else { return };
    let Some(at) = x.started.checked_add(all.min(LONGEST)) else { return };
    let is_clients = asked.is_some_and(|asked| route.total_timeout.is_none_or(|total| asked < total));
    if is_clients {
        ticket.total = watch.total(Some(at.saturating_duration_since(Instant::now())));
    }
    let header = own.map(|(name, settings)| (name, settings.unit));
    let deadline = Deadline { at, is_clients, grpc: by_grpc.is_some(), header, over: Arc::default() };
    if deadline.is_told() {
        ticket.way.deadline = Some(Box::new(deadline));
    }
}

impl Deadline {
    fn is_told(&self) -> bool {
        self.grpc || self.header.is_some() || self.is_clients
    }

    /// Why the gateway ended an answer that had begun, if it did.
    pub fn ended(&self) -> Option<Error> {
        self.over
            .load(Relaxed)
            .then(|| Error::because(Kind::TotalTimeout, "ended with its status: no time is left"))
    }

    /// Tells an endpoint what is left.
    ///
    /// # Errors
    /// `TotalTimeout`: nothing is.
    pub fn tell(&self, request: &mut Request, now: Instant) -> Result<(), Error> {
        let left = self.at.saturating_duration_since(now);
        if left < Duration::from_millis(1) {
            return Err(Error::because(Kind::TotalTimeout, "no time was left for an attempt"));
        }
        if self.grpc {
            request.fields.set("grpc-timeout", written_grpc(left));
        }
        if let Some((name, unit)) = &self.header {
            request.fields.set(name, written(left, *unit));
        }
        Ok(())
    }
}

/// A number with or without a fraction, in a unit.
fn number(text: &str, unit: TimeUnit) -> Option<Duration> {
    let text = text.trim();
    let is_plain =
        !text.is_empty() && text.len() <= 20 && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let value: f64 = is_plain.then(|| text.parse().ok()).flatten()?;
    let seconds = match unit {
        TimeUnit::Ms => value / 1e3,
        TimeUnit::S => value,
    };
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST).min(LONGEST))
}

/// `grpc-timeout` of a gRPC call: at most eight digits and a unit (gRPC over HTTP/2, "Timeout").
fn grpc_timeout(request: &Request) -> Option<Duration> {
    let kind = request.fields.known(Known::ContentType)?;
    let is_grpc = kind.get(..16).is_some_and(|start| start.eq_ignore_ascii_case(b"application/grpc"));
    let text = request.fields.known_str(Known::GrpcTimeout).filter(|_| is_grpc)?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let value: u64 = is_number.then(|| digits.parse().ok()).flatten()?;
    let time = match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    };
    Some(time)
}

/// In the finest unit for which eight digits suffice.
fn written_grpc(left: Duration) -> String {
    const MOST: u128 = 99_999_999;
    let (micros, millis) = (left.as_micros(), left.as_millis());
    if micros <= MOST {
        format!("{micros}u")
    } else if millis <= MOST {
        format!("{millis}m")
    } else {
        format!("{}S", left.as_secs().min(MOST as u64))
    }
}

fn written(left: Duration, unit: TimeUnit) -> String {
    let millis = left.as_millis();
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = match unit {
        TimeUnit::Ms => write!(text, "{millis}"),
        TimeUnit::S => write!(text, "{}.{:03}", millis / 1000, millis % 1000),
    };
    text
}

/// Ends the messages of a gRPC call with its status when its time is over, where a reset would leave the client to guess.
pub fn end_with_status(ticket: &mut Ticket, answer: &mut Answer, clock: &Arc<Clock>) {
    let Some(deadline) = ticket.way.deadline.as_ref().filter(|deadline| deadline.grpc) else { return };
    if answer.body.remaining().is_none() {
        let body = std::mem::take(&mut answer.body);
        let (clock, total) = (clock.clone(), ticket.total);
        answer.body = Body::stream(Ending { body, clock, total, over: deadline.over.clone() });
    }
}

/// A body that ends with a status.
struct Ending {
    body: Body,
    clock: Arc<Clock>,
    /// In milliseconds of the clock; whoever reads the body is woken then.
    total: u64,
    /// Its deadline's.
    over: Arc<AtomicBool>,
}

impl Stream for Ending {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        if self.over.load(Relaxed) {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = self.body.poll_frame(cx) {
            return Poll::Ready(frame);
        }
        if self.clock.now_ms() < self.total {
            return Poll::Pending;
        }
        self.over.store(true, Relaxed);
        self.body = Body::Empty;
        let mut trailers = Fields::new();
        trailers.append("grpc-status", "4");
        trailers.append("grpc-message", "the time for the call is over");
        Poll::Ready(Some(Ok(Frame::Trailers(trailers))))
    }

    fn remaining(&self) -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn grpc(text: &str) -> Option<Duration> {
        let fields = [("content-type", "application/grpc+proto"), ("grpc-timeout", text)];
        grpc_timeout(&Request::with_fields(Method::POST, fields.into_iter().collect()))
    }

    #[test]
    fn what_grpc_says() {
        let millis = Duration::from_millis;
        for (text, expected) in [
            ("1H", Some(millis(3_600_000))),
            ("2M", Some(millis(120_000))),
            ("3S", Some(millis(3000))),
            ("0m", Some(millis(0))),
            ("99999999m", Some(millis(99_999_999))),
            ("5000u", Some(millis(5))),
            ("1000000n", Some(millis(1))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("100000000m", None),
            ("", None),
            ("m", None),
            ("1", None),
            ("-1S", None),
            ("1 S", None),
            ("1s", None),
            ("1.5S", None),
            ("1é", None),
        ] {
            assert_eq!(grpc(text), expected, "{text}");
        }
        let plain = Request::with_fields(Method::POST, [("grpc-timeout", "1S")].into_iter().collect());
        assert_eq!(grpc_timeout(&plain), None);
    }

    #[test]
    fn what_is_written_reads_back_and_is_never_more() {
        const LONG: u64 = 90_000_000 * 1_000_000_000;
        for nanos in [1_000_000, 1_234_567, 99_999_999_999, 100_000_000_000, 99_999_999_999_999, LONG] {
            let left = Duration::from_nanos(nanos);
            let text = written_grpc(left);
            let back = grpc(&text).unwrap_or_else(|| panic!("{text}"));
            assert!(back <= left && left - back <= left / 1000 + Duration::from_micros(1), "{text}");
        }
        assert_eq!(written(Duration::from_micros(1_999_900), TimeUnit::Ms), "1999");
        assert_eq!(written(Duration::from_micros(1_999_900), TimeUnit::S), "1.999");
    }

    #[test]
    fn what_a_header_says() {
        let millis = Duration::from_millis;
        for (text, of_ms, of_s) in [
            ("1500", Some(millis(1500)), Some(millis(1_500_000))),
            (" 1.5 ", Some(Duration::from_micros(1500)), Some(millis(1500))),
            ("0", Some(millis(0)), Some(millis(0))),
            ("99999999999999999999", Some(LONGEST), Some(LONGEST)),
            ("", None, None),
            (".", None, None),
            ("1e3", None, None),
            ("-1", None, None),
            ("+1", None, None),
            ("inf", None, None),
            ("1s", None, None),
        ] {
            assert_eq!((number(text, TimeUnit::Ms), number(text, TimeUnit::S)), (of_ms, of_s), "{text}");
        }
    }

    #[test]
    fn what_is_left_is_told_until_nothing_is() {
        let now = Instant::now();
        let header = Some(("x-request-timeout".into(), TimeUnit::Ms));
        let at = now + Duration::from_secs(2);
        let deadline = Deadline { at, is_clients: true, grpc: true, header, over: Arc::default() };
        let mut request = Request::new(Method::POST);
        let mut told = |after: u64| {
            let result = deadline.tell(&mut request, now + Duration::from_millis(after));
            let field = |name: &str| request.fields.get_str(name).unwrap_or_default().to_owned();
            (result.map_err(|error| error.kind), field("grpc-timeout"), field("x-request-timeout"))
        };
        assert_eq!(told(0), (Ok(()), "2000000u".into(), "2000".into()));
        assert_eq!(told(1500), (Ok(()), "500000u".into(), "500".into()));
        for late in [2000, 60_000] {
            assert_eq!(told(late).0, Err(Kind::TotalTimeout));
        }
    }
}
