//! Listeners: `[server]`, `[listeners]`, or the one that nobody wrote.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use super::{Merger, Source, defaults, shared};
use crate::{
    diagnostic::Code,
    document::Path,
    model::{CertificateFiles, Listener, ListenerTls, Name, ProxiedPeers, TlsVersion},
    scalar,
    written::{self, Lit},
};

/// The name of the listener that `[server]` means.
const WEB: &str = "web";
/// The name that the admin listener goes by, in logs and metrics and among the sockets.
const ADMIN: &str = "admin";

impl Merger<'_> {
    pub(super) fn listeners(&mut self) {
        let Some(source) = self.main() else {
            self.insert_default();
            return;
        };
        let written = &source.written;
        for (name, listener) in &written.listeners {
            self.listener(source, name, listener);
        }
        if let Some(server) = &written.server {
            self.server(source, server);
        }
        let none = written.listeners.is_empty() && written.server.is_none();
        if none
            && !source.broken(&Path::root().key("listeners"))
            && !source.broken(&Path::root().key("server"))
        {
            self.insert_default();
        }
    }

    fn insert_default(&mut self) {
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), defaults::PORT);
        let listener = self.plain(shared(WEB), address);
        self.known_listeners.insert(listener.name.clone());
        self.listeners.insert(listener.name.clone(), listener);
    }

    fn plain(&self, name: Name, address: SocketAddr) -> Listener {
        let none = written::Configuration::default();
        let all = self.main().map_or(&none, |source| &source.written);
        Listener {
            name,
            address,
            tls: None,
            http2: true,
            http3: None,
            proxy_protocol: None,
            trusted_proxies: Vec::new(),
            middlewares: Vec::new(),
            limits: defaults::listener_limits(&written::Limits::default(), &all.limits),
            timeouts: defaults::listener_timeouts(&written::ListenerTimeouts::default(), &all.timeouts),
            path: defaults::path_policy(&written::PathPolicy::default()),
            allow_odd_header_names: false,
        }
    }

    fn server(&mut self, source: &Source, server: &written::Server) {
        let path = Path::root().key("server");
        let name = shared(WEB);
        if source.written.listeners.contains_key(WEB) {
            let help = "`[server]` is the short form of a listener named `web`: keep one of the two";
            self.error(source, &path, Code::DuplicateName, "two listeners are named `web`", help);
            return;
        }
        let host = match scalar::bind_host(server.host.as_deref().unwrap_or("0.0.0.0")) {
            Ok(host) => host,
            Err(problem) => {
                self.error(source, &path.key("host"), Code::BadValue, problem.message, problem.help);
                return;
            }
        };
        let address = SocketAddr::new(host, server.port.unwrap_or(defaults::PORT));
        let listener = self.plain(name.clone(), address);
        self.known_listeners.insert(name.clone());
        self.listeners.insert(name, listener);
    }

    fn listener(&mut self, source: &Source, name: &str, written: &written::Listener) {
        let path = Path::root().key("listeners").key(name);
        if name == ADMIN {
            let message = "`admin` is the name of the admin listener";
            self.error(
                source,
                &path,
                Code::BadName,
                message,
                "choose another name; `[admin]` is its section",
            );
        }
        let Some(Lit(address)) = written.address else {
            if !source.broken(&path) {
                let help = "write address = \":8080\"";
                self.error(
                    source,
                    &path,
                    Code::MissingKey,
                    format!("the listener `{name}` has no address"),
                    help,
                );
            }
            return;
        };
        let tls = written.tls.as_ref().map(|tls| self.listener_tls(source, &path.key("tls"), tls));
        let proxy_protocol = written
            .proxy_protocol
            .as_ref()
            .map(|proxied| self.proxied_peers(source, &path.key("proxy_protocol"), proxied));
        let owner = format!("listener.{name}");
        let middlewares = self.uses(source, &path.key("middlewares"), &owner, &written.middlewares);
        let all = &source.written;
        let listener = Listener {
            name: shared(name),
            address,
            http2: written.http2.unwrap_or(true),
            http3: written.http3.as_ref().and_then(|http3| defaults::http3(&http3.0, tls.as_ref())),
            tls,
            proxy_protocol,
            trusted_proxies: written.trusted_proxies.iter().map(|net| net.0).collect(),
            middlewares,
            limits: defaults::listener_limits(&written.limits, &all.limits),
            timeouts: defaults::listener_timeouts(&written.timeouts, &all.timeouts),
            path: defaults::path_policy(&written.path_policy),
            allow_odd_header_names: written.allow_odd_header_names.unwrap_or(false),
        };
        self.listeners.insert(listener.name.clone(), listener);
    }

    fn proxied_peers(
        &mut self,
        source: &Source,
        path: &Path,
        written: &written::ProxiedPeers,
    ) -> ProxiedPeers {
        let from: Vec<_> = written.from.iter().flatten().map(|net| net.0).collect();
        // Whoever may say who a client is must be named: nobody is believed by default, nor is everybody.
        if from.is_empty() && !source.broken(path) {
            let at = if written.from.is_some() { path.key("from") } else { path.clone() };
            let message = "the PROXY protocol without anybody who may speak it";
            let help = "name the proxies before this listener: from = [\"10.0.0.0/8\"]";
            self.error(source, &at, Code::MissingKey, message, help);
        }
        ProxiedPeers { from, required: written.required.unwrap_or(true) }
    }

    fn listener_tls(&mut self, source: &Source, path: &Path, written: &written::ListenerTls) -> ListenerTls {
        let mut certificates: Vec<CertificateFiles> = Vec::new();
        certificates.extend(self.pair(source, path, written.cert.as_deref(), written.key.as_deref()));
        certificates.extend(
            written
                .certificates
                .iter()
                .map(|c| CertificateFiles { cert: source.file(&c.cert), key: source.file(&c.key) }),
        );
        // Half a pair has had its word.
        let half = written.cert.is_some() != written.key.is_some();
        if certificates.is_empty() && !half && !source.broken(path) {
            let help = "write certificates = [{ cert = \"cert.pem\", key = \"key.pem\" }]";
            self.error(source, path, Code::MissingKey, "TLS without a certificate", help);
        }
        let client_ca: Vec<_> =
            written.client_ca.iter().flat_map(|files| &files.0).map(|file| source.file(file)).collect();
        if client_ca.is_empty() && written.client_cert_required.is_some() && !source.broken(path) {
            let help = "name the authorities: client_ca = \"clients.pem\"";
            let at = path.key("client_cert_required");
            self.error(
                source,
                &at,
                Code::Conflict,
                "client certificates are required but no authority is named",
                help,
            );
        }
        ListenerTls {
            certificates,
            min_version: defaults::first([&written.min_version], TlsVersion::V12),
            strict_sni: written.strict_sni.unwrap_or(false),
            client_cert_required: !client_ca.is_empty() && written.client_cert_required.unwrap_or(true),
            client_ca,
        }
    }

    /// `cert` and `key` side by side: both or none.
    pub(super) fn pair(
        &mut self,
        source: &Source,
        path: &Path,
        cert: Option<&std::path::Path>,
        key: Option<&std::path::Path>,
    ) -> Option<CertificateFiles> {
        match (cert, key) {
            (Some(cert), Some(key)) => {
                Some(CertificateFiles { cert: source.file(cert), key: source.file(key) })
            }
            (None, None) => None,
            (Some(_), None) if source.broken(path) => None,
            (None, Some(_)) if source.broken(path) => None,
            (Some(_), None) => {
                self.error(
                    source,
                    &path.key("cert"),
                    Code::MissingKey,
                    "a certificate without its key",
                    "add `key`",
                );
                None
            }
            (None, Some(_)) => {
                self.error(
                    source,
                    &path.key("key"),
                    Code::MissingKey,
                    "a key without its certificate",
                    "add `cert`",
                );
                None
            }
        }
    }
}

/// `localhost` and friends, as the admin listener compares them.
pub(super) fn texts(list: &[String]) -> Vec<Arc<str>> {
    list.iter().map(|text| text.as_str().into()).collect()
}
