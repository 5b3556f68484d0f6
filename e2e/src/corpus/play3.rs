//! Plays an entry of HTTP/3 to a proxy.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use quinn::{Connection, ConnectionError, Endpoint, ReadError, RecvStream, SendStream};
use rustls::ClientConfig;
use tokio::{task::JoinHandle, time::timeout};

use super::{
    Entry,
    http3::{self, End, Stream},
    play::{Outcome, PROBE, beginning, settle},
    text::escape,
};
use crate::{
    h3,
    recorder::Recorder,
    wait::{LONG, bounded},
};

/// Code of a stream that the client breaks off (H3_REQUEST_CANCELLED).
const CANCELLED: u32 = 0x10c;

/// Where a proxy speaks HTTP/3.
pub struct Target<'a> {
    /// Its address.
    pub addr: SocketAddr,
    /// A name that its certificate has.
    pub name: &'a str,
    /// Who believes the certificate.
    pub config: ClientConfig,
}

/// Plays an entry over a connection of its own, as [`super::play::play`] does with those of TCP: what is not answered for so
/// long as `patience` waits, and a connection that stays open is asked for one more thing.
pub async fn play(entry: &Entry, target: &Target<'_>, recorder: &Recorder, patience: Duration) -> Outcome {
    assert_eq!(escape(&recorder.take()), "", "before {}: late bytes of the entry before it", entry.name);
    let endpoint = h3::endpoint(target.config.clone(), None).expect("a socket");
    let connecting = endpoint.connect(target.addr, target.name).expect("a configuration");
    let conn = bounded(LONG, "connecting", connecting).await.expect("a connection");
    let mut client = Client { conn, endpoint, held: Vec::new(), asked: Vec::new() };
    for stream in &entry.streams {
        client.open(stream).await;
    }
    let mut words = client.answers(patience).await;
    let is_silent = words.is_empty();
    settle(recorder, !entry.forwarded.is_empty()).await;
    // Where an answer or the silence was expected, the end may still be on its way.
    if !entry.answer.ends_with("close") {
        let _ = timeout(Duration::from_millis(20), client.conn.closed()).await;
    }
    let mut forwarded = recorder.take();
    match client.conn.close_reason() {
        Some(why) => {
            words.extend([format!("error:{}", reason(&why)), "close".to_owned()]);
        }
        None if is_silent && entry.answer.ends_with("wait") => words.push("wait".to_owned()),
        None => {
            let (is_right, rest) = client.probe(target.name, recorder, patience).await;
            forwarded.extend(rest);
            match client.conn.close_reason() {
                Some(why) => words.extend([format!("error:{}", reason(&why)), "close".to_owned()]),
                None => words.push(if is_right { "open" } else { "out-of-step" }.to_owned()),
            }
        }
    }
    client.conn.close(0x100_u32.into(), b"");
    client.endpoint.wait_idle().await;
    Outcome { answer: words.join(" "), forwarded }
}

fn reason(why: &ConnectionError) -> String {
    match why {
        ConnectionError::ApplicationClosed(close) => http3::code(close.error_code.into_inner()),
        other => format!("{other}"),
    }
}

/// The client's side of a connection.
struct Client {
    conn: Connection,
    endpoint: Endpoint,
    /// Streams that stay open.
    held: Vec<SendStream>,
    /// What becomes of requests, by their order.
    asked: Vec<JoinHandle<Option<String>>>,
}

impl Client {
    /// What fails here fails because the proxy has had enough, which is seen by its word.
    async fn open(&mut self, stream: &Stream) {
        let opened = async {
            Ok::<_, ConnectionError>(match stream.is_request {
                true => {
                    let (send, receive) = self.conn.open_bi().await?;
                    (send, Some(receive))
                }
                false => (self.conn.open_uni().await?, None),
            })
        };
        let Ok((mut send, receive)) = bounded(LONG, "a stream", opened).await else { return };
        let writing = bounded(LONG, "writing", send.write_all(&stream.bytes)).await;
        match stream.end {
            End::Reset => {
                // What was written arrives first.
                tokio::time::sleep(Duration::from_millis(50)).await;
                let _ = send.reset(CANCELLED.into());
            }
            End::Finished if writing.is_ok() => drop(send.finish()),
            _ => self.held.push(send),
        }
        if let Some(receive) = receive {
            self.asked.push(tokio::spawn(fate(receive)));
        }
    }

    /// What the proxy says to the requests, in their order, until it has said something to each or the connection ends.
    async fn answers(&mut self, patience: Duration) -> Vec<String> {
        let mut words = BTreeMap::new();
        let asked = std::mem::take(&mut self.asked);
        if asked.is_empty() {
            let _ = timeout(patience, self.conn.closed()).await;
        }
        let end = tokio::time::Instant::now() + patience;
        for (at, mut asked) in asked.into_iter().enumerate() {
            match tokio::time::timeout_at(end, &mut asked).await {
                Ok(said) => words.extend(said.ok().flatten().map(|word| (at, word))),
                Err(_) => asked.abort(),
            }
        }
        words.into_values().collect()
    }

    /// Asks one more thing; whether it was answered 200 and arrived as it should, and what else arrived before it.
    async fn probe(&mut self, name: &str, recorder: &Recorder, patience: Duration) -> (bool, Vec<u8>) {
        let head =
            http3::head(&[(":method", "GET"), (":scheme", "https"), (":path", PROBE), (":authority", name)]);
        self.open(&Stream { is_request: true, bytes: head, end: End::Finished }).await;
        let answered = self.answers(patience).await == ["200"];
        let (is_there, rest) = beginning(recorder.take());
        (answered && is_there, rest)
    }
}

/// What becomes of a request: its final status, or the code with which the stream is broken off; nothing when the connection
/// ends before that.
async fn fate(mut receive: RecvStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        if let Some(status) = http3::status(&bytes) {
            return Some(status.to_string());
        }
        match receive.read_chunk(64 << 10, true).await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk.bytes),
            Ok(None) => return Some("nothing".to_owned()),
            Err(ReadError::Reset(code)) => return Some(format!("reset:{}", http3::code(code.into_inner()))),
            Err(_) => return None,
        }
    }
}
