//! Power of two choices on peak EWMA: of two endpoints drawn at random, the one that promises the shorter wait.
//!
//! After Finagle and linkerd. An endpoint's latency is a moving average that forgets within some ten seconds, but
//! jumps to a slower answer at once, so that trouble is believed immediately and recovery only with time. The promised
//! wait is that latency times the requests it already has in flight, plus this one.
//!
//! **Weights.** A pair is drawn with a probability proportional to the sum of its weights (the first by weight, the
//! second evenly), the load is taken relative to the weight, and the heavier of the two may win although it is the
//! slower, as far as its weight makes up for that, with probability (w₁ − w₂) / (w₁ + w₂). Where all are equally fast
//! the shares are then exactly those of the weights, and with equal weights this is the plain algorithm.
//!
//! **Unknown latency** (a new endpoint, or one that has not answered for half a minute): it is taken to be as fast as
//! the other of the pair, but gets no second request until it answered the first, so that it is never flooded on the
//! strength of a guess. So a slow endpoint is asked again, too. Finagle lets an average fade while nothing is heard;
//! at a few requests per second that draws them to the endpoints that are asked least, against their weights.
//!
//! **Fast failures** do not count as speed: without an answer, and with 502, 503 and 504, the latency counts as a
//! second at least. When a client left before the answer, tell [`CLIENT_GONE`] as the status: then the time waited is
//! only a lower bound, which may raise the average and never lowers it.

use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use portcullis_core::{
    balance::{Balancer, CLIENT_GONE, Pick, Seen},
    endpoint::{Endpoint, EndpointState},
};

use super::{Place, at_share, shares::Shares};

/// The time after which an observation counts e times less.
const DECAY: Duration = Duration::from_secs(10);
/// After this without an observation the average is no longer known.
const STALE: Duration = Duration::from_secs(30);
/// What a failure takes, at least.
const FAILURE: Duration = Duration::from_secs(1);
/// The latency of an endpoint that is still at its first request: longer than any other.
const UNKNOWN_NS: f64 = 1e18;
/// Draws of a second endpoint before all are looked at.
const DRAWS: usize = 4;

/// See the module.
#[derive(Debug)]
pub struct P2c {
    shares: Shares,
}

impl P2c {
    /// For the endpoints of a service.
    pub fn new(place: &Place<'_>) -> P2c {
        P2c { shares: Shares::new(place.endpoints) }
    }
}

impl Balancer for P2c {
    fn pick(&self, pick: &Pick<'_>) -> Option<usize> {
        let first = self.shares.draw(pick)?;
        let Some(second) = another(pick, first) else { return Some(first) };
        let (a, b) = (pick.endpoints.get(first)?, pick.endpoints.get(second)?);
        Some(if is_better(a, b, pick.now) { first } else { second })
    }

    fn observe(&self, endpoint: &Endpoint, seen: &Seen) {
        record(&endpoint.state, seen);
    }

    fn name(&self) -> &'static str {
        "p2c"
    }
}

/// Draws one of the others that are allowed, evenly.
fn another(pick: &Pick<'_>, first: usize) -> Option<usize> {
    let others = pick.endpoints.len().saturating_sub(1);
    if others == 0 {
        return None;
    }
    for _ in 0..DRAWS {
        let index = fastrand::usize(..others);
        let index = index + usize::from(index >= first);
        if pick.allows(index) {
            return Some(index);
        }
    }
    at_share(pick, fastrand::u64(..), |index, _| index != first)
}

/// Is the first of two to be preferred?
fn is_better(a: &Endpoint, b: &Endpoint, now: Instant) -> bool {
    let (heavy, light, swapped) = if a.weight >= b.weight { (a, b, false) } else { (b, a, true) };
    let (heavy_weight, light_weight) = (f64::from(heavy.weight), f64::from(light.weight));
    let (sum, difference) = (heavy_weight + light_weight, heavy_weight - light_weight);
    let (heavy_wait, light_wait) = waits(heavy, light, now);
    let heavy_wins = if heavy_wait < light_wait {
        true
    } else if heavy_wait == light_wait {
        fastrand::f64() * sum < heavy_weight
    } else {
        heavy_wait * light_weight < light_wait * heavy_weight && fastrand::f64() * sum < difference
    };
    heavy_wins != swapped
}

/// The waits that two endpoints promise, in nanoseconds: latency × (requests in flight for their weight + 1).
fn waits(a: &Endpoint, b: &Endpoint, now: Instant) -> (f64, f64) {
    let mean_weight = (f64::from(a.weight) + f64::from(b.weight)) / 2.0;
    let known = (latency(&a.state, now), latency(&b.state, now));
    let wait = |endpoint: &Endpoint, own: Option<f64>, other: Option<f64>| {
        let in_flight = f64::from(endpoint.state.in_flight.load(Relaxed));
        let latency = match (own, other) {
            (Some(own), _) => own,
            (None, _) if in_flight > 0.0 => UNKNOWN_NS,
            (None, Some(other)) => other,
            // Both are unknown: any number, as long as it is the same for both.
            (None, None) => 1.0,
        };
        latency * (1.0 + in_flight * mean_weight / f64::from(endpoint.weight.max(1)))
    };
    (wait(a, known.0, known.1), wait(b, known.1, known.0))
}

/// The moving average in nanoseconds; `None` when unknown.
fn latency(state: &EndpointState, now: Instant) -> Option<f64> {
    let average = state.ewma_ns.load(Relaxed);
    (average > 0 && since(state, now) < STALE).then_some(average as f64)
}

/// Time since the last observation.
fn since(state: &EndpointState, now: Instant) -> Duration {
    state.age(now).saturating_sub(Duration::from_nanos(state.ewma_at.load(Relaxed)))
}

/// Takes an observation into the average. Two workers that record at once may lose one of two samples, never a peak of
/// a known average.
fn record(state: &EndpointState, seen: &Seen) {
    let failed = matches!(seen.status, None | Some(502..=504));
    let taken = if failed { seen.latency.max(FAILURE) } else { seen.latency };
    let sample = (taken.as_nanos() as u64).max(1);
    let is_bound = seen.status == Some(CLIENT_GONE);
    let average = state.ewma_ns.load(Relaxed);
    match latency(state, seen.now) {
        None if is_bound => return,
        None => state.ewma_ns.store(sample, Relaxed),
        Some(known) if sample as f64 >= known => drop(state.ewma_ns.fetch_max(sample, Relaxed)),
        Some(_) if is_bound => return,
        Some(known) => {
            let kept = (-since(state, seen.now).as_secs_f64() / DECAY.as_secs_f64()).exp();
            let mixed = known * kept + sample as f64 * (1.0 - kept);
            // Lost to another worker's sample: that one is as good.
            let _ = state.ewma_ns.compare_exchange(average, (mixed as u64).max(1), Relaxed, Relaxed);
        }
    }
    state.ewma_at.fetch_max(state.age(seen.now).as_nanos() as u64, Relaxed);
}

#[cfg(test)]
mod tests {
    use portcullis_core::keep::Keep;

    use super::*;
    use crate::balance::testing::*;

    fn built(endpoints: &[Endpoint]) -> P2c {
        P2c::new(&Place { service: "s", endpoints, keep: &Keep::default() })
    }

    fn answered(millis: u64, now: Instant) -> Seen {
        Seen { latency: Duration::from_millis(millis), status: Some(200), now }
    }

    fn millis(endpoint: &Endpoint, now: Instant) -> Option<f64> {
        latency(&endpoint.state, now).map(|ns| (ns / 1e5).round() / 10.0)
    }

    #[test]
    fn shares_follow_the_weights_where_all_are_as_fast() {
        for weights in [&[3, 1][..], &[1, 1], &[5, 1, 1], &[1, 2, 3, 4, 90], &[1; 10]] {
            fastrand::seed(3);
            let endpoints = endpoints(weights);
            let balancer = built(&endpoints);
            let mut now = Instant::now();
            let mut counts = vec![0; weights.len()];
            for _ in 0..100_000 {
                // The same latency for all, with noise.
                for endpoint in &endpoints {
                    let noise = 5_000_000 + fastrand::u64(..1_000_000);
                    endpoint.state.ewma_ns.store(noise, Relaxed);
                    endpoint.state.ewma_at.store(endpoint.state.age(now).as_nanos() as u64, Relaxed);
                }
                counts[balancer.pick(&Pick { now, ..pick(&endpoints) }).unwrap()] += 1;
                now += Duration::from_millis(1);
            }
            assert_proportional(&counts, weights, 0.01);
        }
    }

    #[test]
    fn unknown_ones_that_are_idle_are_spread_by_weight() {
        fastrand::seed(4);
        let endpoints = endpoints(&[3, 1]);
        assert_proportional(&counts(&built(&endpoints), &pick(&endpoints), 50_000), &[3, 1], 0.01);
    }

    #[test]
    fn the_slower_of_two_is_left_alone() {
        let endpoints = endpoints(&[1, 1]);
        let (balancer, now) = (built(&endpoints), Instant::now());
        balancer.observe(&endpoints[0], &answered(10, now));
        balancer.observe(&endpoints[1], &answered(50, now));
        let pick = Pick { now, ..pick(&endpoints) };
        assert_eq!(counts(&balancer, &pick, 100), [100, 0]);
        // Four in flight and this one make 50 ms: even. One more, and the slow one is the better choice.
        endpoints[0].state.in_flight.store(5, Relaxed);
        assert_eq!(counts(&balancer, &pick, 100), [0, 100]);
    }

    #[test]
    fn a_new_endpoint_gets_one_request_until_it_answers() {
        let endpoints = endpoints(&[1, 1]);
        let (balancer, now) = (built(&endpoints), Instant::now());
        balancer.observe(&endpoints[0], &answered(900, now));
        endpoints[0].state.in_flight.store(50, Relaxed);
        let pick = Pick { now, ..pick(&endpoints) };
        assert_eq!(balancer.pick(&pick), Some(1));
        endpoints[1].state.in_flight.store(1, Relaxed);
        assert_eq!(counts(&balancer, &pick, 100), [100, 0]);
        // So is one that was not heard of for long.
        balancer.observe(&endpoints[1], &answered(1, now));
        assert_eq!(counts(&balancer, &pick, 100), [0, 100]);
        let later = now + STALE + Duration::from_millis(1);
        balancer.observe(&endpoints[0], &answered(900, later));
        assert_eq!(counts(&balancer, &Pick { now: later, ..pick }, 100), [100, 0]);
    }

    #[test]
    fn the_average_peaks_at_once_and_recovers_slowly() {
        let endpoint = &endpoints(&[1])[0];
        let (balancer, start) = (built(&[]), Instant::now());
        assert_eq!(millis(endpoint, start), None);
        balancer.observe(endpoint, &answered(10, start));
        assert_eq!(millis(endpoint, start), Some(10.0));
        balancer.observe(endpoint, &answered(200, start));
        assert_eq!(millis(endpoint, start), Some(200.0));
        // One answer after a long decay counts for 1 − 1/e of the average.
        let later = start + DECAY;
        balancer.observe(endpoint, &answered(10, later));
        assert_eq!(millis(endpoint, later), Some(79.9));
        assert_eq!(millis(endpoint, later + DECAY), Some(79.9));
        // Not heard of for long, it starts anew.
        let late = later + STALE;
        assert_eq!(millis(endpoint, late), None);
        balancer.observe(endpoint, &answered(10, late));
        assert_eq!(millis(endpoint, late), Some(10.0));
    }

    #[test]
    fn failing_fast_is_not_speed() {
        let (balancer, now) = (built(&[]), Instant::now());
        for status in [None, Some(502), Some(503), Some(504)] {
            let endpoint = &endpoints(&[1])[0];
            balancer.observe(endpoint, &Seen { latency: Duration::from_micros(50), status, now });
            assert_eq!(millis(endpoint, now), Some(1000.0));
        }
    }

    #[test]
    fn a_client_that_left_only_raises_the_average() {
        let endpoint = &endpoints(&[1])[0];
        let (balancer, now) = (built(&[]), Instant::now());
        let left = |millis| Seen { status: Some(CLIENT_GONE), ..answered(millis, now + DECAY) };
        balancer.observe(endpoint, &left(1));
        assert_eq!(millis(endpoint, now), None);
        balancer.observe(endpoint, &answered(100, now));
        balancer.observe(endpoint, &left(1));
        assert_eq!(millis(endpoint, now), Some(100.0));
        balancer.observe(endpoint, &left(300));
        assert_eq!(millis(endpoint, now + DECAY), Some(300.0));
    }
}
