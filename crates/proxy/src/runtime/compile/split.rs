//! Splits of routes between services, compiled.

use std::sync::Arc;

use portcullis_config::model;

use super::{Compiler, Services};
use crate::{
    by_worker::ByWorker,
    forward::split::{Place, Split},
    runtime::{Service, Target},
};

impl Compiler<'_> {
    /// The target of a route whose requests several services take.
    pub(super) fn split(
        &mut self,
        route: &model::Route,
        settings: &model::Split,
        own: &Arc<Service>,
        services: &Services,
    ) -> Target {
        let own = self.place(route, own);
        let place = |name: &model::Name| services.get(name).map(|service| self.place(route, service));
        Target::Split(Box::new(Split::new(settings, &route.name, own, place)))
    }

    fn place(&mut self, route: &model::Route, service: &Arc<Service>) -> Place {
        let (keep, workers) = (self.parts.keep, self.parts.workers);
        let identity = format!("{} {}", route.name, service.name);
        Place {
            service: service.clone(),
            share: 0.0,
            cache: self.route_cache(route, Some(&service.name)),
            taken: keep.get("split", &identity, || ByWorker::new(workers)),
        }
    }
}
