//! Passive health: an endpoint that fails real requests is taken out for a time.
//!
//! `failures` failed requests within `window` eject an endpoint for `ejection`; then it is back, with a clean slate. As
//! many as `max_ejected` allows are out at once, and never the last one in service. What went well costs nothing here:
//! a status is looked up in a bitmap, and nothing is counted. Only a failure takes a lock, that of its endpoint.
//!
//! No timer runs. Before a service picks, it calls [`Passive::readmit`], which compares one number with the clock;
//! without requests, nobody minds that an endpoint is back a little later.
//!
//! Ejections are kept per service, over reloads, also for requests that began under an old configuration. When no
//! configuration has passive health for the service any more, all are back at once.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use portcullis_config::model::PassiveHealth;
use portcullis_core::{
    Kind,
    answer::mapping,
    endpoint::{Endpoint, EndpointState},
    error::Fault,
};

use super::{Change, State, Watcher, announce, statuses::Statuses};
use crate::balance::Place;

/// The most failures that are counted: more are never needed, and this bounds what is remembered.
const MOST_FAILURES: usize = 4096;
/// The longest ejection: a year, so that no setting leads past the end of the clock.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Passive health of one service.
pub struct Passive {
    service: Box<str>,
    failures: usize,
    window: Duration,
    ejection: Duration,
    statuses: Statuses,
    most_out: usize,
    histories: Box<[Arc<Mutex<History>>]>,
    ejections: Arc<Ejections>,
    watcher: Arc<dyn Watcher>,
}

/// When an endpoint failed last, oldest first; as many times as take it out.
#[derive(Debug, Default)]
struct History(VecDeque<Instant>);

impl Passive {
    /// For the endpoints of a service.
    pub fn new(settings: &PassiveHealth, place: &Place<'_>) -> Passive {
        let Place { service, endpoints, keep } = *place;
        let history = |endpoint: &Endpoint| {
            keep.get("health.history", &format!("{service} {}", endpoint.url), Mutex::default)
        };
        let in_use = endpoints.iter().filter(|endpoint| endpoint.weight > 0).count();
        Passive {
            service: service.into(),
            failures: (settings.failures as usize).clamp(1, MOST_FAILURES),
            window: settings.window,
            ejection: settings.ejection.min(LONGEST),
            statuses: Statuses::new(&settings.statuses),
            // A share such as 0.3 of 10 must not become 2 by the way floats are.
            most_out: (settings.max_ejected.clamp(0.0, 1.0) * in_use as f64 + 1e-9) as usize,
            histories: endpoints.iter().map(history).collect(),
            ejections: keep.get("health.ejections", service, Ejections::default),
            watcher: Arc::new(()),
        }
    }

    /// Tells this watcher of changes.
    pub fn watched_by(mut self, watcher: Arc<dyn Watcher>) -> Passive {
        self.watcher = watcher;
        self
    }

    /// Does this outcome count as a failure of the endpoint? Its status when there was an answer, else the error. An
    /// error that is the client's or the gateway's fault, or that names no endpoint, does not.
    pub fn counts(&self, outcome: Result<u16, Kind>) -> bool {
        match outcome {
            Ok(status) => self.statuses.contain(status),
            Err(kind) => is_failure(kind),
        }
    }

    /// Told how each attempt at an endpoint ended; tells whether that counts as a failure. `endpoints` are those it was
    /// made for.
    pub fn observe(
        &self,
        endpoints: &[Endpoint],
        index: usize,
        outcome: Result<u16, Kind>,
        now: Instant,
    ) -> bool {
        let counts = self.counts(outcome);
        if counts {
            self.failed(endpoints, index, outcome, now);
        }
        counts
    }

    fn failed(&self, endpoints: &[Endpoint], index: usize, outcome: Result<u16, Kind>, now: Instant) {
        let (Some(endpoint), Some(history)) = (endpoints.get(index), self.histories.get(index)) else {
            return;
        };
        if endpoint.state.is_ejected() || !lock(history).is_enough(self.failures, self.window, now) {
            return;
        }
        if self.ejections.eject(endpoints, endpoint, self.most_out, now + self.ejection) {
            *lock(history) = History::default();
            let cause = match outcome {
                Ok(status) => format!("status {status}"),
                Err(kind) => mapping(kind).slug.to_owned(),
            };
            let reason = format!("{} failures within {:?}, last: {cause}", self.failures, self.window);
            self.announce(&endpoint.url, State::from(endpoint.state.health()), State::Ejected, &reason);
        }
    }

    /// Brings back whose time is over. To be called before a pick; costs one load while nobody's is.
    pub fn readmit(&self, now: Instant) {
        if self.ejections.is_anyone_due(now) {
            for Out { url, state, .. } in self.ejections.readmit(now) {
                self.announce(&url, State::Ejected, State::from(state.health()), "ejection is over");
            }
        }
    }

    fn announce(&self, endpoint: &str, from: State, to: State, reason: &str) {
        let failures = if to == State::Ejected { self.failures as u32 } else { 0 };
        announce(&*self.watcher, &Change { service: &self.service, endpoint, from, to, reason, failures });
    }
}

/// Is this error a failure of the endpoint it came from?
pub fn is_failure(kind: Kind) -> bool {
    match kind {
        // An endpoint that does not upgrade may be right to do so.
        Kind::NoEndpoints | Kind::NoHealthyEndpoints | Kind::UpgradeFailed => false,
        kind => kind.fault() == Fault::Upstream,
    }
}

impl History {
    /// Notes a failure; tells whether that makes `failures` within `window`.
    fn is_enough(&mut self, failures: usize, window: Duration, now: Instant) -> bool {
        self.0.push_back(now);
        while self.0.len() > failures {
            self.0.pop_front();
        }
        let oldest = self.0.front().copied().unwrap_or(now);
        self.0.len() == failures && now.saturating_duration_since(oldest) <= window
    }
}

/// Who of a service is out, and until when.
struct Ejections {
    /// The zero of `next`.
    born: Instant,
    /// When the first of them is due, in nanoseconds; `u64::MAX` when nobody is out.
    next: AtomicU64,
    out: Mutex<Vec<Out>>,
}

struct Out {
    url: Arc<str>,
    state: Arc<EndpointState>,
    until: Instant,
}

impl Default for Ejections {
    fn default() -> Ejections {
        Ejections { born: Instant::now(), next: AtomicU64::new(u64::MAX), out: Mutex::default() }
    }
}

impl Ejections {
    /// Takes an endpoint out unless it is, or too many are, or no other is in service. Decided under the lock, so that
    /// two workers cannot take out the last two.
    fn eject(&self, endpoints: &[Endpoint], endpoint: &Endpoint, most: usize, until: Instant) -> bool {
        let mut out = lock(&self.out);
        let others = || endpoints.iter().filter(|other| !Arc::ptr_eq(&other.state, &endpoint.state));
        let ejected = others().filter(|other| other.weight > 0 && other.state.is_ejected()).count();
        if ejected >= most || !others().any(Endpoint::is_available) || !endpoint.state.set_ejected(true) {
            return false;
        }
        out.push(Out { url: endpoint.url.clone(), state: endpoint.state.clone(), until });
        self.set_next(&out);
        true
    }

    fn is_anyone_due(&self, now: Instant) -> bool {
        let next = self.next.load(Relaxed);
        next != u64::MAX && self.nanos(now) >= next
    }

    /// Puts those back whose time is over; tells who they are.
    fn readmit(&self, now: Instant) -> Vec<Out> {
        let mut out = lock(&self.out);
        let (due, left): (Vec<Out>, Vec<Out>) = out.drain(..).partition(|out| out.until <= now);
        *out = left;
        self.set_next(&out);
        for out in &due {
            out.state.set_ejected(false);
        }
        due
    }

    fn set_next(&self, out: &[Out]) {
        let next = out.iter().map(|out| self.nanos(out.until)).min();
        self.next.store(next.unwrap_or(u64::MAX), Relaxed);
    }

    fn nanos(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.born).as_nanos() as u64
    }
}

/// Nobody watches over them any more.
impl Drop for Ejections {
    fn drop(&mut self) {
        for out in self.out.get_mut().unwrap_or_else(PoisonError::into_inner) {
            out.state.set_ejected(false);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use portcullis_config::model::StatusRange;
    use portcullis_core::{endpoint::Health, keep::Keep};

    use super::*;
    use crate::{balance::testing::endpoints, health::testing::Seen};

    const NONE: [usize; 0] = [];
    const FAILED: Result<u16, Kind> = Err(Kind::ConnectionRefused);

    fn settings() -> PassiveHealth {
        PassiveHealth {
            failures: 3,
            window: Duration::from_secs(10),
            ejection: Duration::from_secs(30),
            statuses: vec![StatusRange { from: 502, to: 504 }],
            max_ejected: 0.5,
        }
    }

    struct Stage {
        keep: Keep,
        endpoints: Vec<Endpoint>,
        seen: Arc<Seen>,
        start: Instant,
    }

    impl Stage {
        fn new(number: usize) -> Stage {
            let endpoints = endpoints(&vec![1; number]);
            Stage { keep: Keep::default(), endpoints, seen: Arc::default(), start: Instant::now() }
        }

        fn passive(&self, settings: PassiveHealth) -> Passive {
            let place = Place { service: "s", endpoints: &self.endpoints, keep: &self.keep };
            Passive::new(&settings, &place).watched_by(self.seen.clone())
        }

        fn at(&self, seconds: f64) -> Instant {
            self.start + Duration::from_secs_f64(seconds)
        }

        /// This endpoint fails at these times.
        fn fail(&self, passive: &Passive, index: usize, times: &[f64]) {
            times.iter().for_each(|&t| _ = passive.observe(&self.endpoints, index, FAILED, self.at(t)));
        }

        fn ejected(&self) -> Vec<usize> {
            let out = self.endpoints.iter().enumerate().filter(|(_, endpoint)| endpoint.state.is_ejected());
            out.map(|(index, _)| index).collect()
        }
    }

    #[test]
    fn failures_within_the_window_eject_for_a_time() {
        let stage = Stage::new(2);
        let passive = stage.passive(settings());
        // Never three within ten seconds.
        stage.fail(&passive, 0, &[0.0, 5.0, 10.1, 15.1]);
        assert_eq!(stage.ejected(), NONE);
        stage.fail(&passive, 0, &[20.0]);
        assert_eq!(stage.ejected(), [0]);
        let url = &stage.endpoints[0].url;
        let reason = "3 failures within 10s, last: connection-refused";
        assert_eq!(stage.seen.take(), [format!("{url} healthy→ejected ({reason})")]);
        passive.readmit(stage.at(49.9));
        assert_eq!(stage.ejected(), [0]);
        passive.readmit(stage.at(50.0));
        assert_eq!(stage.ejected(), NONE);
        assert_eq!(stage.seen.take(), [format!("{url} ejected→healthy (ejection is over)")]);
        // It starts with a clean slate.
        stage.fail(&passive, 0, &[50.1, 50.2]);
        assert_eq!(stage.ejected(), NONE);
        stage.fail(&passive, 0, &[50.3]);
        assert_eq!(stage.ejected(), [0]);
    }

    #[test]
    fn only_the_faults_of_an_endpoint_count() {
        let stage = Stage::new(2);
        let passive = stage.passive(settings());
        for counted in [Ok(502), Ok(504), Err(Kind::ResponseTimeout), Err(Kind::ConnectTimeout)] {
            assert!(passive.counts(counted), "{counted:?}");
        }
        for passed in [
            Ok(200),
            Ok(500),
            Ok(505),
            Ok(u16::MAX),
            Err(Kind::ClientGone),
            Err(Kind::TotalTimeout),
            Err(Kind::UpgradeFailed),
            Err(Kind::NoHealthyEndpoints),
        ] {
            assert!(!passive.counts(passed), "{passed:?}");
            (0..10).for_each(|_| assert!(!passive.observe(&stage.endpoints, 0, passed, stage.start)));
        }
        assert_eq!(stage.ejected(), NONE);
    }

    #[test]
    fn no_more_than_the_share_are_out() {
        for (n, share, most) in
            [(10, 0.3, 3), (3, 0.5, 1), (5, 0.1, 0), (4, 1.0, 3), (1, 1.0, 0), (2, 0.5, 1)]
        {
            let stage = Stage::new(n);
            let passive = stage.passive(PassiveHealth { max_ejected: share, ..settings() });
            (0..n).for_each(|index| stage.fail(&passive, index, &[0.0; 5]));
            assert_eq!(stage.ejected().len(), most, "{share} of {n}");
        }
    }

    #[test]
    fn the_last_in_service_stays_whatever_took_the_others() {
        let mut stage = Stage::new(4);
        stage.endpoints[1].state.set_health(Health::Unhealthy);
        stage.endpoints[2].state.set_health(Health::Starting);
        stage.endpoints[3].weight = 0;
        let passive = stage.passive(PassiveHealth { max_ejected: 1.0, ..settings() });
        stage.fail(&passive, 0, &[0.0; 9]);
        assert_eq!(stage.ejected(), NONE);
        // As soon as another is there, the next failure counts with those before it.
        stage.endpoints[1].state.set_health(Health::Healthy);
        stage.fail(&passive, 0, &[1.0]);
        assert_eq!(stage.ejected(), [0]);
    }

    #[test]
    fn a_reload_keeps_who_is_out_and_what_was_counted() {
        let stage = Stage::new(4);
        let old = stage.passive(settings());
        stage.fail(&old, 0, &[0.0; 3]);
        stage.fail(&old, 1, &[0.0; 2]);
        let new = stage.passive(settings());
        // A request that began under the old configuration ends.
        stage.fail(&old, 1, &[1.0]);
        drop(old);
        assert_eq!(stage.ejected(), [0, 1]);
        new.readmit(stage.at(30.5));
        assert_eq!(stage.ejected(), [1]);
        new.readmit(stage.at(31.0));
        assert_eq!(stage.ejected(), NONE);
    }

    #[test]
    fn without_passive_health_all_are_back() {
        let stage = Stage::new(2);
        let passive = stage.passive(settings());
        stage.fail(&passive, 0, &[0.0; 3]);
        assert_eq!(stage.ejected(), [0]);
        drop(passive);
        assert_eq!(stage.ejected(), NONE);
    }

    #[test]
    fn workers_together_respect_the_bound() {
        let stage = Stage::new(8);
        let passive = stage.passive(PassiveHealth { max_ejected: 1.0, ..settings() });
        std::thread::scope(|scope| {
            for index in 0..8 {
                let (stage, passive) = (&stage, &passive);
                scope.spawn(move || stage.fail(passive, index, &[0.0; 50]));
            }
        });
        assert_eq!(stage.ejected().len(), 7);
    }
}
