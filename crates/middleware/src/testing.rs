//! For the tests of this crate: middlewares from settings, and exchanges.

use std::{
    collections::VecDeque,
    path::Path,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Method;
use portcullis_core::{
    Answer, Body, Connection, Done, Error, Exchange, Flow, Frame, Middleware, Request, Stream,
    keep::Keep,
    middleware::{Around, Problem},
};
use serde_json::Value;

/// Builds a middleware over an empty [`Keep`].
pub fn try_build(kind: &str, settings: Value) -> Result<Arc<dyn Middleware>, Problem> {
    try_build_keeping(kind, settings, &Keep::default())
}

/// Builds a middleware with state carried over.
pub fn try_build_keeping(kind: &str, settings: Value, keep: &Keep) -> Result<Arc<dyn Middleware>, Problem> {
    let (stores, meters) = Default::default();
    let around = Around { name: "test@file", folder: Path::new("."), keep, stores: &stores, meters: &meters };
    let row = crate::find(kind).unwrap_or_else(|| panic!("no kind {kind}"));
    (row.build)(&settings, &around)
}

pub fn build(kind: &str, settings: Value) -> Arc<dyn Middleware> {
    try_build(kind, settings).unwrap_or_else(|problem| panic!("{problem}"))
}

pub fn problem(kind: &str, settings: Value) -> Problem {
    match try_build(kind, settings) {
        Ok(_) => panic!("{kind} was built"),
        Err(problem) => problem,
    }
}

/// A GET of a path with `?q=1`, to `shop.example`, from 127.0.0.1.
pub fn request(path: &str) -> Exchange {
    request_by(Method::GET, path)
}

pub fn request_by(method: Method, path: &str) -> Exchange {
    let mut request = Request::new(method);
    request.arrive(path, Some("q=1"));
    request.set_authority("shop.example");
    Exchange::for_test(request)
}

/// Makes the peer one of the listener's trusted proxies.
pub fn trusted(x: &mut Exchange) {
    let c = &x.connection;
    x.connection = Arc::new(Connection {
        peer: c.peer,
        peer_text: c.peer_text.clone(),
        local: c.local,
        listener: c.listener.clone(),
        trusted: true,
        tls: None,
        protocol: c.protocol,
        id: c.id,
        prepared: Default::default(),
    });
}

/// The answer of a middleware that must answer at once.
pub fn answered(flow: Flow<'_>) -> Answer {
    match flow {
        Flow::Answer(answer) => answer,
        Flow::Next => panic!("it let the request pass"),
        Flow::Wait(_) => panic!("it waits"),
    }
}

/// Must let the request pass.
pub fn passed(flow: Flow<'_>) {
    assert!(matches!(flow, Flow::Next), "it answered or waits");
}

/// Tells a middleware of an answer.
pub fn told(middleware: &Arc<dyn Middleware>, x: &mut Exchange, answer: &mut Answer) {
    assert!(matches!(middleware.on_response(x, answer).unwrap(), Done::Now));
}

/// A body of unknown length that comes in pieces; an empty piece is a pause.
pub struct Pieces(pub VecDeque<Bytes>);

impl Pieces {
    pub fn body(pieces: &[&str]) -> Body {
        Body::stream(Pieces(pieces.iter().map(|piece| Bytes::copy_from_slice(piece.as_bytes())).collect()))
    }
}

impl Stream for Pieces {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        match self.0.pop_front() {
            Some(piece) if piece.is_empty() => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(piece) => Poll::Ready(Some(Ok(Frame::Data(piece)))),
            None => Poll::Ready(None),
        }
    }

    fn remaining(&self) -> Option<u64> {
        None
    }
}
