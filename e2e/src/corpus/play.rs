//! Plays an entry to a proxy: what it answered, what reached the endpoint behind it.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    Entry,
    frames::{self, Said},
    text::escape,
};
use crate::{
    recorder::Recorder,
    script::find,
    wait::{LONG, bounded},
};

/// The path of the request that shows that a connection is still in step.
pub(super) const PROBE: &str = "/--probe--";
/// The stream of that request.
const PROBE_STREAM: u32 = 1001;

/// What came of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// `400 close`: statuses, resets, GOAWAY, and whether the connection stays open (`open`), ends (`close`), or waits for
    /// more (`wait`).
    pub answer: String,
    /// The bytes that reached the endpoint.
    pub forwarded: Vec<u8>,
}

/// Plays an entry. `patience` is how long the proxy may be silent before that is taken for its last word; an answer that
/// is whole is seen at once.
///
/// A connection that stays open is asked for one more thing, which must be answered 200 and reach the endpoint as it is:
/// otherwise the connection is out of step, and the answer says so.
pub async fn play(entry: &Entry, proxy: SocketAddr, recorder: &Recorder, patience: Duration) -> Outcome {
    assert_eq!(escape(&recorder.take()), "", "before {}: late bytes of the entry before it", entry.name);
    let mut stream = bounded(LONG, "connecting", TcpStream::connect(proxy)).await.expect("a connection");
    let _ = stream.set_nodelay(true);
    let send =
        if entry.is_http2 { [frames::preface(), entry.send.clone()].concat() } else { entry.send.clone() };
    // Whoever closes while it is still being told is read all the same.
    let size = if entry.pieces > 0 { send.len().div_ceil(entry.pieces) } else { send.len() };
    for piece in send.chunks(size.max(1)) {
        let _ = bounded(LONG, "writing", stream.write_all(piece)).await;
        if entry.pieces > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    let mut heard = Heard { stream, bytes: Vec::new(), is_http2: entry.is_http2, is_closed: false };
    // As many answers as are expected; whoever gives more is found out by the probe.
    let expected = entry.answer.split(' ').filter(|word| word.parse::<u16>().is_ok()).count().max(1);
    let ends = entry.answer.ends_with("close");
    heard.until(patience, |heard| !ends && heard.answers() >= expected).await;
    let mut answer = heard.said();
    settle(recorder, !entry.forwarded.is_empty()).await;
    let mut forwarded = recorder.take();
    if heard.is_closed {
        answer.push("close".to_owned());
    } else if heard.answers() < expected {
        answer.push("wait".to_owned());
    } else {
        let (is_right, rest) = heard.probe(recorder, patience).await;
        forwarded.extend(rest);
        answer.push(if is_right { "open" } else { "out-of-step" }.to_owned());
    }
    drop(heard);
    Outcome { answer: answer.join(" "), forwarded }
}

/// Waits until nothing more arrives; and, where something should, first for its beginning.
pub(super) async fn settle(recorder: &Recorder, something: bool) {
    let mut seen = recorder.bytes().len();
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let now = recorder.bytes().len();
        if now == seen && (now > 0 || !something) {
            return;
        }
        seen = now;
    }
}

/// The client's side of a connection.
struct Heard {
    stream: TcpStream,
    bytes: Vec<u8>,
    is_http2: bool,
    is_closed: bool,
}

impl Heard {
    /// Reads until there is enough, or the connection ends, or nothing comes for so long.
    async fn until(&mut self, patience: Duration, enough: impl Fn(&Heard) -> bool) {
        while !self.is_closed && !enough(self) {
            match tokio::time::timeout(patience, self.stream.read_buf(&mut self.bytes)).await {
                Ok(Ok(1..)) => {}
                Ok(_) => self.is_closed = true,
                Err(_) => return,
            }
        }
    }

    /// What was said, in words.
    fn said(&self) -> Vec<String> {
        if !self.is_http2 {
            return statuses(&self.bytes).iter().map(u16::to_string).collect();
        }
        let mut words = Vec::new();
        let mut streams = Vec::new();
        for said in frames::read(&self.bytes) {
            match said {
                Said::Status(PROBE_STREAM, _) => {}
                // A stream's first word counts: an answer before the end of a body is followed by a reset.
                Said::Status(stream, _) | Said::Reset(stream, _) if streams.contains(&stream) => {}
                Said::Status(stream, status) => {
                    streams.push(stream);
                    words.push(status.to_string());
                }
                Said::Reset(stream, code) => {
                    streams.push(stream);
                    words.push(format!("reset:{code}"));
                }
                Said::GoAway(code) => words.push(format!("goaway:{code}")),
            }
        }
        words
    }

    fn answers(&self) -> usize {
        self.said().len()
    }

    /// Asks one more thing; whether it was answered 200 and arrived as it should, and what else arrived before it.
    async fn probe(&mut self, recorder: &Recorder, patience: Duration) -> (bool, Vec<u8>) {
        let before = self.answers();
        let request = if self.is_http2 {
            let fields = [(":method", "GET"), (":scheme", "http"), (":path", PROBE), (":authority", "a")];
            let block = fields.map(|(name, value)| frames::field(name.as_bytes(), value.as_bytes())).concat();
            frames::frame(1, 5, PROBE_STREAM, &block)
        } else {
            format!("GET {PROBE} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
        };
        let _ = self.stream.write_all(&request).await;
        let answered = |heard: &Heard| match heard.is_http2 {
            true => frames::read(&heard.bytes).contains(&Said::Status(PROBE_STREAM, 200)),
            false => statuses(&heard.bytes).get(before) == Some(&200),
        };
        self.until(patience, answered).await;
        let (is_there, rest) = beginning(recorder.take());
        (answered(self) && is_there, rest)
    }
}

/// Whether these bytes end with that request as it should be, and what is before it.
pub(super) fn beginning(mut forwarded: Vec<u8>) -> (bool, Vec<u8>) {
    let line = format!("GET {PROBE} HTTP/1.");
    let Some(at) = find(&forwarded, line.as_bytes()) else { return (false, forwarded) };
    let is_whole = forwarded.ends_with(b"\r\n\r\n");
    forwarded.truncate(at);
    (is_whole, forwarded)
}

/// The statuses of the final answers in these bytes that are whole (or end with them).
fn statuses(mut bytes: &[u8]) -> Vec<u16> {
    let mut statuses = Vec::new();
    while let Some(end) = find(bytes, b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        bytes = &bytes[end + 4..];
        let Some(status) = head.split(' ').nth(1).and_then(|word| word.trim().get(..3)?.parse().ok()) else {
            break;
        };
        let field = |name: &str| {
            head.split("\r\n").find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
        };
        let length: usize = match (field("content-length:"), field("transfer-encoding:")) {
            (_, Some(_)) => match find(bytes, b"0\r\n\r\n") {
                Some(at) => at + 5,
                None => break,
            },
            (Some(length), None) => length.parse().unwrap_or(0),
            (None, None) => 0,
        };
        let Some(rest) = bytes.get(length..) else { break };
        bytes = rest;
        if status >= 200 {
            statuses.push(status);
        }
    }
    statuses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_answers_are_counted() {
        let one = "HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\n\r\nabc";
        let two = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
        assert_eq!(statuses(format!("{one}{two}").as_bytes()), [400, 200]);
        assert_eq!(statuses(&one.as_bytes()[..one.len() - 1]), [0_u16; 0]);
    }
}
