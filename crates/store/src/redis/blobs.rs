//! Values in Redis: a key each, and a set of keys per tag.

use std::time::{Duration, Instant};

use bytes::Bytes;
use portcullis_core::{
    BoxFuture,
    store::{BlobStore, Failure, Put},
};
use redis::{Cmd, ServerErrorKind, Value};

use super::{
    Purpose, Redis,
    link::Live,
    odd,
    scripts::{Known, REMEMBERED},
};
use crate::meters::Operation;

/// Keys that are taken from a tag, or looked at, in one go: a server does one thing at a time.
const AT_ONCE: usize = 500;

impl BlobStore for Redis {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, Failure>> {
        Box::pin(async move {
            let since = Instant::now();
            let mut command = Cmd::new();
            command.arg("GET").arg(self.key("blob", key));
            let result = match self.one(Purpose::Blobs, &command).await {
                Ok(Value::BulkString(value)) => Ok(Some(value.into())),
                Ok(Value::Nil) => Ok(None),
                Ok(other) => Err(odd(&other)),
                Err(failure) => Err(failure),
            };
            self.seen(Operation::Get, since, result)
        })
    }

    fn now(&self) -> BoxFuture<'_, Result<u64, Failure>> {
        Box::pin(async move {
            let since = Instant::now();
            let result = self.clock().await;
            self.seen(Operation::Clock, since, result)
        })
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        ttl: Duration,
        tags: &'a [&'a str],
        since: u64,
    ) -> BoxFuture<'a, Result<Put, Failure>> {
        Box::pin(async move {
            let begun = Instant::now();
            let result = self.keep(key, &value, ttl, tags, since).await;
            self.seen(Operation::Put, begun, result)
        })
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, Failure>> {
        Box::pin(async move {
            let since = Instant::now();
            let result = self.forget(&[self.key("blob", key).into_bytes()]).await.map(|count| count > 0);
            self.seen(Operation::Delete, since, result)
        })
    }

    fn purge_tag<'a>(&'a self, tag: &'a str) -> BoxFuture<'a, Result<u64, Failure>> {
        Box::pin(async move {
            let since = Instant::now();
            let result = self.forget_tag(tag).await;
            self.seen(Operation::Purge, since, result)
        })
    }

    fn purge_prefix<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<u64, Failure>> {
        Box::pin(async move {
            let since = Instant::now();
            let result = self.forget_prefix(prefix).await;
            self.seen(Operation::Purge, since, result)
        })
    }
}

impl Redis {
    async fn clock(&self) -> Result<u64, Failure> {
        let said = self.one(Purpose::Blobs, Cmd::new().arg("TIME")).await?;
        let number = |value: &Value| match value {
            Value::BulkString(text) => std::str::from_utf8(text).ok()?.parse::<u64>().ok(),
            Value::Int(number) => u64::try_from(*number).ok(),
            _ => None,
        };
        let both = match &said {
            Value::Array(parts) => match parts.as_slice() {
                [seconds, micros] => number(seconds).zip(number(micros)),
                _ => None,
            },
            _ => None,
        };
        both.map(|(seconds, micros)| seconds * 1_000_000 + micros).ok_or_else(|| odd(&said))
    }

    async fn keep(
        &self,
        key: &str,
        value: &[u8],
        ttl: Duration,
        tags: &[&str],
        since: u64,
    ) -> Result<Put, Failure> {
        let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut keys = vec![self.key("blob", key), self.key("gone", "prefixes")];
        keys.extend(tags.iter().map(|tag| self.key("tag", tag)));
        keys.extend(tags.iter().map(|tag| self.key("gone:tag", tag)));
        let arguments = |command: &mut Cmd| {
            command.arg(value).arg(millis).arg(since).arg(REMEMBERED);
        };
        match self.run(|live| &live.put, &keys, arguments).await? {
            Value::Int(1) => Ok(Put::Kept),
            Value::Int(0) => Ok(Put::Purged),
            Value::Int(2) => Ok(Put::Late),
            other => Err(odd(&other)),
        }
    }

    /// Runs a script, by its name or, where the server has forgotten it, by its text.
    async fn run(
        &self,
        script: impl Fn(&Live) -> &Known,
        keys: &[String],
        arguments: impl Fn(&mut Cmd),
    ) -> Result<Value, Failure> {
        let (link, mut live) = self.live(Purpose::Blobs).await?;
        let script = script(&live).clone();
        let command = |by_text: bool| {
            let mut command = Cmd::new();
            match script.sha.as_ref().filter(|_| !by_text) {
                Some(sha) => command.arg("EVALSHA").arg(sha),
                None => command.arg("EVAL").arg(script.text),
            };
            command.arg(keys.len()).arg(keys);
            arguments(&mut command);
            command
        };
        let mut result = live.ask(&command(false)).await;
        if matches!(&result, Err(error) if error.kind() == redis::ErrorKind::Server(ServerErrorKind::NoScript))
        {
            result = live.ask(&command(true)).await;
        }
        link.judge(result)
    }

    /// Whoever asked for it before does not put it back.
    async fn gone(&self, key: String, prefix: Option<&str>) -> Result<(), Failure> {
        let arguments = |command: &mut Cmd| {
            command.arg(REMEMBERED).arg(prefix);
        };
        self.run(|live| &live.gone, &[key], arguments).await.map(drop)
    }

    async fn forget(&self, keys: &[Vec<u8>]) -> Result<u64, Failure> {
        if keys.is_empty() {
            return Ok(0);
        }
        let mut command = Cmd::new();
        command.arg("UNLINK").arg(keys);
        match self.one(Purpose::Blobs, &command).await? {
            Value::Int(count) => Ok(u64::try_from(count).unwrap_or(0)),
            other => Err(odd(&other)),
        }
    }

    async fn forget_tag(&self, tag: &str) -> Result<u64, Failure> {
        self.gone(self.key("gone:tag", tag), None).await?;
        let tag = self.key("tag", tag);
        let mut count = 0;
        loop {
            let mut command = Cmd::new();
            command.arg("SPOP").arg(&tag).arg(AT_ONCE);
            let keys = keys(self.one(Purpose::Blobs, &command).await?)?;
            if keys.is_empty() {
                return Ok(count);
            }
            count += self.forget(&keys).await?;
        }
    }

    async fn forget_prefix(&self, prefix: &str) -> Result<u64, Failure> {
        let prefix = self.key("blob", prefix);
        self.gone(self.key("gone", "prefixes"), Some(&prefix)).await?;
        let pattern = format!("{}*", escaped(&prefix));
        let (mut cursor, mut count) = (b"0".to_vec(), 0);
        loop {
            let mut command = Cmd::new();
            command.arg("SCAN").arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(AT_ONCE);
            let said = self.one(Purpose::Blobs, &command).await?;
            let Value::Array(parts) = said else { return Err(odd(&said)) };
            let mut parts = parts.into_iter();
            let (Some(Value::BulkString(next)), Some(found)) = (parts.next(), parts.next()) else {
                return Err(odd(&Value::Nil));
            };
            count += self.forget(&keys(found)?).await?;
            if next == b"0" {
                return Ok(count);
            }
            cursor = next;
        }
    }
}

fn keys(said: Value) -> Result<Vec<Vec<u8>>, Failure> {
    let list = match said {
        Value::Array(list) | Value::Set(list) => list,
        Value::Nil => return Ok(Vec::new()),
        other => return Err(odd(&other)),
    };
    let key = |value| match value {
        Value::BulkString(key) => Ok(key),
        other => Err(odd(&other)),
    };
    list.into_iter().map(key).collect()
}

/// A text that stands for itself in a pattern.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
