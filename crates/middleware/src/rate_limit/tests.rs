use std::{sync::Arc, time::Duration};

use http::StatusCode;
use portcullis_core::{
    Answer, Decision, Exchange, Flow, Kind, Middleware,
    exchange::{Identity, Violated},
    keep::Keep,
};
use serde_json::{Map, Value, json};

use crate::testing::{build, problem, request, told, try_build_keeping};

fn from(client: &str, key: Option<&str>, at: Duration) -> Exchange {
    let mut x = request("/");
    x.client = client.parse().unwrap();
    x.started += at;
    key.iter().for_each(|key| x.request.fields.append("x-api-key", key));
    x
}

fn admits(limit: &Arc<dyn Middleware>, x: &mut Exchange) -> bool {
    match limit.on_request(x) {
        Ok(flow) => {
            assert!(matches!(flow, Flow::Next));
            true
        }
        Err(error) => {
            assert_eq!(error.kind, Kind::RateLimited);
            assert!(error.retry_after.is_some_and(|wait| wait > Duration::ZERO));
            false
        }
    }
}

fn passes(limit: &Arc<dyn Middleware>, client: &str, key: Option<&str>) -> bool {
    admits(limit, &mut from(client, key, Duration::ZERO))
}

#[test]
fn counts_by_address_and_ipv6_by_site() {
    let limit = build("rate_limit", json!({"requests_per_second": 0.01}));
    for (client, expected) in [
        ("192.0.2.1", true),
        ("192.0.2.1", false),
        ("::ffff:192.0.2.1", false),
        ("192.0.2.2", true),
        ("2001:db8:1:1::1", true),
        ("2001:db8:1:1:ffff::2", false),
        ("2001:db8:1:2::1", true),
    ] {
        assert_eq!(passes(&limit, client, Some("ignored")), expected, "{client}");
    }
}

#[test]
fn counts_by_header_or_all_together() {
    let by_header = build("rate_limit", json!({"requests_per_second": 0.01, "key": {"header": "X-Api-Key"}}));
    let all = build("rate_limit", json!({"requests_per_second": 0.01, "burst": 2, "key": "all"}));
    for (client, key, header_passes, all_passes) in [
        ("192.0.2.1", Some("a"), true, true),
        ("192.0.2.2", Some("a"), false, true),
        ("192.0.2.1", Some("b"), true, false),
        ("192.0.2.1", None, true, false),
        ("192.0.2.1", None, false, false),
    ] {
        assert_eq!(passes(&by_header, client, key), header_passes, "{client} {key:?}");
        assert_eq!(passes(&all, client, key), all_passes, "{client} {key:?}");
    }
}

/// Two requests that differ in what the key names have counters of their own, and else share one.
#[test]
fn every_key_tells_requests_apart_by_what_it_names() {
    type Change = fn(&mut Exchange);
    let changes: [(Value, Change); 7] = [
        (json!({"cookie": "sid"}), |x| x.request.fields.append("cookie", "a=1; sid=two; sidx=3")),
        (json!({"parameter": "tenant"}), |x| x.parameters = vec![("tenant".into(), "two".to_owned())]),
        (json!("identity"), |x| {
            x.identify(Identity {
                subject: "two".into(),
                by: "test",
                by_authorization: true,
                claims: Map::new(),
            })
        }),
        (json!({"claim": "realm.tenant"}), |x| {
            let claims = Map::from_iter([("realm".to_owned(), json!({"tenant": "two"}))]);
            x.identify(Identity { subject: "one".into(), by: "test", by_authorization: true, claims });
        }),
        (json!("host"), |x| x.request.set_authority("two.example:81")),
        (json!("route"), |x| x.route = "two@file".into()),
        (json!(["client", {"header": "X-Api-Key"}]), |x| x.request.fields.append("x-api-key", "two")),
    ];
    for (key, change) in changes {
        let limit = build("rate_limit", json!({"requests_per_second": 0.01, "key": key}));
        for expected in [true, false] {
            assert_eq!(passes(&limit, "192.0.2.1", None), expected, "{key}");
            let mut other = from("192.0.2.1", None, Duration::ZERO);
            change(&mut other);
            assert_eq!(admits(&limit, &mut other), expected, "{key}: the other");
        }
    }
}

#[test]
fn the_parts_of_a_key_do_not_run_into_each_other() {
    let key = json!([{"header": "a"}, {"header": "b"}]);
    let limit = build("rate_limit", json!({"requests_per_second": 0.01, "key": key}));
    for (a, b) in [("xy", "z"), ("x", "yz"), ("xyz", "")] {
        let mut x = request("/");
        x.request.fields.append("a", a);
        x.request.fields.append("b", b);
        assert!(admits(&limit, &mut x), "{a} {b}");
    }
}

#[test]
fn the_rate_refills_the_burst() {
    let limit = build("rate_limit", json!({"requests_per_second": 100, "burst": 200}));
    let begun = std::time::Instant::now();
    let passed = |millis| {
        let mut x = request("/");
        x.started = begun + Duration::from_millis(millis);
        admits(&limit, &mut x)
    };
    let passed = (0..5000).filter(|millis| passed(*millis)).count();
    assert!((695..=705).contains(&passed), "{passed} of 200 + 5 s × 100");
}

#[test]
fn all_of_several_limits_must_have_room_and_what_one_refuses_costs_none() {
    let limits = json!([{"requests": 3, "per": "1h"}, {"requests": 5, "per": "day", "key": "all"}]);
    let limit = build("rate_limit", json!({"limits": limits}));
    let many = |client| (0..10).filter(|_| passes(&limit, client, None)).count();
    assert_eq!([many("192.0.2.1"), many("192.0.2.2"), many("192.0.2.3")], [3, 2, 0]);
    let mut x = from("192.0.2.1", None, Duration::ZERO);
    assert!(!admits(&limit, &mut x));
    let violated = x.recall::<Violated>().unwrap();
    assert_eq!(violated.policies.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), ["3600s", "day"]);
    // The next day there is room for all again.
    let later = Duration::from_secs(86_400);
    assert!(admits(&limit, &mut from("192.0.2.3", None, later)));
}

#[test]
fn a_reload_forgets_nothing() {
    let keep = Keep::default();
    let of = |settings| try_build_keeping("rate_limit", settings, &keep).unwrap();
    let before = of(json!({"requests_per_second": 0.01}));
    assert!(passes(&before, "192.0.2.1", None));
    let same = of(json!({"requests_per_second": 0.01}));
    let slower = of(json!({"requests_per_second": 0.001}));
    let other_key = of(json!({"requests_per_second": 0.01, "key": "all"}));
    drop(before);
    assert!(!passes(&same, "192.0.2.1", None));
    assert!(!passes(&slower, "192.0.2.1", None));
    assert!(passes(&other_key, "192.0.2.1", None));
}

fn answer_to(limit: &Arc<dyn Middleware>, x: &mut Exchange) -> Answer {
    let status = if admits(limit, x) { StatusCode::OK } else { StatusCode::TOO_MANY_REQUESTS };
    let mut answer = Answer::new(status, "test");
    told(limit, x, &mut answer);
    answer
}

#[test]
fn answers_tell_of_the_limits() {
    let limits = json!([
        {"name": "burst", "requests": 2, "per": "10s"},
        {"requests": 5000, "per": "day"},
    ]);
    let limit = build("rate_limit", json!({"limits": limits, "legacy_headers": true}));
    for (left, reset) in [(1, 5), (0, 10), (0, 5)] {
        let answer = answer_to(&limit, &mut request("/"));
        let field = |name: &str| answer.fields.get_str(name).unwrap_or("").to_owned();
        assert_eq!(field("ratelimit-policy"), "\"burst\";q=2;w=10, \"day\";q=5000;w=86400");
        let state = field("ratelimit");
        assert!(state.starts_with(&format!("\"burst\";r={left};t={reset}, \"day\";r=49")), "{state}");
        let older = ["limit", "remaining", "reset"].map(|name| field(&format!("x-ratelimit-{name}")));
        assert_eq!(older, ["2".to_owned(), left.to_string(), reset.to_string()]);
    }
    let silent = build("rate_limit", json!({"requests_per_second": 1, "headers": false}));
    assert_eq!(answer_to(&silent, &mut request("/")).fields.len(), 0);
}

#[test]
fn an_endpoint_that_allows_less_is_not_overruled() {
    let limit = build("rate_limit", json!({"requests_per_second": 100, "legacy_headers": true}));
    let mut x = request("/");
    assert!(admits(&limit, &mut x));
    let mut answer = Answer::new(StatusCode::OK, "test");
    answer.fields.append("ratelimit", "\"own\";r=1;t=9");
    answer.fields.append("x-ratelimit-remaining", "1");
    told(&limit, &mut x, &mut answer);
    let all: Vec<&[u8]> = answer.fields.get_all("ratelimit").collect();
    assert_eq!(all, [&b"\"own\";r=1;t=9"[..], b"\"default\";r=99;t=1"]);
    assert_eq!(answer.fields.get_str("x-ratelimit-remaining"), Some("1"));
    assert!(!answer.fields.contains("x-ratelimit-limit"));
}

#[test]
fn requests_and_answers_say_what_they_cost() {
    let settings = json!({
        "limits": [{"requests": 100, "per": "day"}],
        "cost": {"header": "X-Cost", "max": 40},
        "answer_cost": {"header": "X-Cost"},
    });
    let limit = build("rate_limit", settings);
    let mut left = Vec::new();
    for (asked, said) in [("7", ""), ("0", ""), ("x", ""), ("999", ""), ("1", "31"), ("1", "500"), ("1", "")]
    {
        let mut x = request("/");
        x.request.fields.append("x-cost", asked);
        let _ = limit.on_request(&mut x);
        let mut answer = Answer::new(StatusCode::OK, "test");
        answer.fields.append("x-cost", said);
        told(&limit, &mut x, &mut answer);
        let state = answer.fields.get_str("ratelimit").unwrap();
        left.push(state.split(['=', ';']).nth(2).unwrap().parse::<u64>().unwrap());
    }
    // What the answer says that it cost is told with it.
    assert_eq!(left, [93, 92, 91, 51, 20, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_beyond_the_burst_waits_where_it_may() {
    let limit = build("rate_limit", json!({"requests_per_second": 10, "burst": 1, "max_delay": "250ms"}));
    for waits in [Some(0), Some(100), Some(200), None] {
        let mut x = request("/");
        let begun = tokio::time::Instant::now();
        let passed = match limit.on_request(&mut x) {
            Ok(Flow::Next) => true,
            Ok(Flow::Wait(waiting)) => matches!(waiting.await, Ok(Decision::Next)),
            Ok(Flow::Answer(_)) => panic!("an answer"),
            Err(_) => false,
        };
        // The bucket goes by the clock of the requests, which stands still here but for what is really gone by.
        let waited = begun.elapsed().as_millis() as u64;
        assert_eq!(passed, waits.is_some());
        assert!(waited.abs_diff(waits.unwrap_or(0)) <= 20, "{waited} of {waits:?}");
    }
}

/// A name that tells the clients of a limit apart, and tells nobody what it was made of.
#[test]
fn a_counter_is_named_to_its_clients() {
    let of = |secret: &str| {
        let limits = json!([{"requests": 9, "per": "day"}, {"requests": 9, "per": "month", "key": "all"}]);
        let settings = json!({"limits": limits, "key": {"header": "X-Api-Key"}, "partition_secret": secret});
        build("rate_limit", settings)
    };
    let names = |limit: &Arc<dyn Middleware>, key: &str| {
        let mut x = from("192.0.2.1", Some(key), Duration::ZERO);
        assert!(admits(limit, &mut x));
        // What the key was made of may be gone when the answer comes.
        x.request.fields.remove("x-api-key");
        let mut answer = Answer::new(StatusCode::OK, "test");
        told(limit, &mut x, &mut answer);
        let field = |name: &str| answer.fields.get_str(name).unwrap().to_owned();
        let (policy, state) = (field("ratelimit-policy"), field("ratelimit"));
        let name = policy.strip_prefix("\"day\";q=9;w=86400;pk=:").unwrap();
        let name = name.strip_suffix(":, \"month\";q=9;w=2678400").unwrap();
        assert!(state.contains(&format!(";pk=:{name}:, \"month\";r=")), "{state}");
        assert_eq!(name.len(), 12);
        name.to_owned()
    };
    let (one, same, other) = (of("0123456789abcdef"), of("0123456789abcdef"), of("0123456789abcdee"));
    assert_eq!(names(&one, "a"), names(&same, "a"));
    assert_ne!(names(&one, "a"), names(&one, "b"));
    assert_ne!(names(&one, "a"), names(&other, "a"));
}

#[test]
fn what_is_counted_is_said_unless_it_is_requests() {
    let policy = |unit| {
        let cost = json!({"header": "X-Bytes", "max": 1_000_000});
        let settings = json!({"requests_per_second": 1e6, "answer_cost": cost, "unit": unit});
        let answer = answer_to(&build("rate_limit", settings), &mut request("/"));
        answer.fields.get_str("ratelimit-policy").unwrap().to_owned()
    };
    assert_eq!(policy("requests"), "\"default\";q=1000000;w=1");
    assert_eq!(policy("content-bytes"), "\"default\";q=1000000;qu=\"content-bytes\";w=1");
}

#[test]
fn a_refusal_is_abnormal_usage_where_a_limit_says_so() {
    let limits = json!([
        {"requests": 1, "per": "day"},
        {"requests": 2, "per": "month", "problem": "abnormal-usage-detected"},
    ]);
    let limit = build("rate_limit", json!({"limits": limits, "cost": {"header": "X-Cost"}}));
    for (cost, violated, abnormal) in
        [("1", &[][..], false), ("1", &["day"], false), ("2", &["day", "month"], true)]
    {
        let mut x = request("/");
        x.request.fields.append("x-cost", cost);
        assert_eq!(admits(&limit, &mut x), violated.is_empty());
        let Some(found) = x.recall::<Violated>() else { continue };
        let policies: Vec<&str> = found.policies.iter().map(AsRef::as_ref).collect();
        assert_eq!((policies.as_slice(), found.abnormal), (violated, abnormal));
    }
    let all = json!({"requests_per_second": 0.01, "problem": "abnormal-usage-detected"});
    let (all, mut x) = (build("rate_limit", all), request("/"));
    assert!(admits(&all, &mut x) && !admits(&all, &mut x));
    assert!(x.recall::<Violated>().unwrap().abnormal);
}

#[test]
fn settings_are_judged() {
    let path = |settings| problem("rate_limit", settings).path;
    assert_eq!(path(json!({"requests_per_second": 0})), "requests_per_second");
    assert_eq!(path(json!({"requests_per_second": -5})), "requests_per_second");
    assert_eq!(path(json!({"requests_per_second": 1e-9})), "requests_per_second");
    assert_eq!(path(json!({"requests_per_second": 1, "burst": 0})), "burst");
    assert_eq!(path(json!({"requests_per_second": 1, "key": {"header": "a b"}})), "key.header");
    assert_eq!(path(json!({"requests_per_second": 1, "key": ["host", {"header": "a b"}]})), "key[1].header");
    assert_eq!(path(json!({"requests_per_second": 1, "key": ["host", "all"]})), "key[1]");
    assert_eq!(path(json!({"requests_per_second": 1, "key": "clients"})), "key");
    assert_eq!(path(json!({"requests_per_second": 1, "key": []})), "key");
    assert_eq!(path(json!({"requests_per_second": 1, "ipv6_prefix": 129})), "ipv6_prefix");
    assert_eq!(path(json!({"requests_per_second": 1, "max_clients": 0})), "max_clients");
    assert_eq!(path(json!({"requests_per_second": 1, "store": "main"})), "store");
    assert_eq!(path(json!({"requests_per_second": 1, "unit": "content-bytes"})), "unit");
    let mut bytes = json!({"requests_per_second": 1, "unit": "content-bytes", "cost": {"header": "X-Bytes"}});
    assert_eq!(path(bytes.clone()), "cost.max");
    bytes["cost"]["max"] = json!(100_000_000);
    bytes["answer_cost"] = json!({"header": "X-Bytes", "max": 1000});
    assert_eq!(path(bytes), "answer_cost.max");
    assert_eq!(path(json!({"requests_per_second": 1, "unit": "concurrent-requests"})), "unit");
    assert_eq!(path(json!({"requests_per_second": 1, "problem": "abnormal"})), "problem");
    assert_eq!(path(json!({"requests_per_second": 1, "partition_secret": "short"})), "partition_secret");
    let untold = json!({"requests_per_second": 1, "headers": false, "partition_secret": "0123456789abcdef"});
    assert_eq!(path(untold), "partition_secret");
    assert_eq!(path(json!({"requests_per_second": 1, "allowance": {}})), "allowance");
    assert_eq!(path(json!({"requests_per_second": 1, "when_away": "closed"})), "when_away");
    assert_eq!(
        path(json!({"requests_per_second": 1, "limits": [{"requests": 1, "per": "1s"}]})),
        "requests_per_second"
    );
    assert!(problem("rate_limit", json!({})).message.contains("missing field `requests_per_second`"));
    let of = |limit| problem("rate_limit", json!({"limits": [limit]})).path;
    assert_eq!(of(json!({"requests": 1, "per": "week"})), "limits[0].per");
    assert_eq!(of(json!({"requests": 1, "per": "0"})), "limits[0].per");
    assert_eq!(of(json!({"requests": 1, "per": "day", "burst": 2})), "limits[0].burst");
    assert_eq!(of(json!({"requests": 1, "per": "day", "name": "a\"b"})), "limits[0].name");
    assert_eq!(of(json!({"requests": 1, "per": "day", "key": {"header": ""}})), "limits[0].key.header");
    let twice = json!({"limits": [{"requests": 1, "per": "day"}, {"requests": 2, "per": "day"}]});
    assert_eq!(problem("rate_limit", twice).path, "limits[1]");
}
