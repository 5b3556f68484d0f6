//! Waiting with a deadline: for a condition, or for a future.

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// How long a step of a test may take when nothing else is said. Generous: it only ends tests that hang.
pub const LONG: Duration = Duration::from_secs(30);

/// Polls until the condition holds; panics with `what` when it does not in time.
pub async fn within<F, C>(limit: Duration, what: &str, mut condition: C)
where
    C: FnMut() -> F,
    F: Future<Output = bool>,
{
    let end = Instant::now() + limit;
    while !condition().await {
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A future that must end in time.
pub async fn bounded<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {limit:?}: {what}"),
    }
}

/// How long a future takes, in seconds, beside what it gives.
pub async fn timed<T>(future: impl Future<Output = T>) -> (f64, T) {
    let start = Instant::now();
    let value = future.await;
    (start.elapsed().as_secs_f64(), value)
}
