//! `circuit_breaker` of services.

use std::time::Duration;

use super::{Merger, Source, defaults};
use crate::{
    diagnostic::Code,
    document::Path,
    expression::Expression,
    model::{CircuitBreaker, StatusRange},
    written::{self, BreakerScope, OneOrMany, literal::Ratio},
};

impl Merger<'_> {
    pub(super) fn circuit_breaker(
        &mut self,
        source: &Source,
        path: &Path,
        written: &written::CircuitBreaker,
    ) -> CircuitBreaker {
        let path = path.key("circuit_breaker");
        self.breaker_values(source, &path, written);
        let expression = written.expression.as_deref().and_then(|text| {
            let own = path.key("expression");
            let at = if source.document.root.at(&own).is_some() { &own } else { &path };
            let parsed = Expression::parse(text);
            parsed
                .map_err(|error| {
                    self.points_into(source, at, text, &error, (Code::BadValue, "the expression"));
                })
                .ok()
        });
        let has_other =
            written.failure_ratio.is_some() || written.slow_call.is_some() || written.expression.is_some();
        let seconds = Duration::from_secs;
        CircuitBreaker {
            per_endpoint: defaults::first([&written.per], BreakerScope::Service) == BreakerScope::Endpoint,
            failure_threshold: written.failure_threshold.or((!has_other).then_some(5)),
            failure_ratio: written.failure_ratio.map(|lit| lit.0.0),
            slow_call: written.slow_call.map(|lit| lit.0),
            slow_ratio: defaults::first([&written.slow_ratio], Ratio(0.5)).0,
            minimum_requests: written.minimum_requests.unwrap_or(20),
            window: defaults::first([&written.window], seconds(10)),
            expression,
            timeout: defaults::first([&written.timeout], seconds(60)),
            success_threshold: written.success_threshold.unwrap_or(2),
            ramp_up: defaults::first([&written.ramp_up], Duration::ZERO),
            failures: match &written.failures {
                Some(OneOrMany(list)) => list.iter().map(|range| range.0).collect(),
                None => vec![StatusRange { from: 500, to: 599 }],
            },
        }
    }

    fn breaker_values(&mut self, source: &Source, path: &Path, written: &written::CircuitBreaker) {
        let zero = |time: &Option<written::Lit<Duration>>| time.is_some_and(|time| time.0.is_zero());
        let none = |share: &Option<written::Lit<Ratio>>| share.is_some_and(|share| share.0.0 <= 0.0);
        let wrong = [
            ("failure_threshold", written.failure_threshold == Some(0), "at least 1"),
            ("success_threshold", written.success_threshold == Some(0), "at least 1"),
            ("failure_ratio", none(&written.failure_ratio), "a share such as 50%"),
            ("slow_ratio", none(&written.slow_ratio), "a share such as 50%"),
            ("slow_call", zero(&written.slow_call), "a time such as 2s"),
            ("window", zero(&written.window), "a time such as 10s"),
            ("timeout", zero(&written.timeout), "a time such as 60s"),
        ];
        for (key, is_wrong, help) in wrong {
            if is_wrong {
                let own = path.key(key);
                let at = if source.document.root.at(&own).is_some() { &own } else { path };
                self.error(source, at, Code::BadValue, format!("`{key}` cannot be 0"), help);
            }
        }
        if written.slow_ratio.is_some() && written.slow_call.is_none() {
            let message = "`slow_ratio` without `slow_call` does nothing";
            let help = "write `slow_call`: the time from which an answer is slow";
            self.warning(source, &path.key("slow_ratio"), Code::Conflict, message, help);
        }
        if let Some(least) = written.minimum_requests
            && written.failure_ratio.is_none()
            && written.slow_call.is_none()
        {
            let message =
                "`minimum_requests` is for `failure_ratio` and `slow_call`, and does nothing without them";
            let help = match written.expression {
                Some(_) => format!("join `RequestThreshold() >= {least} && (…)` in the expression"),
                None => "write one of the two, or take it away".to_owned(),
            };
            self.warning(source, &path.key("minimum_requests"), Code::Conflict, message, help);
        }
    }
}
