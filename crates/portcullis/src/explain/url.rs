//! A URL as people type it: taken apart as a browser does it, and otherwise left as it is, so that the gateway's own
//! judgement of it can be told.

use std::{fmt, str::FromStr};

/// `/path?query`, or a whole URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// As it was typed.
    pub text: String,
    /// Is it `https`? `None` for a path alone.
    pub tls: Option<bool>,
    /// Host, and port if there is one.
    pub authority: Option<String>,
    /// The port, if it is written.
    pub port: Option<u16>,
    /// What stands in the request line: path and query. Other characters than ASCII are percent-encoded, as whoever sends
    /// them does; the rest is as it was typed.
    pub target: String,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Url, String> {
        if let Some(bad) = text.chars().find(|c| c.is_whitespace() || c.is_control()) {
            let code: String = encoded(bad);
            return Err(format!("no request can hold {bad:?}; write {code}"));
        }
        if text.starts_with('/') || text == "*" {
            return Ok(Url {
                text: text.into(),
                tls: None,
                authority: None,
                port: None,
                target: target(text),
            });
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("`{text}` is neither a path nor a URL; write /{text} or http://host/path"));
        };
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" | "ws" => false,
            "https" | "wss" => true,
            _ => return Err(format!("no listener speaks `{scheme}`; write http://… or https://…")),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
        if authority.contains('@') {
            return Err("user and password of a URL are not sent; write -H 'Authorization: …'".into());
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                let number = port.parse::<u16>().ok().filter(|port| *port > 0);
                (
                    host,
                    Some(
                        number
                            .ok_or_else(|| format!("`{port}` is no port; a port is a number up to 65535"))?,
                    ),
                )
            }
            _ => (authority, None),
        };
        if host.is_empty() {
            return Err(format!("`{text}` names no host; write {scheme}://host/path"));
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Url {
            text: text.into(),
            tls: Some(tls),
            authority: Some(authority.to_owned()),
            port,
            target: target(&path),
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Without the fragment, which nobody sends.
fn target(text: &str) -> String {
    let text = text.split('#').next().unwrap_or_default();
    text.chars().map(|c| if c.is_ascii() { c.to_string() } else { encoded(c) }).collect()
}

fn encoded(c: char) -> String {
    c.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let parts = |text: &str| {
            let url: Url = text.parse().unwrap();
            (url.tls, url.authority.unwrap_or_default(), url.port, url.target)
        };
        assert_eq!(parts("/a|b?c=\"d\"#e"), (None, String::new(), None, "/a|b?c=\"d\"".into()));
        assert_eq!(parts("https://h"), (Some(true), "h".into(), None, "/".into()));
        assert_eq!(parts("HTTP://h:81?q"), (Some(false), "h:81".into(), Some(81), "/?q".into()));
        assert_eq!(parts("ws://[::1]:81/ä"), (Some(false), "[::1]:81".into(), Some(81), "/%C3%A4".into()));
        assert_eq!(parts("http://[::1]/"), (Some(false), "[::1]".into(), None, "/".into()));
        for bad in
            ["foo", "ftp://x/", "", "http://", "http:///a", "http://h:x/", "http://u@h/", "/a b", "h:80/x"]
        {
            assert!(bad.parse::<Url>().is_err(), "{bad}");
        }
    }
}
