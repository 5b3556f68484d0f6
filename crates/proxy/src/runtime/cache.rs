//! What a route's cache is made of.

use std::{sync::Arc, time::Duration};

use portcullis_cache::{
    Policy,
    pattern::Pattern,
    policy::{KeyParts, QueryParts},
};
use portcullis_config::model::{self, Name, StoreKind};

use super::{
    Runtime,
    compile::{Compiler, Parts},
};
use crate::forward::cache::{Disk, Far, RouteCache, Stock, Tier, Tiers};

impl Compiler<'_> {
    /// The cache of a route: as it says, or else as its service does.
    /// `of` is the service whose answers it keeps, where several answer.
    pub(super) fn route_cache(&mut self, route: &model::Route, of: Option<&Name>) -> Option<Arc<RouteCache>> {
        let model::Target::Service(service) = &route.target else { return None };
        let of_service = || self.model.services.get(service).and_then(|service| service.cache.as_ref());
        let settings = route.cache.as_ref().or_else(of_service).filter(|cache| cache.enabled)?;
        let own = self.model.services.get(service).and_then(|service| service.policies.fallback_stale);
        let in_need = route.policies.fallback_stale.or(own).map_or(0, seconds);
        let store = &self.model.cache;
        let keep = self.parts.keep;
        let stock = self.stock.get_or_insert_with(|| {
            let identity = format!("{} {}", store.memory, store.max_object);
            let stock = keep.get("cache", &identity, || Stock::new(store.memory, store.max_object));
            self.parts.metrics.watch_cache(&stock);
            stock
        });
        let stock = stock.clone();
        let tiers = self.tiers(&stock);
        Some(Arc::new(RouteCache {
            tiers,
            policy: Policy { in_need, ..policy(settings, store.max_object, of) },
            stock,
            metrics: self.parts.metrics.cache(&super::compile::path_label(route)),
            x_cache: settings.x_cache,
            name: self.model.gateway_name.clone(),
        }))
    }

    /// What stands behind memory: the same for all routes.
    fn tiers(&mut self, stock: &Stock) -> Arc<Tiers> {
        if let Some(tiers) = &self.tiers {
            return tiers.clone();
        }
        let names = self.model.cache.stores.clone();
        let tiers = names.iter().filter_map(|name| self.tier(name, stock)).collect();
        self.tiers.insert(Arc::new(Tiers::new(tiers))).clone()
    }

    fn tier(&mut self, name: &Name, stock: &Stock) -> Option<Tier> {
        let known = self.model.stores.get(name);
        if let Some(model::Store { kind: StoreKind::Disk(settings), .. }) = known {
            let Parts { keep, metrics, .. } = self.parts;
            let identity = format!("{name} {}", settings.folder.display());
            let disk = keep.get("disk", &identity, || Disk::new(name, &settings.folder, &metrics.meters));
            return Some(Tier::Disk(disk));
        }
        let blobs = self.parts.stores.get(name).and_then(|store| store.blobs.clone());
        if blobs.is_none() {
            self.problem("cache", format!("no store \"{name}\" that keeps answers"));
        }
        let largest = self.model.cache.max_object;
        Some(Tier::Far(Arc::new(Far::new(blobs?, stock.far.clone(), largest))))
    }
}

impl Runtime {
    /// Begins to use the disks of this configuration. To be called when nothing can go wrong any more, from a thread that
    /// may wait.
    pub fn start_disks(&self) {
        let Some(tiers) = &self.tiers else { return };
        let settings =
            self.model.cache.stores.iter().filter_map(|name| match &self.model.stores.get(name)?.kind {
                StoreKind::Disk(settings) => Some(settings),
                StoreKind::Redis(_) => None,
            });
        let largest = self.model.cache.max_object;
        tiers.disks().zip(settings).for_each(|(disk, settings)| disk.start(settings, largest));
    }
}

fn policy(settings: &model::Cache, max_object: u64, of: Option<&Name>) -> Policy {
    let patterns = |list: &[Arc<str>]| list.iter().map(|text| Pattern::new(text)).collect::<Vec<_>>();
    let texts = |list: &[Arc<str>]| list.iter().map(|text| Box::from(&**text)).collect::<Vec<Box<str>>>();
    let key = &settings.key;
    let query = match &key.query {
        Some(names) => QueryParts::only(patterns(names)),
        None if key.ignore_query.is_empty() => QueryParts::All,
        None => QueryParts::Without(patterns(&key.ignore_query)),
    };
    Policy {
        lifetimes: settings
            .lifetimes
            .iter()
            .map(|(pattern, time)| (Pattern::new(pattern), seconds(*time)))
            .collect(),
        default_lifetime: settings.default_lifetime.map(seconds),
        force: settings.force,
        min_lifetime: seconds(settings.min_lifetime),
        max_lifetime: settings.max_lifetime.map_or(u32::MAX, seconds),
        heuristics: settings.heuristics,
        never: patterns(&settings.never),
        key: KeyParts {
            identity: key.identity,
            headers: texts(&key.headers),
            cookies: texts(&key.cookies),
            claims: texts(&key.claims),
            query,
            service: of.cloned(),
        },
        stale_while_revalidate: seconds(settings.stale_while_revalidate),
        stale_if_error: seconds(settings.stale_if_error),
        in_need: 0,
        store_cookies: settings.store_cookies,
        ignore_request: settings.ignore_request_directives,
        errors: settings.errors.clone(),
        targeted: texts(&settings.targeted),
        max_object,
    }
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}
