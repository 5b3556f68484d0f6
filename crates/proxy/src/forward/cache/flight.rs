//! One fetch for many: what arrives is kept until its end and read by each at its own speed.
//!
//! ```text
//! under way ─► head ─► body … ─► done          those who wait read along
//!     ├──────► done (stored before, confirmed)
//!     ├──────► alone: not for sharing. Who began it takes the answer, the others ask for themselves
//!     └──────► failed
//! ```
//!
//! While all of a body may be stored, it is read as fast as it comes. A body that grows too large for that is read no
//! further than a window ahead of its slowest reader, who keeps what he has not read yet: nobody is cut off, and nobody
//! who reads waits for who has left.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::StatusCode;
use portcullis_cache::{Object, Outcome};
use portcullis_core::{Answer, Error, Fields, Kind};

use super::{baggage::Baggage, epochs::Mark, shelf::Entry};
use crate::forward::Way;

/// How much of a body that is not stored is kept for who has not read it yet, at least.
const BEHIND: usize = 64 * 1024;
/// Pieces smaller than this are copied, so that they do not hold the buffer that they came in.
const SMALL: usize = 1024;
/// What a piece takes beside its bytes.
const PIECE: usize = 64;

/// A fetch under way.
pub struct Flight {
    /// How things stood when it began.
    pub mark: Mark,
    pub(super) baggage: Arc<Baggage>,
    state: Mutex<State>,
}

pub(super) struct State {
    step: Step,
    /// What became of it towards the endpoint, for the log of whoever began it.
    way: Way,
    /// Fields that are for whoever began alone: what is stored and shared goes without them.
    own: Option<Fields>,
    /// What may be used where the fetch fails, found by it elsewhere than in memory.
    stale: Option<Arc<Entry>>,
    /// What has arrived and somebody has not read yet, or all of it.
    pub(super) pieces: VecDeque<Piece>,
    /// How many are gone.
    pub(super) gone: usize,
    /// Readers, and of them who has read all that has arrived.
    pub(super) readers: usize,
    pub(super) waiting: usize,
    /// Bytes that are kept.
    kept: usize,
    /// Bytes for which there is room, and which have not come yet.
    booked: usize,
    /// Nothing is thrown away, since all may be stored. What is not to be stored is read from the endpoint no further
    /// than so many bytes ahead of its slowest reader.
    window: Option<usize>,
    pub(super) end: Option<Result<Option<Arc<Entry>>, Kind>>,
    wakers: Vec<Waker>,
}

/// A piece of a body, and how many will read it next.
pub(super) struct Piece {
    pub(super) bytes: Bytes,
    pub(super) readers: usize,
}

/// How far it is.
enum Step {
    Waiting,
    /// The head of an answer that may be shared: without its body.
    Head(Arc<Head>),
    /// An answer that was stored before, or by others.
    Entry(Arc<Entry>, Outcome),
    /// Not for sharing.
    Alone(Option<Box<Answer>>, StatusCode, Outcome),
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
    /// When to ask again.
    pub retry_after: Option<std::time::Duration>,
}

/// What those who wait get.
pub enum Landed {
    /// An answer that arrives.
    Head(Arc<Head>),
    /// One that is there.
    Entry(Arc<Entry>, Outcome),
    /// The answer, for whoever began; its status alone for the others.
    Alone(Option<Box<Answer>>, StatusCode, Outcome),
    /// None.
    Failed(Failure),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure { kind: error.kind, detail: error.detail, retry_after: error.retry_after }
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
    pub(super) fn new(mark: Mark, baggage: &Arc<Baggage>) -> Flight {
        Flight {
            mark,
            baggage: baggage.clone(),
            state: Mutex::new(State {
                step: Step::Waiting,
                way: Way::default(),
                own: None,
                stale: None,
                pieces: VecDeque::new(),
                gone: 0,
                readers: 0,
                waiting: 0,
                kept: 0,
                booked: 0,
                window: None,
                end: None,
                wakers: Vec::new(),
            }),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something and wakes all.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let (wakers, result) = {
            let mut state = self.lock();
            let result = change(&mut state);
            (std::mem::take(&mut state.wakers), result)
        };
        wakers.into_iter().for_each(Waker::wake);
        result
    }

    fn land(&self, step: Step, way: &Way) {
        self.change(|state| {
            state.way = way.clone();
            state.step = step;
        });
    }

    /// Fields that are for whoever began alone. To be called before anything lands.
    pub fn own(&self, fields: Fields) {
        self.lock().own = Some(fields);
    }

    /// What may be used where it fails. To be called before anything lands.
    pub fn has_stale(&self, entry: &Arc<Entry>) {
        self.lock().stale = Some(entry.clone());
    }

    /// What may be used where it failed.
    pub fn stale(&self) -> Option<Arc<Entry>> {
        self.lock().stale.clone()
    }

    /// For whoever began.
    pub fn take_own(&self) -> Option<Fields> {
        self.lock().own.take()
    }

    /// The head is there.
    pub fn head(&self, head: Head, way: &Way) {
        self.land(Step::Head(Arc::new(head)), way);
    }

    /// An answer is there, all of it.
    pub fn entry(&self, entry: Arc<Entry>, outcome: Outcome, way: &Way) {
        self.land(Step::Entry(entry, outcome), way);
    }

    /// The answer is for whoever began.
    pub fn alone(&self, answer: Answer, outcome: Outcome, way: &Way) {
        let status = answer.status;
        self.land(Step::Alone(Some(Box::new(answer)), status, outcome), way);
    }

    /// There is none.
    pub fn failed(&self, failure: Failure, way: &Way) {
        self.land(Step::Failed(failure), way);
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
                Step::Alone(answer, status, outcome) => {
                    Poll::Ready(Landed::Alone(answer.take_if(|_| began), *status, *outcome))
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

    /// Is there room for a body of this length? It is then this one's, however many others come: if all began to keep theirs
    /// and there was not enough for all, all would have to give up.
    pub(super) fn books(&self, length: Option<u64>) -> bool {
        let Some(length) = length else { return self.baggage.has_room() };
        let Ok(bytes) = usize::try_from(length) else { return false };
        let has_room = self.baggage.book(length);
        if has_room {
            self.lock().booked = bytes;
        }
        has_room
    }

    /// A piece of the body.
    pub fn piece(&self, piece: Bytes) {
        let bytes = if piece.len() < SMALL { Bytes::copy_from_slice(&piece) } else { piece };
        self.change(|state| {
            let size = bytes.len() + PIECE;
            let booked = size.min(state.booked);
            state.booked -= booked;
            self.baggage.add(size - booked);
            state.kept += size;
            let readers = std::mem::take(&mut state.waiting);
            state.pieces.push_back(Piece { bytes, readers });
            self.trim(state);
        });
    }

    /// All pieces so far.
    pub fn pieces(&self) -> Vec<Bytes> {
        self.lock().pieces.iter().map(|piece| piece.bytes.clone()).collect()
    }

    /// It will not be stored: what everybody has read need not be kept.
    pub fn keep_little(&self) {
        self.change(|state| {
            self.baggage.sub(std::mem::take(&mut state.booked));
            state.window = Some(state.kept.max(BEHIND));
            self.trim(state);
        });
    }

    /// Waits until more is wanted; false when nobody is left who could want it. What may be stored is wanted always.
    pub async fn wanted(&self) -> bool {
        poll_fn(|cx| {
            let mut state = self.lock();
            let Some(window) = state.window else { return Poll::Ready(true) };
            if state.readers == 0 {
                return Poll::Ready(false);
            }
            if state.kept < window {
                return Poll::Ready(true);
            }
            state.wait(cx);
            Poll::Pending
        })
        .await
    }

    /// The body ended. What is stored is read from there.
    pub fn end(&self, end: Result<Option<Arc<Entry>>, Kind>) {
        let pieces = self.change(|state| {
            let is_stored = matches!(end, Ok(Some(_)));
            state.end = Some(end);
            self.baggage.sub(std::mem::take(&mut state.booked));
            if !is_stored {
                return VecDeque::new();
            }
            self.baggage.sub(std::mem::take(&mut state.kept));
            std::mem::take(&mut state.pieces)
        });
        drop(pieces);
    }

    /// Throws away what everybody has read.
    pub(super) fn trim(&self, state: &mut State) {
        while state.window.is_some()
            && state.pieces.front().is_some_and(|piece| piece.readers == 0)
            && let Some(piece) = state.pieces.pop_front()
        {
            let size = piece.bytes.len() + PIECE;
            self.baggage.sub(size);
            state.kept = state.kept.saturating_sub(size);
            state.gone += 1;
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let held = {
            let state = self.lock();
            state.kept + state.booked
        };
        self.baggage.sub(held);
    }
}

impl State {
    pub(super) fn wait(&mut self, cx: &mut Context<'_>) {
        if !self.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.wakers.push(cx.waker().clone());
        }
    }

    /// Takes the wakers of those who wait for room.
    pub(super) fn roomier(&mut self) -> Vec<Waker> {
        if self.window.is_some() { std::mem::take(&mut self.wakers) } else { Vec::new() }
    }
}
