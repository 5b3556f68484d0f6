//! `[stores.NAME]`.

use std::{path::PathBuf, time::Duration};

use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;

use super::{
    Lit, OrTable, UpstreamTls,
    literal::{Literal, Size},
};
use crate::{
    model::EndpointAddress,
    scalar::{self, Problem},
};

/// Where several gateways share counters and answers, or one keeps answers on a disk. A table with exactly one key, its kind.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// A Redis server, or one that speaks its protocol (Valkey, KeyDB). A text is its URL.
    pub redis: Option<OrTable<Redis>>,
    /// A folder on a disk of this machine, where the cache keeps answers over a restart. A text is its path.
    pub disk: Option<OrTable<Disk>>,
}

/// A folder on a disk of this machine.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// The folder: it must be there, writable, and used by nothing else. Relative paths start at the configuration's
    /// directory.
    pub folder: Option<PathBuf>,
    /// How much of the disk it may take. What was not asked for lately goes when room is needed. Default 1 GB.
    pub size: Option<Lit<Size>>,
    /// How long the disk is waited for before a request goes on without it. Default 100 ms.
    pub timeout: Option<Lit<Duration>>,
}

impl Literal for Disk {
    const EXPECTED: &'static str = "the path of a folder such as \"/var/cache/portcullis\"";

    fn text(text: &str) -> Result<Self, Problem> {
        Ok(Disk { folder: Some(PathBuf::from(text)), ..Disk::default() })
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "title": "path of a folder", "examples": ["/var/cache/portcullis"] })
    }
}

/// A Redis server.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// Where it is: `redis://host:6379/0`, `rediss://…` for TLS, `unix:/run/redis.sock`. User and password may stand in it,
    /// percent-encoded: `redis://user:password@host`.
    pub url: Option<Lit<RedisUrl>>,
    /// The user, if not in the URL.
    pub username: Option<String>,
    /// The password, if not in the URL. Write `${REDIS_PASSWORD}` rather than the password itself.
    pub password: Option<String>,
    /// The number of the database, if not in the URL. Default 0.
    pub database: Option<u32>,
    /// Stands before every key, so that others may use the same server. Default `portcullis:`.
    pub prefix: Option<String>,
    /// How long connecting may take. Default 2 s.
    pub connect_timeout: Option<Lit<Duration>>,
    /// How long an answer may take before the request goes on without it. Default 100 ms.
    pub timeout: Option<Lit<Duration>>,
    /// With `rediss://`: how the server is verified.
    pub tls: Option<UpstreamTls>,
}

impl Literal for Redis {
    const EXPECTED: &'static str = "the URL of a Redis server such as \"redis://127.0.0.1:6379/0\"";

    fn text(text: &str) -> Result<Self, Problem> {
        Ok(Redis { url: Some(Lit(RedisUrl::text(text)?)), ..Redis::default() })
    }

    fn schema() -> Schema {
        RedisUrl::schema()
    }
}

/// The URL of a Redis server, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// Where it is.
    pub address: EndpointAddress,
    /// By TLS.
    pub secure: bool,
    /// Decoded.
    pub username: Option<String>,
    /// Decoded.
    pub password: Option<String>,
    /// The number in its path.
    pub database: Option<u32>,
}

const HELP: &str = "write redis://host:6379/0, rediss://host:6379/0 or unix:/run/redis.sock";

impl Literal for RedisUrl {
    const EXPECTED: &'static str = "the URL of a Redis server such as \"redis://127.0.0.1:6379/0\"";

    fn text(text: &str) -> Result<Self, Problem> {
        for prefix in ["unix:", "redis+unix:"] {
            if let Some(path) = text.strip_prefix(prefix) {
                return unix(path.strip_prefix("//").unwrap_or(path));
            }
        }
        // What is wrong is told without the text: there may be a password in it.
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(Problem::new("the URL of the Redis server has no scheme", HELP));
        };
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            _ => return Err(Problem::new(format!("`{scheme}` is not a scheme of Redis"), HELP)),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        let (username, password) = credentials(user)?;
        let database =
            match path {
                "" => None,
                number => Some(number.parse().map_err(|_| {
                    Problem::new(format!("`{number}` is not the number of a database"), HELP)
                })?),
            };
        Ok(RedisUrl { address: tcp(place)?, secure, username, password, database })
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "title": "URL of a Redis server", "examples": ["redis://127.0.0.1:6379/0", "rediss://:password@redis.example:6380"] })
    }
}

fn unix(path: &str) -> Result<RedisUrl, Problem> {
    if !path.starts_with('/') || path.len() < 2 || path.len() > 107 || path.contains('\0') {
        return Err(Problem::new("the URL names no socket", "write unix:/run/redis.sock"));
    }
    let address = EndpointAddress::Unix(PathBuf::from(path));
    Ok(RedisUrl { address, secure: false, username: None, password: None, database: None })
}

fn tcp(place: &str) -> Result<EndpointAddress, Problem> {
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (place, None),
    };
    let port = match port.map(str::parse::<u16>) {
        None => 6379,
        Some(Ok(port)) if port > 0 => port,
        Some(_) => return Err(Problem::new("the URL has a bad port", "a port is a number from 1 to 65535")),
    };
    if host.is_empty() {
        return Err(Problem::new("the URL names no host", HELP));
    }
    if host.contains(':') && !host.starts_with('[') {
        return Err(Problem::new("the IPv6 address in the URL needs brackets", "write redis://[::1]:6379"));
    }
    let host = scalar::host(host)?;
    Ok(EndpointAddress::Tcp { host: host.trim_start_matches('[').trim_end_matches(']').into(), port })
}

type Credentials = (Option<String>, Option<String>);

fn credentials(user: Option<&str>) -> Result<Credentials, Problem> {
    let Some(user) = user else { return Ok((None, None)) };
    let (name, password) = match user.split_once(':') {
        Some((name, password)) => (name, Some(password)),
        None => (user, None),
    };
    let decoded = |text: &str| {
        decode(text).ok_or_else(|| {
            Problem::new(
                "the URL has a bad percent-encoding before its `@`",
                "write `%40` for `@`, `%25` for `%`",
            )
        })
    };
    let name = if name.is_empty() { None } else { Some(decoded(name)?) };
    Ok((name, password.map(decoded).transpose()?))
}

fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        out.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let read = |text| RedisUrl::text(text).unwrap();
        let tcp = |host: &str, port| EndpointAddress::Tcp { host: host.into(), port };
        let url = read("redis://127.0.0.1");
        assert_eq!((url.address, url.secure, url.database), (tcp("127.0.0.1", 6379), false, None));
        let url = read("rediss://us%3Aer:p%40ss@Redis.Example:6380/3");
        assert_eq!((url.address, url.secure, url.database), (tcp("redis.example", 6380), true, Some(3)));
        assert_eq!((url.username.as_deref(), url.password.as_deref()), (Some("us:er"), Some("p@ss")));
        let url = read("redis://:secret@[::1]:7000/");
        assert_eq!((url.address, url.username), (tcp("::1", 7000), None));
        assert_eq!(url.password.as_deref(), Some("secret"));
        assert_eq!(read("unix:/run/r.sock").address, EndpointAddress::Unix("/run/r.sock".into()));
    }

    #[test]
    fn bad_urls_are_refused_without_their_password() {
        for bad in [
            "",
            "127.0.0.1:6379",
            "http://a",
            "redis://",
            "redis://:6379",
            "redis://a:0",
            "redis://a:b",
            "redis://a/x",
            "redis://a/1/2",
            "redis://::1",
            "redis://u:%zz@a",
            "unix:run",
        ] {
            assert!(RedisUrl::text(bad).is_err(), "{bad}");
        }
        for bad in ["redis://u:hunter2@a:b", "u:hunter2@a", "redis://u:hunter2%@a", "redis://u:hunter2@a b"] {
            let problem = RedisUrl::text(bad).unwrap_err();
            assert!(!problem.message.contains("hunter2") && !problem.help.contains("hunter2"), "{problem:?}");
        }
    }
}
