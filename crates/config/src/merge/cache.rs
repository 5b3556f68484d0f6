//! Caching, with every default and every way to write it wrong.

use std::{sync::Arc, time::Duration};

use super::{Merger, Source, defaults, shared};
use crate::{
    diagnostic::{Code, suggestion},
    document::Path,
    model::{Cache, CacheKey, CacheStore},
    scalar,
    written::{self, OneOrMany, literal::Size},
};

/// Fields that are asked before `Cache-Control`.
const TARGETED: [&str; 2] = ["portcullis-cache-control", "cdn-cache-control"];
/// Longest lifetime (RFC 9111 §1.2.2).
pub(super) const LONGEST: Duration = Duration::from_secs(1 << 31);

impl Merger<'_> {
    /// Where answers are kept.
    pub(super) fn cache_store(
        &mut self,
        main: Option<&Source>,
        written: Option<&written::CacheStore>,
    ) -> CacheStore {
        let none = written::CacheStore::default();
        let written = written.unwrap_or(&none);
        let standard = CacheStore::default();
        let memory = defaults::first([&written.memory], Size(standard.memory)).0;
        let most = Size(standard.max_object.min(memory / 4));
        let max_object = defaults::first([&written.max_object], most).0;
        let names: &[String] = written.store.as_ref().map_or(&[], |names| &names.0);
        let store =
            CacheStore { memory, max_object, stores: names.iter().map(|name| shared(name)).collect() };
        let Some(source) = main else { return store };
        let path = Path::root().key("cache");
        let known: Vec<&str> = source.written.stores.keys().map(String::as_str).collect();
        for name in names.iter().filter(|name| !source.written.stores.contains_key(*name)) {
            let help = suggestion(name, known.iter().copied(), "stores");
            let message = format!("there is no store `{name}`");
            self.error(source, &path.key("store"), Code::BadValue, message, help);
        }
        if memory < 1_000_000 {
            let help = "at least 1MB; to switch a cache off, write cache = false at the route";
            self.error(source, &path.key("memory"), Code::BadValue, "`memory` holds nothing worth it", help);
        } else if store.max_object > memory / 4 {
            let message = "`max_object` is more than a quarter of `memory`";
            let help = "one answer would drive out most others: at most a quarter";
            let at = if written.max_object.is_some() { "max_object" } else { "memory" };
            self.error(source, &path.key(at), Code::Conflict, message, help);
        }
        store
    }

    /// What a route or a service says.
    pub(super) fn cache(&mut self, source: &Source, path: &Path, written: &written::Cache) -> Cache {
        let path = path.key("cache");
        let mut lifetimes: Vec<(Arc<str>, Duration)> =
            written.lifetimes.iter().map(|(pattern, time)| (shared(pattern), time.0)).collect();
        lifetimes.sort_by(|(a, _), (b, _)| (b.len(), &**a).cmp(&(a.len(), &**b)));
        let cache = Cache {
            enabled: written.enabled.unwrap_or(true),
            default_lifetime: written.default_lifetime.map(|lit| lit.0),
            force: written.force.unwrap_or(false),
            min_lifetime: defaults::first([&written.min_lifetime], Duration::ZERO),
            max_lifetime: written.max_lifetime.map(|lit| lit.0),
            heuristics: written.heuristics.unwrap_or(true),
            never: list(written.never.as_ref()),
            key: self.cache_key(source, &path.key("key"), &written.key),
            stale_while_revalidate: defaults::first([&written.stale_while_revalidate], Duration::ZERO),
            stale_if_error: defaults::first([&written.stale_if_error], Duration::ZERO),
            store_cookies: written.store_cookies.unwrap_or(false),
            ignore_request_directives: written.ignore_request_directives.unwrap_or(false),
            errors: written.errors.as_ref().map(|list| list.0.clone()).unwrap_or_default(),
            targeted: self.targeted(source, &path, written.targeted.as_deref()),
            x_cache: written.x_cache.unwrap_or(false),
            lifetimes,
        };
        self.cache_patterns(source, &path, &cache);
        self.cache_times(source, &path, &cache);
        for (at, status) in cache.errors.iter().enumerate() {
            if !(400..=599).contains(status) {
                let path = super::routes::element(source, &path.key("errors"), at);
                let message = format!("{status} is no error's status");
                self.error(source, &path, Code::BadValue, message, "400 to 599");
            }
        }
        cache
    }

    fn cache_patterns(&mut self, source: &Source, path: &Path, cache: &Cache) {
        let is_pattern = |text: &str| text.starts_with(['/', '*']);
        let help = "a path such as /users or /users/*";
        for (pattern, _) in cache.lifetimes.iter().filter(|(pattern, _)| !is_pattern(pattern)) {
            let message = format!("`{pattern}` matches no path: paths start with `/`");
            self.error(source, &path.key("lifetimes").key(pattern), Code::BadPath, message, help);
        }
        for (at, pattern) in cache.never.iter().enumerate().filter(|(_, pattern)| !is_pattern(pattern)) {
            let message = format!("`{pattern}` matches no path: paths start with `/`");
            let path = super::routes::element(source, &path.key("never"), at);
            self.error(source, &path, Code::BadPath, message, help);
        }
    }

    fn cache_times(&mut self, source: &Source, path: &Path, cache: &Cache) {
        let mut times: Vec<(Path, Duration)> = Vec::new();
        let lifetimes = path.key("lifetimes");
        times.extend(cache.lifetimes.iter().map(|(pattern, time)| (lifetimes.key(pattern), *time)));
        let others = [
            ("default_lifetime", cache.default_lifetime),
            ("min_lifetime", Some(cache.min_lifetime)),
            ("max_lifetime", cache.max_lifetime),
            ("stale_while_revalidate", Some(cache.stale_while_revalidate)),
            ("stale_if_error", Some(cache.stale_if_error)),
        ];
        times.extend(others.iter().filter_map(|(key, time)| Some((path.key(key), (*time)?))));
        for (at, time) in times {
            if time > LONGEST {
                self.error(source, &at, Code::BadValue, "longer than 68 years", "at most 2147483648s");
            } else if time.subsec_nanos() != 0 {
                let help = "caches count in whole seconds";
                self.error(source, &at, Code::BadValue, "a part of a second", help);
            }
        }
        if cache.max_lifetime.is_some_and(|most| most < cache.min_lifetime) {
            let message = "`min_lifetime` is longer than `max_lifetime`";
            let at = path.key("max_lifetime");
            self.error(source, &at, Code::Conflict, message, "make it at most as long");
        }
        if cache.force && cache.lifetimes.is_empty() && cache.default_lifetime.is_none() {
            let message = "`force` without a lifetime to force";
            let help = "write `default_lifetime` or `lifetimes`";
            self.error(source, &path.key("force"), Code::Conflict, message, help);
        }
    }

    fn cache_key(&mut self, source: &Source, path: &Path, written: &written::CacheKey) -> CacheKey {
        if written.query.is_some() && written.ignore_query.is_some() {
            let message = "`query` and `ignore_query` are both written";
            let help = "with `query`, all other parameters are ignored: keep one of the two";
            self.error(source, &path.key("ignore_query"), Code::Conflict, message, help);
        }
        self.tokens(source, &path.key("headers"), written.headers.as_ref());
        self.tokens(source, &path.key("cookies"), written.cookies.as_ref());
        let claims = written.claims.iter().flat_map(|names| &names.0);
        for (at, _) in claims.enumerate().filter(|(_, name)| name.is_empty()) {
            let path = super::routes::element(source, &path.key("claims"), at);
            self.error(source, &path, Code::BadValue, "no claim is named", "such as \"sub\"");
        }
        let headers = list(written.headers.as_ref());
        CacheKey {
            identity: written.identity.unwrap_or(false),
            headers: headers.iter().map(|name| shared(&name.to_ascii_lowercase())).collect(),
            cookies: list(written.cookies.as_ref()),
            claims: list(written.claims.as_ref()),
            query: written.query.as_ref().map(|names| list(Some(names))),
            ignore_query: list(written.ignore_query.as_ref()),
        }
    }

    fn tokens(&mut self, source: &Source, path: &Path, names: Option<&OneOrMany<String>>) {
        for (at, name) in names.iter().flat_map(|names| &names.0).enumerate() {
            if let Err(problem) = scalar::header_name(name) {
                let path = super::routes::element(source, path, at);
                self.error(source, &path, Code::BadValue, problem.message, problem.help);
            }
        }
    }

    fn targeted(&mut self, source: &Source, path: &Path, written: Option<&[String]>) -> Vec<Arc<str>> {
        let Some(names) = written else { return TARGETED.iter().map(|name| shared(name)).collect() };
        for (at, name) in names.iter().enumerate() {
            let path = path.key("targeted").index(at);
            if let Err(problem) = scalar::header_name(name) {
                self.error(source, &path, Code::BadValue, problem.message, problem.help);
            } else if name.eq_ignore_ascii_case("cache-control") {
                let help = "it counts when none of these is there";
                self.error(source, &path, Code::BadValue, "`Cache-Control` is not targeted", help);
            }
        }
        names.iter().map(|name| shared(&name.to_ascii_lowercase())).collect()
    }
}

fn list(written: Option<&OneOrMany<String>>) -> Vec<Arc<str>> {
    written.iter().flat_map(|list| &list.0).map(|text| shared(text)).collect()
}
