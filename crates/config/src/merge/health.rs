//! Health checks of services, active and passive.

use super::{Merger, Source, defaults, shared};
use crate::{
    diagnostic::Code,
    document::Path,
    model::{HealthCheck, PassiveHealth, Probe, StatusRange},
    scalar,
    written::{self, Lit, ProbeKind, literal::Ratio},
};

impl Merger<'_> {
    pub(super) fn health_check(
        &mut self,
        source: &Source,
        path: &Path,
        written: &written::HealthCheck,
    ) -> Option<HealthCheck> {
        let path = path.key("health_check");
        let interval = defaults::first([&written.interval], std::time::Duration::from_secs(10));
        let timeout = defaults::first([&written.timeout], std::time::Duration::from_secs(5));
        for (key, value) in [
            ("interval", Some(interval)),
            ("unhealthy_interval", written.unhealthy_interval.map(|l| l.0)),
            ("timeout", Some(timeout)),
        ] {
            if value.is_some_and(|value| value.is_zero()) {
                let message = format!("`{key}` cannot be 0");
                self.error(source, &path.key(key), Code::BadValue, message, "write a time such as 5s");
            }
        }
        for (key, value) in
            [("unhealthy_after", written.unhealthy_after), ("healthy_after", written.healthy_after)]
        {
            if value == Some(0) {
                let message = format!("`{key}` cannot be 0");
                self.error(source, &path.key(key), Code::BadValue, message, "at least 1");
            }
        }
        let kind = match written.kind {
            Some(Lit(ProbeKind::Tcp)) => {
                self.no_http_keys(source, &path, written);
                Probe::Tcp
            }
            _ => self.http_probe(source, &path, written)?,
        };
        Some(HealthCheck {
            kind,
            interval,
            unhealthy_interval: defaults::first([&written.unhealthy_interval], interval),
            timeout,
            unhealthy_after: written.unhealthy_after.unwrap_or(3),
            healthy_after: written.healthy_after.unwrap_or(1),
            jitter: defaults::first([&written.jitter], Ratio(0.1)).0,
            port: written.port,
        })
    }

    fn no_http_keys(&mut self, source: &Source, path: &Path, written: &written::HealthCheck) {
        let keys = [
            ("path", written.path.is_some()),
            ("method", written.method.is_some()),
            ("headers", !written.headers.is_empty()),
            ("host", written.host.is_some()),
            ("expect", written.expect.is_some()),
        ];
        for (key, there) in keys {
            if there {
                let message = format!("a TCP probe has no `{key}`");
                self.error(
                    source,
                    &path.key(key),
                    Code::Conflict,
                    message,
                    "take it away, or write kind = \"http\"",
                );
            }
        }
    }

    fn http_probe(&mut self, source: &Source, path: &Path, written: &written::HealthCheck) -> Option<Probe> {
        let Some(target) = &written.path else {
            if !source.broken(path) {
                let help = "write path = \"/health\", or kind = \"tcp\"";
                self.error(source, path, Code::MissingKey, "an HTTP probe without a path", help);
            }
            return None;
        };
        let bad = |c: char| c.is_control() || c.is_whitespace() || !c.is_ascii() || c == '#';
        if !target.starts_with('/') || target.contains(bad) {
            let help = "write a path such as /health, percent-encoded where needed";
            self.error(
                source,
                &path.key("path"),
                Code::BadValue,
                format!("`{target}` cannot be probed"),
                help,
            );
        }
        let mut headers = Vec::new();
        for (name, value) in &written.headers {
            let judged = scalar::header_name(name).and_then(|_| scalar::header_value(value));
            if let Err(problem) = judged {
                self.error(
                    source,
                    &path.key("headers").key(name),
                    Code::BadValue,
                    problem.message,
                    problem.help,
                );
            }
            headers.push((shared(name), shared(value)));
        }
        if let Some(host) = &written.host
            && let Err(problem) = scalar::header_value(host)
        {
            self.error(source, &path.key("host"), Code::BadValue, problem.message, problem.help);
        }
        Some(Probe::Http {
            path: shared(target),
            method: written.method.as_ref().map_or_else(|| shared("GET"), |method| shared(&method.0.0)),
            headers,
            expect: ranges(written.expect.as_ref(), StatusRange { from: 200, to: 399 }),
            host: written.host.as_deref().map(shared),
        })
    }
}

fn ranges(written: Option<&written::OneOrMany<Lit<StatusRange>>>, default: StatusRange) -> Vec<StatusRange> {
    match written {
        Some(list) if !list.0.is_empty() => list.0.iter().map(|range| range.0).collect(),
        _ => vec![default],
    }
}

/// Passive health with its defaults.
pub(super) fn passive(written: &written::PassiveHealth) -> PassiveHealth {
    let seconds = std::time::Duration::from_secs;
    PassiveHealth {
        failures: written.failures.unwrap_or(5),
        window: defaults::first([&written.window], seconds(10)),
        ejection: defaults::first([&written.ejection], seconds(30)),
        statuses: ranges(written.statuses.as_ref(), StatusRange { from: 502, to: 504 }),
        max_ejected: defaults::first([&written.max_ejected], Ratio(0.5)).0,
    }
}
