//! Addresses, bounds and trust of the listeners.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{Check, listener_path};
use crate::{
    diagnostic::{Code, Finding},
    document::Path,
    model::Listener,
    scalar,
};

/// Fields that a request head may have at most: the parser's table is that large.
const MAX_HEADER_COUNT: usize = 256;

impl Check<'_> {
    /// Two listeners on one address, the admin listener included.
    pub(super) fn addresses(&mut self) {
        let mut taken: Vec<(SocketAddr, String)> = Vec::new();
        let main = self.main();
        let mut all: Vec<(SocketAddr, String, Path)> = Vec::new();
        for listener in self.model.listeners.values() {
            let path = listener_path(main, &listener.name);
            let written = main.is_some_and(|source| source.document.root.at(&path.key("address")).is_some());
            let path = if written { path.key("address") } else { path };
            all.push((listener.address, format!("the listener `{}`", listener.name), path));
        }
        // What was written of the admin listener may be broken: its default address is nobody's wish then.
        let broken = main.is_some_and(|source| source.broken(&Path::root().key("admin")));
        if let Some(admin) = self.model.admin.as_ref().filter(|_| !broken) {
            let path = Path::root().key("admin").key("address");
            all.push((admin.address, "the admin listener".to_owned(), path));
        }
        for (address, name, path) in all {
            if address.port() == 0 {
                let finding =
                    Finding::warning(Code::BadValue, format!("{name} listens on a port that nobody knows"));
                self.in_main(&path, finding.help("port 0 lets the system choose; write the port"));
                continue;
            }
            if let Some((other, by)) = taken.iter().find(|(other, _)| overlap(*other, address)) {
                let message = format!("{name} listens on {address}, which {by} already does");
                let message = if *other == address { message } else { format!("{message} with {other}") };
                let finding = Finding::error(Code::AddressInUse, message).help("choose another port");
                self.in_main(&path, finding);
            }
            taken.push((address, name));
        }
    }

    /// Values that make no sense.
    pub(super) fn bounds(&mut self) {
        let main = self.main();
        for listener in self.model.listeners.values() {
            let own = listener_path(main, &listener.name);
            self.limits(listener, &own);
            self.timeouts(listener, &own);
            self.http3(listener, &own.key("http3"));
        }
        if self.model.workers > 1024 {
            let message = format!("{} workers are more than any machine has cores", self.model.workers);
            let finding = Finding::error(Code::BadValue, message).help("leave it away for one per core");
            let short = Path::root().key("server").key("workers");
            let here = main.is_some_and(|source| source.document.root.at(&short).is_some());
            self.in_main(&if here { short } else { Path::root().key("workers") }, finding);
        }
    }

    /// The path of a setting: the listener's own, or that of the section all listeners inherit from.
    fn setting(&self, own: &Path, section: &str, key: &str) -> Path {
        let own = own.key(section).key(key);
        let here = self.main().is_some_and(|source| source.document.root.at(&own).is_some());
        if here { own } else { Path::root().key(section).key(key) }
    }

    fn bad(&mut self, own: &Path, section: &str, key: &str, message: String, help: &str) {
        let path = self.setting(own, section, key);
        self.in_main(&path, Finding::error(Code::BadValue, message).help(help));
    }

    fn limits(&mut self, listener: &Listener, own: &Path) {
        let limits = &listener.limits;
        if limits.header_count > MAX_HEADER_COUNT {
            let message = format!("{} header fields are too many", limits.header_count);
            self.bad(own, "limits", "header_count", message, "at most 256");
        }
        if limits.header_count == 0 {
            let help = "at least 1; a request has a Host";
            self.bad(own, "limits", "header_count", "no request has no header field".into(), help);
        }
        if limits.header_bytes < 512 || limits.header_bytes > 1024 * 1024 {
            let message = format!("{} cannot bound a request's head", bytes(limits.header_bytes));
            self.bad(own, "limits", "header_bytes", message, "from 512 bytes to 1 MiB");
        }
        if limits.uri_bytes < 16 {
            let message = format!("{} cannot hold a request target", bytes(limits.uri_bytes));
            self.bad(own, "limits", "uri_bytes", message, "at least 16 bytes");
        } else if limits.uri_bytes > limits.header_bytes {
            let message = format!("{} are more than the whole head may have", bytes(limits.uri_bytes));
            self.bad(own, "limits", "uri_bytes", message, "at most `header_bytes`");
        }
        if limits.h2_streams == 0 {
            let help = "at least 1; `http2 = false` switches HTTP/2 off";
            self.bad(own, "limits", "h2_streams", "no stream is no HTTP/2".into(), help);
        }
    }

    /// HTTP/3 where there can be none.
    fn http3(&mut self, listener: &Listener, path: &Path) {
        let Some(http3) = &listener.http3 else { return };
        let mut wrong = |code, message: &str, help: &str| {
            self.in_main(path, Finding::error(code, message).help(help));
        };
        if listener.tls.is_none() {
            let message = format!("HTTP/3 without TLS on the listener `{}`", listener.name);
            let help = "QUIC is always encrypted: write tls = { cert = \"cert.pem\", key = \"key.pem\" }, or http3 = false";
            wrong(Code::MissingKey, &message, help);
        }
        if listener.proxy_protocol.is_some() {
            let help =
                "the PROXY protocol is one of TCP: keep one of the two, or give HTTP/3 a listener of its own";
            wrong(Code::Conflict, "HTTP/3 behind proxies that speak the PROXY protocol", help);
        }
        if http3.advertised_port == Some(0) {
            let (message, help) =
                ("no client can reach port 0", "leave `advertised_port` away, or write the port");
            wrong(Code::BadValue, message, help);
        }
    }

    fn timeouts(&mut self, listener: &Listener, own: &Path) {
        let timeouts = &listener.timeouts;
        // Zero would cut every request; the two that may be zero mean "unbounded" there.
        let required: [(&str, Duration); 5] = [
            ("handshake", timeouts.handshake),
            ("request_header", timeouts.request_header),
            ("body_idle", timeouts.body_idle),
            ("write_idle", timeouts.write_idle),
            ("keep_alive", timeouts.keep_alive),
        ];
        for (key, value) in required {
            if value.is_zero() {
                let message = format!("`{key}` of 0 would end every request");
                self.bad(own, "timeouts", key, message, "write a time such as 30s");
            }
        }
    }

    /// Doors left open.
    pub(super) fn trust(&mut self) {
        let main = self.main();
        for listener in self.model.listeners.values() {
            let path = listener_path(main, &listener.name).key("trusted_proxies");
            for (at, net) in listener.trusted_proxies.iter().enumerate() {
                if net.prefix_len() == 0 {
                    let message = format!(
                        "`{net}` believes the forwarding headers of everybody: any client can choose its address"
                    );
                    let finding = Finding::warning(Code::TrustsEverybody, message);
                    self.in_main(&path.index(at), finding.help("name the addresses of your own proxies"));
                }
            }
        }
        self.proxied_peers();
        self.admin_hosts();
        if let Some(admin) = &self.model.admin
            && !admin.address.ip().is_loopback()
        {
            let message = format!("the admin listener on {} can be reached from elsewhere", admin.address);
            let finding = Finding::warning(Code::ExposedAdmin, message)
                .help("write 127.0.0.1, or guard it by other means");
            self.in_main(&Path::root().key("admin").key("address"), finding);
        }
    }
}

impl Check<'_> {
    /// PROXY protocol from anywhere.
    fn proxied_peers(&mut self) {
        let main = self.main();
        for listener in self.model.listeners.values() {
            let Some(proxied) = &listener.proxy_protocol else { continue };
            let path = listener_path(main, &listener.name).key("proxy_protocol").key("from");
            for (at, net) in proxied.from.iter().enumerate().filter(|(_, net)| net.prefix_len() == 0) {
                let message = format!(
                    "`{net}` lets everybody speak the PROXY protocol: any client can choose its address"
                );
                let finding = Finding::warning(Code::TrustsEverybody, message);
                self.in_main(&path.index(at), finding.help("name the addresses of your own proxies"));
            }
        }
    }

    /// Names under which nobody could ever ask the admin listener.
    fn admin_hosts(&mut self) {
        let Some(admin) = &self.model.admin else { return };
        for (at, host) in admin.allowed_hosts.iter().enumerate() {
            if let Err(problem) = scalar::host(host) {
                let path = Path::root().key("admin").key("allowed_hosts").index(at);
                self.in_main(&path, Finding::error(Code::BadValue, problem.message).help(problem.help));
            }
        }
    }
}

fn bytes(count: usize) -> String {
    format!("{count} byte{}", if count == 1 { "" } else { "s" })
}

/// Whether both cannot be bound at once. An unspecified IPv6 address may take IPv4's connections too, but does not
/// with the sockets we open.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let any = |ip: IpAddr| ip.is_unspecified();
    let same_family = a.is_ipv4() == b.is_ipv4();
    a.port() == b.port() && same_family && (a.ip() == b.ip() || any(a.ip()) || any(b.ip()))
}
