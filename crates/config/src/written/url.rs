//! The address of an endpoint: `http://10.0.0.1:8001/base`, `https://…`, `h2c://…`, `ws://…`, `wss://…`,
//! `unix:/run/app.sock`, `unix+h2c:/run/app.sock`.

use std::path::PathBuf;

use schemars::{Schema, json_schema};

use super::literal::Literal;
use crate::{
    model::{EndpointAddress, Scheme},
    scalar::{self, Problem},
};

/// An endpoint's address, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointUrl {
    /// Normalised: lower-case scheme and host, always with the port.
    pub text: String,
    /// How to speak to it.
    pub scheme: Scheme,
    /// Where it is.
    pub address: EndpointAddress,
    /// Path put before every forwarded path; empty, or starts with `/` and does not end with it.
    pub base_path: String,
}

const HELP: &str = "write http://host:port, https://host:port, h2c://host:port or unix:/path";

impl Literal for EndpointUrl {
    const EXPECTED: &'static str = "an address such as \"http://10.0.0.1:8001\"";

    fn text(text: &str) -> Result<Self, Problem> {
        let lower = text.to_ascii_lowercase();
        for (prefix, scheme) in
            [("unix:", Scheme::Http), ("unix+http:", Scheme::Http), ("unix+h2c:", Scheme::H2c)]
        {
            if lower.starts_with(prefix) {
                return unix(text, text.get(prefix.len()..).unwrap_or(""), scheme);
            }
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            let message = format!("`{text}` has no scheme");
            let help = if text.starts_with('/') {
                format!("write unix:{text}")
            } else {
                format!("write http://{text}")
            };
            return Err(Problem::new(message, help));
        };
        let (scheme, name, port) = match scheme.to_ascii_lowercase().as_str() {
            "http" | "ws" => (Scheme::Http, "http", 80),
            "https" | "wss" => (Scheme::Https, "https", 443),
            "h2c" => (Scheme::H2c, "h2c", 80),
            _ => return Err(Problem::new(format!("unknown scheme `{scheme}` in `{text}`"), HELP)),
        };
        tcp(text, rest, scheme, name, port)
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "title": "URL", "examples": ["http://10.0.0.1:8001", "h2c://host:50051", "unix:/run/app.sock"] })
    }
}

fn unix(text: &str, path: &str, scheme: Scheme) -> Result<EndpointUrl, Problem> {
    let path = path.strip_prefix("//").unwrap_or(path);
    if !path.starts_with('/') || path.len() < 2 {
        return Err(Problem::new(format!("`{text}` names no absolute path"), "write unix:/run/app.sock"));
    }
    if path.contains('\0') || path.len() > 107 {
        return Err(Problem::new("a Unix socket's path holds at most 107 bytes", "use a shorter path"));
    }
    let prefix = if scheme == Scheme::H2c { "unix+h2c" } else { "unix" };
    Ok(EndpointUrl {
        text: format!("{prefix}:{path}"),
        scheme,
        address: EndpointAddress::Unix(PathBuf::from(path)),
        base_path: String::new(),
    })
}

fn tcp(text: &str, rest: &str, scheme: Scheme, name: &str, default: u16) -> Result<EndpointUrl, Problem> {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    if authority.contains('@') {
        let help = "use a `headers` middleware to send credentials";
        return Err(Problem::new("an endpoint's address holds no user and password", help));
    }
    if path.contains(['?', '#']) {
        return Err(Problem::new(
            format!("`{text}` holds a query or a fragment"),
            "end the address after its path",
        ));
    }
    let (host, port) = match authority.rfind(':') {
        Some(at) if !authority.ends_with(']') => {
            let port = authority.get(at + 1..).unwrap_or("");
            let plain = port.bytes().all(|b| b.is_ascii_digit());
            let port = port.parse::<u16>().ok().filter(|port| plain && *port > 0);
            let port = port.ok_or_else(|| {
                Problem::new(format!("bad port in `{text}`"), "a port is a number from 1 to 65535")
            })?;
            (authority.get(..at).unwrap_or(""), port)
        }
        _ => (authority, default),
    };
    if host.contains(':') && !host.starts_with('[') {
        return Err(Problem::new(
            format!("the IPv6 address in `{text}` needs brackets"),
            "write http://[::1]:8080",
        ));
    }
    let host = scalar::host(host).map_err(|problem| {
        if host.is_empty() { Problem::new(format!("`{text}` has no host"), HELP) } else { problem }
    })?;
    let base_path = path.trim_end_matches('/');
    let odd = |c: char| c.is_control() || c.is_whitespace() || !c.is_ascii() || c == '\\';
    if base_path.contains("//")
        || base_path.split('/').any(|part| part == "." || part == "..")
        || base_path.contains(odd)
    {
        return Err(Problem::new(
            format!("the path of `{text}` is not in its plain form"),
            "write it without `//`, `.`, `..` and blanks",
        ));
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    Ok(EndpointUrl {
        text: format!("{name}://{host}:{port}{base_path}"),
        scheme,
        address: EndpointAddress::Tcp { host: bare.into(), port },
        base_path: base_path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises() {
        for (text, expected, base) in [
            ("http://10.0.0.1", "http://10.0.0.1:80", ""),
            ("HTTPS://A.Example/", "https://a.example:443", ""),
            ("ws://h:1/p/", "http://h:1/p", "/p"),
            ("wss://h", "https://h:443", ""),
            ("h2c://h:50051", "h2c://h:50051", ""),
            ("http://[::1]:8080/base", "http://[::1]:8080/base", "/base"),
            ("unix:/run/a.sock", "unix:/run/a.sock", ""),
            ("unix:///run/a.sock", "unix:/run/a.sock", ""),
            ("unix+h2c:/run/a.sock", "unix+h2c:/run/a.sock", ""),
        ] {
            let url = EndpointUrl::text(text).unwrap();
            assert_eq!((url.text.as_str(), url.base_path.as_str()), (expected, base), "{text}");
        }
        let v6 = EndpointUrl::text("http://[::1]").unwrap();
        assert_eq!(v6.address, EndpointAddress::Tcp { host: "::1".into(), port: 80 });
    }

    #[test]
    fn refuses() {
        for bad in [
            "",
            "localhost:80",
            "ftp://a",
            "http://",
            "http://:80",
            "http://a:0",
            "http://a:b",
            "http://a:99999",
            "http://u:p@a",
            "http://a/?q",
            "http://a#f",
            "unix:run",
            "unix:",
            "http://::1:80",
            "http://a b",
            "http://a/../b",
            "http://a:+1",
        ] {
            assert!(EndpointUrl::text(bad).is_err(), "{bad}");
        }
        assert_eq!(EndpointUrl::text("localhost:80").unwrap_err().help, "write http://localhost:80");
    }
}
