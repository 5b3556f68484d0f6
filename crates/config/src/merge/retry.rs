//! `retry` of services and routes.

use std::time::Duration;

use super::{Merger, Source, defaults, shared};
use crate::{
    diagnostic::Code,
    document::Path,
    model::{Hedge, Retry, RetryBudget, RetryOn, StatusRange},
    written::{
        self, OneOrMany, RetryCause,
        literal::{Ratio, Size},
    },
};

/// The most attempts.
const ATTEMPTS: u32 = 10;
/// An attempt is not late before that.
const HEDGE_MIN: Duration = Duration::from_millis(10);
/// The most of a body that is kept.
const BODY: u64 = 16 << 20;
/// Methods that may be repeated (RFC 9110 §9.2.2).
const IDEMPOTENT: [&str; 6] = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];

impl Merger<'_> {
    /// The retries of a service.
    pub(super) fn retry(&mut self, source: &Source, path: &Path, written: &written::Retry) -> Retry {
        let path = path.key("retry");
        let attempts = written.attempts.unwrap_or(3);
        if !(1..=ATTEMPTS).contains(&attempts) {
            let at = if source.document.root.at(&path.key("attempts")).is_some() {
                path.key("attempts")
            } else {
                path.clone()
            };
            let help = format!("1 (no retry) to {ATTEMPTS}, the first attempt included");
            self.error(source, &at, Code::BadValue, "a request cannot be tried so often", help);
        }
        let base = written.backoff.as_ref().and_then(|backoff| backoff.0.base);
        let base = defaults::first([&base], Duration::from_millis(25));
        let max = written.backoff.as_ref().and_then(|backoff| backoff.0.max);
        let max = defaults::first([&max], base.saturating_mul(10));
        if max < base {
            let message = "the longest wait of all is shorter than the first";
            let help = "`max` at least `base`";
            self.error(source, &path.key("backoff").key("max"), Code::Conflict, message, help);
        }
        if written.try_timeout.is_some_and(|time| time.0.is_zero()) {
            let help = "leave it away for as long as the request may take";
            let message = "`try_timeout` of 0 would end every attempt";
            self.error(source, &path.key("try_timeout"), Code::BadValue, message, help);
        }
        let body_buffer = defaults::first([&written.body_buffer], Size(64 * 1024)).0;
        if body_buffer > BODY {
            let message = "so much would be kept of every request under way";
            self.error(source, &path.key("body_buffer"), Code::BadValue, message, "at most 16 MiB");
        }
        let methods = methods(written);
        let on = causes(written);
        if !on.grpc.is_empty() && !methods.iter().any(|method| &**method == "POST") {
            let message = "gRPC asks by POST, which is not among the methods that are sent again";
            let help = "add methods = [\"POST\"] where the service's calls may be repeated";
            self.warning(source, &path.key("on"), Code::Conflict, message, help);
        }
        Retry {
            attempts: attempts.clamp(1, ATTEMPTS),
            on,
            methods,
            backoff_base: base,
            backoff_max: max,
            try_timeout: written.try_timeout.map(|lit| lit.0),
            body_buffer: body_buffer.min(BODY),
            hedge: self.hedge(source, &path, written),
            budget: self.budget(source, &path, written),
        }
    }

    /// The retries of a route: the budget is its service's.
    pub(super) fn route_retry(&mut self, source: &Source, path: &Path, written: &written::Retry) -> Retry {
        if written.budget.is_some() {
            let message = "a budget is for all that a service gets";
            let help = "write `retry.budget` at the service";
            self.error(source, &path.key("retry").key("budget"), Code::Conflict, message, help);
        }
        self.retry(source, path, written)
    }

    fn hedge(&mut self, source: &Source, path: &Path, written: &written::Retry) -> Option<Hedge> {
        let hedge = &written.hedge.as_ref()?.0;
        let path = path.key("hedge");
        let quantile = defaults::first([&hedge.quantile], Ratio(0.95)).0;
        let own = path.key("quantile");
        let at = if source.document.root.at(&own).is_some() { own } else { path.clone() };
        if quantile < 0.5 {
            let message = "more than half of all requests would be sent twice";
            self.error(source, &at, Code::BadValue, message, "at least 50%; 95% for one of twenty");
        } else if quantile > 0.999 {
            let message = "hardly any attempt is the slowest of a thousand";
            self.error(source, &at, Code::BadValue, message, "at most 99.9%");
        }
        if written.attempts == Some(1) {
            let message = "another attempt beside a late one is a second attempt, and there is only one";
            self.error(source, &path, Code::Conflict, message, "write attempts = 2, or more");
        }
        let budget = written.budget.as_ref().map(|budget| &budget.0);
        let is_nothing = |budget: &written::RetryBudget| {
            budget.ratio.is_some_and(|ratio| ratio.0.0 == 0.0) && budget.min_per_second == Some(0.0)
        };
        if budget.is_some_and(is_nothing) {
            let message = "the budget allows no attempt beside the first";
            let help = "give `budget` a `ratio`, or leave `hedge` away";
            self.warning(source, &path, Code::Conflict, message, help);
        }
        let max = hedge.max.map(|lit| lit.0);
        let usual = max.unwrap_or(HEDGE_MIN).min(HEDGE_MIN);
        let min = defaults::first([&hedge.min], usual);
        if let Some(max) = max {
            self.hedge_max_is_sound(source, &path, (min, max), written.try_timeout);
        }
        Some(Hedge { quantile, min, max })
    }

    fn hedge_max_is_sound(
        &mut self,
        source: &Source,
        path: &Path,
        (min, max): (Duration, Duration),
        try_timeout: Option<written::Lit<Duration>>,
    ) {
        let at = path.key("max");
        if max.is_zero() {
            let message = "every request would be sent twice at once";
            let help = "a time such as 200ms, or leave `max` away";
            self.error(source, &at, Code::BadValue, message, help);
        } else if max < min {
            let message = "an attempt is late after `max` at the latest, but not before `min`";
            self.error(source, &at, Code::Conflict, message, "`max` at least `min`");
        } else if try_timeout.is_some_and(|time| !time.0.is_zero() && max >= time.0) {
            let message = "by then `try_timeout` has ended the attempt";
            let help = "write less than `try_timeout`, or leave `max` away";
            self.warning(source, &at, Code::Conflict, message, help);
        }
    }

    fn budget(&mut self, source: &Source, path: &Path, written: &written::Retry) -> RetryBudget {
        let written = written.budget.as_ref().map(|budget| &budget.0);
        let min_per_second = written.and_then(|budget| budget.min_per_second).unwrap_or(10.0);
        if !min_per_second.is_finite() || min_per_second < 0.0 {
            let at = path.key("budget").key("min_per_second");
            let message = format!("{min_per_second} is no number of retries");
            self.error(source, &at, Code::BadValue, message, "0 or more: 10 for ten each second");
        }
        let ratio = written.and_then(|budget| budget.ratio);
        RetryBudget { ratio: defaults::first([&ratio], Ratio(0.2)).0, min_per_second }
    }
}

fn methods(written: &written::Retry) -> Vec<super::Name> {
    match &written.methods {
        Some(OneOrMany(list)) => list.iter().map(|method| shared(&method.0.0)).collect(),
        None => IDEMPOTENT.iter().map(|method| shared(method)).collect(),
    }
}

fn causes(written: &written::Retry) -> RetryOn {
    let Some(OneOrMany(list)) = &written.on else {
        return RetryOn {
            connect_error: true,
            reset: true,
            timeout: written.try_timeout.is_some(),
            statuses: vec![StatusRange { from: 502, to: 504 }],
            grpc: Vec::new(),
        };
    };
    let mut on = RetryOn::default();
    for cause in list {
        match cause.0 {
            RetryCause::ConnectError => on.connect_error = true,
            RetryCause::Reset => on.reset = true,
            RetryCause::Timeout => on.timeout = true,
            RetryCause::Statuses(range) => on.statuses.push(range),
            RetryCause::Grpc(code) => on.grpc.push(code),
        }
    }
    on
}
