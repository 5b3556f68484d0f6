//! Values in Redis: a key each, and a set of keys per tag.

use std::time::Duration;

use bytes::Bytes;
use portcullis_core::{
    BoxFuture,
    store::{BlobStore, Failure, Put},
};
use redis::{Cmd, Value};

use super::{Purpose, Redis, odd, scripts::REMEMBERED};
use crate::meters::Operation;

/// Keys that are taken from a tag, or looked at, in one go: a server does one thing at a time.
const AT_ONCE: usize = 500;

impl BlobStore for Redis {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, Failure>> {
        self.timed(Operation::Get, self.read(key))
    }

    fn now(&self) -> BoxFuture<'_, Result<u64, Failure>> {
        self.timed(Operation::Clock, self.clock())
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        ttl: Duration,
        tags: &'a [&'a str],
        since: u64,
    ) -> BoxFuture<'a, Result<Put, Failure>> {
        self.timed(Operation::Put, self.keep(key, value, ttl, tags, since))
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, Failure>> {
        self.timed(Operation::Delete, async move {
            Ok(self.forget(&[self.key("blob", key).into_bytes()]).await? > 0)
        })
    }

    fn purge_tag<'a>(&'a self, tag: &'a str) -> BoxFuture<'a, Result<u64, Failure>> {
        self.timed(Operation::Purge, self.forget_tag(tag))
    }

    fn purge_prefix<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<u64, Failure>> {
        self.timed(Operation::Purge, self.forget_prefix(prefix))
    }
}

impl Redis {
    async fn read(&self, key: &str) -> Result<Option<Bytes>, Failure> {
        match self.one(Purpose::Blobs, Cmd::new().arg("GET").arg(self.key("blob", key))).await? {
            Value::BulkString(value) => Ok(Some(value.into())),
            Value::Nil => Ok(None),
            other => Err(odd(&other)),
        }
    }

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
        value: Bytes,
        ttl: Duration,
        tags: &[&str],
        since: u64,
    ) -> Result<Put, Failure> {
        let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut keys = vec![self.key("blob", key), self.key("gone", "prefixes")];
        keys.extend(tags.iter().map(|tag| self.key("tag", tag)));
        keys.extend(tags.iter().map(|tag| self.key("gone:tag", tag)));
        let arguments = |command: &mut Cmd| {
            command.arg(&value[..]).arg(millis).arg(since).arg(REMEMBERED);
        };
        match self.run(Purpose::Blobs, |live| &live.put, &keys, arguments).await? {
            Value::Int(1) => Ok(Put::Kept),
            Value::Int(0) => Ok(Put::Purged),
            Value::Int(2) => Ok(Put::Late),
            other => Err(odd(&other)),
        }
    }

    /// Whoever asked for it before does not put it back.
    async fn gone(&self, key: String, prefix: Option<&str>) -> Result<(), Failure> {
        let arguments = |command: &mut Cmd| {
            command.arg(REMEMBERED).arg(prefix);
        };
        self.run(Purpose::Blobs, |live| &live.gone, &[key], arguments).await.map(drop)
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
