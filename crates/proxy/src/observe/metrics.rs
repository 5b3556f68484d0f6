//! All counters of the process: one registry, which outlives every configuration.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use portcullis_core::meter::Meters;

use super::{
    cache::CacheMetrics,
    histogram::Bounds,
    listener::ListenerMetrics,
    route::{RouteMetrics, RouteTotals, Shared},
    service::{EndpointMetrics, ServiceMetrics},
};
use crate::forward::cache::Stock;

/// Routes with counters of their own; the rest share one set, under the path `_other`.
const MOST_ROUTES: usize = 20_000;
/// The label of what is counted together because there is too much of it.
pub(super) const REST: &str = "_other";

/// All counters of the process.
///
/// Counters belong to whoever holds them: the registry itself only remembers. A running configuration holds the
/// counters of its routes, services, endpoints and listeners; a reload asks for the same names before the old
/// configuration goes, and so carries them on. What nobody holds any longer is forgotten by the next
/// [`Metrics::retain`] or scrape.
#[derive(Debug)]
pub struct Metrics {
    shards: usize,
    pub(super) shared: Arc<Shared>,
    registered: Mutex<Registered>,
    pub(super) reloads: Reloads,
    pub(super) upgrades: Upgrades,
    /// What stores and middlewares count.
    pub meters: Meters,
}

/// What is registered, by its labels.
#[derive(Debug, Default)]
pub(super) struct Registered {
    /// By route name and path label.
    routes: BTreeMap<(String, String), Arc<RouteMetrics>>,
    /// By path label: what routes counted that are gone, while another route has the label. A sum that shrank would
    /// look like a restart to whoever reads it.
    retired: BTreeMap<String, RouteTotals>,
    services: BTreeMap<String, Arc<ServiceMetrics>>,
    endpoints: BTreeMap<(String, String), Arc<EndpointMetrics>>,
    listeners: BTreeMap<String, Arc<ListenerMetrics>>,
    /// By path label.
    caches: BTreeMap<String, Arc<CacheMetrics>>,
    /// What is cached.
    stock: Weak<Stock>,
    /// Expiry by listener and certificate name, Unix seconds.
    certificates: BTreeMap<(String, String), i64>,
}

/// How reloads went.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    pub succeeded: AtomicU64,
    pub failed: AtomicU64,
    /// Did the last one succeed?
    pub last_ok: AtomicBool,
    /// When the last one succeeded, Unix seconds.
    pub last_success: AtomicI64,
}

/// How upgrades of the binary went.
#[derive(Debug, Default)]
pub(super) struct Upgrades {
    pub succeeded: AtomicU64,
    pub failed: AtomicU64,
}

impl Metrics {
    /// Counters for so many workers, with histograms over these bounds in seconds (empty: the default).
    pub fn new(shards: usize, buckets: &[f64]) -> Arc<Metrics> {
        let bounds = Arc::new(Bounds::new(buckets));
        Arc::new(Metrics {
            shards: shards.max(1),
            shared: Arc::new(Shared::new(shards, bounds)),
            registered: Mutex::default(),
            reloads: Reloads::default(),
            upgrades: Upgrades::default(),
            meters: Meters::default(),
        })
    }

    fn registered(&self) -> MutexGuard<'_, Registered> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counters of a route. `path_label` is what stands in the `path` label: the template or another name of the
    /// route's, never a request's path. Several routes may have one label; their series are summed.
    pub fn route(&self, name: &str, path_label: &str) -> Arc<RouteMetrics> {
        let mut registered = self.registered();
        let mut key = (name.to_owned(), path_label.to_owned());
        if registered.routes.len() >= MOST_ROUTES && !registered.routes.contains_key(&key) {
            key = (REST.to_owned(), REST.to_owned());
        }
        let make = || Arc::new(RouteMetrics::new(&key.1, self.shards, self.shared.clone()));
        registered.routes.entry(key.clone()).or_insert_with(make).clone()
    }

    /// The counters of a service.
    pub fn service(&self, name: &str) -> Arc<ServiceMetrics> {
        self.registered().service(name, self)
    }

    /// The counters of an endpoint of a service, by its URL.
    pub fn endpoint(&self, service: &str, url: &str) -> Arc<EndpointMetrics> {
        let mut registered = self.registered();
        let of = registered.service(service, self);
        let make = || Arc::new(EndpointMetrics::new(of, url, self.shards));
        registered.endpoints.entry((service.to_owned(), url.to_owned())).or_insert_with(make).clone()
    }

    /// The counters of a listener.
    pub fn listener(&self, name: &str) -> Arc<ListenerMetrics> {
        let make = || Arc::new(ListenerMetrics::new(name, self.shards));
        self.registered().listeners.entry(name.to_owned()).or_insert_with(make).clone()
    }

    /// The counters of the caches of all routes with this path label.
    pub fn cache(&self, path_label: &str) -> Arc<CacheMetrics> {
        let make = || Arc::new(CacheMetrics::new(path_label, self.shards));
        self.registered().caches.entry(path_label.to_owned()).or_insert_with(make).clone()
    }

    /// This is what is cached now.
    pub fn watch_cache(&self, stock: &Arc<Stock>) {
        self.registered().stock = Arc::downgrade(stock);
    }

    /// A configuration was read: it runs now (`ok`), or it was refused.
    pub fn reloaded(&self, ok: bool) {
        let reloads = &self.reloads;
        if ok {
            reloads.succeeded.fetch_add(1, Relaxed);
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            reloads.last_success.store(i64::try_from(now).unwrap_or(i64::MAX), Relaxed);
        } else {
            reloads.failed.fetch_add(1, Relaxed);
        }
        reloads.last_ok.store(ok, Relaxed);
    }

    /// Upgrades of the binary so far: those that succeeded, those that failed.
    pub fn upgrades(&self) -> (u64, u64) {
        (self.upgrades.succeeded.load(Relaxed), self.upgrades.failed.load(Relaxed))
    }

    /// An upgrade failed, and this process goes on.
    pub fn upgrade_failed(&self) {
        self.upgrades.failed.fetch_add(1, Relaxed);
    }

    /// Goes on where the process before this one ended: it alone counted them.
    pub fn continue_upgrades(&self, succeeded: u64, failed: u64) {
        self.upgrades.succeeded.store(succeeded, Relaxed);
        self.upgrades.failed.store(failed, Relaxed);
    }

    /// A listener shows a certificate that expires at this Unix time.
    pub fn certificate(&self, listener: &str, name: &str, not_after_unix: i64) {
        self.registered().certificates.insert((listener.to_owned(), name.to_owned()), not_after_unix);
    }

    /// These are all certificates of a listener: name and expiry as Unix time. Others are forgotten.
    pub fn certificates<'a>(&self, listener: &str, all: impl IntoIterator<Item = (&'a str, i64)>) {
        let mut registered = self.registered();
        registered.certificates.retain(|(of, _), _| of != listener);
        let keyed = all.into_iter().map(|(name, expiry)| ((listener.to_owned(), name.to_owned()), expiry));
        registered.certificates.extend(keyed);
    }

    /// Counts durations over these bounds from now on (empty: the default). Histograms begin again, since what was
    /// counted cannot move between buckets; all other counts go on. Nothing happens when the bounds are as they were.
    pub fn rebucket(&self, buckets: &[f64]) {
        let bounds = Arc::new(Bounds::new(buckets));
        if **self.shared.bounds.load() == *bounds {
            return;
        }
        let mut registered = self.registered();
        self.shared.restart(&bounds);
        registered.routes.values().for_each(|route| route.restart(&bounds));
        registered.retired.values_mut().for_each(|totals| totals.restart(&bounds));
        registered.services.values().for_each(|service| service.restart(&bounds));
    }

    /// Forgets what no configuration holds any longer. To be called when an old configuration is gone; a scrape does it
    /// too.
    pub fn retain(&self) {
        self.registered().forget_unused();
    }

    /// What is registered and still in use.
    pub(super) fn view(&self) -> View {
        let mut registered = self.registered();
        registered.forget_unused();
        View {
            routes: registered.routes.values().cloned().collect(),
            retired: registered.retired.clone(),
            services: registered.services.values().cloned().collect(),
            endpoints: registered.endpoints.values().cloned().collect(),
            listeners: registered.listeners.values().cloned().collect(),
            caches: registered.caches.values().cloned().collect(),
            stock: registered.stock.upgrade(),
            certificates: registered.certificates.clone(),
        }
    }
}

/// What a scrape reads, taken out of the lock so that a reload never waits for a scrape.
pub(super) struct View {
    pub routes: Vec<Arc<RouteMetrics>>,
    retired: BTreeMap<String, RouteTotals>,
    pub services: Vec<Arc<ServiceMetrics>>,
    pub endpoints: Vec<Arc<EndpointMetrics>>,
    pub listeners: Vec<Arc<ListenerMetrics>>,
    pub caches: Vec<Arc<CacheMetrics>>,
    pub stock: Option<Arc<Stock>>,
    pub certificates: BTreeMap<(String, String), i64>,
}

impl View {
    /// Totals of all routes by path label.
    pub fn by_path(&self) -> BTreeMap<&str, RouteTotals> {
        let mut paths: BTreeMap<&str, RouteTotals> =
            self.retired.iter().map(|(label, totals)| (label.as_str(), totals.clone())).collect();
        for route in &self.routes {
            paths.entry(&route.label).or_default().absorb(&route.totals());
        }
        paths
    }
}

impl Registered {
    fn service(&mut self, name: &str, metrics: &Metrics) -> Arc<ServiceMetrics> {
        let make = || Arc::new(ServiceMetrics::new(name, metrics.shards, metrics.shared.bounds.clone()));
        self.services.entry(name.to_owned()).or_insert_with(make).clone()
    }

    fn forget_unused(&mut self) {
        let mut gone = Vec::new();
        self.routes.retain(|_, route| {
            let used = Arc::strong_count(route) > 1;
            if !used {
                gone.push(route.clone());
            }
            used
        });
        for route in gone {
            self.retired.entry(route.label.to_string()).or_default().absorb(&route.totals());
        }
        if !self.retired.is_empty() {
            let labels: std::collections::BTreeSet<&str> =
                self.routes.values().map(|route| &*route.label).collect();
            self.retired.retain(|label, _| labels.contains(label.as_str()));
        }
        // Endpoints hold their service.
        self.endpoints.retain(|_, endpoint| Arc::strong_count(endpoint) > 1);
        self.services.retain(|_, service| Arc::strong_count(service) > 1);
        self.caches.retain(|_, cache| Arc::strong_count(cache) > 1);
        self.listeners.retain(|_, listener| Arc::strong_count(listener) > 1);
        let listeners = &self.listeners;
        self.certificates.retain(|(listener, _), _| listeners.contains_key(listener));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Method;

    use super::{super::route::RequestSeen, *};

    fn count(route: &RouteMetrics) {
        let duration = Duration::from_millis(1);
        let seen = RequestSeen {
            method: &Method::GET,
            status: 200,
            duration,
            bytes_in: 0,
            bytes_out: 0,
            error: None,
        };
        route.begin(0);
        route.end(0, &seen);
    }

    #[test]
    fn the_same_name_is_the_same_counters_while_somebody_holds_them() {
        let metrics = Metrics::new(1, &[]);
        let old = metrics.route("users@file", "/users/{id}");
        count(&old);
        let new = metrics.route("users@file", "/users/{id}");
        drop(old);
        metrics.retain();
        assert_eq!(new.totals().requests(), 1);
        assert!(Arc::ptr_eq(&new, &metrics.route("users@file", "/users/{id}")));
        drop(new);
        metrics.retain();
        assert_eq!(metrics.route("users@file", "/users/{id}").totals().requests(), 0);
    }

    #[test]
    fn a_sum_over_routes_of_one_label_never_shrinks() {
        let metrics = Metrics::new(1, &[]);
        let (one, two) = (metrics.route("a@file", "/x"), metrics.route("b@file", "/x"));
        [&one, &two, &two].into_iter().for_each(|route| count(route));
        drop(two);
        assert_eq!(metrics.view().by_path()["/x"].requests(), 3);
        count(&one);
        assert_eq!(metrics.view().by_path()["/x"].requests(), 4);
        drop(one);
        assert!(metrics.view().by_path().is_empty());
    }

    #[test]
    fn services_live_as_long_as_their_endpoints() {
        let metrics = Metrics::new(1, &[]);
        let endpoint = metrics.endpoint("users@file", "http://a");
        metrics.retain();
        assert_eq!((metrics.view().services.len(), metrics.view().endpoints.len()), (1, 1));
        assert!(Arc::ptr_eq(&endpoint.service, &metrics.service("users@file")));
        drop(endpoint);
        assert_eq!((metrics.view().services.len(), metrics.view().endpoints.len()), (0, 0));
    }

    #[test]
    fn certificates_go_with_their_listener_or_when_replaced() {
        let metrics = Metrics::new(1, &[]);
        let web = metrics.listener("web");
        metrics.certificate("web", "old.example", 1);
        metrics.certificates("web", [("a.example", 2), ("b.example", 3)]);
        metrics.certificate("gone", "c.example", 4);
        let view = metrics.view();
        let names: Vec<_> = view.certificates.keys().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["a.example", "b.example"]);
        drop((web, view));
        assert!(metrics.view().certificates.is_empty());
    }

    #[test]
    fn other_buckets_begin_again_and_other_counts_go_on() {
        let metrics = Metrics::new(1, &[0.1]);
        let (route, gone) = (metrics.route("a@file", "/x"), metrics.route("b@file", "/x"));
        let endpoint = metrics.endpoint("users@file", "http://a");
        [&route, &gone].into_iter().for_each(|route| count(route));
        endpoint.answered(0, 200, Duration::from_millis(1));
        drop(gone);
        metrics.retain();
        metrics.rebucket(&[0.1]);
        assert_eq!(metrics.view().by_path()["/x"].duration().buckets, [2, 0]);
        metrics.rebucket(&[0.0001, 0.5]);
        count(&route);
        endpoint.answered(0, 200, Duration::from_millis(1));
        let view = metrics.view();
        let totals = &view.by_path()["/x"];
        assert_eq!((totals.requests(), totals.duration().buckets), (3, vec![0, 1, 0]));
        let service = endpoint.service.totals();
        assert_eq!(service.statuses().collect::<Vec<_>>(), [("200".into(), 2)]);
        assert_eq!(service.duration.buckets, [0, 1, 0]);
    }

    #[test]
    fn too_many_routes_share_one() {
        let metrics = Metrics::new(1, &[]);
        let held: Vec<_> = (0..MOST_ROUTES).map(|n| metrics.route(&n.to_string(), "/x")).collect();
        let more = [metrics.route("one more", "/y"), metrics.route("and one", "/z")];
        assert!(Arc::ptr_eq(&more[0], &more[1]) && &*more[0].label == REST);
        assert!(Arc::ptr_eq(&held[7], &metrics.route("7", "/x")));
    }
}
