//! Answers in a store that gateways share: asked when memory has none, before the service is.
//!
//! A key holds an answer, or the fields by which its answers vary, whose variants have keys of their own. Answers are tagged
//! with their URI and with their own tags, so that they can be taken out wherever they were put in. A store that fails is a
//! miss and a count, never an error.

use std::{
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};
use portcullis_cache::{
    Object,
    date::{self, Seconds},
    vary::write_variant,
};
use portcullis_core::{
    Fields,
    store::{BlobStore, Failure, Put},
};
use ring::digest;

use super::{
    purge::{Purge, path_of},
    shelf::Entry,
};

/// Answers larger than this are compressed, where that makes them smaller.
const COMPRESSED: usize = 1024;
/// Work on answers larger than this is done on a thread for such work.
const ASIDE: usize = 64 * 1024;
/// What an answer may take beside its body.
const HEAD: u64 = 64 * 1024;

/// A shared store.
pub struct Far {
    blobs: Arc<dyn BlobStore>,
    counts: Arc<FarCounts>,
    /// Largest body.
    largest: u64,
}

/// What was asked of it; outlives configurations.
#[derive(Debug, Default)]
pub struct FarCounts {
    hits: AtomicU64,
    misses: AtomicU64,
    failures: AtomicU64,
    /// What was received before is not trusted: it could not be taken out.
    distrusted: AtomicU64,
}

impl FarCounts {
    /// Found, not found, failed.
    pub fn totals(&self) -> (u64, u64, u64) {
        (self.hits.load(Relaxed), self.misses.load(Relaxed), self.failures.load(Relaxed))
    }
}

impl Far {
    /// Over a store that keeps bytes.
    pub fn new(blobs: Arc<dyn BlobStore>, counts: Arc<FarCounts>, largest: u64) -> Far {
        Far { blobs, counts, largest }
    }

    /// The answer for a key and a request.
    pub async fn find(&self, key: &[u8], request: &Fields) -> Option<Object> {
        let found = self.search(key, request).await;
        let count = if found.is_some() { &self.counts.hits } else { &self.counts.misses };
        count.fetch_add(1, Relaxed);
        found
    }

    async fn search(&self, key: &[u8], request: &Fields) -> Option<Object> {
        let mut blob = self.get(&name(key, &[])).await?;
        let mut variant = Vec::new();
        if let Some(names) = blob.strip_prefix(b"V") {
            let names = std::str::from_utf8(names).ok()?;
            let names: Vec<Box<str>> = names.split('\n').map(Box::from).collect();
            write_variant(&names, request, &mut variant);
            blob = self.get(&name(key, &variant)).await?;
        }
        let most = self.largest + HEAD;
        let object = heavy(blob.len(), move || unpacked(&blob, most)).await??;
        let is_it = object.key() == key && object.variant() == variant;
        (is_it && object.times.received > self.counts.distrusted.load(Relaxed)).then_some(object)
    }

    async fn get(&self, name: &str) -> Option<Bytes> {
        match self.blobs.get(name).await {
            Ok(found) => found,
            Err(_) => {
                self.failed();
                None
            }
        }
    }

    /// Now, by the store's clock; `None` when it does not answer.
    pub async fn now(&self) -> Option<u64> {
        let now = self.blobs.now().await;
        if now.is_err() {
            self.failed();
        }
        now.ok()
    }

    /// Keeps an answer that was asked for at that moment of the store's clock. False when it was purged since, by whichever
    /// gateway: then it is not kept, and is to be kept nowhere else.
    pub async fn put(&self, entry: &Arc<Entry>, vary: &[Box<str>], since: u64) -> bool {
        let object = &entry.object;
        let Some(ttl) = lifetime(object, date::now()) else { return true };
        let uri = match entry.mark.by_path {
            true => format!("p:{}", String::from_utf8_lossy(path_of(object.uri()))),
            false => format!("u:{}", String::from_utf8_lossy(object.uri())),
        };
        let own: Vec<String> = entry.tags().iter().map(|tag| format!("t:{tag}")).collect();
        let mut tags: Vec<&str> = vec![&uri];
        tags.extend(own.iter().map(String::as_str));
        if !vary.is_empty() {
            let names = Bytes::from(format!("V{}", vary.join("\n")));
            let at = name(object.key(), &[]);
            match self.blobs.put(&at, names, ttl, &tags, since).await {
                Ok(Put::Kept) => {}
                Ok(put) => return put != Put::Purged,
                Err(_) => {
                    self.failed();
                    return true;
                }
            }
        }
        let packing = entry.clone();
        let Some(blob) = heavy(object.size(), move || packed(&packing.object)).await else { return true };
        let at = name(object.key(), object.variant());
        let put = self.blobs.put(&at, blob, ttl, &tags, since).await;
        if put.is_err() {
            self.failed();
        }
        put != Ok(Put::Purged)
    }

    /// What is kept for a URI is not valid any longer.
    pub async fn invalidate(&self, uri: &[u8]) {
        let uri = String::from_utf8_lossy(uri).into_owned();
        self.purge(&Purge::Url(uri.into())).await;
    }

    /// Takes answers out; tells how many keys there were. Where that fails, nothing that is older is used by this process
    /// any longer.
    pub async fn purge(&self, purge: &Purge) -> u64 {
        let purged = match purge {
            Purge::Url(url) => self.purge_url(url).await,
            Purge::Tag(tag) => self.blobs.purge_tag(&format!("t:{tag}")).await,
            Purge::Prefix(prefix) => self.blobs.purge_prefix(&format!("cache:{prefix}")).await,
            Purge::Everything => self.blobs.purge_prefix("cache:").await,
        };
        purged.unwrap_or_else(|_| {
            self.failed();
            self.counts.distrusted.fetch_max(date::now(), Relaxed);
            0
        })
    }

    /// Of keys for several URIs of one path, all go.
    async fn purge_url(&self, url: &str) -> Result<u64, Failure> {
        let exact = self.blobs.purge_tag(&format!("u:{url}")).await?;
        let path = url.split('?').next().unwrap_or_default();
        Ok(exact + self.blobs.purge_tag(&format!("p:{path}")).await?)
    }

    /// Takes one answer away again.
    pub async fn forget(&self, entry: &Entry) {
        let at = name(entry.object.key(), entry.object.variant());
        if self.blobs.delete(&at).await.is_err() {
            self.failed();
            self.counts.distrusted.fetch_max(date::now(), Relaxed);
        }
    }

    fn failed(&self) {
        self.counts.failures.fetch_add(1, Relaxed);
    }
}

/// The name of a key in the store: its URI, for people and for purges by prefix, and a digest of all of it.
fn name(key: &[u8], variant: &[u8]) -> String {
    let uri = key.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&(key.len() as u64).to_le_bytes());
    context.update(key);
    context.update(variant);
    let sum = context.finish();
    let mut out = format!("cache:{}#", String::from_utf8_lossy(uri));
    sum.as_ref().iter().take(16).for_each(|byte| out.push_str(&format!("{byte:02x}")));
    out
}

/// For how long it is of use: while fresh, while it may be used stale, and while it can be confirmed.
pub(super) fn lifetime(object: &Object, now: Seconds) -> Option<Duration> {
    let times = &object.times;
    let confirmable = object.get("etag").next().or_else(|| object.get("last-modified").next()).is_some();
    let stale = times.stale_while_revalidate.max(times.stale_if_error).max(times.in_need);
    let beyond = if confirmable { stale.max(times.lifetime) } else { stale };
    let left = times.ttl(now).saturating_add(i64::from(beyond));
    u64::try_from(left).ok().filter(|left| *left > 0).map(Duration::from_secs)
}

fn packed(object: &Object) -> Bytes {
    let plain = object.encode();
    if plain.len() > COMPRESSED {
        let mut encoder = DeflateEncoder::new(vec![b'Z'], Compression::fast());
        let written = encoder.write_all(&plain).and_then(|()| encoder.finish());
        if let Ok(small) = written
            && small.len() < plain.len() / 10 * 9
        {
            return Bytes::from(small);
        }
    }
    let mut out = Vec::with_capacity(plain.len() + 1);
    out.push(b'O');
    out.extend_from_slice(&plain);
    Bytes::from(out)
}

/// What [`packed`] made; nothing of what grows beyond `most` bytes.
fn unpacked(blob: &Bytes, most: u64) -> Option<Object> {
    let rest = blob.get(1..)?;
    let object = match blob.first()? {
        b'O' => Object::decode(&blob.slice(1..)),
        b'Z' => {
            let mut plain = Vec::new();
            DeflateDecoder::new(rest).take(most + 1).read_to_end(&mut plain).ok()?;
            (plain.len() as u64 <= most).then(|| Object::decode(&plain.into())).flatten()
        }
        _ => None,
    };
    object.filter(|object| object.says_length(object.body_bytes().len() as u64))
}

/// Does work on so many bytes where it holds nobody up.
async fn heavy<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if bytes <= ASIDE { Some(work()) } else { tokio::task::spawn_blocking(work).await.ok() }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use portcullis_cache::Times;

    use super::*;

    fn object(body: Vec<u8>) -> Object {
        let times = Times { received: 100, lifetime: 60, ..Times::default() };
        let fields = [("Content-Type", "text/plain")].into_iter().collect();
        Object::new(b"http://a/b\nroute", b"", StatusCode::OK, &fields, &[body.into()], times).unwrap()
    }

    #[test]
    fn there_and_back_in_any_size() {
        let mut random = fastrand::Rng::with_seed(1);
        let noise: Vec<u8> = (0..5000).map(|_| random.u8(..)).collect();
        for (body, first) in
            [(vec![], b'O'), (vec![0, 255, 10], b'O'), (vec![b'x'; 100_000], b'Z'), (noise, b'O')]
        {
            let whole = object(body);
            let blob = packed(&whole);
            assert_eq!(blob[0], first);
            let back = unpacked(&blob, 1 << 20).unwrap();
            assert_eq!((back.body(), back.key()), (whole.body(), whole.key()));
        }
    }

    #[test]
    fn bombs_and_garbage_are_nothing() {
        let bomb = packed(&object(vec![0; 4 << 20]));
        assert!(bomb.len() < 100_000 && unpacked(&bomb, 1 << 20).is_none());
        for garbage in [&b""[..], b"O", b"Z", b"Zxxxx", b"Oxxxx", b"Q"] {
            assert!(unpacked(&Bytes::from_static(garbage), 1 << 20).is_none());
        }
    }

    #[test]
    fn names_tell_variants_apart_and_begin_with_the_uri() {
        assert!(name(b"http://a/b\nroute", b"").starts_with("cache:http://a/b#"));
        assert_ne!(name(b"http://a/b\nroute", b""), name(b"http://a/b\nroute", b"\n:gzip"));
        assert_ne!(name(b"http://a/b\nroute\nx", b"y"), name(b"http://a/b\nroute\n", b"xy"));
    }
}
