//! Certificates: there, readable, valid now, matching their keys, and covering the hosts of the routes.

use std::{path::Path as FilePath, time::SystemTime};

use rustls::{
    crypto::ring::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{Check, listener_path};
use crate::{
    diagnostic::{Code, Finding},
    document::Path,
    merge::Source,
    model::{CertificateFiles, Listener, ListenerTls, Origin, Service, UpstreamTls},
    rule::{Matcher, Rule},
};

/// Days before its end from which a certificate is worth a warning.
const SOON_DAYS: i64 = 7;

impl Check<'_> {
    pub(super) fn listener_certificates(&mut self) {
        let main = self.main();
        for listener in self.model.listeners.values() {
            let Some(tls) = &listener.tls else { continue };
            let path = listener_path(main, &listener.name).key("tls");
            let mut names = Vec::new();
            let mut unknown = false;
            let short = main.is_some_and(|source| source.document.root.at(&path.key("cert")).is_some());
            for (at, files) in tls.certificates.iter().enumerate() {
                let own = match at {
                    0 if short => path.clone(),
                    _ => path.key("certificates").index(at - usize::from(short)),
                };
                match self.certificate(main, &own, files) {
                    Some(covered) => names.extend(covered),
                    None => unknown = true,
                }
            }
            self.authorities(main, &path.key("client_ca"), &tls.client_ca);
            if !unknown && !tls.certificates.is_empty() {
                self.uncovered(listener, tls, &path, &names);
            }
        }
    }

    pub(super) fn upstream_files(&mut self, service: &Service) {
        let path = Path::parse(&service.origin.path).key("tls");
        self.tls_files(&service.origin, &path, &service.tls);
    }

    /// Files of TLS towards somebody, written at this path.
    pub(super) fn tls_files(&mut self, origin: &Origin, path: &Path, tls: &UpstreamTls) {
        let source = self.source_of(origin);
        self.authorities(source, &path.key("ca"), &tls.ca);
        if let Some(files) = &tls.client_certificate {
            self.certificate(source, path, files);
        }
    }

    fn report(&mut self, source: Option<&Source>, path: &Path, finding: Finding) {
        self.findings.push(match source {
            Some(source) => source.place(finding, path, false),
            None => finding,
        });
    }

    fn contents(&mut self, source: Option<&Source>, path: &Path, file: &FilePath) -> Option<Vec<u8>> {
        match self.files.read(file) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                let finding =
                    Finding::error(Code::MissingFile, format!("cannot read `{}`: {error}", file.display()));
                let help = "relative paths start at the directory of the configuration";
                self.report(source, path, finding.help(help));
                None
            }
        }
    }

    /// Judges a certificate and its key; the names that it covers, if it can be used.
    fn certificate(
        &mut self,
        source: Option<&Source>,
        path: &Path,
        files: &CertificateFiles,
    ) -> Option<Vec<String>> {
        let (cert_path, key_path) = (path.key("cert"), path.key("key"));
        let chain = self.contents(source, &cert_path, &files.cert);
        let key = self.contents(source, &key_path, &files.key);
        let chain = chain.and_then(|bytes| self.chain(source, &cert_path, &files.cert, &bytes));
        let key = key.and_then(|bytes| {
            let parsed = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| error.to_string());
            let signing = parsed.and_then(|key| any_supported_type(&key).map_err(|error| error.to_string()));
            signing.map_err(|error| {
                let message = format!("`{}` holds no usable private key: {error}", files.key.display());
                let help = "a PEM file with an RSA, ECDSA or Ed25519 key (PKCS#8, PKCS#1 or SEC1), not encrypted";
                self.report(source, &key_path, Finding::error(Code::BadCertificate, message).help(help));
            }).ok()
        });
        let chain = chain?;
        let names = chain.first().and_then(|first| self.leaf(source, &cert_path, files, first));
        let key = key?;
        let pair = CertifiedKey::new(chain, key);
        if let Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) = pair.keys_match()
        {
            let message = format!(
                "the key `{}` does not belong to the certificate `{}`",
                files.key.display(),
                files.cert.display()
            );
            let help = "take the key that the certificate was made from; the certificate of the host comes first in its file";
            self.report(source, &key_path, Finding::error(Code::KeyMismatch, message).help(help));
            return None;
        }
        names
    }

    fn chain(
        &mut self,
        source: Option<&Source>,
        path: &Path,
        file: &FilePath,
        bytes: &[u8],
    ) -> Option<Vec<CertificateDer<'static>>> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
        let message = match chain {
            Ok(chain) if !chain.is_empty() => return Some(chain),
            Ok(_) => format!("`{}` holds no certificate", file.display()),
            Err(error) => format!("`{}` is not PEM: {error}", file.display()),
        };
        let finding = Finding::error(Code::BadCertificate, message);
        self.report(source, path, finding.help("a PEM file with -----BEGIN CERTIFICATE-----"));
        None
    }

    /// The host's own certificate: valid now? For which names?
    fn leaf(
        &mut self,
        source: Option<&Source>,
        path: &Path,
        files: &CertificateFiles,
        der: &CertificateDer<'_>,
    ) -> Option<Vec<String>> {
        let file = files.cert.display();
        let Ok((_, certificate)) = X509Certificate::from_der(der) else {
            let finding =
                Finding::error(Code::BadCertificate, format!("the certificate in `{file}` cannot be read"));
            self.report(source, path, finding);
            return None;
        };
        let now = self.now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let validity = certificate.validity();
        let (from, to) = (validity.not_before, validity.not_after);
        if to.timestamp() < now {
            let finding = Finding::error(
                Code::ExpiredCertificate,
                format!("the certificate in `{file}` expired on {to}"),
            );
            self.report(source, path, finding.help("renew it"));
        } else if from.timestamp() > now {
            let message = format!("the certificate in `{file}` is valid from {from} only");
            self.report(
                source,
                path,
                Finding::error(Code::ExpiredCertificate, message).help("is the clock right?"),
            );
        } else if to.timestamp() - now < SOON_DAYS * 86_400 {
            let message = format!("the certificate in `{file}` expires on {to}");
            self.report(source, path, Finding::warning(Code::ExpiredCertificate, message).help("renew it"));
        }
        Some(covered(&certificate))
    }

    fn authorities(&mut self, source: Option<&Source>, path: &Path, files: &[std::path::PathBuf]) {
        let list = source
            .and_then(|source| source.document.root.at(path))
            .is_some_and(|node| !node.elements().is_empty());
        for (at, file) in files.iter().enumerate() {
            let own = if list { path.index(at) } else { path.clone() };
            if let Some(bytes) = self.contents(source, &own, file) {
                self.chain(source, &own, file, &bytes);
            }
        }
    }

    /// Hosts of routes that this listener serves without a certificate for them.
    fn uncovered(&mut self, listener: &Listener, tls: &ListenerTls, path: &Path, names: &[String]) {
        let mut seen = std::collections::BTreeSet::new();
        let mut findings = Vec::new();
        for route in &self.model.routes {
            if !route.listeners.is_empty() && !route.listeners.contains(&listener.name) {
                continue;
            }
            for host in hosts(&route.rule) {
                if !names.iter().any(|name| covers(name, &host)) && seen.insert(host.clone()) {
                    let outcome = if tls.strict_sni {
                        "handshakes are refused"
                    } else {
                        "clients are shown another name"
                    };
                    let message = format!(
                        "no certificate of the listener `{}` covers `{host}`: {outcome}",
                        listener.name
                    );
                    let help = "add a certificate for it, or say in `listeners` where the route is reachable";
                    findings.push(Finding::warning(Code::UncoveredHost, message).help(help));
                }
            }
        }
        for finding in findings {
            self.report(self.main(), path, finding);
        }
    }
}

/// The names of a certificate, in lower case. The common name counts for nothing (RFC 9525 §2).
fn covered(certificate: &X509Certificate<'_>) -> Vec<String> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| std::net::Ipv4Addr::from(b).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|b| format!("[{}]", std::net::Ipv6Addr::from(b))),
            _ => None,
        },
        _ => None,
    };
    names.iter().filter_map(text).collect()
}

/// RFC 6125 §6.4.3: a wildcard stands for exactly one label.
fn covers(name: &str, host: &str) -> bool {
    if name == host {
        return true;
    }
    let Some(suffix) = name.strip_prefix("*.") else { return false };
    host.split_once('.').is_some_and(|(first, rest)| first != "*" && !first.is_empty() && rest == suffix)
}

/// The hosts that a rule names, wildcards as `*.x`.
fn hosts(rule: &Rule) -> Vec<String> {
    match rule {
        Rule::And(parts) | Rule::Or(parts) => parts.iter().flat_map(hosts).collect(),
        Rule::Match(Matcher::Host(host)) => vec![host.to_string()],
        Rule::Match(Matcher::HostSuffix(suffix)) => vec![format!("*.{suffix}")],
        _ => Vec::new(),
    }
}
