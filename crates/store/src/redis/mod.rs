//! A Redis server: the connections of each thread, and how it is asked.

use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use portcullis_config::model::RedisStore;
use portcullis_core::{
    BoxFuture,
    store::{Failure, FailureKind},
};
use redis::{Cmd, ErrorKind, ServerErrorKind, Value};
use rustls::ClientConfig;

use crate::{
    Around,
    meters::{Operation, StoreMeters},
};
use link::{Link, Live, Outage};
use scripts::Known;

mod blobs;
mod connect;
mod counters;
mod link;
mod scripts;
#[cfg(test)]
mod tests;

/// A Redis server.
pub struct Redis {
    id: u64,
    shared: Arc<Shared>,
    /// All links; each thread knows its own.
    links: Mutex<Vec<Arc<Link>>>,
}

/// What all links of a store have in common.
pub(crate) struct Shared {
    name: Arc<str>,
    settings: RedisStore,
    tls: Option<Arc<ClientConfig>>,
    meters: StoreMeters,
    /// What the log was told of its links.
    outage: Mutex<Outage>,
}

/// What a connection is for. A large value on its way must not hold up those who count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Purpose {
    Counters,
    Blobs,
}

thread_local! {
    /// The links of this thread, whose runtime drives them.
    static OWN: RefCell<HashMap<(u64, Purpose), Weak<Link>>> = RefCell::default();
}

impl Redis {
    /// The store of this name and these settings: the one in use, or a new one.
    ///
    /// # Errors
    /// TLS that cannot be used.
    pub fn kept(name: &Arc<str>, settings: &RedisStore, around: &Around<'_>) -> Result<Arc<Redis>, String> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let tls = settings.tls.as_ref().map(|tls| (around.tls)(tls)).transpose()?;
        // The password is compared, but no text of it is kept.
        let secret = settings.password.as_deref().map(|text| secret_hash(text.as_bytes()));
        let identity = format!("{name} {:?} {secret:?}", RedisStore { password: None, ..settings.clone() });
        let make = || Redis {
            id: NEXT.fetch_add(1, Relaxed),
            shared: Arc::new(Shared {
                name: name.clone(),
                settings: settings.clone(),
                tls,
                meters: StoreMeters::new(name, around.meters),
                outage: Mutex::default(),
            }),
            links: Mutex::default(),
        };
        Ok(around.keep.get("store", &identity, make))
    }

    /// This thread's link, made when it is first asked for; `None` outside of a runtime.
    fn link(&self, purpose: Purpose) -> Option<Arc<Link>> {
        let key = (self.id, purpose);
        let known = OWN.try_with(|own| own.borrow().get(&key).and_then(Weak::upgrade)).ok()?;
        if let Some(link) = known.filter(|link| !link.is_dead()) {
            return Some(link);
        }
        let runtime = tokio::runtime::Handle::try_current().ok()?;
        let link = Link::start(&runtime, self.shared.clone());
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of threads that have ended.
        links.retain(|link| !link.is_dead());
        links.push(link.clone());
        let _ = OWN.try_with(|own| {
            let mut own = own.borrow_mut();
            own.retain(|_, link| link.strong_count() > 0);
            own.insert(key, Arc::downgrade(&link))
        });
        Some(link)
    }

    /// The connection of this thread, if the server answers.
    async fn live(&self, purpose: Purpose) -> Result<(Arc<Link>, Live), Failure> {
        let away = || Failure::new(FailureKind::Away, "");
        let link = self.link(purpose).ok_or_else(away)?;
        match link.live(self.shared.settings.timeout).await {
            Some(live) => Ok((link, live)),
            None => Err(away()),
        }
    }

    async fn one(&self, purpose: Purpose, command: &Cmd) -> Result<Value, Failure> {
        let (link, mut live) = self.live(purpose).await?;
        let result = live.ask(command).await;
        link.judge(result)
    }

    /// Runs a script, by its name or, where the server has forgotten it, by its text.
    async fn run(
        &self,
        purpose: Purpose,
        script: impl FnOnce(&Live) -> &Known,
        keys: &[String],
        arguments: impl Fn(&mut Cmd),
    ) -> Result<Value, Failure> {
        let (link, mut live) = self.live(purpose).await?;
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
        if matches!(&result, Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)) {
            // A server that was emptied, or another one behind the same name: EVAL makes it known again.
            result = live.ask(&command(true)).await;
        }
        link.judge(result)
    }

    /// The key as the server knows it.
    fn key(&self, kind: &str, key: &str) -> String {
        format!("{}{kind}:{key}", self.shared.settings.prefix)
    }

    /// Does it, and notes how long that took and how it ended.
    fn timed<'a, T>(
        &'a self,
        operation: Operation,
        work: impl Future<Output = Result<T, Failure>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, Failure>> {
        Box::pin(async move {
            let since = Instant::now();
            let result = work.await;
            self.shared.meters.seen(operation, since, &result);
            result
        })
    }
}

/// For comparing secrets within this process.
fn secret_hash(secret: &[u8]) -> u64 {
    use std::{
        hash::{BuildHasher, RandomState},
        sync::OnceLock,
    };
    static RANDOM: OnceLock<RandomState> = OnceLock::new();
    RANDOM.get_or_init(RandomState::new).hash_one(secret)
}

/// What the server said that nobody expected.
fn odd(value: &Value) -> Failure {
    let said = format!("{value:?}");
    Failure::new(FailureKind::Refused, said.chars().take(200).collect::<String>())
}
