//! What clients are told: `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers), and the older fields.

use std::{fmt::Write, time::Duration};

use portcullis_core::{Answer, store::Taken};

use super::number;

/// Adds our items to those of an endpoint's, which stay: nothing that it says is loosened.
pub fn write<'a>(
    answer: &mut Answer,
    policies: &str,
    taken: impl Iterator<Item = (&'a str, &'a Taken)>,
    partitions: &[Option<String>],
) {
    let (mut state, mut partitions) = (String::new(), partitions.iter());
    for (name, taken) in taken {
        let comma = if state.is_empty() { "" } else { ", " };
        let reset = if taken.left == 0 { next(taken) } else { taken.reset };
        // Writing to a string cannot fail.
        let _ = write!(state, "{comma}\"{name}\";r={};t={}", taken.left, seconds(reset));
        if let Some(Some(partition)) = partitions.next() {
            let _ = write!(state, ";pk=:{partition}:");
        }
    }
    answer.fields.append("ratelimit-policy", policies);
    answer.fields.append("ratelimit", state);
}

/// `RateLimit-Policy`, each policy with the name of whom it counts.
pub fn named(policies: &[String], partitions: &[Option<String>]) -> String {
    let mut all = String::new();
    for (policy, partition) in policies.iter().zip(partitions) {
        let comma = if all.is_empty() { "" } else { ", " };
        let _ = write!(all, "{comma}{policy}");
        if let Some(partition) = partition {
            let _ = write!(all, ";pk=:{partition}:");
        }
    }
    all
}

/// The older fields, for the limit of which least is left; an endpoint that says less is believed.
pub fn write_older<'a>(answer: &mut Answer, taken: impl Iterator<Item = (u64, &'a Taken)>) {
    let Some((limit, least)) = taken.min_by_key(|(_, taken)| (taken.enough, taken.left)) else { return };
    let said = number(&answer.fields, "x-ratelimit-remaining");
    if said.is_some_and(|said| said <= least.left) {
        return;
    }
    let reset = if least.left == 0 { next(least) } else { least.reset };
    let mut number = itoa::Buffer::new();
    answer.fields.set("x-ratelimit-limit", number.format(limit));
    answer.fields.set("x-ratelimit-remaining", number.format(least.left));
    answer.fields.set("x-ratelimit-reset", number.format(seconds(reset)));
}

/// When the next one would pass, as `Retry-After` says it too.
fn next(taken: &Taken) -> Duration {
    if taken.enough { taken.reset } else { taken.wait }
}

/// Whole seconds, rounded up: who comes back then is let in.
pub fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
