//! Clients of HTTP/3 whose bytes are made by hand over QUIC: hostile ones, and a WebSocket.

use http::Request;
use portcullis_e2e::{Endpoint, Gateway, bounded, certs::Authority, h3, wait::LONG, websocket::Echo, within};
use quinn::{Connection, ConnectionError, SendStream};

use crate::http3::{NAME, connect, start};

/// An integer of at most 14 bits (RFC 9000 §16).
fn integer(value: usize) -> Vec<u8> {
    match value {
        0..0x40 => vec![value as u8],
        _ => vec![0x40 | (value >> 8) as u8, value as u8],
    }
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind][..], &integer(payload.len()), payload].concat()
}

/// A HEADERS frame of literal fields (RFC 9204 §4.5.6).
fn head(fields: &[(&str, &str)]) -> Vec<u8> {
    let string = |flags: u8, bits: u32, text: &str| {
        let most = (1_usize << bits) - 1;
        let mut bytes = Vec::new();
        if text.len() < most {
            bytes.push(flags | text.len() as u8);
        } else {
            bytes.push(flags | most as u8);
            let mut rest = text.len() - most;
            while rest >= 128 {
                bytes.push(rest as u8 | 128);
                rest >>= 7;
            }
            bytes.push(rest as u8);
        }
        bytes.extend_from_slice(text.as_bytes());
        bytes
    };
    let fields =
        fields.iter().flat_map(|(name, value)| [string(0x20, 3, name), string(0, 7, value)].concat());
    frame(1, &[0, 0].into_iter().chain(fields).collect::<Vec<_>>())
}

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":authority", NAME), (":path", "/")];

struct Raw {
    conn: Connection,
    _control: SendStream,
    _endpoint: quinn::Endpoint,
}

async fn raw(gateway: &Gateway, authority: &Authority) -> Raw {
    let endpoint = h3::endpoint(authority.client(&["h3"]), None).unwrap();
    let connecting = endpoint.connect(gateway.addr(), NAME).unwrap();
    let conn = bounded(LONG, "a connection", connecting).await.unwrap();
    let mut control = conn.open_uni().await.unwrap();
    control.write_all(&[0, 4, 0]).await.unwrap();
    Raw { conn, _control: control, _endpoint: endpoint }
}

/// What becomes of a request: its status, or with which code the stream or the connection ends.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Status(String),
    Stream(u64),
    Connection(u64),
}

/// Takes the status from an answer's head, which stands first in it.
fn status(bytes: &[u8]) -> String {
    // Type, length, the section's prefix, and then either an entry of the static table or a literal.
    let at = if bytes[1] < 0x40 { 2 } else { 3 };
    let section = &bytes[at + 2..];
    match section[0] {
        0xd9 => "200".into(),
        0xdb => "404".into(),
        first if first & 0xf0 == 0x50 => {
            let at = if first & 0x0f == 0x0f { 2 } else { 1 };
            let length = usize::from(section[at]);
            String::from_utf8_lossy(&section[at + 1..at + 1 + length]).into_owned()
        }
        first if first & 0xc0 == 0xc0 => {
            let number =
                usize::from(first & 0x3f) + if first & 0x3f == 0x3f { usize::from(section[1]) } else { 0 };
            let table = ["100", "204", "206", "302", "400", "403", "421", "425", "500"];
            table.get(number.wrapping_sub(63)).map_or_else(|| format!("#{number}"), |text| (*text).into())
        }
        first => format!("?{first:x}"),
    }
}

async fn fate(raw: &Raw, bytes: &[u8], ends: bool) -> Fate {
    let (mut send, mut receive) = raw.conn.open_bi().await.unwrap();
    let _ = send.write_all(bytes).await;
    if ends {
        let _ = send.finish();
    }
    let read = bounded(LONG, "an answer", receive.read_to_end(1 << 20)).await;
    let lost = |error: ConnectionError| match error {
        ConnectionError::ApplicationClosed(close) => Fate::Connection(close.error_code.into_inner()),
        other => panic!("{other}"),
    };
    match read {
        Ok(bytes) => Fate::Status(status(&bytes)),
        Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(code))) => Fate::Stream(code.into_inner()),
        Err(quinn::ReadToEndError::Read(quinn::ReadError::ConnectionLost(error))) => lost(error),
        Err(error) => panic!("{error}"),
    }
}

/// Heads that are none are answered 400 (or what they deserve), reach no endpoint, and cost the others on the connection
/// nothing.
#[tokio::test]
async fn heads_that_are_none() {
    let endpoint = Endpoint::named("a").await;
    let (gateway, authority) = start("http3 = true", &endpoint.url()).await;
    let raw = raw(&gateway, &authority).await;
    let with = |extra: &[(&'static str, &'static str)]| head(&[&GET[..], extra].concat());
    let cases = [
        ("path twice", with(&[(":path", "/admin")]), "400"),
        ("method twice", with(&[(":method", "POST")]), "400"),
        ("authority twice", with(&[(":authority", "b.example")]), "400"),
        ("a response's", with(&[(":status", "200")]), "400"),
        ("unknown", with(&[(":x", "1")]), "400"),
        ("late", head(&[GET[0], GET[1], GET[2], ("x-a", "1"), GET[3]]), "400"),
        ("no method", head(&GET[1..]), "400"),
        ("no path", head(&GET[..3]), "400"),
        ("empty path", head(&[GET[0], GET[1], GET[2], (":path", "")]), "400"),
        ("other scheme", head(&[GET[0], (":scheme", "ftp"), GET[2], GET[3]]), "400"),
        ("no path at all", head(&[GET[0], GET[1], GET[2], (":path", "x")]), "400"),
        ("connection", with(&[("connection", "close")]), "400"),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")]), "400"),
        ("te", with(&[("te", "gzip")]), "400"),
        ("upper case", with(&[("X-Upper", "1")]), "400"),
        ("new line", with(&[("x-a", "1\r\nx-b: 2")]), "400"),
        ("nul", with(&[("x-a", "1\0")]), "400"),
        ("host differs", with(&[("host", "other.example")]), "400"),
        ("lengths", with(&[("content-length", "1"), ("content-length", "1")]), "400"),
        ("negative length", with(&[("content-length", "-1")]), "400"),
        ("connect", head(&[(":method", "CONNECT"), (":authority", "a:80")]), "501"),
        (
            "odd protocol",
            head(&[&[(":method", "CONNECT"), (":protocol", "x")][..], &GET[1..]].concat()),
            "501",
        ),
        ("another's name", head(&[GET[0], GET[1], (":authority", "a,b"), GET[3]]), "400"),
    ];
    for (what, bytes, expected) in &cases {
        assert_eq!(fate(&raw, bytes, true).await, Fate::Status((*expected).into()), "{what}");
    }
    assert_eq!(fate(&raw, &head(&GET), true).await, Fate::Status("200".into()));
    assert_eq!(endpoint.count(), 1);
}

/// Bodies that are not what their length says; too much of a head; a stream without one.
#[tokio::test]
async fn bodies_and_sizes() {
    let endpoint = Endpoint::named("a").await;
    let (gateway, authority) = start("http3 = true", &endpoint.url()).await;
    let raw = raw(&gateway, &authority).await;
    let post = |length: &'static str| {
        head(&[(":method", "POST"), GET[1], GET[2], GET[3], ("content-length", length)])
    };
    let data = frame(0, b"abc");
    for length in ["2", "4"] {
        let got = fate(&raw, &[post(length), data.clone()].concat(), true).await;
        assert_eq!(got, Fate::Status("400".into()), "3 bytes that say they are {length}");
    }
    assert_eq!(fate(&raw, &[post("3"), data.clone()].concat(), true).await, Fate::Status("200".into()));

    let long = "x".repeat(40_000);
    let mut large = vec![1, 0x80, 0, 0x9c, 0x48];
    large.extend_from_slice(long.as_bytes());
    assert_eq!(fate(&raw, &large, false).await, Fate::Status("431".into()), "a section of 40,008 bytes");
    // It says that it is a terabyte, and is believed so far as to be refused at once.
    let huge = [&[1, 0xc0, 0, 1, 0, 0, 0, 0, 0][..], &[0; 100]].concat();
    assert_eq!(fate(&raw, &huge, false).await, Fate::Status("431".into()));
    let many: Vec<_> = GET.into_iter().chain((0..120).map(|_| ("x-a", "1"))).collect();
    assert_eq!(fate(&raw, &head(&many), true).await, Fate::Status("431".into()));

    assert_eq!(fate(&raw, b"", true).await, Fate::Stream(0x10d), "H3_REQUEST_INCOMPLETE");
    // Frames that mean nothing are passed over, wherever they are.
    let strange = [frame(0x21, b"grease"), head(&GET), frame(0x21, b"")].concat();
    assert_eq!(fate(&raw, &strange, true).await, Fate::Status("200".into()));
}

/// What breaks the protocol itself ends the connection, with the code that the RFC has for it.
#[tokio::test]
async fn breaches_of_the_protocol() {
    let endpoint = Endpoint::named("a").await;
    let (gateway, authority) = start("http3 = true", &endpoint.url()).await;
    let post = head(&[(":method", "POST"), GET[1], GET[2], GET[3]]);
    let cases = [
        ("data first", frame(0, b"abc"), 0x105),
        ("settings on a request", frame(4, b""), 0x105),
        ("a frame of HTTP/2", frame(6, b"12345678"), 0x105),
        ("ends within a frame", vec![1, 10, 0, 0], 0x106),
        ("body ends within a frame", [post.clone(), vec![0, 10, 1, 2]].concat(), 0x106),
        ("data behind trailers", [post.clone(), head(&[("x-t", "1")]), frame(0, b"a")].concat(), 0x105),
        ("dynamic table", frame(1, &[1, 0, 0x80]), 0x200),
        ("no such entry", frame(1, &[0, 0, 0xff, 0x40]), 0x200),
    ];
    for (what, bytes, code) in cases {
        let raw = raw(&gateway, &authority).await;
        let (mut send, _receive) = raw.conn.open_bi().await.unwrap();
        let _ = send.write_all(&bytes).await;
        let _ = send.finish();
        let closed = bounded(LONG, what, raw.conn.closed()).await;
        let ConnectionError::ApplicationClosed(close) = closed else { panic!("{what}: {closed}") };
        assert_eq!(close.error_code.into_inner(), code, "{what}");
    }
    let streams = [("control twice", vec![0, 4, 0], 0x103), ("a push", vec![1, 0], 0x103)];
    for (what, bytes, code) in streams {
        let raw = raw(&gateway, &authority).await;
        let mut stream = raw.conn.open_uni().await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let closed = bounded(LONG, what, raw.conn.closed()).await;
        let ConnectionError::ApplicationClosed(close) = closed else { panic!("{what}: {closed}") };
        assert_eq!(close.error_code.into_inner(), code, "{what}");
    }
    assert_eq!(connect(&gateway, &authority).await.get("/").await.status, 200);
}

/// Floods end the connection and are counted; others are served meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods() {
    let endpoint = Endpoint::named("a").await;
    let (gateway, authority) = start("http3 = true", &endpoint.url()).await;
    let good = connect(&gateway, &authority).await;
    let attacks = async || gateway.metrics().await.sum("gateway_attacks_total", &[("kind", "http3-flood")]);

    // Rapid reset (CVE-2023-44487).
    let rapid = raw(&gateway, &authority).await;
    let flood = async {
        let bytes = head(&GET);
        while let Ok((mut send, mut receive)) = rapid.conn.open_bi().await {
            let _ = send.write_all(&bytes).await;
            let _ = send.reset(0x10c_u32.into());
            let _ = receive.stop(0x10c_u32.into());
        }
    };
    bounded(LONG, "the end of rapid resets", flood).await;
    assert_eq!(attacks().await, 1.0);

    // Control frames.
    let talker = raw(&gateway, &authority).await;
    let mut control = talker._control;
    let flood = async { while control.write_all(&frame(0x21, b"x").repeat(200)).await.is_ok() {} };
    bounded(LONG, "the end of control frames", flood).await;
    assert_eq!(attacks().await, 2.0);

    // Heads of which no request comes.
    let bomber = raw(&gateway, &authority).await;
    let flood = async {
        let bytes = head(&[("x", "1")]);
        while let Ok((mut send, mut receive)) = bomber.conn.open_bi().await {
            let _ = send.write_all(&bytes).await;
            let _ = send.finish();
            let _ = receive.read_to_end(1 << 20).await;
        }
    };
    bounded(LONG, "the end of bad heads", flood).await;
    assert_eq!(attacks().await, 3.0);
    assert_eq!(good.get("/").await.status, 200);
}

/// A head that does not come to its end, and one that never begins.
#[tokio::test]
async fn slow_heads() {
    let endpoint = Endpoint::named("a").await;
    let listener = "http3 = true\ntimeouts = { request_header = \"300ms\" }";
    let (gateway, authority) = start(listener, &endpoint.url()).await;
    let raw = raw(&gateway, &authority).await;
    assert_eq!(fate(&raw, &head(&GET)[..10], false).await, Fate::Status("408".into()));
    within(LONG, "the attack to be counted", || async {
        gateway.metrics().await.sum("gateway_attacks_total", &[("kind", "slow-header")]) == 1.0
    })
    .await;
}

/// A client that gives its request up is noticed while the endpoint still thinks.
#[tokio::test]
async fn a_client_that_gives_up() {
    let (arrived, mut seen) = tokio::sync::watch::channel(false);
    let endpoint = Endpoint::start(move |_| {
        arrived.send_replace(true);
        std::future::pending::<
            Result<http::Response<portcullis_e2e::client::Body>, portcullis_e2e::client::Problem>,
        >()
    })
    .await;
    let (gateway, authority) = start("http3 = true", &endpoint.url()).await;
    let client = connect(&gateway, &authority).await;
    let mut asked = client.ask(Request::get("/").body(()).unwrap()).await.unwrap();
    asked.finish().await.unwrap();
    bounded(LONG, "the request to arrive", seen.wait_for(|seen| *seen)).await.unwrap();
    asked.stop_sending(::h3::error::Code::H3_REQUEST_CANCELLED);
    within(LONG, "the log", || async {
        gateway.stdout().lines().any(|line| line.contains("\"status\":499"))
    })
    .await;
}

/// Connections in all, and of one client.
#[tokio::test]
async fn bounds_on_connections() {
    let endpoint = Endpoint::named("a").await;
    for (limits, reason) in
        [("connections = 2", "connections"), ("connections_per_client = 2", "connections_per_client")]
    {
        let listener = format!("http3 = true\nlimits = {{ {limits} }}");
        let (gateway, authority) = start(&listener, &endpoint.url()).await;
        let held = [connect(&gateway, &authority).await, connect(&gateway, &authority).await];
        let config = authority.client(&["h3"]);
        let third = portcullis_e2e::H3::try_connect(gateway.addr(), NAME, config);
        let refused = bounded(LONG, "a refusal", third).await;
        let text = refused.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains("refused"), "{limits}: {text}");
        let counted = gateway.metrics().await.sum("gateway_connections_refused_total", &[("reason", reason)]);
        assert_eq!(counted, 1.0, "{limits}");
        for client in &held {
            assert_eq!(client.get("/").await.status, 200);
        }
    }
}

/// A WebSocket (RFC 9220): opened by an extended CONNECT, its bytes in DATA frames.
#[tokio::test]
async fn a_websocket() {
    let echo = Echo::start().await;
    let (gateway, authority) = start("http3 = true", &echo.endpoint.url()).await;
    let raw = raw(&gateway, &authority).await;
    let (mut send, mut receive) = raw.conn.open_bi().await.unwrap();
    let connect = [(":method", "CONNECT"), (":protocol", "websocket"), GET[1], GET[2], (":path", "/ws")];
    let hello = head(&[&connect[..], &[("sec-websocket-version", "13")]].concat());
    send.write_all(&hello).await.unwrap();
    // A text message, masked with zeros.
    let message = frame(0, b"\x81\x82\0\0\0\0hi");
    send.write_all(&message).await.unwrap();
    let mut seen = Vec::new();
    let answered = async {
        while !seen.ends_with(b"\x81\x02hi") {
            let chunk = receive.read_chunk(1000, true).await.unwrap().expect("an open stream");
            seen.extend_from_slice(&chunk.bytes);
        }
    };
    bounded(LONG, "the echo", answered).await;
    assert_eq!(status(&seen), "200");
    // The client's close, and the stream's end.
    send.write_all(&frame(0, b"\x88\x82\0\0\0\0\x03\xe8")).await.unwrap();
    send.finish().unwrap();
    bounded(LONG, "the end", receive.read_to_end(1000)).await.unwrap();
}
