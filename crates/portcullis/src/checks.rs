//! The active health checks of a configuration: what is asked, and how, taken from the compiled form.

use std::sync::Arc;

use portcullis_proxy::{
    forward::upstream::Where,
    health::{Checked, Checks, Target, Watcher, probe},
    runtime::{Runtime, Service},
};
use tokio::runtime::Handle;

/// Starts the checks of a configuration on this runtime. They end when what is returned is dropped; what they have
/// learned stays with the endpoints.
pub fn start(runtime: &Runtime) -> Checks {
    let checked = runtime.services.values().filter_map(|service| checked(service)).collect();
    let watcher: Arc<dyn Watcher> = runtime.metrics.clone();
    Checks::start(checked, &watcher, &Handle::current())
}

fn checked(service: &Service) -> Option<Checked> {
    let settings = service.settings.health_check.clone()?;
    let parts = service.settings.endpoints.iter().zip(&service.endpoints).zip(&service.upstreams);
    let endpoints = parts.filter_map(|((endpoint, live), upstream)| {
        let tls = upstream.tls.clone().map(|(config, name)| probe::Tls { config, name });
        let named = match &upstream.target {
            Where::Name(named, _) => Some(named.clone()),
            Where::Address(_) | Where::Unix(_) => None,
        };
        let (http, proxy_protocol) = (service.settings.http, upstream.proxy_protocol);
        let spoken = probe::Spoken { http, tls, named, proxy_protocol };
        match probe::build(endpoint, &settings, spoken) {
            Ok(probe) => Some(Target { url: live.url.clone(), state: live.state.clone(), probe }),
            Err(error) => {
                let (service, endpoint) = (&*service.name, &*endpoint.url);
                tracing::error!(service, endpoint, error, "endpoint cannot be checked and gets no traffic");
                None
            }
        }
    });
    Some(Checked {
        service: service.name.clone(),
        settings: settings.clone(),
        endpoints: endpoints.collect(),
    })
}
