//! Stores, which only the gateway's own file writes.

use super::{Merger, Source, defaults, shared};
use crate::{
    diagnostic::{Code, Finding},
    document::Path,
    model::{DiskStore, RedisStore, Store, StoreKind},
    written::{self, literal::Size},
};

/// Bytes that a disk must have for a store.
const SMALLEST: u64 = 16_000_000;

impl Merger<'_> {
    pub(super) fn stores(&mut self) {
        let Some(source) = self.main() else { return };
        for (name, store) in &source.written.stores {
            let path = Path::root().key("stores").key(name);
            let Some(kind) = self.store(source, &path, store) else { continue };
            let store = Store { name: shared(name), kind, origin: source.origin(&path) };
            self.stores.insert(shared(name), store);
        }
    }

    fn store(&mut self, source: &Source, path: &Path, written: &written::Store) -> Option<StoreKind> {
        match (&written.redis, &written.disk) {
            (Some(redis), None) => self.redis(source, &path.key("redis"), &redis.0).map(StoreKind::Redis),
            (None, Some(disk)) => self.disk(source, &path.key("disk"), &disk.0).map(StoreKind::Disk),
            (Some(_), Some(_)) => {
                let help = "make two stores of it, and name both: store = [\"near\", \"shared\"]";
                self.error(source, &path.key("disk"), Code::Conflict, "a store is one thing, not two", help);
                None
            }
            (None, None) => {
                if !source.broken(path) {
                    let finding = Finding::error(Code::MissingKey, "a store without a kind");
                    let help = "say what it is: redis = \"redis://127.0.0.1:6379/0\", or disk = \"/var/cache/portcullis\"";
                    self.note_key(source, path, finding.help(help));
                }
                None
            }
        }
    }

    fn redis(&mut self, source: &Source, path: &Path, written: &written::Redis) -> Option<RedisStore> {
        let Some(url) = &written.url else {
            if !source.broken(path) {
                let finding = Finding::error(Code::MissingKey, "a Redis store without `url`");
                self.note_key(source, path, finding.help("add url = \"redis://127.0.0.1:6379/0\""));
            }
            return None;
        };
        let url = &url.0;
        self.said_twice(source, path, "username", url.username.is_some() && written.username.is_some());
        self.said_twice(source, path, "password", url.password.is_some() && written.password.is_some());
        self.said_twice(source, path, "database", url.database.is_some() && written.database.is_some());
        if written.tls.is_some() && !url.secure {
            let help = "write rediss:// in the URL, or take `tls` away";
            let message = "`tls` without a `rediss://` URL does nothing";
            self.warning(source, &path.key("tls"), Code::Conflict, message, help);
        }
        let tls = self.upstream_tls(source, path, written.tls.as_ref());
        let connect_timeout = defaults::first([&written.connect_timeout], defaults::STORE_CONNECT);
        let timeout = defaults::first([&written.timeout], defaults::STORE_TIMEOUT);
        for (key, time) in [("connect_timeout", connect_timeout), ("timeout", timeout)] {
            if time.is_zero() {
                let message = format!("`{key}` of 0 would give up before asking");
                self.error(source, &path.key(key), Code::BadValue, message, "write a time such as 100ms");
            }
        }
        let one = |own: &Option<String>, of_url: &Option<String>| {
            own.as_ref().or(of_url.as_ref()).map(|text| shared(text))
        };
        let username = one(&written.username, &url.username);
        let password = one(&written.password, &url.password).filter(|password| !password.is_empty());
        if username.is_some() && password.is_none() {
            let key = if written.username.is_some() { "username" } else { "url" };
            let help = "add password = \"${REDIS_PASSWORD}\"; without a user and a password it is asked as the default user";
            self.error(source, &path.key(key), Code::MissingKey, "a user without a password", help);
        }
        Some(RedisStore {
            address: url.address.clone(),
            tls: url.secure.then_some(tls),
            username,
            password,
            database: written.database.or(url.database).unwrap_or(0),
            prefix: shared(written.prefix.as_deref().unwrap_or(defaults::STORE_PREFIX)),
            connect_timeout,
            timeout,
        })
    }

    fn disk(&mut self, source: &Source, path: &Path, written: &written::Disk) -> Option<DiskStore> {
        let Some(folder) = &written.folder else {
            if !source.broken(path) {
                let finding = Finding::error(Code::MissingKey, "a store on a disk without `folder`");
                self.note_key(source, path, finding.help("add folder = \"/var/cache/portcullis\""));
            }
            return None;
        };
        if folder.as_os_str().is_empty() {
            let help = "write a path such as /var/cache/portcullis";
            self.error(source, &path.key("folder"), Code::BadValue, "the folder has no name", help);
            return None;
        }
        let size = defaults::first([&written.size], Size(defaults::STORE_DISK)).0;
        if size < SMALLEST {
            self.error(
                source,
                &path.key("size"),
                Code::BadValue,
                "`size` holds nothing worth it",
                "at least 16MB",
            );
        }
        let timeout = defaults::first([&written.timeout], defaults::STORE_TIMEOUT);
        if timeout.is_zero() {
            let message = "`timeout` of 0 would give up before asking";
            self.error(source, &path.key("timeout"), Code::BadValue, message, "write a time such as 100ms");
        }
        Some(DiskStore { folder: source.file(folder), size, timeout })
    }

    fn said_twice(&mut self, source: &Source, path: &Path, key: &str, twice: bool) {
        if twice {
            let message = format!("`{key}` also stands in the URL");
            self.error(source, &path.key(key), Code::Conflict, message, "keep one of the two");
        }
    }
}
