//! What is under way goes before what is new.
//!
//! When more requests wait than a worker can serve at once, it matters which it takes first. Taken as they come, all are
//! begun and none is finished for long: each holds its memory, a connection to an endpoint with all that the kernel keeps
//! for it, and by the time its answer comes, nothing of it is left in the processor's caches. So once some are under way,
//! only a few more requests are begun in each round of the worker, which then looks for answers that have come and finishes
//! those; the others wait in line, unread. A worker never rests while somebody is in line: an endpoint that is slow holds
//! up nobody else.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

/// With no more than this under way, a request begins at once: all of them fit into the caches.
const FEW: usize = 64;
/// With more, so many begin in one round. With fewer, asking the sockets costs more than it brings; with more, what is
/// under way outgrows the caches (docs/performance.md).
const EACH: usize = 8;

/// The rounds of one worker, used by its own thread alone.
#[derive(Debug, Default)]
pub struct Rounds {
    under_way: AtomicUsize,
    /// Since the round began.
    begun: AtomicUsize,
    /// As many as wait in the line.
    in_line: AtomicUsize,
    line: Mutex<Line>,
}

/// Who waits for the next rounds, and the one who begins them.
#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Waker>,
    /// While nobody waits.
    resting: Option<Waker>,
}

/// Where a connection stands with its next request.
#[derive(Debug)]
pub struct Place {
    rounds: Arc<Rounds>,
    stands: Stands,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stands {
    Apart,
    InLine,
    UnderWay,
}

impl Place {
    /// Of a connection that has no request yet.
    pub fn new(rounds: Arc<Rounds>) -> Place {
        Place { rounds, stands: Stands::Apart }
    }

    /// Ready when its request may begin. Whoever is woken by something else while in line begins earlier than its turn,
    /// which harms nobody.
    pub fn poll_begin(&mut self, cx: &Context<'_>) -> Poll<()> {
        let may = match self.stands {
            Stands::UnderWay => return Poll::Ready(()),
            Stands::InLine => true,
            Stands::Apart => self.rounds.may_begin(),
        };
        if may {
            self.stands = Stands::UnderWay;
            self.rounds.under_way.fetch_add(1, Relaxed);
            return Poll::Ready(());
        }
        self.stands = Stands::InLine;
        self.rounds.wait(cx.waker().clone());
        Poll::Pending
    }

    /// Its request has ended, or will take long.
    pub fn end(&mut self) {
        if std::mem::replace(&mut self.stands, Stands::Apart) == Stands::UnderWay {
            self.rounds.under_way.fetch_sub(1, Relaxed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.end();
    }
}

impl Rounds {
    /// Without standing in line? Never while others do: some would overtake again and again, and others wait long.
    fn may_begin(&self) -> bool {
        if self.in_line.load(Relaxed) > 0 {
            return false;
        }
        if self.under_way.load(Relaxed) < FEW {
            return true;
        }
        let begun = self.begun.load(Relaxed);
        self.begun.store(begun + 1, Relaxed);
        begun < EACH
    }

    fn wait(&self, waker: Waker) {
        let mut line = self.line();
        line.waiting.push_back(waker);
        self.in_line.store(line.waiting.len(), Relaxed);
        if let Some(resting) = line.resting.take() {
            resting.wake();
        }
    }

    /// Begins one round after the other while somebody is in line.
    pub async fn run(&self) {
        loop {
            poll_fn(|cx| self.poll_round(cx)).await;
            // Comes back when the sockets have been asked, and those woken that can go on.
            tokio::task::yield_now().await;
        }
    }

    fn poll_round(&self, cx: &Context<'_>) -> Poll<()> {
        let mut line = self.line();
        let room = FEW.saturating_sub(self.under_way.load(Relaxed)).max(EACH);
        let next = line.waiting.len().min(room);
        self.in_line.store(line.waiting.len() - next, Relaxed);
        self.begun.store(next, Relaxed);
        if next == 0 {
            line.resting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        line.waiting.drain(..next).for_each(Waker::wake);
        Poll::Ready(())
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    fn many(rounds: &Arc<Rounds>, many: usize) -> Vec<Place> {
        (0..many).map(|_| Place::new(rounds.clone())).collect()
    }

    #[test]
    fn few_begin_at_once_and_end() {
        let rounds = Arc::new(Rounds::default());
        let cx = Context::from_waker(Waker::noop());
        let mut places = many(&rounds, FEW + EACH + 1);
        let ready = |place: &mut Place| place.poll_begin(&cx).is_ready();
        assert_eq!(places.iter_mut().map(ready).filter(|ready| *ready).count(), FEW + EACH);
        drop(places);
        assert_eq!(rounds.under_way.load(Relaxed), 0);
        // The next round finds that nobody is left in the line.
        let _ = rounds.poll_round(&cx);
        assert!(many(&rounds, FEW).iter_mut().all(ready));
    }

    /// A new one does not overtake those in line, nor does a round take more than it should.
    #[test]
    fn the_line_is_kept() {
        let rounds = Arc::new(Rounds::default());
        let cx = Context::from_waker(Waker::noop());
        let mut places = many(&rounds, FEW + 4 * EACH);
        for place in &mut places {
            let _ = place.poll_begin(&cx);
        }
        assert_eq!(rounds.line().waiting.len(), 3 * EACH);
        assert!(rounds.poll_round(&cx).is_ready());
        assert_eq!(rounds.line().waiting.len(), 2 * EACH);
        assert!(Place::new(rounds.clone()).poll_begin(&cx).is_pending(), "this round is full");
    }

    /// However few are under way: while somebody waits, whoever comes waits behind him, and the next round fills up.
    #[test]
    fn nobody_overtakes_the_line() {
        let rounds = Arc::new(Rounds::default());
        let cx = Context::from_waker(Waker::noop());
        let mut places = many(&rounds, FEW + 3 * EACH);
        for place in &mut places {
            let _ = place.poll_begin(&cx);
        }
        places.iter_mut().take(FEW).for_each(Place::end);
        let mut comes = Place::new(rounds.clone());
        assert!(comes.poll_begin(&cx).is_pending());
        assert!(rounds.poll_round(&cx).is_ready());
        assert!(rounds.line().waiting.is_empty(), "there was room for all of them");
        assert!(comes.poll_begin(&cx).is_ready());
        assert!(Place::new(rounds.clone()).poll_begin(&cx).is_ready());
    }

    /// What is under way is finished while many still wait to begin, and all of them do begin.
    #[tokio::test]
    async fn what_is_under_way_goes_first() {
        let rounds = Arc::new(Rounds::default());
        let keeper = rounds.clone();
        tokio::spawn(async move { keeper.run().await });
        let most = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = many(&rounds, 1000)
            .into_iter()
            .map(|mut place| {
                let (rounds, most) = (rounds.clone(), most.clone());
                tokio::spawn(async move {
                    poll_fn(|cx| place.poll_begin(cx)).await;
                    most.fetch_max(rounds.under_way.load(Relaxed), Relaxed);
                    // An endpoint that answers at once.
                    let (mut here, mut there) = duplex(64);
                    tokio::spawn(async move { there.write_all(b"answer").await });
                    assert_eq!(here.read(&mut [0; 64]).await.unwrap(), 6);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let most = most.load(Relaxed);
        assert!((FEW..=FEW + 2 * EACH).contains(&most), "{most} at once");
        assert_eq!(rounds.under_way.load(Relaxed), 0);
    }
}
