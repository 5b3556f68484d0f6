//! Services that cannot work, and what nothing uses.

use std::time::Duration;

use super::Check;
use crate::{
    diagnostic::{Code, Finding},
    document::Path,
    human,
    merge::base,
    model::{Probe, Scheme, Service, UpstreamHttp},
};

impl Check<'_> {
    pub(super) fn services(&mut self) {
        for service in self.model.services.values() {
            self.weights(service);
            self.service_timeouts(service);
            self.health(service);
            self.versions(service);
            self.upstream_files(service);
        }
    }

    fn weights(&mut self, service: &Service) {
        if !service.endpoints.is_empty() && service.endpoints.iter().all(|endpoint| endpoint.weight == 0) {
            let message =
                format!("all endpoints of `{}` have weight 0: it answers nothing", base(&service.name));
            let finding =
                Finding::error(Code::ZeroWeight, message).help("give one of them a weight of at least 1");
            self.at(&service.origin, &[], true, finding);
        }
    }

    fn service_timeouts(&mut self, service: &Service) {
        let timeouts = &service.timeouts;
        let required: [(&str, Duration); 4] = [
            ("connect", timeouts.connect),
            ("response_header", timeouts.response_header),
            ("body_idle", timeouts.body_idle),
            ("write_idle", timeouts.write_idle),
        ];
        for (key, value) in required {
            if !value.is_zero() {
                continue;
            }
            let finding = Finding::error(Code::BadValue, format!("`{key}` of 0 would end every request"));
            let finding = finding.help("write a time such as 30s");
            let own = Path::parse(&service.origin.path).key("timeouts").key(key);
            let written =
                self.source_of(&service.origin).is_some_and(|source| source.document.root.at(&own).is_some());
            if written {
                self.at(&service.origin, &["timeouts", key], false, finding);
            } else {
                self.in_main(&Path::root().key("timeouts").key(key), finding);
            }
        }
        if service.pool.max_connections > 0 && service.pool.max_idle > service.pool.max_connections {
            let written = Path::parse(&service.origin.path).key("pool").key("max_idle");
            if self
                .source_of(&service.origin)
                .is_some_and(|source| source.document.root.at(&written).is_some())
            {
                let message = "more idle connections are kept than may be open";
                let finding = Finding::warning(Code::Conflict, message).help("at most `max_connections`");
                self.at(&service.origin, &["pool", "max_idle"], false, finding);
            }
        }
    }

    fn health(&mut self, service: &Service) {
        if let Some(check) = &service.health_check {
            if check.timeout > check.interval && !check.interval.is_zero() {
                let (timeout, interval) = (human::text(check.timeout), human::text(check.interval));
                let message = format!("a probe may take {timeout}, longer than the {interval} to the next");
                let finding = Finding::warning(Code::Conflict, message)
                    .help(format!("write timeout = \"{interval}\" or less"));
                self.at(&service.origin, &["health_check", "timeout"], false, finding);
            }
            if let Probe::Http { method, .. } = &check.kind
                && &**method == "CONNECT"
            {
                let finding = Finding::error(Code::BadValue, "CONNECT is no probe").help("write GET or HEAD");
                self.at(&service.origin, &["health_check", "method"], false, finding);
            }
        }
        let Some(passive) = &service.passive_health else { return };
        let values = [
            ("failures", passive.failures == 0),
            ("window", passive.window.is_zero()),
            ("ejection", passive.ejection.is_zero()),
        ];
        for (key, zero) in values {
            if zero {
                let finding = Finding::error(Code::BadValue, format!("`{key}` cannot be 0"));
                let finding = finding.help("leave it away for the default");
                self.at(&service.origin, &["passive_health", key], false, finding);
            }
        }
    }

    fn versions(&mut self, service: &Service) {
        let h2c = service.endpoints.iter().any(|endpoint| endpoint.scheme == Scheme::H2c);
        if service.http == UpstreamHttp::Http1 && h2c {
            let message = "an `h2c://` endpoint speaks HTTP/2 only";
            let finding = Finding::error(Code::Conflict, message).help("take `http` away, or write http://");
            self.at(&service.origin, &["http"], false, finding);
        }
        let secure = service.endpoints.iter().any(|endpoint| endpoint.scheme == Scheme::Https);
        let tls = &service.tls;
        let any = !tls.ca.is_empty() || tls.server_name.is_some() || tls.client_certificate.is_some();
        if any && !secure && !service.endpoints.is_empty() {
            let message = "`tls` without an `https://` endpoint does nothing";
            let finding = Finding::warning(Code::Conflict, message).help("write https:// in the endpoints");
            self.at(&service.origin, &["tls"], true, finding);
        }
    }

    /// Services and middlewares that nothing uses.
    pub(super) fn unused(&mut self) {
        for service in self.model.services.values() {
            if !self.used.contains(&service.name) {
                let message = format!("nothing uses the service `{}`", base(&service.name));
                let finding = Finding::warning(Code::UnusedService, message);
                self.at(&service.origin, &[], true, finding.help("lead a route to it, or take it away"));
            }
        }
        for middleware in self.model.middlewares.values() {
            if !self.used.contains(&middleware.name) {
                let message = format!("nothing uses the middleware `{}`", base(&middleware.name));
                let finding = Finding::warning(Code::UnusedMiddleware, message);
                let help = "name it in the `middlewares` of a route or listener, or take it away";
                self.at(&middleware.origin, &[], true, finding.help(help));
            }
        }
    }
}
