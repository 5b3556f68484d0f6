//! What concerns the whole process: workers, admin, logs, metrics, error pages.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use super::{Merged, Merger, Source, defaults, listeners::texts, shared};
use crate::{
    diagnostic::Code,
    document::Path,
    model::{AccessLog, AccessLogFormat, Admin, Dns, ErrorPage, Log, LogFormat, Metrics, Model, StatusRange},
    scalar,
    written::{self, Configuration},
};

/// Keys that every provider may publish; all others belong to the gateway's own file.
const FOR_ALL: &[&str] = &["routes", "services", "middlewares"];

impl Merger<'_> {
    pub(super) fn globals(mut self) -> Merged {
        let main = self.main();
        self.only_main_says(main);
        self.deadline_of_all();
        let nothing = Configuration::default();
        let written = main.map_or(&nothing, |source| &source.written);
        let error_pages = main.map(|source| self.error_pages(source)).unwrap_or_default();
        let metrics = self.metrics(main, written.metrics.as_ref());
        let dns = self.dns(main, written.dns.as_ref());
        let cache = self.cache_store(main, written.cache.as_ref());
        let shedding = self.shedding(main, written.shedding.as_ref());
        let gateway_name = self.gateway_name(main, written);
        let server = written.server.as_ref();
        if let (Some(source), Some(_), Some(_)) =
            (main, written.workers, server.and_then(|server| server.workers))
        {
            let path = Path::root().key("server").key("workers");
            self.error(
                source,
                &path,
                Code::Conflict,
                "`workers` is also written at the top",
                "keep one of the two",
            );
        }
        let model = Model {
            workers: written.workers.or(server.and_then(|server| server.workers)).unwrap_or(0),
            listeners: std::mem::take(&mut self.listeners),
            routes: std::mem::take(&mut self.routes),
            services: std::mem::take(&mut self.services),
            middlewares: std::mem::take(&mut self.middlewares),
            stores: std::mem::take(&mut self.stores),
            admin: admin(written),
            metrics,
            access_log: access_log(main, written),
            log: self.log(main, written),
            error_pages,
            drain_timeout: defaults::first([&written.drain_timeout], defaults::DRAIN),
            upgrade_timeout: defaults::first([&written.upgrade_timeout], defaults::UPGRADE),
            gateway_name,
            cache,
            shedding,
            dns,
            max_connections: written.max_connections.unwrap_or(0),
        };
        Merged { model, findings: self.findings, used: self.used }
    }

    fn only_main_says(&mut self, main: Option<&Source>) {
        for source in self.sources {
            if main.is_some_and(|main| std::ptr::eq(main, source)) {
                continue;
            }
            for entry in source.document.root.entries() {
                if !FOR_ALL.contains(&entry.key.as_str()) && !source.broken(&Path::root().key(&entry.key)) {
                    let message =
                        format!("`{}` is not the business of the provider `{}`", entry.key, source.provider);
                    let help = "write it in the gateway's own file";
                    self.error(source, &Path::root().key(&entry.key), Code::Conflict, message, help);
                }
            }
        }
    }

    fn dns(&mut self, main: Option<&Source>, written: Option<&written::Dns>) -> Dns {
        let nothing = written::Dns::default();
        let written = written.unwrap_or(&nothing);
        let dns = Dns {
            servers: written.servers.iter().flatten().map(|server| server.0.0).collect(),
            timeout: defaults::first([&written.timeout], defaults::DNS_TIMEOUT),
            min_ttl: defaults::first([&written.min_ttl], defaults::DNS_MIN_TTL),
            max_ttl: defaults::first([&written.max_ttl], defaults::DNS_MAX_TTL),
        };
        let Some(source) = main else { return dns };
        let path = Path::root().key("dns");
        let mut report = |key: &str, code, message: &str, help: &str| {
            let at = path.key(key);
            // Of two that disagree, the one that is written.
            let at = if source.document.root.at(&at).is_some() { at } else { path.key("min_ttl") };
            self.error(source, &at, code, message, help);
        };
        if written.servers.as_ref().is_some_and(Vec::is_empty) && !source.broken(&path) {
            let help = "name one, or leave `servers` away for those of the system";
            report("servers", Code::MissingKey, "no name server", help);
        }
        if dns.timeout.is_zero() {
            let help = "write a time such as 2s";
            report("timeout", Code::BadValue, "`timeout` of 0 would end every question", help);
        }
        if dns.max_ttl.is_zero() {
            let help = "write a time such as 5m";
            report("max_ttl", Code::BadValue, "`max_ttl` of 0 would ask without end", help);
        } else if dns.min_ttl > dns.max_ttl {
            let help = "`min_ttl` at most `max_ttl` (5 min when it is not written)";
            report("max_ttl", Code::Conflict, "`min_ttl` is longer than `max_ttl`", help);
        }
        dns
    }

    fn gateway_name(&mut self, main: Option<&Source>, written: &Configuration) -> std::sync::Arc<str> {
        let name = written.gateway_name.as_deref().unwrap_or(defaults::GATEWAY_NAME);
        // It stands in `Via` as a pseudonym, which is a token (RFC 9110 §7.6.3).
        if let (Some(source), Err(_)) = (main, scalar::header_name(name)) {
            let message = format!("`{name}` cannot name the gateway");
            let help = "it stands in `Via`: use letters, digits, `-`, `_` and `.`";
            self.error(source, &Path::root().key("gateway_name"), Code::BadValue, message, help);
        }
        shared(name)
    }

    fn log(&mut self, main: Option<&Source>, written: &Configuration) -> Log {
        let default = written::Log::default();
        let log = written.log.as_ref().map_or(&default, |log| &log.0);
        let filter = log.filter.as_deref().unwrap_or("info");
        if let (Some(source), Err(problem)) = (main, crate::log_filter::check(filter)) {
            let path = Path::root().key("log");
            let long = source.document.root.at(&path.key("filter")).is_some();
            let path = if long { path.key("filter") } else { path };
            self.error(source, &path, Code::BadValue, problem.message, problem.help);
        }
        Log { filter: shared(filter), format: defaults::first([&log.format], LogFormat::Text) }
    }

    fn metrics(&mut self, main: Option<&Source>, written: Option<&written::Metrics>) -> Metrics {
        let buckets = match written.and_then(|metrics| metrics.buckets.clone()) {
            Some(buckets) => buckets,
            None => return Metrics { buckets: defaults::BUCKETS.to_vec() },
        };
        if let Some(source) = main {
            let path = Path::root().key("metrics").key("buckets");
            let mut report = |at: usize, message: String, help: &str| {
                self.error(source, &path.index(at), Code::BadValue, message, help);
            };
            let mut previous = 0.0;
            for (at, bound) in buckets.iter().copied().enumerate() {
                if !bound.is_finite() || bound <= 0.0 {
                    report(
                        at,
                        format!("{bound} is not an upper bound"),
                        "write seconds above 0, without infinity",
                    );
                } else if bound <= previous {
                    report(
                        at,
                        format!("{bound} is not above {previous}"),
                        "write the bounds in ascending order",
                    );
                }
                previous = bound;
            }
            if buckets.len() > 100 {
                report(100, format!("{} buckets are too many", buckets.len()), "at most 100");
            }
        }
        Metrics { buckets }
    }

    fn error_pages(&mut self, source: &Source) -> BTreeMap<StatusRange, ErrorPage> {
        let mut pages = BTreeMap::new();
        for (key, page) in &source.written.error_pages {
            let path = Path::root().key("error_pages").key(key);
            let range = match scalar::statuses(key) {
                Ok(range) if range.from >= 400 => range,
                Ok(_) => {
                    let help = "the gateway's own errors have statuses from 400 to 599";
                    self.error(source, &path, Code::BadValue, format!("{key} is not an error"), help);
                    continue;
                }
                Err(problem) => {
                    self.error(source, &path, Code::BadValue, problem.message, problem.help);
                    continue;
                }
            };
            if let Some(body) = self.page_body(source, &path, &page.0) {
                let kind = page.0.content_type.as_deref().unwrap_or("text/html; charset=utf-8");
                if let Err(problem) = scalar::header_value(kind) {
                    self.error(
                        source,
                        &path.key("content_type"),
                        Code::BadValue,
                        problem.message,
                        problem.help,
                    );
                }
                pages.insert(range, ErrorPage { content_type: shared(kind), body: body.into() });
            }
        }
        pages
    }

    fn page_body(&mut self, source: &Source, path: &Path, page: &written::ErrorPage) -> Option<String> {
        match (&page.body, &page.file) {
            (Some(body), None) => Some(body.clone()),
            (None, Some(file)) => {
                let file = source.file(file);
                let text = self.files.read(&file).map(String::from_utf8);
                let message = match text {
                    Ok(Ok(text)) => return Some(text),
                    Ok(Err(_)) => format!("`{}` is not UTF-8", file.display()),
                    Err(error) => format!("cannot read `{}`: {error}", file.display()),
                };
                let help = "relative paths start at the directory of the configuration";
                self.error(source, &path.key("file"), Code::MissingFile, message, help);
                None
            }
            (Some(_), Some(_)) => {
                self.error(
                    source,
                    path,
                    Code::Conflict,
                    "`body` and `file` are both written",
                    "keep one of the two",
                );
                None
            }
            (None, None) => {
                if !source.broken(path) {
                    self.error(
                        source,
                        path,
                        Code::MissingKey,
                        "a page without a body",
                        "add `body` or `file`",
                    );
                }
                None
            }
        }
    }
}

fn admin(written: &Configuration) -> Option<Admin> {
    let default = written::Admin::default();
    let admin = written.admin.as_ref().map_or(&default, |admin| &admin.0);
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), defaults::ADMIN_PORT);
    admin.enabled.unwrap_or(true).then(|| Admin {
        address: defaults::first([&admin.address], address),
        allowed_hosts: texts(&admin.allowed_hosts),
    })
}

fn access_log(main: Option<&Source>, written: &Configuration) -> Option<AccessLog> {
    let switched = written.middleware.as_ref().and_then(|switches| switches.enable_logging) == Some(true);
    let default = written::AccessLog::default();
    let log = match &written.access_log {
        Some(log) => &log.0,
        None if switched => &default,
        None => return None,
    };
    log.enabled.unwrap_or(true).then(|| AccessLog {
        format: defaults::first([&log.format], AccessLogFormat::Json),
        file: log.file.as_ref().map(|file| main.map_or(file.clone(), |source| source.file(file))),
    })
}
