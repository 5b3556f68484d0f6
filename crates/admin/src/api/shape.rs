//! Pieces that several documents have in common.

use portcullis_config::model::Origin;
use portcullis_proxy::observe::HistogramTotals;
use serde_json::{Value, json};

/// Where an object was written.
pub(super) fn origin(origin: &Origin) -> Value {
    json!({
        "provider": &*origin.provider,
        "file": origin.file.as_deref(),
        "path": &*origin.path,
        "line": origin.line,
        "column": origin.column,
    })
}

/// Mean and quantiles in milliseconds, estimated from the buckets; `null` when nothing was measured.
pub(super) fn latency(durations: &HistogramTotals) -> Value {
    let count = durations.count();
    if count == 0 {
        return Value::Null;
    }
    let quantile = |share| durations.quantile(share).map(|seconds| millis(seconds * 1000.0));
    json!({
        "mean_ms": millis(durations.sum_seconds() * 1000.0 / count as f64),
        "p50_ms": quantile(0.5),
        "p95_ms": quantile(0.95),
        "p99_ms": quantile(0.99),
    })
}

/// To the microsecond.
pub(super) fn millis(millis: f64) -> f64 {
    (millis * 1000.0).round() / 1000.0
}
