//! Before anything is measured: does every proxy do the same work? One that leaves a field out, answers from
//! somewhere else or sends everything to one endpoint would win for the wrong reason.

use std::{
    collections::HashSet,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::peers::{ANSWER_FIELD, Peer, Role};

/// An answer as text; the benchmark's own answers are all ASCII.
struct Answer {
    head: String,
    body: String,
}

/// What the endpoints have seen since they started.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// Requests.
    pub requests: u64,
    /// Connections accepted.
    pub connections: u64,
}

/// Sends a few requests through a proxy and looks at what the endpoints received and what came back. Answers
/// the head as an endpoint received it, for the record.
pub fn check(peer: &Peer, address: SocketAddr) -> Result<String> {
    let (mut ids, mut endpoints, mut received) = (HashSet::new(), HashSet::new(), String::new());
    for _ in 0..4 {
        let answer =
            exchange(address, "GET /echo HTTP/1.1\r\nHost: bench.example\r\nAccept: */*\r\n\r\n", "")?;
        ensure!(answer.head.starts_with("HTTP/1.1 200 "), "GET /echo was answered {:?}", answer.head);
        endpoints.extend(field(&answer.body, "endpoint").map(str::to_owned));
        if peer.role != Role::Floor {
            same_work(&answer)?;
            ids.extend(field(&answer.body, "x-request-id").map(str::to_owned));
        }
        received = answer.body;
    }
    ensure!(endpoints.len() == 2, "four requests did not reach both endpoints");
    ensure!(peer.role == Role::Floor || ids.len() == 4, "request ids are not fresh for every request");
    closes(address)?;
    let body = "x".repeat(100_000);
    let head =
        format!("POST /upload HTTP/1.1\r\nHost: bench.example\r\nContent-Length: {}\r\n\r\n", body.len());
    let answer = exchange(address, &head, &body)?;
    ensure!(answer.body == "100000", "an upload of 100000 bytes was answered {:?}", answer.body);
    Ok(received)
}

/// A connection is closed when the client asks for it: else a scenario of new connections would not be one.
fn closes(address: SocketAddr) -> Result<()> {
    let mut stream = connect(address)?;
    stream.write_all(b"GET /small HTTP/1.1\r\nHost: bench.example\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text).context("waiting for the end of a connection that was to be closed")?;
    ensure!(complete(&text)?.is_some(), "an answer was cut short: {text:?}");
    Ok(())
}

/// One answer from `/echo`: its body is the head that the endpoint received.
fn same_work(answer: &Answer) -> Result<()> {
    let (name, value) = ANSWER_FIELD;
    ensure!(field(&answer.head, name) == Some(value), "the answer lacks {name}: {value}:\n{}", answer.head);
    let received = |name: &str| {
        field(&answer.body, name)
            .with_context(|| format!("the endpoint did not get {name}:\n{}", answer.body))
    };
    ensure!(received("host")? == "bench.example", "Host was not kept");
    ensure!(received("x-forwarded-for")?.contains("127.0.0.1"), "X-Forwarded-For lacks the client");
    ensure!(received("x-forwarded-proto")? == "http", "X-Forwarded-Proto is wrong");
    ensure!(received("x-forwarded-host")? == "bench.example", "X-Forwarded-Host is wrong");
    ensure!(received("x-request-id")?.len() >= 16, "X-Request-Id is too short to be unique");
    Ok(())
}

/// Asks an endpoint for its counters.
pub fn seen(endpoint: SocketAddr) -> Result<Seen> {
    let answer = exchange(endpoint, "GET /stats HTTP/1.1\r\nHost: bench\r\n\r\n", "")?;
    let v: Value = serde_json::from_str(&answer.body)?;
    let n = |key: &str| v.get(key).and_then(Value::as_u64).context("the endpoint's counters");
    Ok(Seen { requests: n("requests")?, connections: n("connections")? })
}

/// One request on a connection of its own.
fn exchange(address: SocketAddr, head: &str, body: &str) -> Result<Answer> {
    let mut stream = connect(address)?;
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let (mut text, mut chunk) = (String::new(), [0; 16 << 10]);
    loop {
        if let Some(answer) = complete(&text)? {
            return Ok(answer);
        }
        let n = stream.read(&mut chunk).context("waiting for an answer")?;
        if n == 0 {
            bail!("the connection was closed after {text:?}");
        }
        text.push_str(std::str::from_utf8(chunk.get(..n).unwrap_or_default())?);
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

/// The answer, once all of it is there.
fn complete(text: &str) -> Result<Option<Answer>> {
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return Ok(None) };
    let length = field(head, "content-length").context("the answer has no Content-Length")?;
    let length: usize = length.parse()?;
    let whole = body.len() >= length;
    Ok(whole.then(|| Answer { head: head.to_owned(), body: body.to_owned() }))
}

/// The value of a field in a head.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (n, value) = line.split_once(':')?;
        n.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_by_its_length() {
        let part = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell";
        assert!(complete(part).unwrap().is_none());
        assert_eq!(complete(&format!("{part}o")).unwrap().unwrap().body, "hello");
        assert!(complete("HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn missing_work_is_found() {
        let body = "GET /echo HTTP/1.1\r\nHost: bench.example\r\nX-Forwarded-For: 127.0.0.1\r\n\
                    X-Forwarded-Proto: http\r\nX-Forwarded-Host: bench.example\r\n\
                    X-Request-Id: 0123456789abcdef\r\n\r\n";
        let head = "HTTP/1.1 200 OK\r\nX-Bench: on";
        let answer = |head: &str, body: &str| Answer { head: head.into(), body: body.into() };
        same_work(&answer(head, body)).unwrap();
        same_work(&answer("HTTP/1.1 200 OK", body)).unwrap_err();
        for name in ["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Request-Id"] {
            same_work(&answer(head, &body.replace(name, "X-Other"))).unwrap_err();
        }
    }
}
