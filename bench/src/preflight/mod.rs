//! Before anything is measured: does every proxy do the same work? One that leaves a field out, answers from
//! somewhere else or sends everything to one endpoint would win for the wrong reason.

mod call;
mod quic;

use std::{
    collections::HashSet,
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rustls::{ClientConnection, StreamOwned};
use serde_json::Value;

use crate::{
    endpoint::grpc,
    peers::{ANSWER_FIELD, ORIGIN, Peer, Role, Site, Wire, route_host},
    tls,
};

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

/// What a client asks for: one of many routes, or any path of any host.
struct Asked<'a> {
    site: &'a Site,
    host: String,
    below: &'static str,
}

/// Sends a few requests through a proxy and looks at what the endpoints received and what came back. Answers
/// the head as an endpoint received it, for the record.
pub fn check(peer: &Peer, site: &Site) -> Result<String> {
    let asked = match site.work.hosts {
        0 => Asked { site, host: "bench.example".into(), below: "" },
        _ => Asked { site, host: route_host(12), below: "/r/57" },
    };
    let answers = match site.work.wire {
        Wire::H2c => call::exchange(site.listen, &["/echo"; 4])?,
        Wire::Quic => quic::exchange(site.listen, "GET", "/echo", "", 4)?,
        _ => (0..4).map(|_| asked.exchange("GET", "/echo", "")).collect::<Result<_>>()?,
    };
    let (mut ids, mut endpoints, mut received) = (HashSet::new(), HashSet::new(), String::new());
    for answer in answers {
        let status = answer.head.split_ascii_whitespace().nth(1);
        ensure!(status == Some("200"), "/echo was answered {:?}", answer.head);
        endpoints.extend(field(&answer.body, "endpoint").map(str::to_owned));
        if peer.role != Role::Floor {
            same_work(&answer, &asked.host, site.work.wire)?;
            if site.work.everything {
                everything(&answer)?;
            }
            ids.extend(field(&answer.body, "x-request-id").map(str::to_owned));
        }
        received = answer.body;
    }
    ensure!(endpoints.len() == 2, "four requests did not reach both endpoints");
    ensure!(peer.role == Role::Floor || ids.len() == 4, "request ids are not fresh for every request");
    if site.work.wire == Wire::H2c {
        let message = String::from_utf8(grpc::message())?;
        let answers = call::exchange(site.listen, &["/bench.Bench/Call"])?;
        ensure!(answers.iter().all(|a| a.body == message), "the message did not come back");
        return Ok(received);
    }
    let upload = "x".repeat(100_000);
    let answer = match site.work.wire {
        Wire::Quic => {
            quic::exchange(site.listen, "POST", "/upload", &upload, 1)?.pop().context("an answer")?
        }
        _ => {
            asked.closes()?;
            asked.exchange("POST", "/upload", &upload)?
        }
    };
    ensure!(answer.body == "100000", "an upload of 100000 bytes was answered {:?}", answer.body);
    if peer.role != Role::Floor && site.work.hosts > 0 {
        let other = Asked { site, host: "other.example".into(), below: "/r/57" };
        let found =
            other.exchange("GET", "/small", "").is_ok_and(|a| a.head.contains(" 200 ") && a.body.len() == 12);
        ensure!(!found, "a host of no route was answered like one of them");
    }
    Ok(received)
}

impl Asked<'_> {
    /// One request on a connection of its own.
    fn exchange(&self, method: &str, path: &str, body: &str) -> Result<Answer> {
        exchange(&mut *self.connect()?, &(self.head(method, path, body.len()) + "\r\n"), body)
    }

    fn head(&self, method: &str, path: &str, length: usize) -> String {
        let Asked { host, below, .. } = self;
        let length = if length > 0 { format!("Content-Length: {length}\r\n") } else { String::new() };
        format!(
            "{method} {below}{path} HTTP/1.1\r\nHost: {host}\r\nOrigin: {ORIGIN}\r\nX-Debug: 1\r\n\
             Accept: */*\r\n{length}"
        )
    }

    fn connect(&self) -> Result<Box<dyn Stream>> {
        let stream = connect(self.site.listen)?;
        if self.site.work.wire != Wire::Tls {
            return Ok(Box::new(stream));
        }
        let client = ClientConnection::new(Arc::new(tls::client(&["http/1.1"])?), tls::name()?)?;
        Ok(Box::new(StreamOwned::new(client, stream)))
    }

    /// A connection is closed when the client asks for it: else a scenario of new connections would not be one.
    fn closes(&self) -> Result<()> {
        let mut stream = self.connect()?;
        let head = self.head("GET", "/small", 0) + "Connection: close\r\n\r\n";
        stream.write_all(head.as_bytes())?;
        let mut text = Vec::new();
        match stream.read_to_end(&mut text) {
            // TLS without its own goodbye.
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => {}
            read => {
                read.context("waiting for the end of a connection that was to be closed")?;
            }
        }
        let text = String::from_utf8(text)?;
        ensure!(complete(&text)?.is_some(), "an answer was cut short: {text:?}");
        Ok(())
    }
}

/// A connection, with TLS or without.
trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

/// One answer from `/echo`: its body is the head that the endpoint received.
fn same_work(answer: &Answer, host: &str, wire: Wire) -> Result<()> {
    let (name, value) = ANSWER_FIELD;
    ensure!(field(&answer.head, name) == Some(value), "the answer lacks {name}: {value}:\n{}", answer.head);
    let received = |name: &str| {
        field(&answer.body, name)
            .with_context(|| format!("the endpoint did not get {name}:\n{}", answer.body))
    };
    let scheme = if wire.is_secure() { "https" } else { "http" };
    ensure!(received("host")? == host, "Host was not kept:\n{}", answer.body);
    // Envoy names its own address in place of a client on loopback, so any address will do.
    let client = received("x-forwarded-for")?.rsplit(',').next().unwrap_or_default().trim();
    ensure!(client.parse::<IpAddr>().is_ok(), "X-Forwarded-For lacks the client:\n{}", answer.body);
    ensure!(received("x-forwarded-proto")? == scheme, "X-Forwarded-Proto is wrong:\n{}", answer.body);
    ensure!(received("x-forwarded-host")? == host, "X-Forwarded-Host is wrong:\n{}", answer.body);
    ensure!(received("x-request-id")?.len() >= 16, "X-Request-Id is too short to be unique");
    Ok(())
}

/// What is asked beyond that with everything on.
fn everything(answer: &Answer) -> Result<()> {
    let sent = |name: &str, value: &str| {
        let found = field(&answer.head, name);
        ensure!(found == Some(value), "the answer has {found:?} in {name}, not {value}:\n{}", answer.head);
        Ok(())
    };
    sent("Access-Control-Allow-Origin", ORIGIN)?;
    sent("Vary", "Origin")?;
    sent("X-Frame-Options", "DENY")?;
    sent("X-Content-Type-Options", "nosniff")?;
    ensure!(field(&answer.head, "Server") != Some("endpoint"), "the endpoint's Server was passed on");
    ensure!(field(&answer.body, "X-Env") == Some("bench"), "the endpoint did not get X-Env");
    ensure!(field(&answer.body, "X-Debug").is_none(), "the endpoint got X-Debug");
    Ok(())
}

/// Asks an endpoint for its counters.
pub fn seen(endpoint: SocketAddr) -> Result<Seen> {
    let answer = exchange(&mut connect(endpoint)?, "GET /stats HTTP/1.1\r\nHost: bench\r\n\r\n", "")?;
    let v: Value = serde_json::from_str(&answer.body)?;
    let n = |key: &str| v.get(key).and_then(Value::as_u64).context("the endpoint's counters");
    Ok(Seen { requests: n("requests")?, connections: n("connections")? })
}

/// One request on a connection that is open.
fn exchange(stream: &mut dyn Stream, head: &str, body: &str) -> Result<Answer> {
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
        let check = |head: &str, body: &str, wire| {
            same_work(&Answer { head: head.into(), body: body.into() }, "bench.example", wire)
        };
        check(head, body, Wire::Plain).unwrap();
        check(head, body, Wire::Tls).unwrap_err();
        check("HTTP/1.1 200 OK", body, Wire::Plain).unwrap_err();
        for name in ["Host", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Request-Id"] {
            check(head, &body.replace(name, "X-Other"), Wire::Plain).unwrap_err();
        }
    }

    #[test]
    fn missing_work_is_found_with_everything_on() {
        let head = "HTTP/1.1 200 OK\r\nServer: x\r\nAccess-Control-Allow-Origin: https://shop.example\r\n\
                    Vary: Origin\r\nX-Frame-Options: DENY\r\nX-Content-Type-Options: nosniff\r\n";
        let check = |head: &str, body: &str| everything(&Answer { head: head.into(), body: body.into() });
        check(head, "X-Env: bench\r\n").unwrap();
        check(head, "").unwrap_err();
        check(head, "X-Env: bench\r\nX-Debug: 1\r\n").unwrap_err();
        check(&head.replace("Server: x", "Server: endpoint"), "X-Env: bench\r\n").unwrap_err();
        for name in ["Access-Control-Allow-Origin", "Vary", "X-Frame-Options", "X-Content-Type-Options"] {
            check(&head.replace(name, "X-Other"), "X-Env: bench\r\n").unwrap_err();
        }
    }
}
