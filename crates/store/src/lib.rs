//! Stores: where several gateways share what they count and what they keep.
//!
//! A store is made when a configuration is compiled and connects when it is first asked, from the thread that asks: each
//! worker has connections of its own, so that no request waits for another thread. While a store is away that is known
//! beforehand, and asking it costs nothing.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

use std::{collections::BTreeMap, sync::Arc};

use portcullis_config::model::{self, Name, StoreKind, UpstreamTls};
use portcullis_core::{
    keep::Keep,
    meter::Meters,
    store::{Store, Stores},
};
use rustls::ClientConfig;

mod meters;
mod redis;

pub use redis::Redis;

/// Makes the TLS towards a store from its settings.
pub type Tls<'a> = dyn Fn(&UpstreamTls) -> Result<Arc<ClientConfig>, String> + 'a;

/// What stores are made with.
pub struct Around<'a> {
    /// Connections carried over from the last configuration.
    pub keep: &'a Keep,
    /// Where they count.
    pub meters: &'a Meters,
    /// TLS towards those that want it.
    pub tls: &'a Tls<'a>,
}

/// Builds the stores of a configuration. Nothing is connected yet.
///
/// # Errors
/// What is wrong with each that cannot be used.
pub fn build(settings: &BTreeMap<Name, model::Store>, around: &Around<'_>) -> Result<Stores, Vec<String>> {
    let (mut stores, mut problems) = (Stores::default(), Vec::new());
    for (name, settings) in settings {
        match one(settings, around) {
            Ok(store) => stores.insert(name.clone(), store),
            Err(problem) => problems.push(format!("store {name}: {problem}")),
        }
    }
    if problems.is_empty() { Ok(stores) } else { Err(problems) }
}

/// The same names and abilities with nothing behind them: for judging a configuration without running it.
pub fn pretended(settings: &BTreeMap<Name, model::Store>) -> Stores {
    let (keep, meters) = (Keep::default(), Meters::default());
    let mut stores = Stores::default();
    for (name, settings) in settings {
        // What is not asked does not connect, and TLS is judged with its files.
        let mut plain = settings.clone();
        if let StoreKind::Redis(redis) = &mut plain.kind {
            redis.tls = None;
        }
        let around = Around { keep: &keep, meters: &meters, tls: &|_| Err(String::new()) };
        if let Ok(store) = one(&plain, &around) {
            stores.insert(name.clone(), store);
        }
    }
    stores
}

fn one(settings: &model::Store, around: &Around<'_>) -> Result<Store, String> {
    match &settings.kind {
        StoreKind::Redis(redis) => {
            let store = Redis::kept(&settings.name, redis, around)?;
            Ok(Store { counters: Some(store.clone()), blobs: Some(store) })
        }
        // Of one gateway alone, and nothing but the cache's: it is made there.
        StoreKind::Disk(_) => Ok(Store::default()),
    }
}

/// Asks every store once, in the background of the current runtime, so that the log and the metrics tell from the start
/// what does not answer.
pub fn greet(stores: &Stores) {
    for (_, store) in stores.iter() {
        let Some(counters) = store.counters.clone() else { continue };
        tokio::spawn(async move {
            // What comes of it, the store has told by itself.
            let _ = counters.take(&[], false).await;
        });
    }
}
