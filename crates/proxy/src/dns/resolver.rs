//! Asking for a name's addresses, by hickory-resolver: `/etc/hosts` first, then the servers of the configuration or
//! those of `/etc/resolv.conf`. The system's own resolver would block a thread for each name and tells no time to live.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
};
use portcullis_config::model::Dns;

use super::Outcome;

/// What is read once when a resolver is made; one of these changed means a new resolver.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// Asks for addresses.
pub struct Resolver {
    settings: Dns,
    made: Mutex<Option<(Stamps, TokioResolver)>>,
}

/// When each of [`FILES`] last changed.
type Stamps = [Option<SystemTime>; FILES.len()];

/// A good answer.
#[derive(Debug)]
pub(super) struct Found {
    /// One at least.
    pub addresses: Vec<IpAddr>,
    /// How long they may be used.
    pub ttl: Duration,
}

/// No answer, or none with an address.
#[derive(Debug)]
pub(super) struct Failure {
    /// For metrics.
    pub outcome: Outcome,
    /// For people.
    pub text: String,
}

impl Resolver {
    /// With these settings.
    pub fn new(settings: Dns) -> Resolver {
        Resolver { settings, made: Mutex::new(None) }
    }

    /// Asks for the addresses of a name, of both families.
    pub(super) async fn look_up(&self, name: &str) -> Result<Found, Failure> {
        let resolver = self.current().map_err(|error| failure(&error))?;
        let answer = resolver.lookup_ip(name).await.map_err(|error| failure(&error))?;
        let addresses: Vec<IpAddr> = answer.iter().collect();
        if addresses.is_empty() {
            return Err(Failure { outcome: Outcome::NoAddress, text: "it has no address".to_owned() });
        }
        // Of the whole chain: an alias that expires sooner may lead elsewhere then.
        let ttl = answer.as_lookup().answers().iter().map(|record| record.ttl).min().unwrap_or_default();
        Ok(Found { addresses, ttl: Duration::from_secs(ttl.into()) })
    }

    fn current(&self) -> Result<TokioResolver, NetError> {
        let stamps = FILES.map(|file| std::fs::metadata(file).and_then(|data| data.modified()).ok());
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, resolver)) = made.as_ref().filter(|(of, _)| *of == stamps) {
            return Ok(resolver.clone());
        }
        let resolver = self.make()?;
        *made = Some((stamps, resolver.clone()));
        Ok(resolver)
    }

    fn make(&self) -> Result<TokioResolver, NetError> {
        let own = || {
            let servers = self.settings.servers.iter().map(server).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let local = |_| {
            // As the C library does without servers.
            let config = ResolverConfig::from_name_servers(vec![NameServerConfig::udp_and_tcp(IpAddr::V4(
                Ipv4Addr::LOCALHOST,
            ))]);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let mut builder = if self.settings.servers.is_empty() {
            TokioResolver::builder_tokio().unwrap_or_else(local)
        } else {
            own()
        };
        let options = builder.options_mut();
        options.timeout = self.settings.timeout;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.use_hosts_file = ResolveHosts::Always;
        // Answers are kept by name, see `Named`: a second cache would only hide that they changed.
        options.cache_size = 0;
        builder.build()
    }
}

/// UDP, and TCP for answers that are too long for it.
fn server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

fn failure(error: &NetError) -> Failure {
    let (outcome, text) = match error {
        _ if error.is_nx_domain() => (Outcome::NxDomain, "no such name".to_owned()),
        NetError::Timeout => (Outcome::Timeout, "no answer from the name servers in time".to_owned()),
        NetError::Dns(DnsError::NoRecordsFound(none)) if none.response_code.low() == 0 => {
            (Outcome::NoAddress, "it has no address".to_owned())
        }
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            (Outcome::Error, format!("the name server answered {}", none.response_code))
        }
        NetError::Dns(DnsError::ResponseCode(code)) => {
            (Outcome::Error, format!("the name server answered {code}"))
        }
        other => (Outcome::Error, other.to_string()),
    };
    Failure { outcome, text }
}
