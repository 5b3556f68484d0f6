//! The connection of one thread for one purpose: made in the background, watched, and made again with growing pauses.
//! Requests only look whether it is there.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
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
    let mut news = News { shared: &shared, is_down: false };
    loop {
        let began = Instant::now();
        let end = match connect(&shared).await {
            Ok((live, driver)) => {
                news.up();
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
        news.down(&end);
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

/// Which of a store's links are down, and when that was told: all of them go down with the server, which is one piece of news.
#[derive(Debug, Default)]
pub(super) struct Outage {
    links: u32,
    told: Option<Instant>,
}

impl Outage {
    /// A link is down: since just now, or still. Is that news?
    pub fn down(&mut self, just_now: bool, now: Instant) -> bool {
        self.links += u32::from(just_now);
        let is_news = self.told.is_none_or(|told| now.saturating_duration_since(told) >= TELL_AGAIN);
        if is_news {
            self.told = Some(now);
        }
        is_news
    }

    /// A link that was down is not any longer. Is it the last one?
    pub fn up(&mut self) -> bool {
        self.links = self.links.saturating_sub(1);
        if self.links == 0 {
            self.told = None;
        }
        self.links == 0
    }
}

/// What one link has to say.
struct News<'a> {
    shared: &'a Shared,
    is_down: bool,
}

impl News<'_> {
    fn outage(&self) -> MutexGuard<'_, Outage> {
        self.shared.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn up(&mut self) {
        if std::mem::take(&mut self.is_down) && self.outage().up() {
            tracing::info!(store = &*self.shared.name, "the store answers again");
        }
    }

    fn down(&mut self, problem: &str) {
        let just_now = !std::mem::replace(&mut self.is_down, true);
        if self.outage().down(just_now, Instant::now()) {
            let store = &*self.shared.name;
            tracing::warn!(store, problem, "the store does not answer; requests go on without it");
        }
    }
}

impl Drop for News<'_> {
    fn drop(&mut self) {
        if self.is_down {
            // Nobody wants this link any longer, so nobody waits for it to come back.
            self.outage().up();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However many links a server takes down with it, that is told once, and once a minute from then on.
    #[test]
    fn an_outage_is_told_once() {
        let (mut outage, start) = (Outage::default(), Instant::now());
        let told: Vec<bool> = (0..17).map(|_| outage.down(true, start)).collect();
        assert_eq!(told.iter().filter(|told| **told).count(), 1);
        assert!(!outage.down(false, start + Duration::from_secs(59)));
        assert!(outage.down(false, start + Duration::from_secs(60)));
        let up: Vec<bool> = (0..17).map(|_| outage.up()).collect();
        assert_eq!(up.iter().position(|last| *last), Some(16));
        assert!(outage.down(true, start + Duration::from_secs(61)), "the next one is news");
    }
}
