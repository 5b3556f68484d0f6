//! Active health: every endpoint with a check is probed on a schedule of its own.
//!
//! An endpoint that starts is probed at once, then every second at most, and is in service after its first success.
//! In service it takes `unhealthy_after` failures in a row to take it out, and then `healthy_after` successes in a row
//! to bring it back. State and counts live in the endpoint's state and outlive a reload: a new configuration starts new
//! tasks, of which those for healthy endpoints begin somewhere within the interval, so that a thousand endpoints are
//! never probed in one moment because a file was saved.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use portcullis_config::model::HealthCheck;
use portcullis_core::endpoint::{EndpointState, Health};
use tokio::{
    runtime::Handle,
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{Change, Failure, Probe, State, Watcher, announce};

/// Probes under way at once.
const AT_ONCE: usize = 256;
/// Between probes of an endpoint that starts, at most: it should be in service soon after it is there.
const STARTING_INTERVAL: Duration = Duration::from_secs(1);
/// Between any two probes, at least, whatever the settings and the jitter say.
const LEAST_INTERVAL: Duration = Duration::from_millis(10);
/// Between any two probes, at most: a year, so that no setting leads past the end of the clock.
const LONGEST_INTERVAL: Duration = Duration::from_secs(365 * 24 * 3600);

/// A service whose endpoints are checked.
pub struct Checked {
    /// The service's qualified name.
    pub service: Arc<str>,
    /// How they are checked.
    pub settings: HealthCheck,
    /// The endpoints.
    pub endpoints: Vec<Target>,
}

/// An endpoint that is checked.
pub struct Target {
    /// Its URL.
    pub url: Arc<str>,
    /// Its state, the same as the last configuration's where the endpoint is the same.
    pub state: Arc<EndpointState>,
    /// How to ask it.
    pub probe: Arc<dyn Probe>,
}

/// The checks of one configuration. They end when this is dropped.
#[derive(Debug, Default)]
pub struct Checks {
    tasks: JoinSet<()>,
}

impl Checks {
    /// Starts to check, a task for each endpoint.
    pub fn start(services: Vec<Checked>, watcher: &Arc<dyn Watcher>, runtime: &Handle) -> Checks {
        let mut checks = Checks::default();
        let at_once = Arc::new(Semaphore::new(AT_ONCE));
        for Checked { service, settings, endpoints } in services {
            let settings = Arc::new(settings);
            for target in endpoints {
                let check = Check {
                    service: service.clone(),
                    settings: settings.clone(),
                    target,
                    watcher: watcher.clone(),
                    at_once: at_once.clone(),
                };
                checks.tasks.spawn_on(check.run(), runtime);
            }
        }
        checks
    }

    /// How many endpoints are checked.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Is nothing checked?
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Ends all checks and waits until they have ended.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

/// The check of one endpoint.
struct Check {
    service: Arc<str>,
    settings: Arc<HealthCheck>,
    target: Target,
    watcher: Arc<dyn Watcher>,
    at_once: Arc<Semaphore>,
}

impl Check {
    async fn run(self) {
        if self.target.state.health() == Health::Healthy {
            sleep(self.settings.interval.min(LONGEST_INTERVAL).mul_f64(fastrand::f64())).await;
        }
        loop {
            let (begun, found) = self.probe().await;
            self.judge(found);
            sleep_until(begun + self.wait()).await;
        }
    }

    /// Probes once; also tells when that began.
    async fn probe(&self) -> (Instant, Result<(), Failure>) {
        // Never closed; and if it were, probing without bound is better than not at all.
        let _permit = self.at_once.acquire().await;
        let begun = Instant::now();
        let limit = self.settings.timeout;
        let found = timeout(limit, self.target.probe.probe()).await;
        (begun, found.unwrap_or(Err(Failure::Timeout(limit))))
    }

    fn judge(&self, found: Result<(), Failure>) {
        let (state, settings) = (&self.target.state, &self.settings);
        match found {
            Ok(()) => {
                state.consecutive_failures.store(0, Relaxed);
                let successes = count(&state.consecutive_successes);
                let enough = match state.health() {
                    Health::Starting => true,
                    Health::Unhealthy => successes >= settings.healthy_after,
                    Health::Healthy => false,
                };
                if enough {
                    self.change(Health::Healthy, "passed its check", 0);
                }
            }
            Err(failure) => {
                state.consecutive_successes.store(0, Relaxed);
                let failures = count(&state.consecutive_failures);
                let (service, endpoint) = (&*self.service, &*self.target.url);
                tracing::debug!(service, endpoint, failures, %failure, "probe failed");
                if failures >= settings.unhealthy_after && state.health() != Health::Unhealthy {
                    self.change(Health::Unhealthy, &failure.to_string(), failures);
                }
            }
        }
    }

    fn change(&self, to: Health, reason: &str, failures: u32) {
        let from = self.target.state.set_health(to);
        let change = Change {
            service: &self.service,
            endpoint: &self.target.url,
            from: State::from(from),
            to: State::from(to),
            reason,
            failures,
        };
        announce(&*self.watcher, &change);
    }

    /// From the beginning of one probe to the next.
    fn wait(&self) -> Duration {
        let HealthCheck { interval, unhealthy_interval, jitter, .. } = *self.settings;
        let regular = match self.target.state.health() {
            Health::Healthy => interval,
            Health::Unhealthy => unhealthy_interval,
            Health::Starting => interval.min(unhealthy_interval).min(STARTING_INTERVAL),
        };
        // Not a number is no jitter.
        let jitter = if jitter > 0.0 { jitter.min(1.0) } else { 0.0 };
        let moved = jitter * (2.0 * fastrand::f64() - 1.0);
        regular.min(LONGEST_INTERVAL).mul_f64(1.0 + moved).max(LEAST_INTERVAL)
    }
}

/// Counts one more; tells how many that makes.
fn count(counter: &AtomicU32) -> u32 {
    let counted = counter.load(Relaxed).saturating_add(1);
    counter.store(counted, Relaxed);
    counted
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use portcullis_core::BoxFuture;

    use super::*;
    use crate::health::testing::Seen;

    /// An endpoint that answers as it is told, and remembers when it was asked.
    #[derive(Default)]
    struct Puppet {
        fails: Mutex<Option<u16>>,
        hangs: Mutex<bool>,
        asked: Mutex<Vec<Instant>>,
    }

    impl Puppet {
        fn answers(&self, status: u16) {
            *self.fails.lock().unwrap() = (status != 200).then_some(status);
        }

        fn times_asked(&self) -> usize {
            self.asked.lock().unwrap().len()
        }
    }

    impl Probe for Puppet {
        fn probe(&self) -> BoxFuture<'_, Result<(), Failure>> {
            self.asked.lock().unwrap().push(Instant::now());
            let (fails, hangs) = (*self.fails.lock().unwrap(), *self.hangs.lock().unwrap());
            Box::pin(async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
                fails.map_or(Ok(()), |status| Err(Failure::Status(status)))
            })
        }
    }

    fn settings() -> HealthCheck {
        HealthCheck {
            kind: portcullis_config::model::Probe::Tcp,
            interval: Duration::from_secs(10),
            unhealthy_interval: Duration::from_secs(4),
            timeout: Duration::from_secs(2),
            unhealthy_after: 3,
            healthy_after: 2,
            jitter: 0.0,
            port: None,
        }
    }

    struct Stage {
        puppet: Arc<Puppet>,
        state: Arc<EndpointState>,
        seen: Arc<Seen>,
    }

    impl Stage {
        fn new() -> Stage {
            let state = Arc::new(EndpointState::new(true));
            Stage { puppet: Arc::default(), state, seen: Arc::default() }
        }

        fn start(&self, settings: HealthCheck) -> Checks {
            let (probe, state) = (self.puppet.clone(), self.state.clone());
            let target = Target { url: "a".into(), state, probe };
            let checked = Checked { service: "s".into(), settings, endpoints: vec![target] };
            let watcher: Arc<dyn Watcher> = self.seen.clone();
            Checks::start(vec![checked], &watcher, &Handle::current())
        }
    }

    async fn pass(seconds: f64) {
        sleep(Duration::from_secs_f64(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_probe_comes_at_once_and_decides_about_traffic() {
        let stage = Stage::new();
        assert!(!stage.state.is_in_service());
        let _checks = stage.start(settings());
        pass(0.001).await;
        assert!(stage.state.is_in_service());
        assert_eq!(stage.seen.take(), ["a starting→healthy (passed its check)"]);
        pass(30.0).await;
        assert_eq!(stage.puppet.times_asked(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn it_takes_failures_in_a_row_to_go_and_successes_in_a_row_to_come_back() {
        let stage = Stage::new();
        let _checks = stage.start(settings());
        pass(1.0).await;
        stage.seen.take();
        // Two failures, a success, two failures: not three in a row.
        for status in [500, 500, 200, 500, 500] {
            stage.puppet.answers(status);
            pass(10.0).await;
            assert!(stage.state.is_in_service());
        }
        pass(10.0).await;
        assert!(!stage.state.is_in_service());
        assert_eq!(stage.seen.take(), ["a healthy→unhealthy (answered 500)"]);
        // Out, it is asked every four seconds, and one success is not enough.
        for (status, in_service) in [(200, false), (503, false), (200, false), (200, true)] {
            stage.puppet.answers(status);
            pass(4.0).await;
            assert_eq!(stage.state.is_in_service(), in_service);
        }
        assert_eq!(stage.seen.take(), ["a unhealthy→healthy (passed its check)"]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_starts_is_asked_every_second_until_it_is_there_or_out() {
        let stage = Stage::new();
        stage.puppet.answers(503);
        let _checks = stage.start(settings());
        pass(1.5).await;
        assert_eq!((stage.puppet.times_asked(), State::of(&stage.state)), (2, State::Starting));
        stage.puppet.answers(200);
        pass(0.6).await;
        assert_eq!(State::of(&stage.state), State::Healthy);

        let stage = Stage::new();
        stage.puppet.answers(503);
        let _checks = stage.start(settings());
        pass(2.5).await;
        assert_eq!(stage.seen.take(), ["a starting→unhealthy (answered 503)"]);
        pass(3.0).await;
        assert_eq!(stage.puppet.times_asked(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_endpoint_fails_in_time() {
        let stage = Stage::new();
        *stage.puppet.hangs.lock().unwrap() = true;
        let _checks = stage.start(HealthCheck { unhealthy_after: 1, ..settings() });
        pass(1.9).await;
        assert_eq!(State::of(&stage.state), State::Starting);
        pass(0.2).await;
        assert_eq!(stage.seen.take(), ["a starting→unhealthy (no answer within 2s)"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reload_keeps_health_and_ends_the_old_tasks() {
        let stage = Stage::new();
        let old = stage.start(settings());
        pass(1.0).await;
        let asked = stage.puppet.times_asked();
        let new = stage.start(settings());
        assert_eq!((old.len(), new.len()), (1, 1));
        drop(old);
        assert!(stage.state.is_in_service());
        // One task is left, and it begins somewhere within the interval.
        pass(100.0).await;
        assert!((9..=11).contains(&(stage.puppet.times_asked() - asked)));
        new.stop().await;
        let asked = stage.puppet.times_asked();
        pass(100.0).await;
        assert_eq!(stage.puppet.times_asked(), asked);
    }

    #[tokio::test(start_paused = true)]
    async fn jitter_spreads_the_probes_within_its_share() {
        fastrand::seed(1);
        let stage = Stage::new();
        let _checks = stage.start(HealthCheck { jitter: 0.2, ..settings() });
        pass(2_000.0).await;
        let asked = stage.puppet.asked.lock().unwrap();
        let gaps: Vec<f64> = asked.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        assert!(gaps.iter().all(|gap| (7.99..=12.01).contains(gap)), "{gaps:?}");
        assert!(gaps.iter().any(|gap| *gap < 8.5) && gaps.iter().any(|gap| *gap > 11.5));
    }

    #[tokio::test(start_paused = true)]
    async fn odd_settings_do_not_make_it_spin() {
        let stage = Stage::new();
        let zero = Duration::ZERO;
        let odd = HealthCheck {
            interval: zero,
            unhealthy_interval: zero,
            unhealthy_after: 0,
            healthy_after: 0,
            jitter: f64::NAN,
            ..settings()
        };
        let _checks = stage.start(odd);
        pass(1.0).await;
        assert!((50..=101).contains(&stage.puppet.times_asked()));
    }
}
