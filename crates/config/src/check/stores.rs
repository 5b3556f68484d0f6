//! Stores whose files cannot be read.

use super::Check;
use crate::{document::Path, model::StoreKind};

impl Check<'_> {
    pub(super) fn stores(&mut self) {
        for store in self.model.stores.values() {
            let StoreKind::Redis(redis) = &store.kind;
            if let Some(tls) = &redis.tls {
                let path = Path::parse(&store.origin.path).key("redis").key("tls");
                self.tls_files(&store.origin, &path, tls);
            }
        }
    }
}
