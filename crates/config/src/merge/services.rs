//! Services: their endpoints with weights, and the policies for reaching them.

use std::collections::BTreeSet;

use super::{Merger, Source, defaults, shared};
use crate::{
    diagnostic::Code,
    document::Path,
    model::{Endpoint, HashKey, Name, Service, Sticky, Strategy, UpstreamHttp, UpstreamTls},
    scalar,
    written::{self, NamedStrategy},
};

/// Largest weight written; small enough that no sum of weights overflows.
const MAX_WEIGHT: u32 = 65_535;

impl Merger<'_> {
    pub(super) fn services(&mut self) {
        for source in self.sources {
            for (name, service) in &source.written.services {
                let path = Path::root().key("services").key(name);
                self.service(source, source.qualified(name), &path, service);
            }
        }
    }

    /// Takes a service in, with every default.
    pub(super) fn service(&mut self, source: &Source, name: Name, path: &Path, written: &written::Service) {
        let none = written::Configuration::default();
        let all = self.main().map_or(&none, |source| &source.written);
        let service = Service {
            endpoints: self.endpoints(source, path, &name, written),
            strategy: self.strategy(source, path, written.strategy.as_ref().map(|strategy| &strategy.0)),
            sticky: written.sticky.as_ref().map(|sticky| self.sticky(source, path, &name, &sticky.0)),
            health_check: written
                .health_check
                .as_ref()
                .and_then(|check| self.health_check(source, path, &check.0)),
            passive_health: written.passive_health.as_ref().map(|passive| super::health::passive(&passive.0)),
            policies: self.service_policies(source, path, written),
            pass_host: written.pass_host.unwrap_or(true),
            timeouts: defaults::service_timeouts(&written.timeouts, &all.timeouts),
            pool: defaults::pool(&written.pool),
            tls: self.upstream_tls(source, path, written.tls.as_ref()),
            http: defaults::first([&written.http], UpstreamHttp::Auto),
            proxy_protocol: written.proxy_protocol.map(|lit| lit.0),
            upgrade: written.upgrade.unwrap_or(true),
            cache: written.cache.as_ref().map(|cache| self.cache(source, path, &cache.0)),
            origin: source.origin(path),
            name: name.clone(),
        };
        self.services.insert(name, service);
    }

    fn endpoints(
        &mut self,
        source: &Source,
        path: &Path,
        name: &str,
        written: &written::Service,
    ) -> Vec<Endpoint> {
        let (key, list) = match (&written.endpoints, &written.urls) {
            (Some(list), None) => ("endpoints", list.as_slice()),
            (None, Some(list)) => ("urls", list.as_slice()),
            (None, None) => ("endpoints", [].as_slice()),
            (Some(list), Some(_)) => {
                let help = "they are the same: keep one of the two";
                self.error(
                    source,
                    &path.key("urls"),
                    Code::Conflict,
                    "`endpoints` and `urls` are both written",
                    help,
                );
                ("endpoints", list.as_slice())
            }
        };
        let path_of_list = path.key(key);
        if list.is_empty() && !source.broken(path) {
            let message = format!("the service `{}` has no endpoints", base(name));
            if source.live {
                // They come and go there: until one comes, the service answers 503.
                self.warning(source, path, Code::NoEndpoints, message, "it answers 503 until one comes");
            } else {
                let help = "write endpoints = [\"http://host:port\"]";
                self.error(source, path, Code::NoEndpoints, message, help);
            }
        }
        let places = source.document.root.at(&path_of_list).map(|node| node.survivors()).unwrap_or_default();
        let mut seen = BTreeSet::new();
        let mut endpoints = Vec::new();
        // Who asks for turns by name, by a variable say, gets turns.
        let named = written.strategy.as_ref().and_then(|strategy| strategy.0.named);
        let weight_by = written.weight_by.as_ref().filter(|_| named != Some(NamedStrategy::RoundRobin));
        for (at, endpoint) in list.iter().enumerate() {
            let endpoint = &endpoint.0;
            let own = path_of_list.index(places.get(at).copied().unwrap_or(at));
            let weight = endpoint.weight.unwrap_or(1);
            if weight > MAX_WEIGHT {
                let message = format!("the weight {weight} is too large");
                self.error(
                    source,
                    &own.key("weight"),
                    Code::BadValue,
                    message,
                    format!("at most {MAX_WEIGHT}"),
                );
            }
            let url = &endpoint.url.0;
            if !seen.insert(url.text.clone()) {
                let message = format!("the endpoint `{}` stands twice", url.text);
                self.warning(
                    source,
                    &own,
                    Code::DuplicateEndpoint,
                    message,
                    "use `weight` to give it a larger share",
                );
            }
            let capacity = self.endpoint_capacity(source, &own, endpoint);
            endpoints.push(Endpoint {
                capacity,
                url: shared(&url.text),
                scheme: url.scheme,
                address: url.address.clone(),
                base_path: shared(&url.base_path),
                weight: weight.saturating_mul(factor(weight_by, endpoint)).min(MAX_WEIGHT),
                metadata: endpoint.metadata.iter().map(|(key, value)| (shared(key), shared(value))).collect(),
            });
        }
        if let Some(by) = &written.weight_by
            && !endpoints.is_empty()
            && !endpoints.iter().any(|endpoint| endpoint.metadata.contains_key(by.key.as_str()))
        {
            let message = format!("no endpoint has `{}` in its metadata", by.key);
            let help = format!("write metadata = {{ {} = \"…\" }} at the endpoints", by.key);
            self.warning(source, &path.key("weight_by"), Code::BadValue, message, help);
        }
        endpoints
    }

    fn strategy(&mut self, source: &Source, path: &Path, written: Option<&written::Strategy>) -> Strategy {
        let path = path.key("strategy");
        let Some(written) = written else { return Strategy::RoundRobin };
        match written.named {
            Some(NamedStrategy::RoundRobin | NamedStrategy::WeightedRoundRobin) => Strategy::RoundRobin,
            Some(NamedStrategy::LeastConnections) => Strategy::LeastConnections,
            Some(NamedStrategy::Random) => Strategy::Random,
            Some(NamedStrategy::P2c) => Strategy::P2c,
            Some(NamedStrategy::IpHash) => Strategy::IpHash,
            Some(NamedStrategy::ConsistentHash) => {
                Strategy::Hash { by: HashKey::Client, load_bound: defaults::LOAD_BOUND }
            }
            None => match &written.hash {
                Some(hash) => self.hash(source, &path.key("hash"), &hash.0),
                None => {
                    if !source.broken(&path) {
                        let help =
                            "write a name such as \"round_robin\", or { hash = { header = \"X-User\" } }";
                        self.error(source, &path, Code::MissingKey, "a strategy without a name", help);
                    }
                    Strategy::RoundRobin
                }
            },
        }
    }

    fn hash(&mut self, source: &Source, path: &Path, hash: &written::Hash) -> Strategy {
        let mut keys: Vec<HashKey> = Vec::new();
        keys.extend(hash.header.as_ref().map(|name| HashKey::Header(shared(&name.0.0))));
        keys.extend(hash.cookie.as_deref().map(|name| HashKey::Cookie(shared(name))));
        keys.extend(hash.query.as_deref().map(|name| HashKey::Query(shared(name))));
        keys.extend(hash.path.filter(|on| *on).map(|_| HashKey::Path));
        keys.extend(hash.client.filter(|on| *on).map(|_| HashKey::Client));
        if keys.len() > 1 {
            let help = "name one of client, path, header, cookie, query";
            self.error(source, path, Code::Conflict, "a hash looks at one thing", help);
        }
        let load_bound = hash.load_bound.unwrap_or(defaults::LOAD_BOUND);
        if !load_bound.is_finite() || load_bound < 1.0 {
            let message = format!("{load_bound} cannot bound the load");
            let help = "at least 1: 1.25 lets an endpoint have a quarter more than the average";
            self.error(source, &path.key("load_bound"), Code::BadValue, message, help);
        }
        Strategy::Hash { by: keys.into_iter().next().unwrap_or(HashKey::Client), load_bound }
    }

    pub(super) fn sticky(
        &mut self,
        source: &Source,
        path: &Path,
        name: &str,
        written: &written::Sticky,
    ) -> Sticky {
        let path = path.key("sticky");
        let default = || {
            let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
            format!("portcullis_{}", base(name).chars().map(plain).collect::<String>())
        };
        let cookie = written.cookie.clone().unwrap_or_else(default);
        if scalar::header_name(&cookie).is_err() {
            let help = "use letters, digits, `_` and `-`";
            self.error(
                source,
                &path.key("cookie"),
                Code::BadValue,
                format!("`{cookie}` cannot name a cookie"),
                help,
            );
        }
        let secure = written.secure.unwrap_or(false);
        let same_site = written.same_site.map(|lit| lit.0);
        if same_site == Some(crate::model::SameSite::None) && !secure {
            let help = "add secure = true: browsers drop the cookie otherwise";
            self.error(
                source,
                &path.key("same_site"),
                Code::Conflict,
                "`same_site = \"none\"` needs `secure`",
                help,
            );
        }
        for (key, value) in [("path", &written.path), ("domain", &written.domain)] {
            if value
                .as_ref()
                .is_some_and(|value| value.contains(|c: char| c == ';' || c.is_control() || c == ','))
            {
                let help = "`;`, `,` and control characters would end the attribute";
                self.error(source, &path.key(key), Code::BadValue, format!("bad `{key}` of a cookie"), help);
            }
        }
        Sticky {
            cookie: shared(&cookie),
            secure,
            http_only: written.http_only.unwrap_or(true),
            same_site,
            max_age: written.max_age.map(|lit| lit.0.0).filter(|age| *age > 0),
            path: shared(written.path.as_deref().unwrap_or("/")),
            domain: written.domain.as_deref().map(shared),
        }
    }

    pub(super) fn upstream_tls(
        &mut self,
        source: &Source,
        path: &Path,
        written: Option<&written::UpstreamTls>,
    ) -> UpstreamTls {
        let path = path.key("tls");
        let Some(written) = written else {
            return UpstreamTls {
                ca: Vec::new(),
                server_name: None,
                client_certificate: None,
                insecure_skip_verify: false,
            };
        };
        let client_certificate = self.pair(source, &path, written.cert.as_deref(), written.key.as_deref());
        let server_name = written.server_name.as_deref().map(|name| match scalar::host(name) {
            Ok(name) => shared(name.trim_start_matches('[').trim_end_matches(']')),
            Err(problem) => {
                self.error(source, &path.key("server_name"), Code::BadValue, problem.message, problem.help);
                shared(name)
            }
        });
        let insecure = written.insecure_skip_verify.unwrap_or(false);
        if insecure {
            let help = "name the authority instead: ca = \"authority.pem\"";
            let message = "certificates of endpoints are not verified: anybody in between can read and change everything";
            self.warning(source, &path.key("insecure_skip_verify"), Code::InsecureUpstream, message, help);
        }
        UpstreamTls {
            ca: written.ca.iter().flat_map(|files| &files.0).map(|file| source.file(file)).collect(),
            server_name,
            client_certificate,
            insecure_skip_verify: insecure,
        }
    }
}

/// The name without its provider.
pub(crate) fn base(name: &str) -> &str {
    name.split_once('@').map_or(name, |(base, _)| base)
}

fn factor(by: Option<&written::WeightBy>, endpoint: &written::Endpoint) -> u32 {
    let value = by.and_then(|by| endpoint.metadata.get(&by.key).and_then(|value| by.factors.get(value)));
    value.copied().unwrap_or(1)
}
