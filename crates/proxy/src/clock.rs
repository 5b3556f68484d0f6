//! Deadlines that cost nothing while they do not expire.
//!
//! A timer of the runtime costs a lock and a place in a wheel at every arming, and a proxy arms several per request.
//! Here each connection has one [`Watch`], an atomic number; a ticker per worker looks at all of them every
//! [`TICK`] and wakes whoever is late. A deadline is thus met at most one tick late, never early.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;

/// How often deadlines are looked at.
pub const TICK: Duration = Duration::from_millis(25);

const NEVER: u64 = u64::MAX;

/// The clock of one worker.
#[derive(Debug)]
pub struct Clock {
    born: Instant,
    now_ms: AtomicU64,
    slots: Mutex<Vec<Arc<Slot>>>,
}

#[derive(Debug)]
struct Slot {
    deadline: AtomicU64,
    gone: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

/// One deadline, which can be moved at the price of a store.
#[derive(Debug)]
pub struct Watch {
    clock: Arc<Clock>,
    slot: Arc<Slot>,
}

impl Clock {
    /// A clock that starts now. It stands still until [`Clock::run`] is polled.
    pub fn new() -> Arc<Clock> {
        Arc::new(Clock { born: Instant::now(), now_ms: AtomicU64::new(0), slots: Mutex::default() })
    }

    /// Ticks for ever.
    pub async fn run(self: Arc<Clock>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.tick();
        }
    }

    /// Looks at all deadlines once.
    fn tick(&self) {
        let now = self.born.elapsed().as_millis() as u64;
        self.now_ms.store(now, Relaxed);
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|slot| {
            if slot.deadline.load(Relaxed) <= now {
                let waker = slot.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            !slot.gone.load(Relaxed)
        });
    }

    /// A watch without deadline.
    pub fn watch(self: &Arc<Clock>) -> Watch {
        let slot = Arc::new(Slot {
            deadline: AtomicU64::new(NEVER),
            gone: AtomicBool::new(false),
            waker: Mutex::new(None),
        });
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).push(slot.clone());
        Watch { clock: self.clone(), slot }
    }

    /// Milliseconds since the clock was made, at most a tick old.
    pub fn now_ms(&self) -> u64 {
        self.now_ms.load(Relaxed)
    }
}

impl Watch {
    /// Expires after this time from now; a zero duration means never. Returns the deadline in clock milliseconds.
    pub fn set(&self, after: Duration) -> u64 {
        let at = if after.is_zero() {
            NEVER
        } else {
            // One tick more: the clock may be that far behind, and a deadline must never be early.
            self.clock.now_ms().saturating_add((after + TICK).as_millis() as u64)
        };
        self.slot.deadline.store(at, Relaxed);
        at
    }

    /// Expires after this time, but not later than a total deadline in clock milliseconds (`u64::MAX` = none).
    pub fn set_within(&self, after: Duration, total: u64) {
        if self.set(after) > total {
            self.slot.deadline.store(total, Relaxed);
        }
    }

    /// Never expires until set again.
    pub fn clear(&self) {
        self.slot.deadline.store(NEVER, Relaxed);
    }

    /// The point this far in the future, in clock milliseconds, for [`Watch::set_within`].
    pub fn total(&self, after: Option<Duration>) -> u64 {
        after.map_or(NEVER, |after| self.clock.now_ms().saturating_add((after + TICK).as_millis() as u64))
    }

    /// Is a deadline made by [`Watch::total`] over?
    pub fn is_past(&self, total: u64) -> bool {
        self.clock.now_ms() >= total
    }

    /// Ready once the deadline is over; else the task is woken when it is.
    pub fn poll_expired(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_past(self.slot.deadline.load(Relaxed)) {
            return Poll::Ready(());
        }
        let mut waker = self.slot.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.slot.gone.store(true, Relaxed);
        self.slot.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_watch_expires_after_its_time_and_can_be_moved() {
        let clock = Clock::new();
        tokio::spawn(clock.clone().run());
        let watch = clock.watch();
        let start = Instant::now();
        watch.set(Duration::from_secs(10));
        watch.set(Duration::from_secs(2));
        std::future::poll_fn(|cx| watch.poll_expired(cx)).await;
        let took = start.elapsed();
        assert!(took >= Duration::from_secs(2) && took < Duration::from_millis(2100), "{took:?}");
        let total = watch.total(Some(Duration::from_secs(1)));
        watch.set_within(Duration::from_secs(60), total);
        std::future::poll_fn(|cx| watch.poll_expired(cx)).await;
        assert!(start.elapsed() < Duration::from_millis(3200) && watch.is_past(total));
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_watches_are_forgotten() {
        let clock = Clock::new();
        drop(clock.watch());
        clock.tick();
        assert!(clock.slots.lock().unwrap().is_empty());
    }
}
