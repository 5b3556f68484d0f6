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
        ServicePolicies { retry: written.retry.as_ref().map(|retry| self.retry(source, path, &retry.0)) }
    }

    pub(super) fn route_policies(
        &mut self,
        source: &Source,
        path: &Path,
        written: &written::Route,
    ) -> RoutePolicies {
        RoutePolicies { retry: written.retry.as_ref().map(|retry| self.route_retry(source, path, &retry.0)) }
    }
}
