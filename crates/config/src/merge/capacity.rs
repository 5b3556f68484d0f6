//! `capacity` of services.

use std::time::Duration;

use super::{Merger, Source, defaults};
use crate::{
    diagnostic::Code,
    document::Path,
    model::{Capacity, Concurrency, EndpointCapacity, Rate},
    written::{self, OrTable},
};

impl Merger<'_> {
    /// The capacity of a service.
    pub(super) fn capacity(
        &mut self,
        source: &Source,
        path: &Path,
        written: &written::Service,
    ) -> Option<Capacity> {
        let of = |endpoint: &OrTable<written::Endpoint>| {
            endpoint.0.concurrency.is_some() || endpoint.0.rate.is_some()
        };
        let of_endpoints = written.endpoints.iter().chain(&written.urls).flatten().any(of);
        let path = path.key("capacity");
        let Some(OrTable(written)) = &written.capacity else {
            let queue_timeout = Duration::from_secs(1);
            return of_endpoints.then_some(Capacity {
                concurrency: None,
                endpoint_concurrency: None,
                endpoint_rate: None,
                queue: 0,
                queue_timeout,
            });
        };
        let is_short = source.document.root.at(&path.key("concurrency")).is_none();
        let own = if is_short { path.clone() } else { path.key("concurrency") };
        let concurrency =
            written.concurrency.as_ref().map(|number| self.concurrency(source, &own, &number.0));
        let each = written.endpoint_concurrency.as_ref();
        let each = each.map(|number| self.concurrency(source, &path.key("endpoint_concurrency"), &number.0));
        let rate = written.endpoint_rate.as_ref();
        let rate = rate.map(|rate| self.rate(source, &path.key("endpoint_rate"), &rate.0));
        if concurrency.is_none() && each.is_none() && rate.is_none() && !of_endpoints && !source.broken(&path)
        {
            let message = "a capacity that bounds nothing";
            let help =
                "write `concurrency`, `endpoint_concurrency` or `endpoint_rate`, or take `capacity` away";
            self.error(source, &path, Code::MissingKey, message, help);
        }
        let queue = written.queue.unwrap_or(0);
        let queue_timeout = defaults::first([&written.queue_timeout], Duration::from_secs(1));
        if queue_timeout.is_zero() {
            let help = "write a time such as 1s, or take `queue` away";
            let message = "who may wait no time need not wait";
            self.error(source, &path.key("queue_timeout"), Code::BadValue, message, help);
        } else if written.queue_timeout.is_some() && queue == 0 {
            let message = "`queue_timeout` without `queue` does nothing";
            let help = "write how many may wait: queue = 100";
            self.warning(source, &path.key("queue_timeout"), Code::Conflict, message, help);
        }
        Some(Capacity { concurrency, endpoint_concurrency: each, endpoint_rate: rate, queue, queue_timeout })
    }

    /// What one endpoint bears.
    pub(super) fn endpoint_capacity(
        &mut self,
        source: &Source,
        path: &Path,
        written: &written::Endpoint,
    ) -> EndpointCapacity {
        let number = written.concurrency.as_ref();
        EndpointCapacity {
            concurrency: number.map(|number| self.concurrency(source, &path.key("concurrency"), &number.0)),
            rate: written.rate.as_ref().map(|rate| self.rate(source, &path.key("rate"), &rate.0)),
        }
    }

    fn concurrency(&mut self, source: &Source, path: &Path, written: &written::Concurrency) -> Concurrency {
        if let Some(number) = written.fixed {
            if number == 0 {
                let help = "at least 1; to send it nothing, give its endpoints the weight 0";
                self.error(source, path, Code::BadValue, "nothing could ever be under way", help);
            }
            return Concurrency::Fixed(number.max(1));
        }
        let (min, max) = (written.min.unwrap_or(4), written.max.unwrap_or(1000));
        let initial = written.initial.unwrap_or(20.clamp(min.min(max), max));
        if min == 0 || !(min <= initial && initial <= max) {
            let message = format!("`min` {min}, `initial` {initial} and `max` {max} do not ascend from 1");
            self.error(
                source,
                path,
                Code::BadValue,
                message,
                "for instance { min = 4, initial = 20, max = 1000 }",
            );
        }
        Concurrency::Adaptive { min: min.max(1), max: max.max(1), initial: initial.max(1) }
    }

    fn rate(&mut self, source: &Source, path: &Path, written: &written::Rate) -> Rate {
        let per = defaults::first([&written.per], Duration::from_secs(1));
        let second = f64::from(written.requests) / per.as_secs_f64();
        let usual = if second.is_finite() { second.ceil().clamp(1.0, f64::from(u32::MAX)) as u32 } else { 1 };
        let (burst, too_short) = (written.burst.unwrap_or(usual), second > 1e9);
        let wrong = [
            ("requests", written.requests == 0, "nothing would ever pass", "at least 1"),
            ("per", per.is_zero() || too_short, "this is too short to count in", "a time such as 1s"),
            (
                "per",
                per > Duration::from_secs(31 * 86_400),
                "this is too long to count in",
                "a time such as 1s",
            ),
            ("burst", burst == 0, "nothing would ever pass", "at least 1"),
        ];
        for (key, is_wrong, message, help) in wrong {
            if is_wrong {
                let own = path.key(key);
                let at = if source.document.root.at(&own).is_some() { &own } else { path };
                self.error(source, at, Code::BadValue, message, help);
            }
        }
        Rate { requests: written.requests.max(1), per, burst: burst.max(1) }
    }
}
