//! Hosts in the settings of `headers`: the allowed ones, and the one to put in place.

use portcullis_core::middleware::Problem;

use crate::settings::Strings;

/// Hosts that requests may be for.
#[derive(Debug)]
pub struct AllowedHosts {
    exact: Vec<String>,
    /// What stands behind the `*` of `*.example.com`, dot included.
    suffixes: Vec<String>,
}

impl AllowedHosts {
    /// Compiles the list; `None` when it is empty and all hosts are allowed.
    pub fn compile(written: &Strings) -> Result<Option<AllowedHosts>, Problem> {
        let mut hosts = AllowedHosts { exact: Vec::new(), suffixes: Vec::new() };
        for (index, text) in written.0.iter().enumerate() {
            let host = text.to_ascii_lowercase();
            let suffix = host.strip_prefix('*').filter(|rest| rest.starts_with('.'));
            let name = suffix.and_then(|rest| rest.strip_prefix('.')).unwrap_or(&host);
            if !is_host(name) {
                let message = format!("`{}` is not a host", text.escape_debug());
                let help = "such as `shop.example`, `*.shop.example` or `[2001:db8::1]`, without a port";
                return Err(Problem::at(format!("allowed_hosts[{index}]"), message).help(help));
            }
            match suffix {
                Some(rest) => hosts.suffixes.push(rest.to_owned()),
                None => hosts.exact.push(host),
            }
        }
        Ok((!written.0.is_empty()).then_some(hosts))
    }

    /// Is it one of them? `*.` stands for one label or more. The host is in lower case.
    pub fn contains(&self, host: &str) -> bool {
        let below = |suffix: &String| host.len() > suffix.len() && host.ends_with(suffix.as_str());
        self.exact.iter().any(|exact| exact == host) || self.suffixes.iter().any(below)
    }
}

/// A name or an address, without port.
fn is_host(text: &str) -> bool {
    match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inside) => inside.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let label = |label: &str| {
                !label.is_empty()
                    && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            };
            text.len() <= 253 && text.split('.').all(label)
        }
    }
}

/// A host with or without a port, to put in place of the client's.
pub fn authority(path: &str, text: &str) -> Result<(), Problem> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let digits =
        |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0);
    if is_host(host) && port.is_none_or(digits) {
        return Ok(());
    }
    let message = format!("`{}` is not a host", text.escape_debug());
    Err(Problem::at(path, message).help("such as `orders.internal` or `orders.internal:8080`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_authorities() {
        for text in ["a", "a.example", "a-b.example:80", "[::1]", "[::1]:8080", "10.0.0.1:1"] {
            assert!(authority("host", text).is_ok(), "{text}");
        }
        for text in ["", "a b", "a:", "a:0", "a:99999", "a:+8", "http://a", "a/b", "::1", "[::1", "a..b", "é"]
        {
            assert!(authority("host", text).is_err(), "{text}");
        }
    }

    #[test]
    fn wildcards_stand_for_labels() {
        let list = Strings(vec!["Shop.example".into(), "*.api.example".into()]);
        let hosts = AllowedHosts::compile(&list).unwrap().unwrap();
        for (host, allowed) in [
            ("shop.example", true),
            ("a.shop.example", false),
            ("x.api.example", true),
            ("y.x.api.example", true),
            ("api.example", false),
            (".api.example", false),
            ("evilapi.example", false),
            ("", false),
        ] {
            assert_eq!(hosts.contains(host), allowed, "{host}");
        }
        assert!(AllowedHosts::compile(&Strings::default()).unwrap().is_none());
        let bad = Strings(vec!["a".into(), "a:80".into()]);
        assert_eq!(AllowedHosts::compile(&bad).unwrap_err().path, "allowed_hosts[1]");
    }
}
