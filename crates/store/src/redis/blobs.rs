//! Values in Redis: a key each, and a set of keys per tag.

use std::time::{Duration, Instant};

use bytes::Bytes;
use portcullis_core::{
    BoxFuture,
    store::{BlobStore, Failure},
};
use redis::{Cmd, ServerErrorKind, Value};

use super::{Purpose, Redis, odd, scripts::Known};
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

    fn put<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        ttl: Duration,
        tags: &'a [&'a str],
    ) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            let since = Instant::now();
            let result = self.keep(key, &value, ttl, tags).await;
            self.seen(Operation::Put, since, result)
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
    async fn keep(&self, key: &str, value: &[u8], ttl: Duration, tags: &[&str]) -> Result<(), Failure> {
        let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        if tags.is_empty() {
            let mut command = Cmd::new();
            command.arg("SET").arg(self.key("blob", key)).arg(value).arg("PX").arg(millis);
            return self.one(Purpose::Blobs, &command).await.map(drop);
        }
        let (link, mut live) = self.live(Purpose::Blobs).await?;
        let run = |script: &Known, by_text: bool| {
            let mut command = Cmd::new();
            match script.sha.as_ref().filter(|_| !by_text) {
                Some(sha) => command.arg("EVALSHA").arg(sha),
                None => command.arg("EVAL").arg(script.text),
            };
            command.arg(1 + tags.len()).arg(self.key("blob", key));
            for tag in tags {
                command.arg(self.key("tag", tag));
            }
            command.arg(value).arg(millis);
            command
        };
        let mut result = live.ask(&run(&live.put, false)).await;
        if matches!(&result, Err(error) if error.kind() == redis::ErrorKind::Server(ServerErrorKind::NoScript))
        {
            result = live.ask(&run(&live.put, true)).await;
        }
        link.judge(result).map(drop)
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
        let pattern = format!("{}*", escaped(&self.key("blob", prefix)));
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
