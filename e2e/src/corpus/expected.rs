//! What an entry says of the bytes forwarded, filled in.

use std::{fmt, net::SocketAddr};

use super::{Entry, text};

/// Bytes, but for one place where anything may stand.
#[derive(Debug)]
pub struct Expected {
    begin: Vec<u8>,
    end: Option<Vec<u8>>,
}

impl Expected {
    /// Is it this?
    pub fn is(&self, bytes: &[u8]) -> bool {
        match &self.end {
            None => self.begin == bytes,
            Some(end) => {
                let any = bytes.strip_prefix(&*self.begin).and_then(|rest| rest.strip_suffix(&**end));
                any.is_some_and(|any| !any.is_empty() && !any.contains(&b'\r'))
            }
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", text::escape(&self.begin))?;
        self.end.as_ref().map_or(Ok(()), |end| write!(f, "{{any}}{}", text::escape(end)))
    }
}

impl Entry {
    /// What may reach an endpoint that listens here.
    pub fn expected(&self, endpoint: SocketAddr) -> Expected {
        let written = self.forwarded.replace("{endpoint}", &endpoint.to_string());
        let mut parts = written.split("{own");
        let mut whole = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let host = whole.rsplit("\nhost: ").next().and_then(|rest| rest.split("\\r").next());
            let host = host.filter(|host| *host != endpoint.to_string());
            let (version, part) = part.split_once('}').expect("closed");
            let usual = match (self.is_http2, self.is_http3()) {
                (_, true) => "3",
                (true, _) => "2",
                _ => "1.1",
            };
            let scheme = if self.is_http3() { ("https", "443") } else { ("http", "80") };
            whole.push_str(&own(host, if version.is_empty() { usual } else { version.trim() }, scheme));
            whole.push_str(part);
        }
        let read =
            |written: &str| text::bytes(written).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        match whole.split_once("{any}") {
            Some((begin, end)) => Expected { begin: read(begin), end: Some(read(end)) },
            None => Expected { begin: read(&whole), end: None },
        }
    }

    /// The same request, written a few bytes at a time.
    pub fn in_pieces(&self) -> Entry {
        Entry { pieces: 7, ..self.clone() }
    }
}

/// The fields that the gateway writes for a request that named this host, over this version of HTTP.
fn own(host: Option<&str>, via: &str, (scheme, port): (&str, &str)) -> String {
    let port = host.and_then(|host| host.rsplit_once(':')).map_or(port, |(_, port)| port);
    let (mut forwarded_host, mut pair) = (String::new(), String::new());
    if let Some(host) = host {
        forwarded_host = format!("X-Forwarded-Host: {host}\\r\\n");
        pair = format!("host=\"{host}\";");
    }
    format!(
        "X-Forwarded-For: 127.0.0.1\\r\\nX-Real-IP: 127.0.0.1\\r\\nX-Forwarded-Proto: {scheme}\\r\\n{forwarded_host}\
         X-Forwarded-Port: {port}\\r\\nForwarded: for=127.0.0.1;proto={scheme};{pair}by=_portcullis\\r\\n\
         Via: {via} portcullis\\r\\n"
    )
}
