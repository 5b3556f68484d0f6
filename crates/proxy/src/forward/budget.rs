//! A bound on all retries of a service, so that they make no outage worse: a share of its requests over the last ten
//! seconds, and a few more each second for services with little to do. After Finagle's and linkerd's retry budgets.
//!
//! Requests are counted by worker, without a lock, and retries, which are rare, in one place.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use portcullis_config::model::RetryBudget;

use super::tail::Tail;
use crate::by_worker::ByWorker;

/// Seconds that count.
const WINDOW: u64 = 10;

/// A service's budget, and what it allows.
pub struct Allowance {
    /// As configured.
    pub allowed: RetryBudget,
    /// Kept over reloads.
    pub budget: Arc<Budget>,
}

impl Allowance {
    /// A request came: its first attempt begins.
    pub fn deposit(&self, worker: usize, now: Instant) {
        self.budget.deposit(worker, now);
    }

    /// Takes one retry out, if there is one.
    pub fn withdraw(&self, now: Instant) -> bool {
        self.budget.withdraw(&self.allowed, now)
    }

    /// How long answers take, for those who want to know.
    pub fn tail(&self) -> &Tail {
        self.budget.tail.get_or_init(|| Tail::new(1, self.budget.born))
    }
}

/// What a service's retries may cost. Kept over reloads.
pub struct Budget {
    born: Instant,
    requests: ByWorker<Window>,
    spent: Mutex<Window>,
    /// Made when somebody asks: nobody does but where late attempts are hedged.
    tail: OnceLock<Tail>,
}

/// Counts by second. Written by one thread at a time.
#[derive(Debug, Default)]
struct Window([AtomicU64; WINDOW as usize]);

impl Window {
    /// One more in this second. The second stands in the upper half.
    fn count(&self, second: u64) {
        let Some(slot) = self.0.get((second % WINDOW) as usize) else { return };
        let (of, count) = split(slot.load(Relaxed));
        let count = if of == second & MASK { count.saturating_add(1).min(MASK) } else { 1 };
        slot.store((second & MASK) << 32 | count, Relaxed);
    }

    /// All within the window that ends with this second.
    fn sum(&self, second: u64) -> u64 {
        let recent = |slot: &AtomicU64| {
            let (of, count) = split(slot.load(Relaxed));
            if (second & MASK).wrapping_sub(of) < WINDOW { count } else { 0 }
        };
        self.0.iter().map(recent).sum()
    }
}

const MASK: u64 = u32::MAX as u64;

fn split(slot: u64) -> (u64, u64) {
    (slot >> 32, slot & MASK)
}

impl Budget {
    /// For so many workers.
    pub fn new(workers: usize, now: Instant) -> Budget {
        Budget { born: now, requests: ByWorker::new(workers), spent: Mutex::default(), tail: OnceLock::new() }
    }

    /// A request came: its first attempt begins.
    pub fn deposit(&self, worker: usize, now: Instant) {
        self.requests.get(worker).count(self.second(now));
    }

    /// Takes one retry out, if there is one.
    pub fn withdraw(&self, allowed: &RetryBudget, now: Instant) -> bool {
        let second = self.second(now);
        let spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let requests: u64 = self.requests.iter().map(|window| window.sum(second)).sum();
        let most = requests as f64 * allowed.ratio + allowed.min_per_second * WINDOW as f64;
        // A tenth of a hundred must be ten, whatever floats make of it.
        let fits = (spent.sum(second) + 1) as f64 <= most + 1e-6;
        if fits {
            spent.count(second);
        }
        fits
    }

    /// Counted from the second one, so that an untouched slot is an old one.
    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.born).as_secs() + WINDOW
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn drained(budget: &Budget, allowed: &RetryBudget, now: Instant) -> usize {
        (0..100_000).take_while(|_| budget.withdraw(allowed, now)).count()
    }

    #[test]
    fn a_share_of_the_requests_of_the_last_ten_seconds() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let (budget, allowed) = (Budget::new(2, start), RetryBudget { ratio: 0.1, min_per_second: 0.0 });
        assert_eq!(drained(&budget, &allowed, start), 0);
        (0..100).for_each(|n| budget.deposit(n % 3, at(0)));
        assert_eq!(drained(&budget, &allowed, at(0)), 10);
        (0..50).for_each(|n| budget.deposit(n % 3, at(5)));
        assert_eq!(drained(&budget, &allowed, at(9)), 5);
        // What came in the first second counts no longer, nor do the retries of then.
        assert_eq!(drained(&budget, &allowed, at(10)), 0);
        assert_eq!(drained(&budget, &allowed, at(14)), 0);
        assert_eq!(drained(&budget, &allowed, at(400)), 0);
    }

    /// 0.29 × 100 is 28.999999999999996.
    #[test]
    fn floats_take_no_retry_away() {
        let start = Instant::now();
        for percent in 1..=100_u8 {
            let allowed = RetryBudget { ratio: f64::from(percent) / 100.0, min_per_second: 0.0 };
            let budget = Budget::new(1, start);
            (0..100).for_each(|_| budget.deposit(0, start));
            assert_eq!(drained(&budget, &allowed, start), usize::from(percent));
        }
    }

    #[test]
    fn a_service_with_little_to_do_gets_some() {
        let start = Instant::now();
        let (budget, allowed) = (Budget::new(1, start), RetryBudget { ratio: 0.0, min_per_second: 2.0 });
        assert_eq!(drained(&budget, &allowed, start), 20);
        assert_eq!(drained(&budget, &allowed, start + Duration::from_secs(9)), 0);
        assert_eq!(drained(&budget, &allowed, start + Duration::from_secs(10)), 20);
    }

    /// Requests that come now quickly, now slowly, now not at all, of which now more fail and now less: each retry that is
    /// allowed fits among those of the last ten seconds, and each that is not would not have.
    #[test]
    fn whatever_comes_no_retry_is_too_many_and_none_too_few() {
        for seed in 0..6 {
            let mut random = fastrand::Rng::with_seed(seed);
            let start = Instant::now();
            let (ratio, min_per_second) = (0.05 * f64::from(random.u8(0..8)), f64::from(random.u8(0..4)));
            let (budget, allowed) = (Budget::new(3, start), RetryBudget { ratio, min_per_second });
            let (mut requests, mut retries) = (Vec::new(), Vec::new());
            let (mut micros, mut refused, mut rate, mut failing) = (0_u64, 0, 100, 0.5);
            while micros < 300_000_000 {
                if random.u32(..500) == 0 {
                    (rate, failing) = (random.u64(1..1000), random.f64());
                    micros += 1_000_000 * random.u64(..15);
                }
                micros += random.u64(..2_000_000 / rate);
                let (now, second) = (start + Duration::from_micros(micros), micros / 1_000_000);
                budget.deposit(random.usize(..5), now);
                requests.push(second);
                for _ in 0..2 {
                    let is_retried = random.f64() < failing;
                    let recent = |of: &[u64]| of.len() - of.partition_point(|at| at + WINDOW <= second);
                    let most = ratio * recent(&requests) as f64 + min_per_second * WINDOW as f64;
                    let fits = (recent(&retries) + 1) as f64 <= most + 1e-6;
                    if is_retried {
                        assert_eq!(budget.withdraw(&allowed, now), fits, "seed {seed} at {micros}");
                        refused += u32::from(!fits);
                    }
                    if is_retried && fits {
                        retries.push(second);
                    }
                }
            }
            assert!(refused > 0, "seed {seed}");
        }
    }

    /// An outage of minutes with a thousand requests each second: whatever happens, retries stay below their share.
    #[test]
    fn it_holds_in_a_storm() {
        let mut random = fastrand::Rng::with_seed(7);
        let start = Instant::now();
        let (budget, allowed) = (Budget::new(4, start), RetryBudget { ratio: 0.2, min_per_second: 10.0 });
        let (mut requests, mut retries) = (0_u64, 0_u64);
        for millis in 0..180_000_u64 {
            let now = start + Duration::from_millis(millis);
            budget.deposit(random.usize(..4), now);
            requests += 1;
            for _ in 0..2 {
                if random.f64() < 0.5 && budget.withdraw(&allowed, now) {
                    retries += 1;
                }
            }
        }
        let (most, share) = (180_000 / 5 + 180 * 10 + 300, retries as f64 / requests as f64);
        assert!(retries <= most && share > 0.19, "{retries} of {requests}");
    }
}
