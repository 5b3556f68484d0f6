//! May an answer be stored, and for how long (RFC 9111 §3, §4.2)?

use http::StatusCode;
use portcullis_core::{Fields, Known, Request, exchange::Identity};

use crate::{
    Policy,
    date::{self, Seconds},
    directives::{Delta, Directives, Flag},
    object::Times,
    targeted,
    vary::Vary,
};

/// Fields that the gateway writes anew for each client, after the look-up: an answer that varies by them is for one client.
const WRITTEN_HERE: [&str; 3] = ["x-forwarded-for", "x-real-ip", "forwarded"];

/// Why an answer is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its status is none that is stored.
    Status,
    /// `no-store`.
    NoStore,
    /// `private`.
    Private,
    /// The request had credentials, and nothing says that others may see the answer (RFC 9111 §3.5).
    Authorization,
    /// `Vary: *`.
    VaryAny,
    /// `Set-Cookie`.
    SetCookie,
    /// Nothing says for how long, or it would never be used.
    NoLifetime,
    /// Larger than what is stored.
    TooLarge,
    /// It is a stream of events or of calls, which has no end to wait for.
    Stream,
    /// It ended before its end.
    Incomplete,
}

impl Refusal {
    /// For `Cache-Status` and the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::Status => "status",
            Refusal::NoStore => "no-store",
            Refusal::Private => "private",
            Refusal::Authorization => "authorization",
            Refusal::VaryAny => "vary-any",
            Refusal::SetCookie => "set-cookie",
            Refusal::NoLifetime => "no-lifetime",
            Refusal::TooLarge => "too-large",
            Refusal::Stream => "stream",
            Refusal::Incomplete => "incomplete",
        }
    }
}

/// An answer that may be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// For how long, and how it ages.
    pub times: Times,
    /// What it varies by: never [`Vary::Any`].
    pub vary: Vec<Box<str>>,
    /// Fields that are not stored with it, in lower case.
    pub without: Vec<Box<str>>,
    /// Others with other credentials may see it (RFC 9111 §3.5).
    pub shared: bool,
}

/// An answer, and when it was asked for and received.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub fields: &'a Fields,
    /// Bytes of its body, where they are known.
    pub length: Option<u64>,
    /// When the request left.
    pub asked: Seconds,
    /// Now.
    pub now: Seconds,
}

/// Judges an answer to a request of a client who is known by this identity, if by any.
///
/// # Errors
/// Why it may not be stored.
pub fn admit(
    policy: &Policy,
    request: &Request,
    identity: Option<&Identity>,
    answer: &Received<'_>,
) -> Result<Admission, Refusal> {
    let fields = answer.fields;
    let targeted = targeted::of(fields, &policy.targeted);
    let is_targeted = targeted.is_some();
    let said = targeted.unwrap_or_else(|| Directives::of(fields));
    let is_understood = is_understood(answer.status);
    // RFC 9111 §5.2.2.3: who understands `must-understand` and the status ignores the `no-store` beside it.
    let is_excused = said.has(Flag::MustUnderstand) && is_understood;
    if (said.has(Flag::NoStore) && !is_excused) || (said.has(Flag::MustUnderstand) && !is_understood) {
        return Err(Refusal::NoStore);
    }
    if said.has(Flag::Private) {
        return Err(Refusal::Private);
    }
    let Vary::Names(vary) = Vary::of(fields) else { return Err(Refusal::VaryAny) };
    if vary.iter().any(|name| WRITTEN_HERE.contains(&&**name)) {
        return Err(Refusal::VaryAny);
    }
    if is_endless(fields) {
        return Err(Refusal::Stream);
    }
    if fields.has(Known::SetCookie)
        && !policy.store_cookies
        && !said.fields.iter().any(|f| &**f == "set-cookie")
    {
        return Err(Refusal::SetCookie);
    }
    let shared = said.has(Flag::Public) || said.has(Flag::MustRevalidate) || said.s_maxage.is_said();
    // Credentials that a middleware has checked and taken away, or found in another field, are credentials all the same.
    let authorized = request.fields.has(Known::Authorization);
    let has_credentials = authorized || identity.is_some();
    if has_credentials && !shared && !policy.key.tell_apart(identity, authorized) {
        return Err(Refusal::Authorization);
    }
    if answer.length.is_some_and(|length| length > policy.max_object) {
        return Err(Refusal::TooLarge);
    }
    let times = times(policy, request, has_credentials, answer, &said, is_targeted)?;
    Ok(Admission { times, vary, without: said.fields, shared })
}

fn times(
    policy: &Policy,
    request: &Request,
    has_credentials: bool,
    answer: &Received<'_>,
    said: &Directives,
    is_targeted: bool,
) -> Result<Times, Refusal> {
    let path = request.original_path();
    let own = policy.lifetime(path);
    let explicit = explicit(said, answer, is_targeted);
    let lifetime = match (own, explicit) {
        (Some(own), _) if policy.force => own,
        (_, Some(lifetime)) => lifetime.max(policy.min_lifetime),
        (Some(own), None) => own,
        (None, None) => {
            heuristic(policy, request, has_credentials, answer, said).ok_or(Refusal::NoLifetime)?
        }
    };
    if !may_store(policy, answer.status, explicit.is_some()) {
        return Err(Refusal::Status);
    }
    let is_forced = policy.force && own.is_some();
    let never_stale =
        said.has(Flag::MustRevalidate) || said.has(Flag::ProxyRevalidate) || said.s_maxage.is_said();
    let stale = |said: Delta, own: u32| if said.is_said() { said.given().unwrap_or(0) } else { own };
    let times = Times {
        received: answer.now,
        initial_age: initial_age(answer),
        lifetime: lifetime.min(policy.max_lifetime),
        stale_while_revalidate: stale(said.stale_while_revalidate, policy.stale_while_revalidate),
        stale_if_error: stale(said.stale_if_error, policy.stale_if_error),
        in_need: policy.in_need,
        always_revalidate: said.has(Flag::NoCache) && !is_forced,
        never_stale,
    };
    let has_validator = answer.fields.has(Known::Etag) || answer.fields.has(Known::LastModified);
    let is_stale = times.always_revalidate || times.ttl(answer.now) <= 0;
    let is_useful_stale = !never_stale && (times.stale_while_revalidate > 0 || times.stale_if_error > 0);
    if is_stale && !has_validator && !is_useful_stale && policy.in_need == 0 {
        return Err(Refusal::NoLifetime);
    }
    Ok(times)
}

/// Server-sent events, gRPC.
fn is_endless(fields: &Fields) -> bool {
    let starts = |value: &[u8], kind: &[u8]| {
        value.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind))
    };
    let kind = fields.known(Known::ContentType);
    kind.is_some_and(|kind| starts(kind, b"text/event-stream") || starts(kind, b"application/grpc"))
}

/// What the origin says (RFC 9111 §4.2.1). What it says badly is no time at all.
fn explicit(said: &Directives, answer: &Received<'_>, is_targeted: bool) -> Option<u32> {
    for delta in [said.s_maxage, said.max_age] {
        match delta {
            Delta::Given(seconds) => return Some(seconds),
            // RFC 9213 §2.1: in a targeted field, a value of the wrong type is as if it were not there.
            Delta::Invalid if !is_targeted => return Some(0),
            _ => {}
        }
    }
    if is_targeted {
        // RFC 9213 §2.2: neither `Cache-Control` nor `Expires` counts beside it.
        return said.has(Flag::NoCache).then_some(0);
    }
    let mut expires = answer.fields.get_all("expires");
    if let Some(first) = expires.next() {
        let same = expires.all(|other| other == first);
        let at = date::parse(first).filter(|_| same).unwrap_or(0);
        let date = date::of(answer.fields).unwrap_or(answer.now);
        return Some(u32::try_from(at.saturating_sub(date)).unwrap_or(1 << 31));
    }
    said.has(Flag::NoCache).then_some(0)
}

/// A tenth of the time since the last change, a day at most (RFC 9111 §4.2.2). Not for what has a query, which is as
/// often computed as not, nor for what was asked for with a cookie or credentials.
fn heuristic(
    policy: &Policy,
    request: &Request,
    has_credentials: bool,
    answer: &Received<'_>,
    said: &Directives,
) -> Option<u32> {
    const DAY: u64 = 86_400;
    let personal = has_credentials || request.fields.has(Known::Cookie);
    let may = is_heuristically_cacheable(answer.status) || said.has(Flag::Public);
    if !policy.heuristics || !may || personal || request.original_query().is_some() {
        return None;
    }
    let modified = date::last_modified(answer.fields)?;
    let date = date::of(answer.fields).unwrap_or(answer.now);
    u32::try_from((date.saturating_sub(modified) / 10).min(DAY)).ok().filter(|seconds| *seconds > 0)
}

/// The age at which it came (RFC 9111 §4.2.3).
fn initial_age(answer: &Received<'_>) -> u32 {
    let apparent = date::of(answer.fields).map_or(0, |date| answer.now.saturating_sub(date));
    let told = answer.fields.known(Known::Age).map_or(0, |value| {
        // RFC 9111 §5.1: of a list the first counts, what is no number does not.
        let first = value.split(|&byte| byte == b',').next().unwrap_or_default().trim_ascii();
        let is_number = !first.is_empty() && first.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(first).ok().filter(|_| is_number);
        number.map_or(0, |text| text.parse().unwrap_or(u64::MAX).min(1 << 31))
    });
    let corrected = told + answer.now.saturating_sub(answer.asked);
    u32::try_from(apparent.max(corrected)).unwrap_or(u32::MAX)
}

/// Which statuses are stored. Errors that a client can provoke at will are not, whatever the origin says of them: one
/// odd request would take a page away from everybody (denial of service by poisoned caches).
fn may_store(policy: &Policy, status: StatusCode, is_explicit: bool) -> bool {
    match status.as_u16() {
        206 | 304 => false,
        404 | 410 | 451 => is_explicit || policy.errors.contains(&status.as_u16()),
        code @ 400.. => policy.errors.contains(&code),
        200 | 203 | 204 | 300 | 301 | 308 => true,
        code => code >= 200 && is_explicit,
    }
}

/// RFC 9110 §15.1, of those that are stored here.
fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308)
}

/// Statuses whose meaning for caches is known (RFC 9111 §3).
fn is_understood(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300..=303 | 307 | 308 | 404 | 410 | 451)
}
