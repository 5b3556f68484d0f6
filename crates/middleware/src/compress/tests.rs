//! What is compressed and what is not; and that what comes out is what went in, at every pause.

use std::{
    collections::VecDeque,
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Method, StatusCode};
use portcullis_core::{Answer, Appended, Body, Error, Exchange, Fields, Frame, Kind, Middleware, Stream};
use serde_json::{Value, json};

use super::{Coding, Compressed, Encoder, Levels};
use crate::testing::{build, problem, request_by, told};

const LEVELS: Levels = Levels { zstd: 3, br: 4, gzip: 5 };
const ALL: [Coding; 3] = [Coding::Zstd, Coding::Br, Coding::Gzip];

/// All that can be read from compressed bytes, whether they are complete or end after a flush.
fn readable(coding: Coding, data: &[u8]) -> Vec<u8> {
    let mut source: Box<dyn Read> = match coding {
        Coding::Zstd => Box::new(zstd::stream::read::Decoder::new(data).unwrap()),
        Coding::Br => Box::new(brotli_decompressor::Decompressor::new(data, 4096)),
        Coding::Gzip => Box::new(flate2::read::GzDecoder::new(data)),
    };
    let (mut out, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = source.read(&mut piece) {
        out.extend_from_slice(&piece[..length]);
    }
    out
}

fn decoded(coding: Coding, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        Coding::Zstd => zstd::stream::read::Decoder::new(data).unwrap().read_to_end(&mut out),
        Coding::Br => brotli_decompressor::Decompressor::new(data, 4096).read_to_end(&mut out),
        Coding::Gzip => flate2::read::GzDecoder::new(data).read_to_end(&mut out),
    }
    .expect("a complete stream");
    out
}

/// A source that brings pieces, pauses, trailers or an error, and notes how far it is.
struct Script {
    steps: VecDeque<Step>,
    noted: Arc<Noted>,
}

#[derive(Default)]
struct Noted {
    brought: AtomicUsize,
    paused: AtomicBool,
}

enum Step {
    Data(Vec<u8>),
    Pause,
    Trailers,
    Fail,
}

impl Stream for Script {
    fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        match self.steps.pop_front() {
            Some(Step::Data(data)) => {
                self.noted.brought.fetch_add(data.len(), Relaxed);
                Poll::Ready(Some(Ok(Frame::Data(data.into()))))
            }
            Some(Step::Pause) => {
                self.noted.paused.store(true, Relaxed);
                Poll::Pending
            }
            Some(Step::Trailers) => {
                Poll::Ready(Some(Ok(Frame::Trailers([("x-sum", "1")].into_iter().collect()))))
            }
            Some(Step::Fail) => Poll::Ready(Some(Err(Error::new(Kind::ResponseIncomplete)))),
            None => Poll::Ready(None),
        }
    }

    fn remaining(&self) -> Option<u64> {
        None
    }
}

fn compressed(coding: Coding, steps: Vec<Step>) -> (Compressed, Arc<Noted>) {
    let encoder = Encoder::new(coding, LEVELS, None).unwrap();
    let noted = Arc::new(Noted::default());
    let script = Script { steps: steps.into(), noted: noted.clone() };
    (Compressed::new(Body::stream(script), encoder), noted)
}

/// Half text, half noise, so that both the matching and the literal paths of the encoders are walked.
fn piece(random: &mut fastrand::Rng) -> Vec<u8> {
    let length = if random.u8(..) < 20 { random.usize(1..100_000) } else { random.usize(1..3000) };
    if random.bool() {
        (0..length).map(|_| random.u8(..)).collect()
    } else {
        b"the same words again and again; "
            .iter()
            .copied()
            .cycle()
            .skip(random.usize(0..32))
            .take(length)
            .collect()
    }
}

/// Up to thirty pieces and pauses, then trailers; and the bytes of all pieces.
fn script(random: &mut fastrand::Rng) -> (Vec<Step>, Vec<u8>) {
    let (mut steps, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..random.usize(0..30) {
        if random.u8(..) < 90 {
            steps.push(Step::Pause);
        } else {
            let piece = piece(random);
            whole.extend_from_slice(&piece);
            steps.push(Step::Data(piece));
        }
    }
    steps.push(Step::Trailers);
    (steps, whole)
}

#[test]
fn what_comes_out_is_what_went_in_and_nothing_waits_at_a_pause() {
    let (mut cx, mut checked) = (Context::from_waker(Waker::noop()), 0);
    for seed in 0..90 {
        let mut random = fastrand::Rng::with_seed(seed);
        let coding = ALL[seed as usize % 3];
        let (steps, whole) = script(&mut random);
        let (mut stream, noted) = compressed(coding, steps);
        let mut out = Vec::new();
        let trailers = loop {
            noted.paused.store(false, Relaxed);
            match stream.poll_frame(&mut cx) {
                Poll::Ready(Some(Ok(Frame::Data(data)))) => {
                    assert!(!data.is_empty());
                    out.extend_from_slice(&data);
                }
                Poll::Ready(Some(Ok(Frame::Trailers(trailers)))) => break trailers,
                Poll::Ready(other) => panic!("seed {seed}: {other:?}"),
                Poll::Pending => {}
            }
            if noted.paused.load(Relaxed) {
                let brought = &whole[..noted.brought.load(Relaxed)];
                let got = readable(coding, &out);
                assert!(
                    got == brought,
                    "seed {seed}, {coding:?}: {} of {} wait",
                    brought.len() - got.len(),
                    brought.len()
                );
                checked += 1;
            }
        };
        assert!(decoded(coding, &out) == whole, "seed {seed}, {coding:?}");
        assert_eq!(trailers.get_str("x-sum"), Some("1"));
    }
    assert!(checked > 100, "only {checked} pauses");
}

#[test]
fn small_bites_bring_the_same() {
    let mut cx = Context::from_waker(Waker::noop());
    for seed in 100..130 {
        let mut random = fastrand::Rng::with_seed(seed);
        let coding = ALL[seed as usize % 3];
        let (steps, whole) = script(&mut random);
        let (mut stream, _) = compressed(coding, steps);
        let mut out = Vec::new();
        loop {
            let (limit, before) = (random.usize(1..3000), out.len());
            match stream.poll_append(&mut cx, &mut out, limit) {
                Poll::Ready(Ok(Appended::Data(bytes))) => {
                    assert!(bytes > 0 && bytes <= limit && out.len() == before + bytes);
                }
                Poll::Ready(Ok(Appended::Trailers(_))) => break,
                Poll::Ready(other) => panic!("seed {seed}: {other:?}"),
                Poll::Pending => {}
            }
        }
        assert!(decoded(coding, &out) == whole, "seed {seed}, {coding:?}");
    }
}

#[test]
fn what_compresses_to_nothing_leaves_others_their_turn() {
    let zeroes = || (0..1000).map(|_| Step::Data(vec![0; 16 * 1024])).collect();
    for coding in ALL {
        let (mut stream, noted) = compressed(coding, zeroes());
        let _ = stream.poll_frame(&mut Context::from_waker(Waker::noop()));
        assert!(noted.brought.load(Relaxed) <= 300 * 1024, "{coding:?}");
    }
}

#[test]
fn an_error_of_the_source_is_passed_on() {
    let (mut stream, _) = compressed(Coding::Gzip, vec![Step::Data(vec![1; 10]), Step::Fail]);
    let mut cx = Context::from_waker(Waker::noop());
    let first = stream.poll_frame(&mut cx);
    assert!(matches!(first, Poll::Ready(Some(Err(error))) if error.kind == Kind::ResponseIncomplete));
}

/// An endpoint's answer of 5000 bytes of JSON in one piece.
fn answer(fields: &[(&str, &str)]) -> Answer {
    let mut answer = Answer::new(StatusCode::OK, "test");
    answer.fields = fields.iter().copied().collect::<Fields>();
    if !answer.fields.contains("content-type") {
        answer.fields.append("content-type", "application/json; charset=utf-8");
    }
    answer.body = Body::Full(Bytes::from(vec![b'7'; 5000]));
    answer
}

fn asking(method: Method, accept: &str) -> Exchange {
    let mut x = request_by(method, "/");
    x.request.fields.append("accept-encoding", accept);
    x
}

/// The coding that an answer gets, and whether it varies.
fn outcome(settings: Value, mut x: Exchange, answer: &mut Answer) -> (Option<String>, bool) {
    let compress: Arc<dyn Middleware> = build("compress", settings);
    compress.on_request(&mut x).unwrap();
    // A middleware further in asks the service for plain bytes; the client's wish still counts.
    x.request.fields.remove("accept-encoding");
    told(&compress, &mut x, answer);
    let coding = answer.fields.get_str("content-encoding").map(str::to_owned);
    (coding, answer.fields.get_str("vary").is_some_and(|vary| vary.contains("Accept-Encoding")))
}

#[test]
fn an_answer_is_compressed_and_says_so() {
    for (accept, coding) in
        [("gzip, br, zstd", Coding::Zstd), ("gzip, br", Coding::Br), ("gzip", Coding::Gzip)]
    {
        let mut answer = answer(&[
            ("Content-Length", "5000"),
            ("ETag", "\"abc\""),
            ("Accept-Ranges", "bytes"),
            ("Repr-Digest", "x"),
            ("Content-Digest", "x"),
        ]);
        assert_eq!(
            outcome(json!({}), asking(Method::GET, accept), &mut answer),
            (Some(coding.name().into()), true)
        );
        assert_eq!(answer.fields.get_str("etag"), Some("W/\"abc\""));
        for gone in ["content-length", "accept-ranges", "repr-digest", "content-digest"] {
            assert!(!answer.fields.contains(gone), "{gone}");
        }
        let Body::Full(data) = &answer.body else { panic!("a whole body stays whole") };
        assert_eq!(decoded(coding, data), vec![b'7'; 5000]);
    }
}

#[tokio::test]
async fn a_known_length_that_is_not_whole_streams() {
    for accept in ["zstd", "br", "gzip"] {
        let mut answer = answer(&[]);
        answer.body = Body::Full(Bytes::from(vec![b'7'; 200_000]));
        let (coding, _) = outcome(json!({}), asking(Method::GET, accept), &mut answer);
        assert_eq!((coding.as_deref(), answer.body.remaining()), (Some(accept), None));
        let data = answer.body.read_all(100_000).await.unwrap();
        let coding = ALL.into_iter().find(|coding| coding.name() == accept).unwrap();
        assert!(data.len() < 2000 && decoded(coding, &data) == vec![b'7'; 200_000]);
    }
}

#[test]
fn what_stays_as_it_is() {
    let plain = |fields: &[(&str, &str)], varies: bool| {
        let mut answer = answer(fields);
        let got = outcome(json!({}), asking(Method::GET, "gzip"), &mut answer);
        let coded = answer.fields.get_str("content-encoding").map(str::to_owned);
        assert_eq!(got, (coded, varies), "{fields:?}");
        assert_eq!(answer.body.remaining(), Some(5000), "{fields:?}");
    };
    plain(&[("Content-Encoding", "br")], false);
    plain(&[("Content-Encoding", "identity, br")], false);
    plain(&[("Cache-Control", "max-age=3, No-Transform")], false);
    plain(&[("Content-Type", "image/png")], false);
    plain(&[("Content-Type", "text/event-stream")], false);
    plain(&[("Content-Type", "TEXT/Event-Stream; charset=utf-8")], false);
    plain(&[("Content-Type", "application/grpc")], false);
    plain(&[("Content-Type", "application/grpc+json")], false);
    plain(&[("Content-Type", "")], false);

    for status in [204, 206, 304] {
        let mut answer = answer(&[]);
        answer.status = StatusCode::from_u16(status).unwrap();
        assert_eq!(outcome(json!({}), asking(Method::GET, "gzip"), &mut answer), (None, false), "{status}");
    }
    for (announced, varies) in [(None, true), (Some("5000"), true), (Some("10"), false)] {
        let mut answer = answer(&[]);
        answer.body = Body::Empty;
        announced.iter().for_each(|length| answer.fields.append("content-length", length));
        assert_eq!(
            outcome(json!({}), asking(Method::HEAD, "gzip"), &mut answer),
            (None, varies),
            "{announced:?}"
        );
        assert_eq!(answer.fields.get_str("content-length"), announced);
    }
    assert_eq!(outcome(json!({}), asking(Method::GET, "identity"), &mut answer(&[])), (None, true));
    assert_eq!(outcome(json!({}), request_by(Method::GET, "/"), &mut answer(&[])), (None, true));
    assert_eq!(
        outcome(json!({"min_size": 5001}), asking(Method::GET, "gzip"), &mut answer(&[])),
        (None, false)
    );
    let mut no_transform = asking(Method::GET, "gzip");
    no_transform.request.fields.append("cache-control", "no-transform");
    assert_eq!(outcome(json!({}), no_transform, &mut answer(&[])), (None, true));
}

#[test]
fn settings_choose() {
    let get = || asking(Method::GET, "gzip, br, zstd");
    let csv = || answer(&[("Content-Type", "text/csv")]);
    assert_eq!(outcome(json!({"encodings": ["gzip", "zstd"]}), get(), &mut csv()).0.as_deref(), Some("gzip"));
    assert_eq!(outcome(json!({"exclude": "text/csv"}), get(), &mut csv()).0, None);
    assert_eq!(outcome(json!({"include": "image/*"}), get(), &mut csv()).0, None);
    let events = json!({"include": "*/*"});
    let mut stream = answer(&[("Content-Type", "text/event-stream")]);
    assert_eq!(outcome(events, get(), &mut stream).0, None, "events never wait");

    let path = |settings| problem("compress", settings).path;
    assert_eq!(path(json!({"encodings": []})), "encodings");
    assert_eq!(path(json!({"encodings": ["gzip", "gzip"]})), "encodings[1]");
    assert_eq!(path(json!({"encodings": ["deflate"]})), "encodings[0]");
    assert_eq!(path(json!({"zstd_level": 30})), "zstd_level");
    assert_eq!(path(json!({"br_level": 12})), "br_level");
    assert_eq!(path(json!({"gzip_level": 0})), "gzip_level");
    assert_eq!(path(json!({"include": ["json"]})), "include[0]");
}
