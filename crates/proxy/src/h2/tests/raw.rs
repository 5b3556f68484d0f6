//! A client made of bytes, for what no decent library would send.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use http::StatusCode;
use portcullis_core::Answer;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::Gateway;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const PROTOCOL_ERROR: u32 = 1;
const ENHANCE_YOUR_CALM: u32 = 11;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Literal fields without indexing and without Huffman coding (RFC 7541 §6.2.2).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    let text = |text: &str, block: &mut Vec<u8>| {
        let length = text.len();
        if length < 127 {
            block.push(length as u8);
        } else {
            block.push(127);
            let mut rest = length - 127;
            while rest >= 128 {
                block.push((rest % 128) as u8 | 128);
                rest /= 128;
            }
            block.push(rest as u8);
        }
        block.extend(text.as_bytes());
    };
    for (name, value) in fields {
        block.push(0);
        text(name, &mut block);
        text(value, &mut block);
    }
    block
}

fn headers(stream: u32, fields: &[(&str, &str)], ends: bool) -> Vec<u8> {
    let flags = END_HEADERS | if ends { END_STREAM } else { 0 };
    frame(HEADERS, flags, stream, &block(fields))
}

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a.example")];

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    GET.iter().chain(more).copied().collect()
}

async fn begin(gateway: &Gateway) -> DuplexStream {
    let (mut io, _) = gateway.connect();
    io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    io.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    io
}

#[derive(Debug, PartialEq)]
enum Heard {
    Status(StatusCode),
    Reset(u32),
    GoAway(u32),
    End,
}

/// What the gateway says first of a stream (or of the connection).
async fn hear(io: &mut DuplexStream) -> Heard {
    loop {
        let mut header = [0; 9];
        if io.read_exact(&mut header).await.is_err() {
            return Heard::End;
        }
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let mut payload = vec![0; length];
        io.read_exact(&mut payload).await.unwrap();
        let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        match header[3] {
            HEADERS => {
                // Ours begin with `:status`: from the static table (RFC 7541 appendix A), or as text after its name.
                let status = match payload[0] {
                    0x88 => 200,
                    0x8c => 400,
                    0x8d => 404,
                    0x8e => 500,
                    0x48 => decode(&payload[1..]),
                    other => panic!("status? {other:x}"),
                };
                return Heard::Status(StatusCode::from_u16(status).unwrap());
            }
            RST_STREAM => return Heard::Reset(number(0)),
            // The polite first half of a graceful end says nothing yet.
            GOAWAY if number(0) != i32::MAX as u32 => return Heard::GoAway(number(4)),
            _ => {}
        }
    }
}

/// A status as text: plain, or in Huffman's digits, of which 0 to 2 have five bits and the others six.
fn decode(text: &[u8]) -> u16 {
    let length = usize::from(text[0] & 0x7f);
    let bytes = &text[1..1 + length];
    if text[0] & 0x80 == 0 {
        return std::str::from_utf8(bytes).unwrap().parse().unwrap();
    }
    let mut bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1)));
    let mut number = 0;
    for _ in 0..3 {
        let mut code = (0..5).fold(0, |code, _| code << 1 | bits.next().unwrap());
        if code > 2 {
            code = (code << 1 | bits.next().unwrap()) - 0x19 + 3;
        }
        number = number * 10 + code;
    }
    number
}

fn ok() -> Gateway {
    Gateway::new(|_| Box::pin(async { Ok(Answer::new(StatusCode::OK, "test")) }), |_| {})
}

#[tokio::test(start_paused = true)]
async fn malformed_requests_never_arrive() {
    let gateway = ok();
    let bad = Heard::Status(StatusCode::BAD_REQUEST);
    let reset = Heard::Reset(PROTOCOL_ERROR);
    let cases: Vec<(Vec<(&str, &str)>, &Heard)> = vec![
        (with(&[("connection", "close")]), &reset),
        (with(&[("transfer-encoding", "chunked")]), &reset),
        (with(&[("upgrade", "websocket")]), &reset),
        (with(&[("keep-alive", "1")]), &reset),
        (with(&[("proxy-connection", "close")]), &reset),
        (with(&[("te", "gzip")]), &reset),
        (with(&[("content-length", "5")]), &reset),
        (with(&[("content-length", "x")]), &reset),
        (with(&[(":late", "x")]), &Heard::GoAway(PROTOCOL_ERROR)),
        (with(&[("X-Upper", "x")]), &Heard::GoAway(PROTOCOL_ERROR)),
        (with(&[("x", "a\r\nb: c")]), &Heard::GoAway(PROTOCOL_ERROR)),
        (with(&[("x", "a\0b")]), &Heard::GoAway(PROTOCOL_ERROR)),
        (with(&[("x", " padded")]), &bad),
        (with(&[("content-length", "0"), ("content-length", "0")]), &bad),
        (with(&[("host", "b.example")]), &bad),
        (with(&[("host", "a.example"), ("host", "a.example")]), &bad),
        (vec![GET[0], GET[1], GET[2], (":authority", "user@a.example")], &bad),
        (vec![GET[0], GET[1], (":path", ""), GET[3]], &reset),
        (vec![GET[0], GET[1], (":path", "relative"), GET[3]], &reset),
        (vec![GET[0], GET[1], GET[3]], &reset),
        (vec![GET[0], GET[2], GET[3]], &reset),
        (vec![("x", "first"), GET[0], GET[1], GET[2], GET[3]], &reset),
        (vec![GET[0], GET[0], GET[1], GET[2], GET[3]], &reset),
    ];
    for (fields, expected) in cases {
        let mut io = begin(&gateway).await;
        io.write_all(&headers(1, &fields, true)).await.unwrap();
        let heard = hear(&mut io).await;
        // Where `http` or `h2` are stricter or laxer than RFC 9113 asks, either refusal will do.
        let refused = heard == *expected || (heard != Heard::Status(StatusCode::OK) && heard != Heard::End);
        assert!(refused, "{fields:?}: {heard:?}, not {expected:?}");
    }
    assert_eq!(gateway.asked.load(Relaxed), 0);
    let mut io = begin(&gateway).await;
    io.write_all(&headers(1, &with(&[("host", "A.example"), ("te", "trailers")]), true)).await.unwrap();
    assert_eq!(hear(&mut io).await, Heard::Status(StatusCode::OK));
}

#[tokio::test(start_paused = true)]
async fn a_body_must_be_as_long_as_it_says() {
    for body in [&b"four"[..], b"sixsix"] {
        let gateway = Gateway::new(
            |x| {
                Box::pin(async {
                    x.request.body.read_all(100).await?;
                    Ok(Answer::new(StatusCode::OK, "test"))
                })
            },
            |_| {},
        );
        let mut io = begin(&gateway).await;
        let fields = with(&[("content-length", "5")]);
        io.write_all(&headers(1, &fields, false)).await.unwrap();
        io.write_all(&frame(DATA, END_STREAM, 1, body)).await.unwrap();
        assert_eq!(hear(&mut io).await, Heard::Reset(PROTOCOL_ERROR));
    }
}

#[tokio::test(start_paused = true)]
async fn heads_are_bounded() {
    let gateway = Gateway::new(
        |_| Box::pin(async { Ok(Answer::new(StatusCode::OK, "test")) }),
        |listener| {
            listener.limits.header_bytes = 2048;
            listener.limits.header_count = 5;
        },
    );
    let long = "x".repeat(2000);
    let too_large = Heard::Status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    for (more, expected) in [
        (vec![("a", "1"); 5], Heard::Status(StatusCode::OK)),
        (vec![("a", "1"); 6], too_large),
        (vec![("a", long.as_str())], Heard::Status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)),
    ] {
        let mut io = begin(&gateway).await;
        io.write_all(&headers(1, &with(&more), true)).await.unwrap();
        assert_eq!(hear(&mut io).await, expected, "{} fields", more.len());
    }
}

#[tokio::test(start_paused = true)]
async fn floods_end_the_connection() {
    let ping = frame(PING, 0, 0, &[0; 8]);
    let settings = frame(SETTINGS, 0, 0, &[]);
    let priority = frame(2, 0, 1, &[0; 5]);
    for flood in [ping, settings, priority] {
        let gateway = ok();
        let mut io = begin(&gateway).await;
        let (mut reading, mut writing) = tokio::io::split(io);
        let writer = tokio::spawn(async move {
            for _ in 0..5000 {
                if writing.write_all(&flood).await.is_err() {
                    break;
                }
            }
            writing
        });
        let mut said = Vec::new();
        // The gateway must close by itself.
        let closed = tokio::time::timeout(Duration::from_secs(5), reading.read_to_end(&mut said)).await;
        assert!(closed.is_ok(), "still open");
        io = reading.unsplit(writer.await.unwrap());
        drop(io);
        let calm =
            frame(GOAWAY, 0, 0, &[&0_u32.to_be_bytes()[..], &ENHANCE_YOUR_CALM.to_be_bytes()].concat());
        assert!(said.windows(calm.len()).any(|window| window == calm), "no GOAWAY");
        assert_eq!(gateway.listener_metrics().attacks().get("http2-flood"), Some(&1));
    }
}

#[tokio::test(start_paused = true)]
async fn rapid_resets_end_the_connection() {
    let gateway = Gateway::new(|_| Box::pin(std::future::pending()), |_| {});
    let mut io = begin(&gateway).await;
    let cancel = 8_u32.to_be_bytes();
    let mut streams = 0;
    for stream in (1..2000).step_by(2) {
        let mut both = headers(stream, &GET, true);
        both.extend(frame(RST_STREAM, 0, stream, &cancel));
        if io.write_all(&both).await.is_err() {
            break;
        }
        streams += 1;
        // Each gets its turn, so that it is not `h2`'s own bound on unseen streams that is met.
        tokio::task::yield_now().await;
    }
    assert_eq!(hear(&mut io).await, Heard::GoAway(ENHANCE_YOUR_CALM), "after {streams}");
    assert!(gateway.asked.load(Relaxed) < 200);
}

#[tokio::test(start_paused = true)]
async fn continuation_floods_end_the_connection() {
    let gateway = ok();
    let mut io = begin(&gateway).await;
    io.write_all(&frame(HEADERS, END_STREAM, 1, &block(&GET))).await.unwrap();
    let piece = frame(CONTINUATION, 0, 1, &block(&[("x", "y")]));
    let mut sent = 0;
    while sent < 20_000 && io.write_all(&piece).await.is_ok() {
        sent += 1;
    }
    assert!(sent < 20_000, "it would read for ever");
    assert_eq!(gateway.asked.load(Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_finished_answer_that_is_not_taken_does_not_hold_the_connection() {
    let gateway = Gateway::new(
        |_| Box::pin(async { Ok(Answer::with_body(StatusCode::OK, "test", "text/plain", "x")) }),
        |_| {},
    );
    let (mut io, served) = gateway.connect();
    io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    // SETTINGS_INITIAL_WINDOW_SIZE 0, and no WINDOW_UPDATE ever: the body stays with the gateway.
    io.write_all(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])).await.unwrap();
    io.write_all(&headers(1, &GET, true)).await.unwrap();
    assert_eq!(hear(&mut io).await, Heard::Status(StatusCode::OK));
    let start = tokio::time::Instant::now();
    served.await.unwrap();
    let took = start.elapsed().as_secs_f64();
    assert!((30.0..31.0).contains(&took), "{took}");
}
