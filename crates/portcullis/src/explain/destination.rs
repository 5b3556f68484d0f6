//! Where a request goes.

use std::sync::Arc;

use portcullis_config::model;
use portcullis_core::Exchange;
use portcullis_proxy::{
    forward::split::{Split, Why},
    runtime::{Route, Service, Target},
};
use serde::Serialize;

/// Where a request goes.
#[derive(Debug, Clone, Serialize)]
pub struct Destination {
    /// In words: `service orders@file`; all of them where chance decides.
    pub name: String,
    /// The path and query that are forwarded, without the endpoint's own base path.
    pub path: String,
    /// Why it goes there, where a route has several services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Which endpoint gets it: `round_robin` … `None` for a built-in service.
    pub strategy: Option<String>,
    /// The endpoints in question.
    pub endpoints: Vec<EndpointInQuestion>,
}

/// An endpoint that may get the request.
#[derive(Debug, Clone, Serialize)]
pub struct EndpointInQuestion {
    /// As it would be asked for.
    pub url: String,
    /// Its share.
    pub weight: u32,
    /// `Host` that it is sent.
    pub host: String,
}

impl Destination {
    /// Of a request whose route is known.
    pub(super) fn of(route: &Route, x: &Exchange) -> Destination {
        let query = x.request.query().map(|query| format!("?{query}")).unwrap_or_default();
        let path = format!("{}{query}", x.request.path());
        match &route.target {
            Target::Builtin(name, _) => Destination::bare(format!("built-in service @{name}"), path),
            Target::Unusable(reason) => Destination::bare(format!("nowhere, it answers 503: {reason}"), path),
            Target::Service(service) => Destination::service(route, service, x, path),
            Target::Split(split) => Destination::split(route, split, x, path),
        }
    }

    /// What header and cookie decide is known; of chance, what may come of it.
    fn split(route: &Route, split: &Split, x: &Exchange, path: String) -> Destination {
        let Some(chosen) = split.choose(&x.request.fields, 0.0) else {
            return Destination::bare("nowhere".to_owned(), path);
        };
        let why = Some(chosen.why.to_string());
        if chosen.why != Why::Chance {
            return Destination { why, ..Destination::service(route, &chosen.place.service, x, path) };
        }
        let possible = split.places().iter().filter(|place| place.share > 0.0);
        let mut names = Vec::new();
        let mut all = Destination::bare(String::new(), path.clone());
        for place in possible {
            let percent = (place.share * 1e6).round() / 1e4;
            names.push(format!("service {} ({percent}%)", place.service.name));
            let one = Destination::service(route, &place.service, x, path.clone());
            all.strategy = all.strategy.or(one.strategy);
            all.endpoints.extend(one.endpoints);
        }
        Destination { name: names.join(" or "), why, ..all }
    }

    fn service(route: &Route, service: &Service, x: &Exchange, path: String) -> Destination {
        let keeps_host = route.pass_host.unwrap_or(service.settings.pass_host);
        let own = |host: &Arc<str>| {
            if keeps_host && !x.request.authority().is_empty() {
                x.request.authority().to_owned()
            } else {
                host.to_string()
            }
        };
        let endpoints = service.endpoints.iter().zip(&service.upstreams).map(|(endpoint, upstream)| {
            let joined = format!("{}{path}", endpoint.url);
            EndpointInQuestion { url: joined, weight: endpoint.weight, host: own(&upstream.host) }
        });
        Destination {
            name: format!("service {}", service.name),
            why: None,
            strategy: Some(strategy(&service.settings.strategy)),
            endpoints: endpoints.collect(),
            path,
        }
    }

    fn bare(name: String, path: String) -> Destination {
        Destination { name, path, why: None, strategy: None, endpoints: Vec::new() }
    }
}

/// A strategy's name, as written in the configuration.
fn strategy(strategy: &model::Strategy) -> String {
    let value = serde_json::to_value(strategy).unwrap_or_default();
    value.get("kind").and_then(|kind| kind.as_str()).unwrap_or_default().to_owned()
}
