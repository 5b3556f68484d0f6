//! What services and routes do about failure.

use super::{Merger, Source};
use crate::{
    diagnostic::Code,
    document::Path,
    model::{RoutePolicies, ServicePolicies},
    written,
};

impl Merger<'_> {
    pub(super) fn service_policies(
        &mut self,
        source: &Source,
        path: &Path,
        written: &written::Service,
    ) -> ServicePolicies {
        let breaker = written.circuit_breaker.as_ref();
        ServicePolicies {
            retry: written.retry.as_ref().map(|retry| self.retry(source, path, &retry.0)),
            fallback: written.fallback.as_ref().and_then(|to| self.fallback(source, path, to)),
            capacity: self.capacity(source, path, written),
            fallback_stale: self.stale(source, path, written.fallback.as_ref()),
            circuit_breaker: breaker.map(|breaker| self.circuit_breaker(source, path, &breaker.0)),
        }
    }

    pub(super) fn route_policies(
        &mut self,
        source: &Source,
        path: &Path,
        name: &str,
        written: &written::Route,
    ) -> RoutePolicies {
        self.wants_a_service(source, path, written);
        RoutePolicies {
            retry: written.retry.as_ref().map(|retry| self.route_retry(source, path, &retry.0)),
            fallback: written.fallback.as_ref().and_then(|to| self.fallback(source, path, to)),
            fallback_stale: self.stale(source, path, written.fallback.as_ref()),
            deadline: self.deadline(source, path, written),
            split: written.split.as_ref().map(|split| self.split(source, path, name, split)),
            mirror: written.mirror.as_ref().and_then(|mirror| self.mirror(source, path, &mirror.0)),
            errors: self.error_statuses(source, path, &written.errors),
        }
    }

    /// What is about a service does nothing where a built-in one answers.
    fn wants_a_service(&mut self, source: &Source, path: &Path, written: &written::Route) {
        let Some(builtin) = written.service.as_deref().filter(|service| service.starts_with('@')) else {
            return;
        };
        let about = [
            ("split", written.split.is_some()),
            ("mirror", written.mirror.is_some()),
            ("retry", written.retry.is_some()),
            ("fallback", written.fallback.is_some()),
        ];
        for (key, _) in about.iter().filter(|(_, is_written)| *is_written) {
            let message = format!("`{key}` does nothing here: `{builtin}` is built in and answers by itself");
            let help = "take it away, or lead the route to a service with endpoints";
            self.warning(source, &path.key(key), Code::Conflict, message, help);
        }
    }
}
