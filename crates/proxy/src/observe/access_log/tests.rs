use std::{
    sync::mpsc,
    time::{Instant, UNIX_EPOCH},
};

use http::Method;
use portcullis_core::{Request, exchange::Identity};

use super::*;

/// A sink that hands what it gets to the test.
struct Channel(mpsc::Sender<Vec<u8>>);

impl Sink for Channel {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.0.send(lines.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

fn exchange() -> Exchange {
    let mut request = Request::new(Method::GET);
    request.set_authority("shop.example");
    request.arrive("/users/7", Some("page=2&token=geheim"));
    request.fields.append("user-agent", b"curl/8 \"x\"\xff\x1b[2J".as_slice());
    request.fields.append("referer", "https://a.example/?code=123");
    request.fields.append("authorization", "Bearer never-logged");
    request.fields.append("cookie", "never=logged");
    let mut x = Exchange::for_test(request);
    x.route = "users@file".into();
    x.id = Some("0190-id".into());
    x.client = [203, 0, 113, 9].into();
    x
}

fn line(x: &Exchange) -> Line<'_> {
    Line {
        x,
        status: 200,
        reason: None,
        detail: None,
        service: Some("users@file"),
        endpoint: Some("http://10.0.0.1:80"),
        bytes_in: 0,
        bytes_out: 5120,
        time_route: Duration::from_micros(7),
        time_connect: Duration::from_micros(1500),
        time_first_byte: Duration::from_millis(10),
        time_total: Duration::from_micros(12_345),
        attempts: 2,
        reused: false,
        cache: None,
    }
}

/// What one line looks like in a format.
fn written(format: Format, line: &Line<'_>) -> String {
    let (sender, receiver) = mpsc::channel();
    let log = AccessLog::start(format, 1, Channel(sender)).unwrap();
    log.record_at(0, line, UNIX_EPOCH + Duration::from_micros(1_000_000_000_012_345));
    log.flush();
    String::from_utf8(receiver.try_recv().expect("flushed")).unwrap()
}

#[test]
fn a_line_of_json() {
    let x = exchange();
    let text = written(Format::Json, &line(&x));
    assert!(text.ends_with("}\n") && text.lines().count() == 1);
    let expected = serde_json::json!({
        "time": "2001-09-09T01:46:40.000Z", "method": "GET", "scheme": "http", "host": "shop.example",
        "path": "/users/7", "query": "page=2&token=***", "protocol": "HTTP/1.1", "client": "203.0.113.9",
        "peer": "127.0.0.1", "listener": "web", "connection": 1, "request_id": "0190-id",
        "user_agent": "curl/8 \"x\"\u{fffd}\u{1b}[2J", "referer": "https://a.example/?code=***",
        "status": 200, "route": "users@file", "service": "users@file", "endpoint": "http://10.0.0.1:80",
        "attempts": 2, "reused": false, "bytes_in": 0, "bytes_out": 5120, "duration_ms": 12.345,
        "route_ms": 0.007, "connect_ms": 1.5, "first_byte_ms": 10.0, "transfer_ms": 2.345,
    });
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), expected);
    assert!(!text.contains("logged"), "no other header values");
}

#[test]
fn a_line_of_json_of_a_request_that_the_gateway_ended() {
    let x = exchange();
    let ended = Line {
        status: 503,
        reason: Some("no-healthy-endpoints"),
        detail: Some("2 of 2 out\nof service"),
        endpoint: None,
        time_first_byte: Duration::ZERO,
        ..line(&x)
    };
    let value: serde_json::Value = serde_json::from_str(&written(Format::Json, &ended)).unwrap();
    assert_eq!(
        (&value["reason"], &value["detail"]),
        (&"no-healthy-endpoints".into(), &"2 of 2 out\nof service".into())
    );
    for absent in ["endpoint", "attempts", "reused", "connect_ms", "first_byte_ms", "transfer_ms", "tls"] {
        assert!(value.get(absent).is_none(), "{absent}");
    }
}

#[test]
fn a_line_of_the_common_format() {
    let x = exchange();
    let expected = "203.0.113.9 - - [09/Sep/2001:01:46:40 +0000] \"GET /users/7?page=2&token=*** HTTP/1.1\" 200 5120 \
                    \"https://a.example/?code=***\" \"curl/8 \\\"x\\\"\\xef\\xbf\\xbd\\x1b[2J\" - \"users@file\" \
                    \"http://10.0.0.1:80\" 12ms\n";
    assert_eq!(written(Format::Common, &line(&x)), expected);
}

#[test]
fn who_it_is_stands_in_the_line_and_cannot_leave_its_place() {
    let mut x = exchange();
    x.identify(Identity {
        subject: "ana - [x] \"y\"\n".into(),
        by: "test",
        by_authorization: true,
        claims: Default::default(),
    });
    let value: serde_json::Value = serde_json::from_str(&written(Format::Json, &line(&x))).unwrap();
    assert_eq!(value["user"], "ana - [x] \"y\"\n");
    let text = written(Format::Common, &line(&x));
    let expected = r#"203.0.113.9 - ana\x20-\x20[x]\x20\"y\"\x0a [09/Sep/2001:01:46:40 +0000] "GET "#;
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn a_short_line() {
    let x = exchange();
    let expected =
        "01:46:40 200 GET /users/7?page=2&token=*** → users@file http://10.0.0.1:80 12.345ms 5.0KiB\n";
    assert_eq!(written(Format::Short { colours: false }, &line(&x)), expected);
    let failed = Line { status: 502, reason: Some("connection-refused"), ..line(&x) };
    let coloured = written(Format::Short { colours: true }, &failed);
    assert!(coloured.contains("\u{1b}[1;31m502\u{1b}[0m") && coloured.contains("connection-refused"));
}

#[test]
fn lines_leave_by_themselves_within_a_second() {
    let (sender, receiver) = mpsc::channel();
    let log = AccessLog::start(Format::Json, 4, Channel(sender)).unwrap();
    let x = exchange();
    log.record(3, &line(&x));
    receiver.recv_timeout(Duration::from_secs(1)).expect("collected without being asked");
    log.flush();
    assert_eq!((log.written(), log.dropped()), (1, 0));
}

#[test]
fn dropping_the_log_writes_what_is_there() {
    let (sender, receiver) = mpsc::channel();
    let log = AccessLog::start(Format::Json, 2, Channel(sender)).unwrap();
    let x = exchange();
    (0..2).for_each(|shard| log.record(shard, &line(&x)));
    drop(log);
    let all: Vec<u8> = receiver.iter().flatten().collect();
    assert_eq!(
        all.iter().filter(|&&b| b == b'\n').count(),
        2,
        "and the thread ended, which closed the channel"
    );
}

/// A sink that takes nothing until it is let go.
struct Stuck(mpsc::Receiver<()>);

impl Sink for Stuck {
    fn write(&mut self, _: &[u8]) -> io::Result<()> {
        let _ = self.0.recv();
        Ok(())
    }
}

#[test]
fn a_stuck_disk_costs_lines_but_no_request_waits() {
    let (release, held) = mpsc::channel();
    let log = AccessLog::start(Format::Json, 1, Stuck(held)).unwrap();
    let x = exchange();
    let mut recorded = 0;
    let started = Instant::now();
    while log.dropped() == 0 {
        log.record(0, &line(&x));
        recorded += 1;
        assert!(started.elapsed() < Duration::from_secs(60));
    }
    // One buffer is stuck at the writer, one is full.
    assert!(recorded > FULL_AT / 1000, "{recorded}");
    drop(release);
    log.flush();
    assert_eq!(log.written() + log.dropped(), recorded as u64);
    log.record(0, &line(&x));
    log.flush();
    assert_eq!((log.written(), log.dropped()), (recorded as u64, 1), "and goes on when the disk does");
}

/// A sink that always fails.
struct Broken;

impl Sink for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }
}

#[test]
fn lines_that_cannot_be_written_are_counted() {
    let log = AccessLog::start(Format::Json, 1, Broken).unwrap();
    let x = exchange();
    (0..3).for_each(|_| log.record(0, &line(&x)));
    log.flush();
    assert_eq!((log.written(), log.dropped()), (0, 3));
}

#[test]
fn a_file_that_was_moved_away_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let settings = model::AccessLog { format: AccessLogFormat::Json, file: Some(path.clone()) };
    let log = AccessLog::open(&settings, 1).unwrap();
    let x = exchange();
    log.record(0, &line(&x));
    log.flush();
    fs::rename(&path, &moved).unwrap();
    log.reopen();
    log.flush();
    (0..2).for_each(|_| log.record(0, &line(&x)));
    log.flush();
    let lines = |path: &Path| fs::read_to_string(path).unwrap().lines().count();
    assert_eq!((lines(&moved), lines(&path)), (1, 2));
    let missing =
        model::AccessLog { format: AccessLogFormat::Json, file: Some(folder.path().join("no/such")) };
    assert!(AccessLog::open(&missing, 1).is_err());
}
