//! Stores: where several gateways share counters and answers, or one keeps answers on a disk.

use std::{path::PathBuf, sync::Arc, time::Duration};

use serde::{Serialize, Serializer};

use super::{EndpointAddress, Name, Origin, UpstreamTls};
use crate::human;

/// A store.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Store {
    /// Its name, which carries no provider.
    pub name: Name,
    /// What it is.
    pub kind: StoreKind,
    /// Where it was written.
    pub origin: Origin,
}

/// What a store is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    /// A Redis server.
    Redis(RedisStore),
    /// A folder on a disk of this machine.
    Disk(DiskStore),
}

impl StoreKind {
    /// What it is called where it is written.
    pub fn as_str(&self) -> &'static str {
        match self {
            StoreKind::Redis(_) => "redis",
            StoreKind::Disk(_) => "disk",
        }
    }
}

/// A folder on a disk of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiskStore {
    /// The folder.
    pub folder: PathBuf,
    /// Bytes that it may take. Default 1 GB.
    pub size: u64,
    /// For a look-up. Default 100 ms.
    #[serde(serialize_with = "human::time")]
    pub timeout: Duration,
}

/// A Redis server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RedisStore {
    /// Where it is.
    pub address: EndpointAddress,
    /// By TLS, and how it is verified.
    pub tls: Option<UpstreamTls>,
    /// The user; `None` = the default one.
    pub username: Option<Arc<str>>,
    /// Never shown.
    #[serde(serialize_with = "hidden")]
    pub password: Option<Arc<str>>,
    /// Number of the database. Default 0.
    pub database: u32,
    /// Stands before every key. Default `portcullis:`.
    pub prefix: Arc<str>,
    /// For connecting. Default 2 s.
    #[serde(serialize_with = "human::time")]
    pub connect_timeout: Duration,
    /// For an answer. Default 100 ms.
    #[serde(serialize_with = "human::time")]
    pub timeout: Duration,
}

fn hidden<S: Serializer>(secret: &Option<Arc<str>>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(|_| "***").serialize(serializer)
}
