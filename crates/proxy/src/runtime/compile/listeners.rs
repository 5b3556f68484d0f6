//! Listeners and what is routed on each, compiled; the admin listener among them.

use std::sync::Arc;

use portcullis_config::{
    model::{self, Doubtful, Name},
    rule::Rule,
};

use super::{ADMIN, Compiler, Listeners, Middlewares};
use crate::{
    arrive,
    route::{Entry, Router},
    runtime::{AltSvc, Listener, Route, Target, http3},
    tls::{self, Protocols},
};

impl Compiler<'_> {
    pub(super) fn listeners(&mut self, built: &Middlewares) -> Listeners {
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
    pub(super) fn admin(&mut self, routes: &mut Vec<Arc<Route>>, listeners: &mut Listeners) {
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
