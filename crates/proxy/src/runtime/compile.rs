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
    keep::Keep,
    middleware::{Around, Row},
    store::Stores,
};

mod listeners;
mod policies;
mod services;
mod split;

pub use services::endpoint_state;

use super::{Asked, Listener, Route, Runtime, Service, Target};
use crate::{
    dns::{Named, Resolver},
    forward::cache::{Stock, Tiers},
    observe::{AccessLog, Metrics},
    pages::Pages,
    shed::Shedding,
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
