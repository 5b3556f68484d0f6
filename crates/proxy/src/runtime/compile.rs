//! Model → Runtime. Everything that can fail fails here, before the old runtime is touched.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
};

use portcullis_config::{
    model::{self, Doubtful, Model, Name},
    rule::Rule,
};
use portcullis_core::{
    builtin::Builtin,
    endpoint::{Endpoint, EndpointState},
    keep::Keep,
    middleware::{Around, Row},
    store::Stores,
};
use rustls::pki_types::ServerName;

mod policies;
mod split;

use super::{AltSvc, Asked, Listener, Route, Runtime, Service, Target, http3};
use crate::{
    arrive,
    balance::{self, KeyOf, Place, Sticky, stable_hash},
    dns::{Named, Resolver},
    forward::{
        cache::{Stock, Tiers},
        upstream::{Pools, Upstream, Where},
    },
    health::{self, Passive},
    observe::{AccessLog, Metrics},
    pages::Pages,
    route::{Entry, Router},
    shed::Shedding,
    tls::{self, Protocols},
};

/// The name of the admin listener and of the built-in service behind it.
pub const ADMIN: &str = "admin";

/// What a runtime is compiled with, beside the model.
pub struct Parts<'a> {
    /// State carried over.
    pub keep: &'a Keep,
    /// The table of middleware kinds.
    pub middlewares: &'static [Row],
    /// Built-in services by name; `admin` is the one behind the admin listener.
    pub builtins: &'a BTreeMap<&'static str, Arc<dyn Builtin>>,
    /// Stores that the model names.
    pub stores: &'a Stores,
    /// Counters of the process.
    pub metrics: &'a Arc<Metrics>,
    /// The access log, opened by the caller.
    pub access_log: Option<Arc<AccessLog>>,
    /// Number of this configuration.
    pub generation: u64,
    /// Relative files are relative to this folder.
    pub folder: &'a Path,
    /// How many workers there are.
    pub workers: usize,
}

/// Something that cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {message}")]
pub struct Problem {
    /// What it is about: `middleware auth@file`.
    pub object: String,
    /// What is wrong.
    pub message: String,
}

/// Compiles a model.
///
/// # Errors
/// All problems found, not the first.
pub fn compile(model: Arc<Model>, parts: &Parts<'_>) -> Result<Runtime, Vec<Problem>> {
    let dns = &model.dns;
    let resolver = parts.keep.get("resolver", &format!("{dns:?}"), || Resolver::new(dns.clone()));
    let mut compiler = Compiler {
        model: &model,
        parts,
        resolver,
        names: BTreeMap::new(),
        stock: None,
        tiers: None,
        problems: Vec::new(),
    };
    let middlewares = compiler.middlewares();
    let services = compiler.services();
    let mut routes = compiler.routes(&middlewares, &services);
    let mut listeners = compiler.listeners(&middlewares);
    compiler.admin(&mut routes, &mut listeners);
    if !compiler.problems.is_empty() {
        return Err(compiler.problems);
    }
    let shedding = compiler.shedding();
    let names = Arc::new(compiler.names);
    let live: Vec<&str> = routes.iter().map(|route| &*route.name).collect();
    tracing::debug!(routes = live.len(), "compiled");
    Ok(Runtime {
        generation: parts.generation,
        gateway_name: model.gateway_name.clone(),
        pages: Arc::new(Pages::compile(&model.error_pages, &model.gateway_name)),
        access_log: parts.access_log.clone(),
        metrics: parts.metrics.clone(),
        listeners: Arc::new(listeners),
        routes: routes.into(),
        services: Arc::new(services),
        names,
        stock: compiler.stock,
        tiers: compiler.tiers,
        shedding,
        model,
    })
}

pub(super) struct Compiler<'a> {
    pub(super) model: &'a Model,
    pub(super) parts: &'a Parts<'a>,
    resolver: Arc<Resolver>,
    names: BTreeMap<Arc<str>, Arc<Named>>,
    pub(super) stock: Option<Arc<Stock>>,
    pub(super) tiers: Option<Arc<Tiers>>,
    problems: Vec<Problem>,
}

type Middlewares = HashMap<Name, Asked>;
type Services = BTreeMap<Name, Arc<Service>>;
type Listeners = BTreeMap<Name, Arc<Listener>>;

impl Compiler<'_> {
    pub(super) fn problem(&mut self, object: impl Into<String>, message: impl ToString) {
        self.problems.push(Problem { object: object.into(), message: message.to_string() });
    }

    fn middlewares(&mut self) -> Middlewares {
        let mut built = Middlewares::new();
        for (name, middleware) in &self.model.middlewares {
            let Parts { folder, keep, stores, metrics, .. } = self.parts;
            let around = Around { name, folder, keep, stores, meters: &metrics.meters };
            let Some(row) = self.parts.middlewares.iter().find(|row| row.name == &*middleware.kind) else {
                self.problem(format!("middleware {name}"), format!("no kind \"{}\"", middleware.kind));
                continue;
            };
            match (row.build)(&middleware.settings, &around) {
                Ok(instance) => {
                    built.insert(name.clone(), Asked { name: name.clone(), middleware: instance });
                }
                Err(problem) => self.problem(format!("middleware {name}"), problem),
            }
        }
        built
    }

    fn list(&mut self, object: &str, names: &[Name], built: &Middlewares) -> Vec<Asked> {
        let mut list = Vec::with_capacity(names.len());
        for name in names {
            match built.get(name) {
                Some(asked) => list.push(asked.clone()),
                // A problem of the middleware itself has been reported with it.
                None if self.model.middlewares.contains_key(name) => {}
                None => self.problem(object, format!("no middleware \"{name}\"")),
            }
        }
        list
    }

    fn services(&mut self) -> Services {
        let model = self.model;
        model
            .services
            .iter()
            .filter_map(|(name, settings)| {
                self.service(settings).map(|service| (name.clone(), Arc::new(service)))
            })
            .collect()
    }

    fn service(&mut self, settings: &model::Service) -> Option<Service> {
        let keep = self.parts.keep;
        let checked = settings.health_check.is_some();
        let endpoints: Vec<Endpoint> = settings
            .endpoints
            .iter()
            .map(|endpoint| {
                let state = endpoint_state(keep, &settings.name, &endpoint.url, checked);
                health::settle(&state, checked);
                Endpoint {
                    url: endpoint.url.clone(),
                    weight: endpoint.weight,
                    hash: stable_hash(endpoint.url.as_bytes()),
                    state,
                }
            })
            .collect();
        let tls = self.client_tls(settings)?;
        let upstreams: Vec<Arc<Upstream>> = settings
            .endpoints
            .iter()
            .zip(&endpoints)
            .filter_map(|(endpoint, live)| {
                self.upstream(settings, endpoint, live, tls.as_ref()).map(Arc::new)
            })
            .collect();
        if upstreams.len() != endpoints.len() {
            return None;
        }
        let place = Place { service: &settings.name, endpoints: &endpoints, keep };
        Some(Service {
            name: settings.name.clone(),
            balancer: balance::build(&settings.strategy, &place),
            key: KeyOf::of(&settings.strategy),
            sticky: settings.sticky.as_ref().map(|sticky| Sticky::new(sticky, &settings.name, &endpoints)),
            passive: settings
                .passive_health
                .as_ref()
                .map(|passive| Passive::new(passive, &place).watched_by(self.parts.metrics.clone())),
            policies: self.service_policies(settings),
            budget: self.allowance(settings),
            metrics: self.parts.metrics.service(&settings.name),
            settings: settings.clone(),
            endpoints,
            upstreams,
        })
    }

    /// TLS towards the endpoints, if any of them wants it.
    #[allow(clippy::option_option)] // none wanted, or failed and reported
    fn client_tls(&mut self, settings: &model::Service) -> Option<Option<Arc<rustls::ClientConfig>>> {
        if !settings.endpoints.iter().any(|endpoint| endpoint.scheme == model::Scheme::Https) {
            return Some(None);
        }
        match tls::client_config(&settings.tls, &[]) {
            Ok(config) => Some(Some(config)),
            Err(error) => {
                self.problem(format!("service {}", settings.name), error);
                None
            }
        }
    }

    fn upstream(
        &mut self,
        settings: &model::Service,
        endpoint: &model::Endpoint,
        live: &Endpoint,
        tls: Option<&Arc<rustls::ClientConfig>>,
    ) -> Option<Upstream> {
        let host = authority(endpoint);
        let tls = match tls.filter(|_| endpoint.scheme == model::Scheme::Https) {
            None => None,
            Some(config) => {
                let name = match (&settings.tls.server_name, &endpoint.address) {
                    (Some(name), _) => name.to_string(),
                    (None, model::EndpointAddress::Tcp { host, .. }) => host.to_string(),
                    (None, model::EndpointAddress::Unix(_)) => "localhost".to_owned(),
                };
                match ServerName::try_from(name.clone()) {
                    Ok(server_name) => Some((config.clone(), server_name)),
                    Err(error) => {
                        self.problem(format!("endpoint {}", endpoint.url), format!("{name}: {error}"));
                        return None;
                    }
                }
            }
        };
        let workers = self.parts.workers;
        let told = settings.proxy_protocol;
        let identity =
            format!("{} {} {:?} {:?} {told:?}", settings.name, endpoint.url, settings.tls, settings.http);
        Some(Upstream {
            url: endpoint.url.clone(),
            target: Where::of(&endpoint.address, |name| self.named(name)),
            scheme: endpoint.scheme,
            http: settings.http,
            proxy_protocol: settings.proxy_protocol,
            host: host.into(),
            base_path: endpoint.base_path.clone(),
            tls,
            pool: settings.pool,
            timeouts: settings.timeouts,
            state: live.state.clone(),
            pools: self.parts.keep.get("pools", &identity, || Pools::new(workers)),
            metrics: self.parts.metrics.endpoint(&settings.name, &endpoint.url),
        })
    }

    /// What is known of a name: kept as long as it is looked up in the same way.
    fn named(&mut self, name: &Arc<str>) -> Arc<Named> {
        let (dns, keep, resolver) = (&self.model.dns, self.parts.keep, &self.resolver);
        let make = || {
            let identity = format!("{name} {dns:?}");
            keep.get("name", &identity, || Named::new(name.clone(), dns.clone(), resolver.clone()))
        };
        self.names.entry(name.clone()).or_insert_with(make).clone()
    }

    fn routes(&mut self, built: &Middlewares, services: &Services) -> Vec<Arc<Route>> {
        let model = self.model;
        model.routes.iter().map(|settings| Arc::new(self.route(settings, built, services))).collect()
    }

    fn route(&mut self, settings: &model::Route, built: &Middlewares, services: &Services) -> Route {
        let object = format!("route {}", settings.name);
        let target = match &settings.target {
            model::Target::Service(name) => match services.get(name) {
                Some(service) => match &settings.policies.split {
                    None => Target::Service(service.clone()),
                    Some(split) => self.split(settings, split, service, services),
                },
                None if self.model.services.contains_key(name) => Target::Unusable("service failed".into()),
                None => {
                    self.problem(&*object, format!("no service \"{name}\""));
                    Target::Unusable("no service".into())
                }
            },
            model::Target::Builtin(name) => match self.parts.builtins.get_key_value(&**name) {
                Some((name, builtin)) => Target::Builtin(name, builtin.clone()),
                None => {
                    self.problem(&*object, format!("no built-in service \"@{name}\""));
                    Target::Unusable("no built-in service".into())
                }
            },
            model::Target::Quarantined(reason) => Target::Unusable(reason.clone()),
        };
        Route {
            name: settings.name.clone(),
            middlewares: self.list(&object, &settings.middlewares, built),
            target,
            rejects_delimiters: settings.encoded_delimiters.map(|what| what == Doubtful::Reject),
            strip_prefix: settings.strip_prefix.clone(),
            total_timeout: settings.total_timeout,
            deadline: settings.policies.deadline.clone().map(Box::new),
            response_header_timeout: settings.response_header_timeout,
            body_bytes: settings.body_bytes,
            body_idle_timeout: settings.body_idle_timeout,
            stream_idle_timeout: settings.stream_idle_timeout,
            tunnel_idle_timeout: settings.tunnel_idle_timeout,
            takes_trace: takes_trace(&settings.rule),
            importance: (!matches!(settings.target, model::Target::Builtin(_)))
                .then_some(settings.importance),
            pass_host: settings.pass_host,
            policies: self.route_policies(settings, services),
            cache: self.route_cache(settings, None),
            metrics: self.parts.metrics.route(&settings.name, &path_label(settings)),
        }
    }

    /// Kept as long as it is wanted in the same way.
    fn shedding(&self) -> Option<Arc<Shedding>> {
        let settings = self.model.shedding.as_ref()?;
        let Parts { keep, workers, metrics, .. } = self.parts;
        let make = || Shedding::new(settings, *workers, &metrics.meters);
        Some(keep.get("shedding", &format!("{settings:?} {workers}"), make))
    }

    fn listeners(&mut self, built: &Middlewares) -> Listeners {
        let model = self.model;
        model
            .listeners
            .iter()
            .filter_map(|(name, settings)| {
                self.listener(settings, built).map(|listener| (name.clone(), Arc::new(listener)))
            })
            .collect()
    }

    fn listener(&mut self, settings: &model::Listener, built: &Middlewares) -> Option<Listener> {
        let object = format!("listener {}", settings.name);
        let on_it: Vec<(usize, &model::Route)> = self
            .model
            .routes
            .iter()
            .enumerate()
            .filter(|(_, route)| route.listeners.is_empty() || route.listeners.contains(&settings.name))
            .collect();
        let mut path = arrive::policy(settings.path);
        let tolerant = |route: &model::Route| route.encoded_delimiters == Some(Doubtful::Keep);
        if on_it.iter().any(|(_, route)| tolerant(route)) {
            path.delimiters = portcullis_core::path::Delimiters::Keep;
        }
        let entries: Vec<Entry<'_>> = on_it
            .iter()
            .map(|(index, route)| Entry {
                index: *index,
                rule: &route.rule,
                priority: route.priority,
                name: &route.name,
            })
            .collect();
        let router = match Router::compile(&entries) {
            Ok(router) => router,
            Err(error) => {
                self.problem(&*object, error);
                return None;
            }
        };
        let protocols =
            Protocols { http2: settings.http2, http3: settings.http3.map(|http3| http3.early_data) };
        let tls = match settings.tls.as_ref().map(|tls| tls::server_tls(tls, protocols)).transpose() {
            Ok(tls) => tls,
            Err(error) => {
                self.problem(&*object, error);
                return None;
            }
        };
        Some(Listener {
            settings: settings.clone(),
            path,
            router,
            middlewares: self.list(&object, &settings.middlewares, built),
            quic: http3::quic(tls.as_ref(), &settings.limits),
            alt_svc: settings.http3.and_then(|http3| AltSvc::new(&http3, settings.address.port())),
            tls,
            metrics: self.parts.metrics.listener(&settings.name),
            unrouted: self.parts.metrics.route("", "_unrouted"),
        })
    }

    /// The admin listener is a listener like the others, with one route to one built-in service.
    fn admin(&mut self, routes: &mut Vec<Arc<Route>>, listeners: &mut Listeners) {
        let (Some(admin), Some(builtin)) = (&self.model.admin, self.parts.builtins.get(ADMIN)) else {
            return;
        };
        let name: Name = "admin@internal".into();
        let index = routes.len();
        routes.push(Arc::new(Route {
            name: name.clone(),
            middlewares: Vec::new(),
            target: Target::Builtin(ADMIN, builtin.clone()),
            rejects_delimiters: Some(false),
            strip_prefix: None,
            total_timeout: None,
            deadline: None,
            response_header_timeout: None,
            body_bytes: Some(Some(1 << 20)),
            body_idle_timeout: None,
            stream_idle_timeout: None,
            tunnel_idle_timeout: None,
            takes_trace: false,
            importance: None,
            pass_host: None,
            policies: None,
            cache: None,
            metrics: self.parts.metrics.route(&name, "_admin"),
        }));
        let settings = model::Listener::plain(ADMIN, admin.address);
        let entry = Entry { index, rule: &Rule::Any, priority: 0, name: &name };
        match Router::compile(&[entry]) {
            Ok(router) => {
                let listener = Listener {
                    path: arrive::policy(settings.path),
                    settings,
                    router,
                    middlewares: Vec::new(),
                    tls: None,
                    quic: None,
                    alt_svc: None,
                    metrics: self.parts.metrics.listener(ADMIN),
                    unrouted: self.parts.metrics.route("", "_unrouted"),
                };
                listeners.insert(ADMIN.into(), Arc::new(listener));
            }
            Err(error) => self.problem("listener admin", error),
        }
    }
}

/// The state of an endpoint of a service, by its URL: the one in use, or a new one. Whoever knows something of it before
/// the first configuration is compiled holds it until then.
pub fn endpoint_state(keep: &Keep, service: &str, url: &str, checked: bool) -> Arc<EndpointState> {
    keep.get("endpoint", &format!("{service} {url}"), || EndpointState::new(checked))
}

/// Host and port as the endpoint would be asked for them: the port only where it is not the scheme's own.
fn authority(endpoint: &model::Endpoint) -> String {
    match &endpoint.address {
        model::EndpointAddress::Unix(_) => "localhost".to_owned(),
        model::EndpointAddress::Tcp { host, port } => {
            let host = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
            let own = if endpoint.scheme == model::Scheme::Https { 443 } else { 80 };
            if *port == own { host } else { format!("{host}:{port}") }
        }
    }
}

/// Does a rule ask for `TRACE` by name?
fn takes_trace(rule: &Rule) -> bool {
    use portcullis_config::rule::Matcher;
    match rule {
        Rule::And(parts) | Rule::Or(parts) => parts.iter().any(takes_trace),
        Rule::Match(Matcher::Method(method)) => &**method == "TRACE",
        _ => false,
    }
}

/// The `path` label of a route's metrics: its path as written where it has one, else its name. Never a request's path.
pub(super) fn path_label(route: &model::Route) -> String {
    fn path(rule: &Rule) -> Option<&str> {
        use portcullis_config::rule::Matcher;
        match rule {
            Rule::And(parts) => parts.iter().find_map(path),
            Rule::Match(Matcher::PathTemplate(template)) => Some(&template.text),
            Rule::Match(Matcher::Path(text) | Matcher::PathPrefix(text)) => Some(text),
            _ => None,
        }
    }
    path(&route.rule).map_or_else(|| route.name.to_string(), ToOwned::to_owned)
}
