//! May a stored answer be used for a request (RFC 9111 §4)?

use crate::{
    date::Seconds,
    directives::{Delta, Directives, Flag},
    object::Times,
    policy::Policy,
};

/// What becomes of a stored answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Used as it is.
    Fresh,
    /// Stale, used, and refreshed in the background (RFC 5861 §3).
    WhileRevalidate,
    /// Stale, and the client takes it so (`max-stale`).
    Accepted,
    /// Used only after the origin confirmed it.
    Revalidate,
}

/// Judges a stored answer.
pub fn judge(times: &Times, asked: &Directives, now: Seconds) -> Verdict {
    if times.always_revalidate || asked.has(Flag::NoCache) {
        return Verdict::Revalidate;
    }
    let age = i64::try_from(times.age(now)).unwrap_or(i64::MAX);
    if let Delta::Given(least) = asked.min_fresh
        && i64::from(times.lifetime).saturating_sub(age) < i64::from(least)
    {
        return Verdict::Revalidate;
    }
    // What the client calls stale may come earlier than what the origin does.
    let most = asked.max_age.given().map_or(i64::MAX, i64::from);
    let stale_by = age.saturating_sub(i64::from(times.lifetime).min(most));
    // `max-age=0` is how browsers ask to have an answer confirmed, be it of this very second.
    let is_old_for_client = age > most || most == 0;
    if age < i64::from(times.lifetime) && !is_old_for_client {
        return Verdict::Fresh;
    }
    let is_stale = age >= i64::from(times.lifetime);
    if is_stale && times.never_stale {
        return Verdict::Revalidate;
    }
    if let Delta::Given(most) = asked.max_stale
        && stale_by <= i64::from(most)
    {
        return if is_stale { Verdict::Accepted } else { Verdict::Fresh };
    }
    let window = i64::from(times.lifetime).saturating_add(i64::from(times.stale_while_revalidate));
    if times.stale_while_revalidate > 0 && age <= window && !is_old_for_client {
        return Verdict::WhileRevalidate;
    }
    Verdict::Revalidate
}

/// May a stale answer be used because the origin failed (RFC 5861 §4, RFC 9111 §4.2.4)? The request may ask for it too.
pub fn may_on_error(times: &Times, asked: &Directives, now: Seconds) -> bool {
    if times.always_revalidate || times.never_stale || asked.has(Flag::NoCache) {
        return false;
    }
    let window = times.stale_if_error.max(asked.stale_if_error.given().unwrap_or(0));
    let ttl = times.ttl(now);
    ttl > 0 || (window > 0 && ttl.saturating_neg() <= i64::from(window))
}

/// May it be used because the configuration says so, whatever the answer says? One that must always be confirmed
/// (`no-cache`) may not, nor where the request wants none.
pub fn may_in_need(policy: &Policy, times: &Times, asked: &Directives, now: Seconds) -> bool {
    let is_refused = times.always_revalidate || asked.has(Flag::NoCache);
    !is_refused && policy.in_need > 0 && times.ttl(now).saturating_neg() <= i64::from(policy.in_need)
}

/// Statuses that count as failure of the origin (RFC 5861 §4).
pub fn is_failure(status: u16) -> bool {
    matches!(status, 500 | 502 | 503 | 504)
}
