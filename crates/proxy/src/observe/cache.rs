//! What is counted of caches.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use portcullis_cache::Outcome;

use super::{
    metrics::View,
    shards::Shards,
    text::{
        Page,
        Type::{Counter, Gauge},
    },
};
use crate::forward::cache::Stock;

/// Outcomes, as [`Outcome::word`] has them.
const WORDS: [&str; 7] = ["hit", "stale", "miss", "collapsed", "revalidated", "expired", "bypass"];
/// Tiers behind memory, as an outcome's detail and as a label have them.
const TIERS: [(&str, &str); 2] = [("disk", "disk"), ("store", "redis")];

/// Counters of the cache of one route, or of several with one path label.
#[derive(Debug)]
pub struct CacheMetrics {
    /// The `path` label.
    pub(super) label: Arc<str>,
    shards: Shards<[AtomicU64; WORDS.len() + TIERS.len()]>,
    refreshes: AtomicU64,
}

impl CacheMetrics {
    pub(super) fn new(label: &str, shards: usize) -> CacheMetrics {
        CacheMetrics { label: label.into(), shards: Shards::new(shards), refreshes: AtomicU64::new(0) }
    }

    /// A request went through the cache.
    pub fn seen(&self, shard: usize, outcome: &Outcome) {
        let word = outcome.word();
        let cells = self.shards.get(shard, Default::default);
        if let Some(cell) = WORDS.iter().position(|each| *each == word).and_then(|at| cells.get(at)) {
            cell.fetch_add(1, Relaxed);
        }
        if let Some(detail) = outcome.detail.filter(|_| outcome.is_hit())
            && let Some(at) = TIERS.iter().position(|(each, _)| *each == detail)
            && let Some(cell) = cells.get(WORDS.len() + at)
        {
            cell.fetch_add(1, Relaxed);
        }
    }

    /// An answer is being refreshed in the background.
    pub fn refreshed(&self) {
        self.refreshes.fetch_add(1, Relaxed);
    }

    fn count(&self, word: &str) -> u64 {
        WORDS.iter().position(|each| *each == word).map_or(0, |at| self.cells(at))
    }

    fn cells(&self, at: usize) -> u64 {
        self.shards.iter().filter_map(|cells| cells.get(at)).map(|cell| cell.load(Relaxed)).sum()
    }

    /// Hits by the tier that had the answer.
    fn tiers(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let behind: Vec<(&str, u64)> =
            TIERS.iter().enumerate().map(|(at, (_, label))| (*label, self.cells(WORDS.len() + at))).collect();
        let all = self.count("hit") + self.count("stale");
        let memory = all.saturating_sub(behind.iter().map(|(_, count)| count).sum());
        std::iter::once(("memory", memory)).chain(behind)
    }
}

/// Writes all of it.
pub(super) fn write(page: &mut Page, view: &View, stock: Option<&Stock>) {
    let all = &view.caches;
    let sum = |words: &[&str], cache: &CacheMetrics| words.iter().map(|word| cache.count(word)).sum::<u64>();
    page.family(
        "gateway_cache_hits_total",
        Counter,
        "Requests answered from the cache, stale answers included.",
    );
    for cache in all {
        page.sample(&[("path", &cache.label)], sum(&["hit", "stale"], cache));
    }
    page.family("gateway_cache_tier_hits_total", Counter, "The same, by the tier that had the answer.");
    for cache in all {
        for (tier, count) in cache.tiers() {
            page.sample(&[("path", &cache.label), ("tier", tier)], count);
        }
    }
    page.family(
        "gateway_cache_misses_total",
        Counter,
        "Requests that the cache could not answer without the service.",
    );
    for cache in all {
        let words = ["miss", "collapsed", "revalidated", "expired"];
        page.sample(&[("path", &cache.label)], sum(&words, cache));
    }
    page.family("gateway_cache_requests_total", Counter, "Requests by what the cache did with them.");
    for cache in all {
        for word in WORDS {
            page.sample(&[("path", &cache.label), ("outcome", word)], cache.count(word));
        }
    }
    page.family(
        "gateway_cache_collapsed_total",
        Counter,
        "Requests that waited for another request's answer.",
    );
    for cache in all {
        page.sample(&[("path", &cache.label)], cache.count("collapsed"));
    }
    page.family("gateway_cache_stale_total", Counter, "Requests answered with what was stale.");
    for cache in all {
        page.sample(&[("path", &cache.label)], cache.count("stale"));
    }
    page.family("gateway_cache_refreshes_total", Counter, "Answers refreshed in the background.");
    for cache in all {
        page.sample(&[("path", &cache.label)], cache.refreshes.load(Relaxed));
    }
    if let Some(far) = stock.map(|stock| stock.far.totals()).filter(|far| *far != (0, 0, 0)) {
        page.family(
            "gateway_cache_store_requests_total",
            Counter,
            "Look-ups in the store that gateways share, by result; and what failed there.",
        );
        for (result, count) in [("hit", far.0), ("miss", far.1), ("failure", far.2)] {
            page.sample(&[("result", result)], count);
        }
    }
    let Some(filled) = stock.map(Stock::filled) else { return };
    page.family("gateway_cache_entries", Gauge, "Answers in the memory of the cache.");
    page.sample(&[], filled.entries);
    page.family("gateway_cache_bytes", Gauge, "What they take, overhead included.");
    page.sample(&[], filled.bytes);
    page.family("gateway_cache_arriving_bytes", Gauge, "Bytes of answers on their way, which count too.");
    page.sample(&[], filled.arriving);
    page.family("gateway_cache_evictions_total", Counter, "Answers thrown out of memory to make room.");
    page.sample(&[], filled.evicted);
    page.family("gateway_cache_purged_total", Counter, "Answers purged by hand.");
    page.sample(&[], filled.purged);
    page.family("gateway_cache_invalidations_total", Counter, "URIs made invalid by unsafe requests.");
    page.sample(&[], filled.invalidated);
}
