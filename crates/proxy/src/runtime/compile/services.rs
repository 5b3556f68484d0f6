//! Services, their endpoints, and the way to each, compiled.

use std::sync::Arc;

use portcullis_config::model;
use portcullis_core::{
    endpoint::{Endpoint, EndpointState},
    keep::Keep,
};
use rustls::pki_types::ServerName;

use super::{Compiler, Services};
use crate::{
    balance::{self, KeyOf, Place, Sticky, stable_hash},
    dns::Named,
    forward::upstream::{Pools, Upstream, Where},
    health::{self, Passive},
    runtime::Service,
    tls,
};

impl Compiler<'_> {
    pub(super) fn services(&mut self) -> Services {
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
