//! What services and routes do about failure.

use super::{Merger, Source};
use crate::{
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
            circuit_breaker: breaker.map(|breaker| self.circuit_breaker(source, path, &breaker.0)),
        }
    }

    pub(super) fn route_policies(
        &mut self,
        source: &Source,
        path: &Path,
        written: &written::Route,
    ) -> RoutePolicies {
        RoutePolicies {
            retry: written.retry.as_ref().map(|retry| self.route_retry(source, path, &retry.0)),
            fallback: written.fallback.as_ref().and_then(|to| self.fallback(source, path, to)),
            mirror: written.mirror.as_ref().and_then(|mirror| self.mirror(source, path, &mirror.0)),
            errors: self.error_statuses(source, path, &written.errors),
        }
    }
}
