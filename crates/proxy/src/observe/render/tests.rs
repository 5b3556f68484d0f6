//! The page as a scraper sees it, read by a parser that forgives nothing.

use std::{collections::BTreeMap, time::Duration};

use http::Method;
use portcullis_core::Kind;

use super::super::{EndpointGauge, Gauges, Metrics, RequestSeen};

/// A sample that must be there: name, labels, value.
type Expected<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);

/// Samples of one name: labels and value.
type Samples = Vec<(BTreeMap<String, String>, f64)>;

/// A family: type, and samples by full name.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    samples: BTreeMap<String, Samples>,
}

/// Reads the text format 0.0.4 strictly: HELP then TYPE once per family, samples only inside their family, names and
/// escapes by the grammar, no sample twice, histograms complete and cumulative.
fn parse(text: &str) -> BTreeMap<String, Family> {
    assert!(text.ends_with('\n') && !text.contains("\n\n"));
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let (mut current, mut helped) = (String::new(), String::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help text");
            assert!(!help.is_empty() && !families.contains_key(name), "HELP twice: {line}");
            helped = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert_eq!(name, helped, "TYPE follows its HELP");
            assert!(["counter", "gauge", "histogram"].contains(&kind));
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            current = name.to_owned();
            let family = Family { kind: kind.to_owned(), ..Family::default() };
            assert!(families.insert(name.to_owned(), family).is_none());
        } else {
            let (name, labels, value) = sample(line);
            let family = families.get_mut(&current).expect("a family first");
            let suffix = name.strip_prefix(current.as_str()).unwrap_or_else(|| panic!("{line} in {current}"));
            let allowed: &[&str] =
                if family.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(allowed.contains(&suffix), "{line}");
            let samples = family.samples.entry(name).or_default();
            assert!(samples.iter().all(|(known, _)| *known != labels), "twice: {line}");
            samples.push((labels, value));
        }
    }
    families
        .iter()
        .filter(|(_, family)| family.kind == "histogram")
        .for_each(|(name, family)| cumulative(name, family));
    families
}

fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let name_end = line.find(['{', ' ']).expect("a name");
    let (name, mut rest) = line.split_at(name_end);
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    assert!(name.chars().all(legal) && !name.starts_with(|c: char| c.is_ascii_digit()), "{line}");
    let mut labels = BTreeMap::new();
    while rest.starts_with(['{', ',']) {
        let (label, after) = rest[1..].split_once("=\"").expect("a label");
        assert!(label.chars().all(legal), "{line}");
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next().expect("a closing quote") {
                (at, '"') => break at,
                (_, '\\') => value.push(match chars.next().expect("an escape").1 {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    c => panic!("escape {c:?} in {line}"),
                }),
                (_, c) => value.push(c),
            }
        };
        assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
        rest = &after[end + 1..];
        rest = rest.strip_prefix('}').unwrap_or(rest);
    }
    let value = rest.strip_prefix(' ').expect("a space before the value");
    (name.to_owned(), labels, value.parse().expect("a number"))
}

fn cumulative(name: &str, family: &Family) {
    let none = Vec::new();
    let of = |suffix: &str| family.samples.get(&format!("{name}{suffix}")).unwrap_or(&none);
    let value = |samples: &Samples, labels: &BTreeMap<String, String>| {
        samples.iter().find(|(known, _)| known == labels).map(|(_, value)| *value).expect("a sum and a count")
    };
    let mut series: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
    for (labels, count) in of("_bucket") {
        let mut labels = labels.clone();
        let le = labels.remove("le").expect("le");
        let le = if le == "+Inf" { f64::INFINITY } else { le.parse().expect("a bound") };
        series.entry(labels).or_default().push((le, *count));
    }
    assert_eq!(series.len(), of("_count").len());
    for (labels, buckets) in series {
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{labels:?} {buckets:?}");
        let last = buckets.last().expect("a bucket");
        assert_eq!(*last, (f64::INFINITY, value(of("_count"), &labels)));
        assert!(value(of("_sum"), &labels) >= 0.0);
    }
}

/// One endpoint, up, whose names are as awkward as names can be.
struct Live;

impl Gauges for Live {
    fn generation(&self) -> u64 {
        3
    }

    fn endpoints(&self, each: &mut dyn FnMut(&EndpointGauge<'_>)) {
        let at = EndpointGauge {
            service: "users@file",
            endpoint: "http://a:1",
            up: true,
            in_flight: 2,
            connections: 5,
            idle: 1,
        };
        each(&at);
        each(&EndpointGauge {
            endpoint: "http://b:1",
            up: false,
            connections: 1,
            in_flight: 0,
            idle: 0,
            ..at
        });
    }

    fn access_log_lines(&self) -> (u64, u64) {
        (10, 1)
    }
}

fn value(families: &BTreeMap<String, Family>, name: &str, labels: &[(&str, &str)]) -> f64 {
    let wanted: BTreeMap<String, String> =
        labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let all =
        families.values().find_map(|family| family.samples.get(name)).unwrap_or_else(|| panic!("no {name}"));
    all.iter().find(|(labels, _)| *labels == wanted).unwrap_or_else(|| panic!("{name} {labels:?}: {all:?}")).1
}

#[test]
fn the_page_is_what_was_counted() {
    let metrics = Metrics::new(2, &[0.01, 0.1]);
    let route = metrics.route("users@file", "/users/{id}");
    let odd = metrics.route("odd@file", "a\"b\\c\nd");
    let seen = RequestSeen {
        method: &Method::GET,
        status: 200,
        duration: Duration::from_millis(50),
        bytes_in: 10,
        bytes_out: 20,
        error: None,
    };
    for shard in 0..2 {
        route.begin(shard);
        route.end(shard, &seen);
    }
    route.begin(0);
    odd.begin(0);
    odd.end(0, &RequestSeen { status: 504, error: Some(Kind::ResponseTimeout), ..seen });
    let endpoint = metrics.endpoint("users@file", "http://a:1");
    endpoint.opened(0);
    endpoint.answered(0, 200, Duration::from_millis(5));
    endpoint.reused(1);
    endpoint.failed(1, Kind::ConnectionTerminated, Duration::from_secs(1));
    let listener = metrics.listener("web");
    listener.opened(0);
    listener.handshake_failed("no-shared-cipher");
    metrics.certificate("web", "a.example", 2_000_000_000);
    metrics.reloaded(true);
    metrics.reloaded(false);

    let page = parse(&metrics.render(&Live));
    let at = [("method", "GET"), ("path", "/users/{id}")];
    let expected: &[Expected] = &[
        ("gateway_http_requests_total", &[at[0], at[1], ("status_code", "200")], 2.0),
        ("gateway_http_request_duration_seconds_bucket", &[at[0], at[1], ("le", "0.01")], 0.0),
        ("gateway_http_request_duration_seconds_bucket", &[at[0], at[1], ("le", "0.1")], 2.0),
        ("gateway_http_request_duration_seconds_sum", &at, 0.1),
        ("gateway_http_requests_in_progress", &[at[1]], 1.0),
        ("gateway_http_received_bytes_total", &[at[1]], 20.0),
        ("gateway_http_sent_bytes_total", &[at[1]], 40.0),
        ("gateway_http_errors_total", &[("path", "a\"b\\c\nd"), ("type", "response-timeout")], 1.0),
        ("gateway_backend_requests_total", &[("service", "users@file"), ("status_code", "200")], 1.0),
        ("gateway_backend_request_duration_seconds_count", &[("service", "users@file")], 2.0),
        (
            "gateway_backend_errors_total",
            &[("service", "users@file"), ("error", "connection-terminated")],
            1.0,
        ),
        ("gateway_endpoint_up", &[("service", "users@file"), ("endpoint", "http://a:1")], 1.0),
        ("gateway_endpoint_up", &[("service", "users@file"), ("endpoint", "http://b:1")], 0.0),
        ("gateway_endpoint_requests_total", &[("service", "users@file"), ("endpoint", "http://a:1")], 2.0),
        ("gateway_pool_connections_open", &[("service", "users@file")], 6.0),
        ("gateway_pool_connections_idle", &[("service", "users@file")], 1.0),
        ("gateway_pool_connections_reused_total", &[("service", "users@file")], 1.0),
        ("gateway_connections_open", &[("listener", "web")], 1.0),
        ("gateway_tls_handshake_failures_total", &[("listener", "web"), ("reason", "no-shared-cipher")], 1.0),
        (
            "gateway_tls_certificate_not_after_timestamp_seconds",
            &[("listener", "web"), ("name", "a.example")],
            2e9,
        ),
        ("gateway_config_reloads_total", &[("result", "failure")], 1.0),
        ("gateway_config_last_reload_successful", &[], 0.0),
        ("gateway_config_generation", &[], 3.0),
        ("gateway_access_log_lines_total", &[("result", "dropped")], 1.0),
    ];
    for (name, labels, wanted) in expected {
        assert_eq!(value(&page, name, labels), *wanted, "{name} {labels:?}");
    }
}

#[test]
fn an_untouched_gateway_renders_too() {
    let metrics = Metrics::new(1, &[]);
    let _held = (metrics.route("a@file", "/a"), metrics.service("s@file"), metrics.listener("web"));
    let page = parse(&metrics.render(&Live));
    assert!(page["gateway_http_requests_total"].samples.is_empty());
    assert_eq!(value(&page, "gateway_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
}

#[test]
fn every_family_is_documented() {
    let docs =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/observability.md")).unwrap();
    for name in parse(&Metrics::new(1, &[]).render(&Live)).keys() {
        assert!(docs.contains(&format!("`{name}`")), "docs/observability.md says nothing of {name}");
    }
}

#[test]
fn routes_that_were_never_asked_for_have_no_series() {
    let metrics = Metrics::new(16, &[]);
    let held: Vec<_> = (0..10_000).map(|n| metrics.route(&format!("r{n}@file"), &format!("/r{n}"))).collect();
    let text = metrics.render(&Live);
    assert!(parse(&text)["gateway_http_requests_in_progress"].samples.is_empty());
    assert!(text.len() < 20_000, "{}", text.len());
    drop(held);
}
