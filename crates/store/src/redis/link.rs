//! The connection of one thread for one purpose: made in the background, watched, and made again with growing pauses.
//! Requests only look whether it is there.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use portcullis_core::store::{Failure, FailureKind};
use redis::{Cmd, RedisError, RedisResult, Value, aio::MultiplexedConnection};
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    time::{sleep, timeout},
};

use super::{
    Shared,
    connect::{RIGHTS, connect},
    scripts::Known,
};

/// So many answers in a row that did not come in time, and the connection counts as dead.
const TOO_SLOW: u32 = 3;
/// The pause before the first new attempt, and the longest. Each attempt doubles it.
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);
/// A connection that lasted so long was a good one.
const GOOD: Duration = Duration::from_secs(2);
/// A server that stays away is told of again after so long.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// A connection that answers.
#[derive(Clone)]
pub(super) struct Live {
    pub connection: MultiplexedConnection,
    pub take: Known,
    pub put: Known,
    pub gone: Known,
}

impl Live {
    /// Asks once. What the server says is wrong is an error like any other.
    pub async fn ask(&mut self, command: &Cmd) -> RedisResult<Value> {
        ask(&mut self.connection, command).await
    }
}

pub(super) async fn ask(connection: &mut MultiplexedConnection, command: &Cmd) -> RedisResult<Value> {
    match connection.send_packed_command(command).await? {
        Value::ServerError(error) => Err(error.into()),
        value => Ok(value),
    }
}

/// What is known of the connection.
#[derive(Clone)]
enum State {
    /// Nothing yet.
    Starting,
    Up(Live),
    Down,
}

/// The connection of one thread for one purpose.
pub(super) struct Link {
    shared: Arc<Shared>,
    state: watch::Receiver<State>,
    trouble: Arc<Trouble>,
}

/// What those who ask tell the one who watches.
#[derive(Default)]
struct Trouble {
    slow: AtomicU32,
    too_slow: Notify,
    /// When a refusal was last told of in the log.
    told: Mutex<Option<Instant>>,
}

impl Link {
    /// Begins to connect, on this runtime.
    pub fn start(runtime: &Handle, shared: Arc<Shared>) -> Arc<Link> {
        let (told, state) = watch::channel(State::Starting);
        let trouble = Arc::new(Trouble::default());
        runtime.spawn(keep(shared.clone(), told, trouble.clone()));
        Arc::new(Link { shared, state, trouble })
    }

    /// Has its runtime ended?
    pub fn is_dead(&self) -> bool {
        self.state.has_changed().is_err()
    }

    /// The connection, if there is one. Only the very first attempt is waited for, and not for long.
    pub async fn live(&self, patience: Duration) -> Option<Live> {
        match &*self.state.borrow() {
            State::Up(live) => return Some(live.clone()),
            State::Down => return None,
            State::Starting => {}
        }
        let mut state = self.state.clone();
        let known = state.wait_for(|state| !matches!(state, State::Starting));
        match timeout(patience, known).await {
            Ok(Ok(state)) => match &*state {
                State::Up(live) => Some(live.clone()),
                _ => None,
            },
            _ => None,
        }
    }

    /// What an answer says about the connection.
    pub fn judge<T>(&self, result: Result<T, RedisError>) -> Result<T, Failure> {
        let error = match result {
            Ok(value) => {
                // Others' cache lines are left alone where nothing changes.
                if self.trouble.slow.load(Relaxed) != 0 {
                    self.trouble.slow.store(0, Relaxed);
                }
                return Ok(value);
            }
            Err(error) => error,
        };
        let kind = if error.is_timeout() {
            if self.trouble.slow.fetch_add(1, Relaxed) + 1 == TOO_SLOW {
                self.trouble.too_slow.notify_one();
            }
            FailureKind::Slow
        } else if error.is_io_error() || error.is_connection_dropped() {
            FailureKind::Away
        } else if error.code().is_some_and(|code| code.trim_end_matches(':') == "OOM") {
            FailureKind::Full
        } else {
            FailureKind::Refused
        };
        let failure = Failure::new(kind, error.to_string());
        if matches!(kind, FailureKind::Full | FailureKind::Refused) {
            self.tell(&failure);
        }
        Err(failure)
    }

    /// Of a server that answers, but will not do what it is asked. Not every answer is news.
    fn tell(&self, failure: &Failure) {
        let mut told = self.trouble.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|told| told.elapsed() < TELL_AGAIN) {
            return;
        }
        *told = Some(Instant::now());
        let may_not = ["NoPerm", "The user executing the script can't"];
        let advice = if may_not.iter().any(|said| failure.detail.contains(said)) {
            RIGHTS
        } else if failure.kind == FailureKind::Full {
            " (give it more memory, or `maxmemory-policy volatile-ttl`)"
        } else {
            ""
        };
        let problem = format!("{failure}{advice}");
        tracing::warn!(store = &*self.shared.name, problem, "the store refuses; requests go on without it");
    }
}

/// Connects, watches, connects again, for as long as anybody holds the link.
async fn keep(shared: Arc<Shared>, told: watch::Sender<State>, trouble: Arc<Trouble>) {
    let mut pause = SHORTEST;
    let mut news = News::default();
    loop {
        let began = Instant::now();
        let end = match connect(&shared).await {
            Ok((live, driver)) => {
                news.up(&shared);
                trouble.slow.store(0, Relaxed);
                // What was said of the last connection says nothing of this one.
                std::pin::pin!(trouble.too_slow.notified()).enable();
                let counted = Counted::new(&shared);
                let _ = told.send_replace(State::Up(live));
                let end = tokio::select! {
                    () = driver => "the connection ended",
                    () = trouble.too_slow.notified() => "it answers too slowly",
                    () = told.closed() => return,
                };
                drop(counted);
                if began.elapsed() >= GOOD {
                    pause = SHORTEST;
                }
                end.to_owned()
            }
            Err(problem) => problem,
        };
        let _ = told.send_replace(State::Down);
        shared.meters.lost.inc();
        news.down(&shared, &end);
        // Many gateways that lost the same server shall not come back all at once.
        let jittered = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
        tokio::select! {
            () = sleep(jittered) => {}
            () = told.closed() => return,
        }
        pause = (pause * 2).min(LONGEST);
    }
}

/// A connection that answers, as the metrics count it.
struct Counted<'a>(&'a Shared);

impl Counted<'_> {
    fn new(shared: &Shared) -> Counted<'_> {
        shared.meters.connections.add(1.0);
        shared.meters.up.set(1.0);
        Counted(shared)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let meters = &self.0.meters;
        meters.connections.add(-1.0);
        if meters.connections.get() < 0.5 {
            meters.up.set(0.0);
        }
    }
}

/// What was said in the log of this link: not every attempt is news.
#[derive(Default)]
struct News {
    down: bool,
    told: Option<Instant>,
}

impl News {
    fn up(&mut self, shared: &Shared) {
        if std::mem::take(&mut self.down) {
            tracing::info!(store = &*shared.name, "the store answers again");
        }
        self.told = None;
    }

    fn down(&mut self, shared: &Shared, problem: &str) {
        self.down = true;
        if self.told.is_none_or(|told| told.elapsed() >= TELL_AGAIN) {
            self.told = Some(Instant::now());
            tracing::warn!(
                store = &*shared.name,
                problem,
                "the store does not answer; requests go on without it"
            );
        }
    }
}
