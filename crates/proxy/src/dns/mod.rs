//! Names of endpoints: who has which addresses now.
//!
//! A name is looked up in the background, by one task on the control plane, again and again as its answers expire. No
//! request waits for that, but for the very first answer. When a look-up fails, the last good addresses stay. What is
//! known of a name outlives a configuration as long as the next one has it too.

mod resolver;

use std::{
    net::IpAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use portcullis_config::model::Dns;
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{Instant, sleep},
};

pub use resolver::Resolver;
use resolver::{Failure, Found};

/// After a failure, the next look-up waits so long, and twice as long each time …
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// … up to this.
const LAST_RETRY: Duration = Duration::from_secs(30);

/// A name, and what is known of it.
pub struct Named {
    name: Arc<str>,
    settings: Dns,
    resolver: Arc<Resolver>,
    known: watch::Sender<Known>,
    /// Connections opened: each begins with the next address.
    turns: AtomicUsize,
    counts: [AtomicU64; Outcome::ALL.len()],
    followed: AtomicBool,
}

/// What is known of a name.
#[derive(Debug, Clone, Default)]
struct Known {
    /// Empty before the first good answer.
    addresses: Arc<[IpAddr]>,
    /// When they were last confirmed.
    confirmed: Option<Instant>,
    /// Why the last look-up failed, if it did.
    problem: Option<Arc<str>>,
    /// Failures in a row.
    failures: u32,
}

/// How a look-up went, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// There are addresses.
    Success,
    /// There is no such name.
    NxDomain,
    /// There is, but without an address.
    NoAddress,
    /// Nobody answered in time.
    Timeout,
    /// A server failed or refused, or could not be reached.
    Error,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Outcome; 5] =
        [Outcome::Success, Outcome::NxDomain, Outcome::NoAddress, Outcome::Timeout, Outcome::Error];

    /// As metrics write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::NxDomain => "nxdomain",
            Outcome::NoAddress => "no_address",
            Outcome::Timeout => "timeout",
            Outcome::Error => "error",
        }
    }
}

impl Named {
    /// A name that nobody has looked up yet.
    pub fn new(name: Arc<str>, settings: Dns, resolver: Arc<Resolver>) -> Named {
        Named {
            name,
            settings,
            resolver,
            known: watch::Sender::default(),
            turns: AtomicUsize::new(0),
            counts: Default::default(),
            followed: AtomicBool::new(false),
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Looks it up from now on, on this runtime, as long as somebody has it. Once is enough.
    pub fn follow(self: &Arc<Self>, runtime: &Handle) {
        if !self.followed.swap(true, Relaxed) {
            runtime.spawn(follow(Arc::downgrade(self)));
        }
    }

    /// Its addresses. Waits for the first answer, or its failure, and for nothing later.
    ///
    /// # Errors
    /// It has none so far; why.
    pub async fn addresses(&self) -> Result<Arc<[IpAddr]>, Arc<str>> {
        let mut changes = self.known.subscribe();
        let known = changes.wait_for(|known| !known.addresses.is_empty() || known.problem.is_some()).await;
        match known {
            Ok(known) if !known.addresses.is_empty() => Ok(known.addresses.clone()),
            Ok(known) => Err(known.problem.clone().unwrap_or_default()),
            // The sender is ours.
            Err(_) => Err("nobody looks it up".into()),
        }
    }

    /// Its addresses as they are known now; perhaps none.
    pub fn known(&self) -> Arc<[IpAddr]> {
        self.known.borrow().addresses.clone()
    }

    /// How long ago its addresses were last confirmed.
    pub fn age(&self) -> Option<Duration> {
        self.known.borrow().confirmed.map(|at| at.elapsed())
    }

    /// How many look-ups went so.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.counts.get(outcome as usize).map_or(0, |count| count.load(Relaxed))
    }

    /// The number of a connection that is about to be opened.
    pub fn turn(&self) -> usize {
        self.turns.fetch_add(1, Relaxed)
    }

    /// Takes an answer in; tells when to ask again.
    fn learn(&self, answer: Result<Found, Failure>) -> Duration {
        let outcome = answer.as_ref().map_or_else(|failure| failure.outcome, |_| Outcome::Success);
        if let Some(count) = self.counts.get(outcome as usize) {
            count.fetch_add(1, Relaxed);
        }
        match answer {
            Ok(found) => self.learn_addresses(found),
            Err(failure) => self.learn_problem(&failure),
        }
    }

    fn learn_addresses(&self, Found { mut addresses, ttl }: Found) -> Duration {
        // Servers answer in an order that changes; ours is to change nothing but what changed.
        addresses.sort_unstable();
        addresses.dedup();
        self.known.send_modify(|known| {
            if *known.addresses != *addresses {
                tracing::info!(name = &*self.name, from = ?known.addresses, to = ?addresses, ?ttl, "addresses changed");
                known.addresses = addresses.into();
            } else if known.problem.is_some() {
                tracing::info!(name = &*self.name, "name resolves again, to the same addresses");
            }
            known.confirmed = Some(Instant::now());
            known.problem = None;
            known.failures = 0;
        });
        ttl.clamp(self.settings.min_ttl, self.settings.max_ttl)
    }

    fn learn_problem(&self, failure: &Failure) -> Duration {
        let mut failures = 0;
        self.known.send_modify(|known| {
            let problem = &*failure.text;
            if known.problem.as_deref() != Some(problem) {
                let (name, kept) = (&*self.name, &known.addresses);
                tracing::warn!(name, problem, ?kept, "name does not resolve");
                known.problem = Some(problem.into());
            }
            known.failures = known.failures.saturating_add(1);
            failures = known.failures;
        });
        let wait = FIRST_RETRY.saturating_mul(1 << (failures.saturating_sub(1)).min(5));
        wait.min(LAST_RETRY).min(self.settings.max_ttl)
    }
}

impl std::fmt::Debug for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.name, self.known.borrow().addresses)
    }
}

/// Looks a name up until nobody has it any longer.
async fn follow(named: Weak<Named>) {
    loop {
        let wait = {
            let Some(named) = named.upgrade() else { return };
            named.learn(named.resolver.look_up(&named.name).await)
        };
        sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named() -> Named {
        let settings = Dns {
            servers: Vec::new(),
            timeout: Duration::from_secs(1),
            min_ttl: Duration::from_secs(2),
            max_ttl: Duration::from_secs(20),
        };
        Named::new("app.test".into(), settings.clone(), Arc::new(Resolver::new(settings)))
    }

    fn found(addresses: &[&str], ttl: u64) -> Result<Found, Failure> {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Ok(Found { addresses, ttl: Duration::from_secs(ttl) })
    }

    fn failed(text: &str) -> Result<Found, Failure> {
        Err(Failure { outcome: Outcome::Timeout, text: text.to_owned() })
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_good_addresses_stay() {
        let named = named();
        assert_eq!(named.learn(failed("no answer")), Duration::from_secs(1));
        assert_eq!(&*named.addresses().await.unwrap_err(), "no answer");
        assert_eq!(named.learn(found(&["10.0.0.2", "10.0.0.1", "10.0.0.2"], 5)), Duration::from_secs(5));
        let both: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        assert_eq!(*named.addresses().await.unwrap(), both);
        tokio::time::advance(Duration::from_secs(7)).await;
        let waits: Vec<u64> = (0..7).map(|_| named.learn(failed("gone")).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 20, 20]);
        assert_eq!(*named.addresses().await.unwrap(), both);
        assert_eq!(named.age(), Some(Duration::from_secs(7)));
        named.learn(found(&["10.0.0.3"], 5));
        assert_eq!(named.known().len(), 1);
        assert_eq!((named.count(Outcome::Success), named.count(Outcome::Timeout)), (2, 8));
    }

    #[tokio::test(start_paused = true)]
    async fn times_to_live_are_bounded() {
        let named = named();
        let waits = [0, 3, 3600].map(|ttl| named.learn(found(&["::1"], ttl)).as_secs());
        assert_eq!(waits, [2, 3, 20]);
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_first_answer_is_waited_for() {
        let named = Arc::new(named());
        let waiting = tokio::spawn({
            let named = named.clone();
            async move { named.addresses().await }
        });
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished());
        named.learn(found(&["::1"], 5));
        assert_eq!(waiting.await.unwrap().unwrap().len(), 1);
    }
}
