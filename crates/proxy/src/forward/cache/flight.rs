//! One fetch for many: what arrives is kept until its end and read by each at its own speed.
//!
//! ```text
//! under way ─► head ─► body … ─► done          those who wait read along
//!     ├──────► done (stored before, confirmed)
//!     ├──────► alone: not for sharing. Who began it takes the answer, the others ask for themselves
//!     └──────► failed
//! ```

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use portcullis_cache::{Object, Outcome};
use portcullis_core::{Answer, Error, Frame, Kind, Stream};

use super::{epochs::Mark, shelf::Entry};
use crate::forward::Way;

/// How much of a body that grew too large to be stored is read ahead of its fastest reader.
const AHEAD: usize = 256 * 1024;

/// A fetch under way.
pub struct Flight {
    /// How things stood when it began.
    pub mark: Mark,
    state: Mutex<State>,
}

struct State {
    step: Step,
    /// What became of it towards the endpoint, for the log of whoever began it.
    way: Way,
    pieces: VecDeque<Bytes>,
    /// Bytes of the pieces that are gone, and of all.
    gone: usize,
    arrived: usize,
    /// The most that anybody has read.
    read: usize,
    /// Nothing is thrown away, since all may be stored. A body that grew too large for that is kept up to this many
    /// bytes: who falls behind further is cut off, rather than that he holds the others or the memory.
    window: Option<usize>,
    end: Option<Result<Option<Arc<Entry>>, Kind>>,
    readers: usize,
    wakers: Vec<Waker>,
}

/// How far it is.
enum Step {
    Waiting,
    /// The head of an answer that may be shared: without its body.
    Head(Arc<Head>),
    /// An answer that was stored before, or by others.
    Entry(Arc<Entry>, Outcome),
    /// Not for sharing.
    Alone(Option<Box<Answer>>, Outcome),
    Failed(Failure),
}

/// The head of an answer on its way.
pub struct Head {
    /// It, with an empty body.
    pub object: Object,
    /// What it varies by.
    pub vary: Vec<Box<str>>,
    /// How long its body is, when that is known.
    pub length: Option<u64>,
    /// What to say of it.
    pub outcome: Outcome,
}

/// Why there is no answer.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The error's kind.
    pub kind: Kind,
    /// And what it said.
    pub detail: Option<std::borrow::Cow<'static, str>>,
    /// The status, where the endpoint answered with one that counts as failure.
    pub status: Option<u16>,
    /// When to ask again.
    pub retry_after: Option<std::time::Duration>,
}

/// What those who wait get.
pub enum Landed {
    /// An answer that arrives.
    Head(Arc<Head>),
    /// One that is there.
    Entry(Arc<Entry>, Outcome),
    /// The answer, for whoever began; nothing for the others.
    Alone(Option<Box<Answer>>, Outcome),
    /// None.
    Failed(Failure),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure { kind: error.kind, detail: error.detail, status: None, retry_after: error.retry_after }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        let mut error = Error::new(failure.kind);
        error.detail = failure.detail;
        error.retry_after = failure.retry_after;
        error
    }
}

impl Flight {
    /// One that has just begun.
    pub(super) fn new(mark: Mark) -> Flight {
        Flight {
            mark,
            state: Mutex::new(State {
                step: Step::Waiting,
                way: Way::default(),
                pieces: VecDeque::new(),
                gone: 0,
                arrived: 0,
                read: 0,
                window: None,
                end: None,
                readers: 0,
                wakers: Vec::new(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something and wakes all.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let wakers = {
            let mut state = self.lock();
            change(&mut state);
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The head is there.
    pub fn head(&self, head: Head, way: &Way) {
        self.change(|state| {
            state.way = way.clone();
            state.step = Step::Head(Arc::new(head));
        });
    }

    /// An answer is there, all of it.
    pub fn entry(&self, entry: Arc<Entry>, outcome: Outcome, way: &Way) {
        self.change(|state| {
            state.way = way.clone();
            state.step = Step::Entry(entry, outcome);
        });
    }

    /// The answer is for whoever began.
    pub fn alone(&self, answer: Answer, outcome: Outcome, way: &Way) {
        self.change(|state| {
            state.way = way.clone();
            state.step = Step::Alone(Some(Box::new(answer)), outcome);
        });
    }

    /// There is none.
    pub fn failed(&self, failure: Failure, way: &Way) {
        self.change(|state| {
            state.way = way.clone();
            state.step = Step::Failed(failure);
        });
    }

    /// Its task ended, in whatever way: who still waits has waited for nothing.
    pub fn give_up(&self) {
        self.change(|state| {
            if matches!(state.step, Step::Waiting) {
                state.step =
                    Step::Failed(Error::because(Kind::Internal, "a fetch ended without result").into());
            }
            if state.end.is_none() {
                state.end = Some(Err(Kind::ResponseIncomplete));
            }
        });
    }

    /// What became of it, towards the endpoint.
    pub fn way(&self) -> Way {
        self.lock().way.clone()
    }

    /// Waits for the head.
    pub async fn landed(&self, began: bool) -> Landed {
        poll_fn(|cx| {
            let mut state = self.lock();
            match &mut state.step {
                Step::Waiting => {
                    state.wait(cx);
                    Poll::Pending
                }
                Step::Head(head) => Poll::Ready(Landed::Head(head.clone())),
                Step::Entry(entry, outcome) => Poll::Ready(Landed::Entry(entry.clone(), *outcome)),
                Step::Alone(answer, outcome) => {
                    Poll::Ready(Landed::Alone(answer.take_if(|_| began), *outcome))
                }
                Step::Failed(failure) => Poll::Ready(Landed::Failed(failure.clone())),
            }
        })
        .await
    }

    /// Waits for the end; the entry when it was stored.
    pub async fn ended(&self) -> Result<Option<Arc<Entry>>, Kind> {
        poll_fn(|cx| {
            let mut state = self.lock();
            match &state.end {
                Some(end) => Poll::Ready(end.clone()),
                None => {
                    state.wait(cx);
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// A piece of the body.
    pub fn piece(&self, piece: Bytes) {
        self.change(|state| {
            state.arrived += piece.len();
            state.pieces.push_back(piece);
            state.trim();
        });
    }

    /// All pieces so far.
    pub fn pieces(&self) -> Vec<Bytes> {
        self.lock().pieces.iter().cloned().collect()
    }

    /// It will not be stored: what everybody has read need not be kept.
    pub fn keep_little(&self) {
        self.change(|state| state.window = Some(state.arrived));
    }

    /// Waits until more is wanted; false when nobody is left who could want it. What may be stored is wanted always.
    pub async fn wanted(&self) -> bool {
        poll_fn(|cx| {
            let mut state = self.lock();
            if state.window.is_none() {
                return Poll::Ready(true);
            }
            if state.readers == 0 {
                return Poll::Ready(false);
            }
            if state.arrived < state.read + AHEAD {
                return Poll::Ready(true);
            }
            state.wait(cx);
            Poll::Pending
        })
        .await
    }

    /// The body ended.
    pub fn end(&self, end: Result<Option<Arc<Entry>>, Kind>) {
        self.change(|state| state.end = Some(end));
    }
}

impl State {
    fn wait(&mut self, cx: &mut Context<'_>) {
        if !self.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.wakers.push(cx.waker().clone());
        }
    }

    fn trim(&mut self) {
        while self.window.is_some_and(|window| self.arrived - self.gone > window)
            && let Some(piece) = self.pieces.pop_front()
        {
            self.gone += piece.len();
        }
    }

    /// The bytes from a position on, as far as they stand in one piece. `Err` when they are gone.
    fn at(&self, position: usize) -> Result<Option<Bytes>, Kind> {
        if position < self.gone {
            return Err(Kind::ResponseIncomplete);
        }
        let mut start = self.gone;
        for piece in &self.pieces {
            if position < start + piece.len() {
                return Ok(Some(piece.slice(position - start..)));
            }
            start += piece.len();
        }
        Ok(None)
    }
}

/// Reads along.
pub struct Reader {
    flight: Arc<Flight>,
    position: usize,
    length: Option<u64>,
}

impl Reader {
    /// From the beginning.
    pub fn new(flight: Arc<Flight>, length: Option<u64>) -> Reader {
        flight.lock().readers += 1;
        Reader { flight, position: 0, length }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.flight.change(|state| state.readers -= 1);
    }
}

impl Stream for Reader {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        let mut state = self.flight.lock();
        match state.at(self.position) {
            Err(kind) => {
                return Poll::Ready(Some(Err(Error::because(
                    kind,
                    "read too slowly for what many read at once",
                ))));
            }
            Ok(Some(piece)) => {
                self.position += piece.len();
                let wakers = if self.position > state.read && state.window.is_some() {
                    state.read = self.position;
                    std::mem::take(&mut state.wakers)
                } else {
                    Vec::new()
                };
                drop(state);
                wakers.into_iter().for_each(Waker::wake);
                return Poll::Ready(Some(Ok(Frame::Data(piece))));
            }
            Ok(None) => {}
        }
        match &state.end {
            Some(Ok(_)) => Poll::Ready(None),
            Some(Err(kind)) => Poll::Ready(Some(Err(Error::new(*kind)))),
            None => {
                state.wait(cx);
                Poll::Pending
            }
        }
    }

    fn remaining(&self) -> Option<u64> {
        self.length.map(|length| length.saturating_sub(self.position as u64))
    }
}
