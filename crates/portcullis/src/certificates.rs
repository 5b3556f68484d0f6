//! Certificates of listeners: their files are looked at again and again, and the metrics told until when each is valid.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use portcullis_proxy::{
    Data,
    observe::Metrics,
    runtime::Runtime,
    tls::{self, Expiry},
};
use tokio::time::interval;

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(10);

/// Looks after them for as long as the data plane lives.
pub async fn watch(data: Weak<Data>, metrics: Arc<Metrics>) {
    let renewals = tls::watch(EVERY);
    let records = async {
        let mut ticks = interval(EVERY);
        loop {
            ticks.tick().await;
            let Some(data) = data.upgrade() else { return };
            if let Some(runtime) = data.runtime() {
                record(&runtime, &metrics);
            }
        }
    };
    tokio::select! {
        () = renewals => {}
        () = records => {}
    }
}

/// Tells the metrics of every certificate of every listener: under its first name, or its file's when it has none.
pub fn record(runtime: &Runtime, metrics: &Metrics) {
    let in_use = tls::expiry();
    for listener in runtime.model.listeners.values() {
        let files = listener.tls.iter().flat_map(|tls| &tls.certificates);
        let found: Vec<(String, i64)> = files
            .filter_map(|files| in_use.iter().find(|one| one.file == files.cert))
            .map(|expiry| (label(expiry), expiry.not_after))
            .collect();
        metrics
            .certificates(&listener.name, found.iter().map(|(name, not_after)| (name.as_str(), *not_after)));
    }
}

fn label(expiry: &Expiry) -> String {
    expiry.names.first().map_or_else(|| expiry.file.display().to_string(), ToString::to_string)
}
