//! Which certificate a client gets: the one for exactly its name, else a wildcard's, else the first.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use portcullis_config::model::CertificateFiles;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{
    TlsError,
    certificate::Certificate,
    watched::{Kept, Watched},
};

/// The certificates of one listener. New ones take the place of old ones in a single swap.
#[derive(Debug)]
pub(super) struct Resolver {
    table: ArcSwap<Table>,
    kept: Mutex<Vec<Kept>>,
    /// A client that names no known host is refused instead of shown the first certificate.
    strict: bool,
}

/// Candidates per name, in the order written: clients differ in the signatures they can verify.
#[derive(Debug, Default)]
struct Table {
    exact: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
    /// By what follows `*.`.
    wildcard: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
    default: Vec<Arc<CertifiedKey>>,
}

impl Resolver {
    /// Reads all certificates; any that is unusable is an error.
    pub(super) fn load(files: &[CertificateFiles], strict: bool) -> Result<Resolver, TlsError> {
        if files.is_empty() {
            return Err(TlsError::new("TLS without any certificate"));
        }
        let kept = files.iter().map(Kept::load).collect::<Result<Vec<_>, _>>()?;
        let table = ArcSwap::from_pointee(Table::of(&kept));
        Ok(Resolver { table, kept: Mutex::new(kept), strict })
    }

    /// The certificate for a name.
    fn choose(
        &self,
        name: Option<&str>,
        usable: impl Fn(&CertifiedKey) -> bool,
    ) -> Option<Arc<CertifiedKey>> {
        let table = self.table.load();
        let of_name = name.and_then(|name| table.of_name(name));
        let candidates = match of_name {
            Some(candidates) => candidates,
            None if self.strict => return None,
            None => &table.default,
        };
        // A client that can verify none of them gets the first: it may know better than its hello says.
        candidates.iter().find(|key| usable(key)).or_else(|| candidates.first()).cloned()
    }
}

/// The names that a listener's certificates are for.
#[derive(Debug, Clone)]
pub struct Names(Arc<Resolver>);

impl Names {
    pub(super) fn new(resolver: Arc<Resolver>) -> Names {
        Names(resolver)
    }

    /// May a request for `host` be served on a connection that was made for `sni`? Not when another certificate than
    /// the one shown is for that host (RFC 9110 §7.4): whoever checks what the connection was made for (a firewall, the
    /// client itself) has checked another host. A certificate that is for both names serves both, which is what clients
    /// that share a connection between hosts go by (RFC 9113 §9.1.1). Both names in lower case.
    pub fn may_serve(&self, sni: &str, host: &str) -> bool {
        if sni == host {
            return true;
        }
        let table = self.0.table.load();
        let Some(wanted) = table.of_name(host) else { return !self.0.strict };
        let shown = table.of_name(sni).unwrap_or(&table.default);
        wanted.iter().chain(table.of_wildcard(host).into_iter().flatten()).any(|key| is_among(shown, key))
    }
}

fn is_among(keys: &[Arc<CertifiedKey>], key: &Arc<CertifiedKey>) -> bool {
    keys.iter().any(|other| Arc::ptr_eq(other, key))
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        self.choose(hello.server_name(), |key| key.key.choose_scheme(schemes).is_some())
    }
}

impl Watched for Resolver {
    fn refresh(&self) -> Result<(), TlsError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut changed, mut failed) = (false, None);
        for one in kept.iter_mut() {
            match one.refresh() {
                Ok(new) => changed |= new,
                Err(error) => failed = Some(error),
            }
        }
        if changed {
            self.table.store(Arc::new(Table::of(&kept)));
        }
        failed.map_or(Ok(()), Err)
    }

    fn certificates(&self) -> Vec<Arc<Certificate>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().map(|one| one.certificate.clone()).collect()
    }
}

impl Table {
    fn of(kept: &[Kept]) -> Table {
        let mut table = Table::default();
        for certificate in kept.iter().map(|one| &one.certificate) {
            for name in &certificate.names {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut table.wildcard, parent),
                    None => (&mut table.exact, &**name),
                };
                map.entry(name.into()).or_default().push(certificate.key.clone());
            }
        }
        // The default is the first certificate, with those for the same names behind it (another key type).
        if let Some(first) = kept.first() {
            let alike = kept.iter().filter(|one| one.certificate.names == first.certificate.names);
            table.default = alike.map(|one| one.certificate.key.clone()).collect();
        }
        table
    }

    /// A wildcard stands for exactly one label (RFC 6125 §6.4.3). rustls hands names over in lower case.
    fn of_name(&self, name: &str) -> Option<&Vec<Arc<CertifiedKey>>> {
        let name = name.strip_suffix('.').unwrap_or(name);
        self.exact.get(name).or_else(|| self.of_wildcard(name))
    }

    fn of_wildcard(&self, name: &str) -> Option<&Vec<Arc<CertifiedKey>>> {
        self.wildcard.get(name.split_once('.')?.1)
    }
}
