//! Stores whose files cannot be read, folders that cannot be used, and what the cache makes of them.

use std::{io, path::Path as FilePath};

use super::Check;
use crate::{
    diagnostic::{Code, Finding},
    document::Path,
    model::{Store, StoreKind},
};

impl Check<'_> {
    pub(super) fn stores(&mut self) {
        let mut folders: Vec<(&FilePath, &Store)> = Vec::new();
        for store in self.model.stores.values() {
            match &store.kind {
                StoreKind::Redis(redis) => {
                    if let Some(tls) = &redis.tls {
                        let path = Path::parse(&store.origin.path).key("redis").key("tls");
                        self.tls_files(&store.origin, &path, tls);
                    }
                }
                StoreKind::Disk(disk) => {
                    let nested =
                        |other: &FilePath| other.starts_with(&disk.folder) || disk.folder.starts_with(other);
                    if let Some((_, other)) = folders.iter().find(|(folder, _)| nested(folder)) {
                        let message = format!("its folder is also that of the store `{}`", other.name);
                        let finding = Finding::error(Code::Conflict, message);
                        self.at_folder(store, finding.help("give each store a folder of its own"));
                    } else {
                        self.folder(store, &disk.folder);
                    }
                    folders.push((&disk.folder, store));
                }
            }
        }
        self.tiers();
    }

    /// A finding at the folder of a store.
    fn at_folder(&mut self, store: &Store, finding: Finding) {
        self.at(&store.origin, &["disk"], false, finding);
    }

    fn folder(&mut self, store: &Store, folder: &FilePath) {
        let Err(error) = self.files.folder(folder) else { return };
        let shown = folder.display();
        let (message, help) = match error.kind() {
            io::ErrorKind::NotFound => {
                (format!("the folder `{shown}` does not exist"), format!("make it: mkdir -p {shown}"))
            }
            io::ErrorKind::NotADirectory => {
                (format!("`{shown}` is no folder"), "name a folder for the cache alone".to_owned())
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => (
                format!("`{shown}` may not be written by this user"),
                "let the gateway's user read, write and enter it, or name another folder".to_owned(),
            ),
            _ => (format!("cannot use `{shown}`: {error}"), "name another folder".to_owned()),
        };
        self.at_folder(store, Finding::error(Code::MissingFile, message).help(help));
    }

    /// What stands behind the cache's memory.
    fn tiers(&mut self) {
        let model = self.model;
        let path = Path::root().key("cache").key("store");
        let mut seen: Vec<&Store> = Vec::new();
        for store in model.cache.stores.iter().filter_map(|name| model.stores.get(name)) {
            let same_kind = |other: &&&Store| other.kind.as_str() == store.kind.as_str();
            if let Some(other) = seen.iter().find(same_kind) {
                let kind = store.kind.as_str();
                let message = if other.name == store.name {
                    format!("`{}` is named twice", store.name)
                } else {
                    format!("`{}` and `{}` are both of the kind `{kind}`", other.name, store.name)
                };
                let help = "at most one store on a disk and one in Redis stand behind memory";
                self.in_main(&path, Finding::error(Code::Conflict, message).help(help));
            }
            seen.push(store);
        }
    }
}
