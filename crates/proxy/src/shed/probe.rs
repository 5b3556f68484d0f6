//! How late a worker gets round to what is new.

use std::{future::poll_fn, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use crate::rounds::{Place, Rounds};

/// How often it is looked at.
pub const TICK: Duration = Duration::from_millis(25);
/// The same, while nobody wants to know.
const SELDOM: Duration = Duration::from_millis(250);

/// Wants to begin again and again, as a request does, and tells how late that was. Returned to it is whether somebody
/// wants to know.
pub async fn probe(rounds: Arc<Rounds>, mut tell: impl FnMut(Duration) -> bool) {
    let mut place = Place::new(rounds);
    let mut after = TICK;
    loop {
        let due = Instant::now() + after;
        sleep_until(due).await;
        poll_fn(|cx| place.poll_begin(cx)).await;
        place.end();
        after = if tell(due.elapsed()) { TICK } else { SELDOM };
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU64, Ordering::Relaxed},
        thread,
    };

    use super::*;

    /// A probe, and the milliseconds of its worst.
    fn start(rounds: &Arc<Rounds>) -> Arc<AtomicU64> {
        let worst = Arc::new(AtomicU64::new(0));
        let told = worst.clone();
        tokio::spawn(probe(rounds.clone(), move |late| {
            told.fetch_max(late.as_millis() as u64, Relaxed);
            true
        }));
        worst
    }

    #[tokio::test]
    async fn a_worker_that_stands_still_is_late() {
        let worst = start(&Arc::default());
        tokio::time::sleep(TICK * 3).await;
        thread::sleep(TICK * 20);
        tokio::time::sleep(TICK * 3).await;
        let worst = worst.load(Relaxed);
        assert!(worst >= 400, "{worst} ms");
    }

    /// Each round of a worker is short, and still who comes last waits for many of them.
    #[tokio::test]
    async fn a_worker_with_a_long_line_is_late() {
        let rounds: Arc<Rounds> = Arc::default();
        let keeper = rounds.clone();
        tokio::spawn(async move { keeper.run().await });
        let under_way: Vec<_> = (0..100).map(|_| Place::new(rounds.clone())).collect();
        let mut tasks = Vec::new();
        for mut place in under_way {
            tasks.push(tokio::spawn(async move {
                poll_fn(|cx| place.poll_begin(cx)).await;
                std::future::pending::<()>().await;
            }));
        }
        tokio::task::yield_now().await;
        let worst = start(&rounds);
        for _ in 0..300 {
            let mut place = Place::new(rounds.clone());
            tokio::spawn(async move {
                poll_fn(|cx| place.poll_begin(cx)).await;
                thread::sleep(Duration::from_millis(2));
                place.end();
            });
        }
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let worst = worst.load(Relaxed);
        assert!(worst >= 300, "{worst} ms");
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
