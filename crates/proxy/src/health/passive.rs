//! Passive health: failures of real requests within a window take an endpoint out for a time.
//!
//! A success costs a comparison or two; only failures take a lock. Nobody waits on a timer for an endpoint's return:
//! whoever chooses next looks at the time when the earliest return is due, which is one load.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use portcullis_config::model::PassiveHealth;
use portcullis_core::endpoint::Endpoint;

use crate::balance::Place;

const NEVER: u64 = u64::MAX;

/// The passive health of one service's endpoints.
#[derive(Debug)]
pub struct Passive {
    settings: PassiveHealth,
    service: Box<str>,
    born: Instant,
    /// When the earliest ejection ends, in milliseconds since `born`.
    next_return: AtomicU64,
    records: Mutex<Vec<Record>>,
}

/// What is remembered of one endpoint.
#[derive(Debug, Default)]
struct Record {
    /// When it failed, oldest first, at most as many as take it out.
    failures: VecDeque<Instant>,
    back_at: Option<Instant>,
}

impl Passive {
    /// For the endpoints of a service. Those that an older configuration has taken out come back after one ejection.
    pub fn new(settings: &PassiveHealth, place: &Place<'_>) -> Passive {
        let now = Instant::now();
        let record = |endpoint: &Endpoint| Record {
            failures: VecDeque::new(),
            back_at: endpoint.state.is_ejected().then(|| now + settings.ejection),
        };
        let records: Vec<Record> = place.endpoints.iter().map(record).collect();
        let passive = Passive {
            settings: settings.clone(),
            service: place.service.into(),
            born: now,
            next_return: AtomicU64::new(NEVER),
            records: Mutex::new(records),
        };
        passive.plan(&passive.lock());
        passive
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings back those whose time is over. To be called before choosing.
    pub fn restore(&self, endpoints: &[Endpoint], now: Instant) {
        let due = self.next_return.load(Relaxed);
        if due == NEVER || (now.saturating_duration_since(self.born).as_millis() as u64) < due {
            return;
        }
        let mut records = self.lock();
        for (record, endpoint) in records.iter_mut().zip(endpoints) {
            if record.back_at.is_some_and(|at| at <= now) {
                record.back_at = None;
                record.failures.clear();
                if endpoint.state.set_ejected(false) {
                    tracing::info!(
                        service = &*self.service,
                        endpoint = &*endpoint.url,
                        "endpoint back on trial"
                    );
                }
            }
        }
        self.plan(&records);
    }

    /// Told of every attempt: the answer's status, or `None` when there was none.
    pub fn observe(&self, endpoints: &[Endpoint], index: usize, status: Option<u16>, now: Instant) {
        if status.is_some_and(|status| !self.counts(status)) {
            return;
        }
        let mut records = self.lock();
        let others_out =
            records.iter().enumerate().filter(|(i, r)| *i != index && r.back_at.is_some()).count();
        let (Some(record), Some(endpoint)) = (records.get_mut(index), endpoints.get(index)) else { return };
        let window = self.settings.window;
        record.failures.retain(|at| now.saturating_duration_since(*at) < window);
        record.failures.push_back(now);
        let enough = record.failures.len() >= self.settings.failures as usize;
        if record.back_at.is_some() || !enough || !self.may_eject(endpoints, index, others_out) {
            // Bounded: older failures than those that count say nothing more.
            while record.failures.len() > self.settings.failures as usize {
                record.failures.pop_front();
            }
            return;
        }
        record.back_at = Some(now + self.settings.ejection);
        record.failures.clear();
        if endpoint.state.set_ejected(true) {
            tracing::warn!(
                service = &*self.service,
                endpoint = &*endpoint.url,
                failures = self.settings.failures,
                ejection = ?self.settings.ejection,
                "endpoint taken out: too many failures"
            );
        }
        self.plan(&records);
    }

    fn counts(&self, status: u16) -> bool {
        self.settings.statuses.iter().any(|range| (range.from..=range.to).contains(&status))
    }

    /// Never more than the configured share, and never the last one that is in service.
    fn may_eject(&self, endpoints: &[Endpoint], index: usize, out: usize) -> bool {
        let share_is_kept = (out + 1) as f64 <= self.settings.max_ejected * endpoints.len() as f64;
        let another = endpoints.iter().enumerate().any(|(i, endpoint)| i != index && endpoint.is_available());
        share_is_kept && another
    }

    fn plan(&self, records: &[Record]) {
        let next = records.iter().filter_map(|record| record.back_at).min();
        let millis = next.map_or(NEVER, |at| at.saturating_duration_since(self.born).as_millis() as u64);
        self.next_return.store(millis, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use portcullis_config::model::StatusRange;
    use portcullis_core::{endpoint::EndpointState, keep::Keep};

    use super::*;

    fn endpoints(count: usize) -> Vec<Endpoint> {
        let endpoint = |i| Endpoint {
            url: format!("http://e{i}").into(),
            weight: 1,
            hash: i as u64,
            state: Arc::new(EndpointState::new(false)),
        };
        (0..count).map(endpoint).collect()
    }

    fn passive(endpoints: &[Endpoint], max_ejected: f64) -> Passive {
        let settings = PassiveHealth {
            failures: 3,
            window: Duration::from_secs(10),
            ejection: Duration::from_secs(30),
            statuses: vec![StatusRange { from: 502, to: 504 }],
            max_ejected,
        };
        Passive::new(&settings, &Place { service: "s", endpoints, keep: &Keep::default() })
    }

    #[test]
    fn failures_in_a_window_take_out_and_time_brings_back() {
        let all = endpoints(2);
        let passive = passive(&all, 0.5);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (seconds, status) in [(0, None), (1, Some(200)), (2, Some(503)), (11, Some(502)), (12, Some(500))]
        {
            passive.observe(&all, 0, status, at(seconds));
        }
        assert!(!all[0].state.is_ejected(), "the first failure has left the window");
        passive.observe(&all, 0, None, at(11));
        assert!(all[0].state.is_ejected());
        passive.restore(&all, at(40));
        assert!(all[0].state.is_ejected());
        passive.restore(&all, at(42));
        assert!(!all[0].state.is_ejected());
    }

    #[test]
    fn neither_the_last_one_nor_more_than_the_share() {
        let all = endpoints(4);
        let passive = passive(&all, 0.5);
        let now = Instant::now();
        for index in 0..4 {
            (0..3).for_each(|_| passive.observe(&all, index, None, now));
        }
        assert_eq!(all.iter().filter(|e| e.state.is_ejected()).count(), 2);
        let one = endpoints(1);
        let alone = self::passive(&one, 1.0);
        (0..9).for_each(|_| alone.observe(&one, 0, None, now));
        assert!(!one[0].state.is_ejected());
    }
}
