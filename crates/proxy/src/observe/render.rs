//! The page that Prometheus reads. Names and labels of the first two groups are those of the seed (PET4).

use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed};

use portcullis_core::meter::{BOUNDS, Meter, Meters};

use crate::dns::Outcome;

use super::{
    cache,
    gauges::{EndpointGauge, Gauges},
    histogram::HistogramTotals,
    metrics::{Metrics, REST, View},
    process::Process,
    route::RouteTotals,
    service::{EndpointTotals, ServiceTotals},
    text::{
        Page,
        Type::{self, Counter, Gauge, Histogram},
    },
};

mod policies;

impl Metrics {
    /// All metrics in Prometheus' text format, version 0.0.4 (`text/plain; version=0.0.4; charset=utf-8`).
    pub fn render(&self, gauges: &dyn Gauges) -> String {
        let view = self.view();
        let mut page = Page::default();
        self.requests(&mut page, &view.by_path());
        self.services(&mut page, &view);
        endpoints(&mut page, &view, gauges);
        names(&mut page, gauges);
        if !view.caches.is_empty() {
            cache::write(&mut page, &view, view.stock.as_deref());
        }
        policies::breakers(&mut page, gauges);
        policies::mirrors(&mut page, gauges);
        policies::splits(&mut page, gauges);
        listeners(&mut page, &view);
        self.gateway(&mut page, gauges);
        meters(&mut page, &self.meters);
        Process::read().write(&mut page);
        page.finish()
    }

    fn requests(&self, page: &mut Page, paths: &BTreeMap<&str, RouteTotals>) {
        let rest = self.shared.rest_totals();
        let methods = || {
            let routes = paths.iter().flat_map(|(path, totals)| {
                totals.methods.iter().map(|(method, series)| (*path, *method, series))
            });
            routes.chain(rest.iter().map(|series| (REST, REST, series)))
        };
        page.family("gateway_http_requests_total", Counter, "Requests that ended.");
        for (path, method, series) in methods() {
            for (status, count) in series.statuses() {
                page.sample(&[("method", method), ("path", path), ("status_code", &status)], count);
            }
        }
        page.family(
            "gateway_http_request_duration_seconds",
            Histogram,
            "From the arrival of a request's head to the last byte of its answer.",
        );
        for (path, method, series) in methods() {
            histogram(page, &[("method", method), ("path", path)], &series.duration);
        }
        page.family("gateway_http_requests_in_progress", Gauge, "Requests that have not ended.");
        for (path, totals) in paths.iter().filter(|(_, totals)| touched(totals)) {
            page.sample(&[("path", path)], totals.in_progress.max(0));
        }
        page.family(
            "gateway_http_errors_total",
            Counter,
            "Requests that the gateway ended with an error, or that were answered with a status of 500 and above.",
        );
        for (path, totals) in paths {
            for (kind, count) in totals.errors() {
                page.sample(&[("path", path), ("type", kind)], count);
            }
        }
        page.family("gateway_http_received_bytes_total", Counter, "Bytes of request bodies.");
        for (path, totals) in paths.iter().filter(|(_, totals)| touched(totals)) {
            page.sample(&[("path", path)], totals.received);
        }
        page.family("gateway_http_sent_bytes_total", Counter, "Bytes of answer bodies.");
        for (path, totals) in paths.iter().filter(|(_, totals)| touched(totals)) {
            page.sample(&[("path", path)], totals.sent);
        }
    }

    fn services(&self, page: &mut Page, view: &View) {
        let all: Vec<(&str, ServiceTotals)> =
            view.services.iter().map(|service| (&*service.label, service.totals())).collect();
        page.family("gateway_backend_requests_total", Counter, "Answers of endpoints.");
        for (service, totals) in &all {
            for (status, count) in totals.statuses() {
                page.sample(&[("service", service), ("status_code", &status)], count);
            }
        }
        page.family(
            "gateway_backend_request_duration_seconds",
            Histogram,
            "From a request sent to an endpoint to the head of its answer, or to the failure.",
        );
        for (service, totals) in all.iter().filter(|(_, totals)| totals.duration.count() > 0) {
            histogram(page, &[("service", service)], &totals.duration);
        }
        page.family("gateway_backend_errors_total", Counter, "Requests that no endpoint answered.");
        for (service, totals) in &all {
            for (kind, count) in totals.errors() {
                page.sample(&[("service", service), ("error", kind)], count);
            }
        }
        page.family("gateway_backend_retries_total", Counter, "Attempts beyond a request's first.");
        for (service, totals) in &all {
            page.sample(&[("service", service)], totals.retries);
        }
        page.family(
            "gateway_retry_budget_exhausted_total",
            Counter,
            "Attempts that were not made, because the service's retry budget was used up.",
        );
        for (service, totals) in &all {
            page.sample(&[("service", service)], totals.retries_refused);
        }
        let help = "Attempts made beside one that was late.";
        page.family("gateway_backend_hedges_total", Counter, help);
        for (service, totals) in &all {
            page.sample(&[("service", service)], totals.hedges);
        }
        let help = "Attempts made beside one that was late that brought the answer.";
        page.family("gateway_backend_hedges_won_total", Counter, help);
        for (service, totals) in &all {
            page.sample(&[("service", service)], totals.hedges_won);
        }
        page.family(
            "gateway_fallbacks_total",
            Counter,
            "Requests that got the service's or route's fallback.",
        );
        for (service, totals) in &all {
            page.sample(&[("service", service)], totals.fallbacks);
        }
        page.family(
            "gateway_service_health_changes_total",
            Counter,
            "Endpoints that came into service (up) or went out of it (down).",
        );
        for (service, totals) in &all {
            page.sample(&[("service", service), ("to", "up")], totals.went_up);
            page.sample(&[("service", service), ("to", "down")], totals.went_down);
        }
    }

    fn gateway(&self, page: &mut Page, gauges: &dyn Gauges) {
        let reloads = &self.reloads;
        page.family("gateway_config_reloads_total", Counter, "Configurations read, by result.");
        page.sample(&[("result", "success")], reloads.succeeded.load(Relaxed));
        page.sample(&[("result", "failure")], reloads.failed.load(Relaxed));
        page.family(
            "gateway_config_last_reload_successful",
            Gauge,
            "1 when the last configuration read runs.",
        );
        page.sample(&[], u64::from(reloads.last_ok.load(Relaxed)));
        page.family(
            "gateway_config_last_reload_success_timestamp_seconds",
            Gauge,
            "When a configuration last began to run, Unix time.",
        );
        page.sample(&[], reloads.last_success.load(Relaxed));
        let (succeeded, failed) = self.upgrades();
        page.family("gateway_upgrades_total", Counter, "Upgrades of the binary, by result.");
        page.sample(&[("result", "success")], succeeded);
        page.sample(&[("result", "failure")], failed);
        page.family("gateway_config_generation", Gauge, "The running configuration, counted from 1.");
        page.sample(&[], gauges.generation());
        let (written, dropped) = gauges.access_log_lines();
        page.family(
            "gateway_access_log_lines_total",
            Counter,
            "Lines of the access log, by what became of them.",
        );
        page.sample(&[("result", "written")], written);
        page.sample(&[("result", "dropped")], dropped);
        page.family("gateway_build_info", Gauge, "Always 1; the version is in the label.");
        page.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1_u64);
    }
}

/// Was it ever asked for? Routes that were not have no series yet.
fn touched(totals: &RouteTotals) -> bool {
    totals.in_progress > 0 || !totals.methods.is_empty() || totals.errors().next().is_some()
}

/// Service, endpoint, in service, requests at it, connections to it (open, idle).
type Live = (String, String, bool, u64, (u64, u64));

fn endpoints(page: &mut Page, view: &View, gauges: &dyn Gauges) {
    let mut live: Vec<Live> = Vec::new();
    gauges.endpoints(&mut |at: &EndpointGauge<'_>| {
        live.push((
            at.service.to_owned(),
            at.endpoint.to_owned(),
            at.up,
            at.in_flight,
            (at.connections, at.idle),
        ));
    });
    live.sort_unstable();
    live.dedup_by(|a, b| a.0 == b.0 && a.1 == b.1);
    page.family("gateway_endpoint_up", Gauge, "1 when the endpoint is in service.");
    for (service, endpoint, up, _, _) in &live {
        page.sample(&[("service", service), ("endpoint", endpoint)], u64::from(*up));
    }
    page.family("gateway_endpoint_requests_in_progress", Gauge, "Requests at the endpoint.");
    for (service, endpoint, _, in_flight, _) in &live {
        page.sample(&[("service", service), ("endpoint", endpoint)], *in_flight);
    }
    let counted: Vec<(&str, &str, EndpointTotals)> =
        view.endpoints.iter().map(|at| (&*at.service.label, &*at.url, at.totals())).collect();
    page.family("gateway_endpoint_requests_total", Counter, "Requests sent to the endpoint.");
    for (service, endpoint, totals) in &counted {
        page.sample(&[("service", service), ("endpoint", endpoint)], totals.requests);
    }
    page.family("gateway_endpoint_failures_total", Counter, "Those of them that it did not answer.");
    for (service, endpoint, totals) in &counted {
        page.sample(&[("service", service), ("endpoint", endpoint)], totals.failures);
    }
    pools(page, &live, &counted);
}

/// Names of endpoints: how often they were looked up, and what came of it.
fn names(page: &mut Page, gauges: &dyn Gauges) {
    let mut counts: Vec<(String, &str, u64)> = Vec::new();
    let mut known: Vec<(String, u64, Option<f64>)> = Vec::new();
    gauges.names(&mut |named| {
        let name = || named.name().to_owned();
        counts.extend(Outcome::ALL.map(|outcome| (name(), outcome.as_str(), named.count(outcome))));
        known.push((name(), named.known().len() as u64, named.age().map(|age| age.as_secs_f64())));
    });
    page.family("gateway_dns_lookups_total", Counter, "Look-ups of the name, by result.");
    for (name, result, count) in &counts {
        page.sample(&[("name", name), ("result", result)], *count);
    }
    page.family("gateway_dns_addresses", Gauge, "Addresses of the name in use.");
    for (name, addresses, _) in &known {
        page.sample(&[("name", name)], *addresses);
    }
    page.family("gateway_dns_age_seconds", Gauge, "Since the addresses of the name were last confirmed.");
    for (name, _, age) in &known {
        age.iter().for_each(|age| page.sample(&[("name", name)], *age));
    }
}

/// Pools are shown by service: their endpoints come and go.
fn pools(page: &mut Page, live: &[Live], counted: &[(&str, &str, EndpointTotals)]) {
    let mut open: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for (service, _, _, _, (connections, idle)) in live {
        let sum = open.entry(service).or_default();
        sum.0 += connections;
        sum.1 += idle;
    }
    let mut sums: BTreeMap<&str, EndpointTotals> = BTreeMap::new();
    for (service, _, totals) in counted {
        let sum = sums.entry(service).or_default();
        sum.opened += totals.opened;
        sum.reused += totals.reused;
    }
    page.family("gateway_pool_connections_open", Gauge, "Connections to the service's endpoints.");
    open.iter().for_each(|(service, count)| page.sample(&[("service", service)], count.0));
    page.family("gateway_pool_connections_idle", Gauge, "Those of them that wait for a request.");
    open.iter().for_each(|(service, count)| page.sample(&[("service", service)], count.1));
    page.family("gateway_pool_connections_opened_total", Counter, "Connections opened.");
    sums.iter().for_each(|(service, sum)| page.sample(&[("service", service)], sum.opened));
    page.family(
        "gateway_pool_connections_reused_total",
        Counter,
        "Requests over a connection opened before.",
    );
    sums.iter().for_each(|(service, sum)| page.sample(&[("service", service)], sum.reused));
}

fn listeners(page: &mut Page, view: &View) {
    let all = &view.listeners;
    page.family("gateway_connections_open", Gauge, "Connections of clients.");
    all.iter().for_each(|listener| page.sample(&[("listener", &listener.label)], listener.open()));
    page.family("gateway_connections_accepted_total", Counter, "Connections accepted.");
    all.iter().for_each(|listener| page.sample(&[("listener", &listener.label)], listener.accepted()));
    page.family(
        "gateway_connections_refused_total",
        Counter,
        "Connections not let in, or ended before a request.",
    );
    for listener in all {
        for (reason, count) in listener.refusals() {
            page.sample(&[("listener", &listener.label), ("reason", reason)], count);
        }
    }
    page.family("gateway_tls_handshake_failures_total", Counter, "TLS handshakes that failed.");
    for listener in all {
        for (reason, count) in listener.handshake_failures() {
            page.sample(&[("listener", &listener.label), ("reason", reason)], count);
        }
    }
    page.family("gateway_attacks_total", Counter, "Connections ended because they behaved as attacks do.");
    for listener in all {
        for (kind, count) in listener.attacks() {
            page.sample(&[("listener", &listener.label), ("kind", kind)], count);
        }
    }
    page.family(
        "gateway_tls_certificate_not_after_timestamp_seconds",
        Gauge,
        "When the certificate expires, Unix time.",
    );
    for ((listener, name), expiry) in &view.certificates {
        page.sample(&[("listener", listener), ("name", name)], *expiry);
    }
}

/// What stores and middlewares count.
fn meters(page: &mut Page, meters: &Meters) {
    for family in meters.look() {
        let kind = match family.series.first() {
            Some((_, Meter::Gauge(_))) => Gauge,
            Some((_, Meter::Histogram(_))) => Histogram,
            _ => Counter,
        };
        page.family(family.name, kind, family.help);
        for (labels, meter) in &family.series {
            let labels: Vec<(&str, &str)> =
                labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
            match meter {
                Meter::Counter(counter) => page.sample(&labels, counter.get()),
                Meter::Gauge(gauge) => page.sample(&labels, gauge.get()),
                Meter::Histogram(histogram) => {
                    let mut below = 0;
                    for ((_, le), count) in BOUNDS.iter().zip(histogram.buckets()) {
                        below += count;
                        page.part("_bucket", &labels, &[("le", le)], below);
                    }
                    let count: u64 = histogram.buckets().iter().sum();
                    page.part("_bucket", &labels, &[("le", "+Inf")], count);
                    page.part("_sum", &labels, &[], histogram.sum_seconds());
                    page.part("_count", &labels, &[], count);
                }
            }
        }
    }
}

fn histogram(page: &mut Page, labels: &[(&str, &str)], totals: &HistogramTotals) {
    let mut below = 0;
    for (le, count) in totals.labels().iter().zip(&totals.buckets) {
        below += count;
        page.part("_bucket", labels, &[("le", le)], below);
    }
    page.part("_bucket", labels, &[("le", "+Inf")], totals.count());
    page.part("_sum", labels, &[], totals.sum_seconds());
    page.part("_count", labels, &[], totals.count());
}

#[cfg(test)]
mod tests;
