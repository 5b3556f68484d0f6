//! A request's body that can be sent again: what is sent of it is kept, up to a bound.
//!
//! Each attempt reads the body from its beginning: first what was kept, then the source. Once the bound is passed, nothing
//! is kept any longer, and the body is good for this one attempt.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use portcullis_core::{Appended, Body, Error, Fields, Frame, Request, Stream};

/// A request's body, kept aside while attempts are made.
pub enum Saved {
    /// There is none.
    Empty,
    /// It was in memory.
    Whole(Bytes),
    /// It arrives, and is kept as it goes by.
    Tape(Arc<Mutex<Tape>>),
    /// Too long to be kept: it is sent once, unless an attempt gives it back untouched.
    Once(Option<u64>),
}

/// A body that arrives, and what was kept of it.
pub struct Tape {
    source: Body,
    kept: Vec<u8>,
    most: usize,
    /// All that went by is still there.
    whole: bool,
    /// How the source ended, when it did.
    ended: Option<End>,
}

/// How a source ended.
enum End {
    Clean(Option<Fields>),
    Broken,
}

impl Saved {
    /// Takes the body of a request over, of which at most so much is to be kept.
    pub fn take(request: &mut Request, most: u64) -> Saved {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        match std::mem::take(&mut request.body) {
            Body::Empty => Saved::Empty,
            Body::Full(data) => Saved::Whole(data),
            source if source.is_empty() => {
                request.body = source;
                Saved::Once(Some(0))
            }
            source => match source.remaining() {
                Some(length) if length > most as u64 => {
                    request.body = source;
                    Saved::Once(Some(length))
                }
                _ if most == 0 => {
                    let length = source.remaining();
                    request.body = source;
                    Saved::Once(length)
                }
                _ => {
                    let tape = Tape { source, kept: Vec::new(), most, whole: true, ended: None };
                    Saved::Tape(Arc::new(Mutex::new(tape)))
                }
            },
        }
    }

    /// Gives the request its body for an attempt.
    pub fn lend(&self, request: &mut Request) {
        match self {
            Saved::Empty => request.body = Body::Empty,
            Saved::Whole(data) => request.body = Body::from(data.clone()),
            Saved::Tape(tape) => request.body = Body::stream(Reader { tape: tape.clone(), at: 0 }),
            // It is there already, or gone for good.
            Saved::Once(_) => {}
        }
    }

    /// Can the body be sent from its beginning, after this attempt?
    pub fn is_repeatable(&self, request: &Request) -> bool {
        match self {
            Saved::Empty | Saved::Whole(_) => true,
            Saved::Tape(tape) => {
                let tape = lock(tape);
                tape.whole && !matches!(tape.ended, Some(End::Broken))
            }
            Saved::Once(length) => request.body.remaining() == *length,
        }
    }

    /// Is all of it there, so that nobody waits for the client?
    pub fn is_there(&self) -> bool {
        matches!(self, Saved::Empty | Saved::Whole(_) | Saved::Once(Some(0)))
    }

    /// There will be no other attempt: nothing more needs to be kept.
    pub fn let_go(&self) {
        if let Saved::Tape(tape) = self {
            lock(tape).most = 0;
        }
    }

    /// All of the body, when it has gone by and was kept.
    pub fn all(&self) -> Option<Bytes> {
        match self {
            Saved::Empty => Some(Bytes::new()),
            Saved::Whole(data) => Some(data.clone()),
            Saved::Tape(tape) => {
                let tape = lock(tape);
                let over = matches!(tape.ended, Some(End::Clean(_))) || tape.source.is_empty();
                (over && tape.whole).then(|| Bytes::copy_from_slice(&tape.kept))
            }
            Saved::Once(length) => (*length == Some(0)).then(Bytes::new),
        }
    }
}

fn lock(tape: &Mutex<Tape>) -> MutexGuard<'_, Tape> {
    tape.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads a tape from its beginning. One at a time.
struct Reader {
    tape: Arc<Mutex<Tape>>,
    at: usize,
}

impl Tape {
    /// Notes what has just gone by.
    fn keep(&mut self, piece: &[u8]) {
        if !self.whole {
            return;
        }
        if self.kept.len() + piece.len() > self.most {
            self.whole = false;
            self.kept = Vec::new();
        } else {
            self.kept.extend_from_slice(piece);
        }
    }
}

impl Stream for Reader {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        let mut data = Vec::new();
        self.poll_append(cx, &mut data, 32 * 1024).map(|step| match step {
            Ok(Appended::Data(_)) => Some(Ok(Frame::Data(Bytes::from(data)))),
            Ok(Appended::Trailers(trailers)) => Some(Ok(Frame::Trailers(trailers))),
            Ok(Appended::End) => None,
            Err(error) => Some(Err(error)),
        })
    }

    fn poll_append(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Poll<Result<Appended, Error>> {
        let tape = &mut *lock(&self.tape);
        let kept = if tape.whole { tape.kept.get(self.at..).unwrap_or_default() } else { &[] };
        if !kept.is_empty() {
            let piece = kept.get(..limit.max(1)).unwrap_or(kept);
            out.extend_from_slice(piece);
            self.at += piece.len();
            return Poll::Ready(Ok(Appended::Data(piece.len())));
        }
        if let Some(End::Clean(trailers)) = &tape.ended {
            let trailers = trailers.clone();
            return Poll::Ready(Ok(trailers.map_or(Appended::End, Appended::Trailers)));
        }
        let before = out.len();
        let step = std::task::ready!(tape.source.poll_append(cx, out, limit));
        match &step {
            Ok(Appended::Data(count)) => {
                self.at += count;
                tape.keep(out.get(before..).unwrap_or_default());
            }
            Ok(Appended::End) => tape.ended = Some(End::Clean(None)),
            Ok(Appended::Trailers(trailers)) => tape.ended = Some(End::Clean(Some(trailers.clone()))),
            Err(_) => tape.ended = Some(End::Broken),
        }
        Poll::Ready(step)
    }

    fn remaining(&self) -> Option<u64> {
        let tape = lock(&self.tape);
        let kept = if tape.whole { tape.kept.len().saturating_sub(self.at) } else { 0 };
        match tape.ended {
            Some(_) => Some(kept as u64),
            None => tape.source.remaining().map(|rest| rest + kept as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    /// Gives one letter at a time, of these, and then ends.
    struct Letters(Vec<u8>, bool);

    impl Stream for Letters {
        fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
            if self.0.is_empty() {
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Ok(Frame::Data(Bytes::from(vec![self.0.remove(0)])))))
        }

        fn remaining(&self) -> Option<u64> {
            self.1.then_some(self.0.len() as u64)
        }
    }

    fn request(text: &str, told: bool) -> Request {
        let mut request = Request::new(Method::POST);
        request.body = Body::stream(Letters(text.as_bytes().to_vec(), told));
        request
    }

    async fn read(request: &mut Request, pieces: usize) -> String {
        let mut text = Vec::new();
        for _ in 0..pieces {
            match request.body.frame().await {
                Some(Ok(Frame::Data(data))) => text.extend_from_slice(&data),
                _ => break,
            }
        }
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn what_was_sent_is_sent_again_and_then_the_rest() {
        for told in [false, true] {
            let mut request = request("hello", told);
            let saved = Saved::take(&mut request, 5);
            for (pieces, text) in [(0, ""), (2, "he"), (3, "hell"), (99, "hello"), (99, "hello")] {
                saved.lend(&mut request);
                assert_eq!(request.body.remaining().filter(|_| told), told.then_some(5));
                assert_eq!(read(&mut request, pieces).await, text);
                assert!(saved.is_repeatable(&request));
            }
            assert_eq!(saved.all().unwrap(), "hello");
        }
    }

    #[tokio::test]
    async fn beyond_the_bound_it_is_good_for_one_attempt() {
        let mut long = request("hello", false);
        let saved = Saved::take(&mut long, 4);
        saved.lend(&mut long);
        assert_eq!(read(&mut long, 4).await, "hell");
        assert!(saved.is_repeatable(&long));
        assert_eq!(read(&mut long, 9).await, "o");
        assert!(!saved.is_repeatable(&long) && saved.all().is_none());
        // Known to be too long: not even begun to be kept, but whoever gives it back untouched can be followed.
        let mut long = request("hello", true);
        let saved = Saved::take(&mut long, 4);
        saved.lend(&mut long);
        assert!(saved.is_repeatable(&long));
        assert_eq!(read(&mut long, 1).await, "h");
        assert!(!saved.is_repeatable(&long));
    }

    #[tokio::test]
    async fn nothing_is_kept_once_there_is_no_other_attempt() {
        let mut request = request("hello", false);
        let saved = Saved::take(&mut request, 100);
        saved.lend(&mut request);
        assert_eq!(read(&mut request, 2).await, "he");
        saved.let_go();
        assert_eq!(read(&mut request, 9).await, "llo");
        assert!(!saved.is_repeatable(&request));
    }
}
