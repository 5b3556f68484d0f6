//! What is served is what is described, and what is described is served.

use std::{collections::BTreeSet, time::Duration};

use portcullis_core::endpoint::Health;
use portcullis_proxy::observe::RequestSeen;

use super::*;
use crate::tests::{JSON, Still, ask, body, outcome};

fn described() -> Value {
    serde_json::from_str(OPENAPI).expect("JSON")
}

/// Every way in which a value is not what its schema says; only the words that our description uses are known.
fn breaches(root: &Value, schema: &Value, value: &Value, at: &str, out: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let target = root.pointer(name.trim_start_matches('#')).unwrap_or_else(|| panic!("no {name}"));
        return breaches(root, target, value, at, out);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let fits = |choice: &&Value| {
            let mut found = Vec::new();
            breaches(root, choice, value, at, &mut found);
            found.is_empty()
        };
        if choices.iter().filter(fits).count() != 1 {
            out.push(format!("{at}: {value} fits not exactly one of {choices:?}"));
        }
        return;
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => return,
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !(kinds.contains(&kind) || kind == "integer" && kinds.contains(&"number")) {
        return out.push(format!("{at}: {value} is no {kinds:?}"));
    }
    if let Some(choices) = schema["enum"].as_array().filter(|choices| !choices.contains(value)) {
        out.push(format!("{at}: {value} is none of {choices:?}"));
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        breaches(root, &schema["items"], item, &format!("{at}[{index}]"), out);
    }
    for (key, field) in value.as_object().into_iter().flatten() {
        let inner = schema["properties"].get(key).unwrap_or(&schema["additionalProperties"]);
        if *inner == Value::Bool(false) || inner.is_null() {
            out.push(format!("{at}.{key} is not described"));
        } else {
            breaches(root, inner, field, &format!("{at}.{key}"), out);
        }
    }
    for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.is_object() && value.get(key).is_none() {
            out.push(format!("{at}.{key} is missing"));
        }
    }
}

/// A gateway that has seen traffic, so that no list and no number is empty.
fn used() -> Arc<Still> {
    let gateway = Still::new();
    let runtime = gateway.runtime().unwrap();
    let route = &runtime.routes[0].metrics;
    let seen = RequestSeen {
        method: &Method::GET,
        status: 502,
        duration: Duration::from_millis(3),
        bytes_in: 1,
        bytes_out: 2,
        error: Some(Kind::ConnectionRefused),
    };
    route.begin(0);
    route.end(0, &seen);
    let service = &runtime.services["files@file"];
    service.upstreams[0].metrics.answered(0, 200, Duration::from_millis(2));
    service.upstreams[1].metrics.failed(0, Kind::ConnectionRefused, Duration::from_millis(1));
    service.endpoints[0].state.ewma_ns.store(1_234_567, std::sync::atomic::Ordering::Relaxed);
    service.endpoints[0].state.set_health(Health::Healthy);
    runtime.listeners["web"].metrics.refused("connections");
    *gateway.outcome.lock().unwrap() = Some(outcome(true));
    gateway
}

#[test]
fn every_resource_is_described_and_every_description_served() {
    let document = described();
    let served: BTreeSet<String> = RESOURCES
        .iter()
        .map(|resource| format!("{} {}", resource.method.as_str().to_lowercase(), resource.path))
        .collect();
    let paths = document["paths"].as_object().unwrap();
    let described: BTreeSet<String> = paths
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |method| format!("{method} {path}"))
        })
        .collect();
    assert_eq!(served, described);
}

#[test]
fn every_resource_is_documented() {
    let docs =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/admin-api.md")).unwrap();
    for resource in &RESOURCES {
        let row = format!("| `{} {}` |", resource.method, resource.path);
        assert!(docs.contains(&row), "docs/admin-api.md lacks {row}");
    }
}

#[tokio::test]
async fn every_answer_is_as_described() {
    let document = described();
    for gateway in [used(), Still::new()] {
        let api = AdminApi::new(gateway.clone());
        for resource in &RESOURCES {
            let Ok(answer) = ask(&api, resource.method.clone(), resource.path, &JSON).await else {
                assert!(resource.path == "/reload" && gateway.outcome.lock().unwrap().is_none());
                continue;
            };
            let status = answer.status.as_u16().to_string();
            let method = resource.method.as_str().to_lowercase();
            let content = &document["paths"][resource.path][&method]["responses"][&status]["content"];
            let sent = answer.fields.get_str("content-type").unwrap().split(';').next().unwrap();
            let schema = &content[sent]["schema"];
            assert!(schema.is_object(), "{} answers {status} {sent}, which is not described", resource.path);
            let value = if sent == "application/json" {
                serde_json::from_str(body(&answer)).unwrap()
            } else {
                "text".into()
            };
            let mut found = Vec::new();
            breaches(&document, schema, &value, resource.path, &mut found);
            assert!(found.is_empty(), "{found:#?}");
        }
    }
}

#[test]
fn the_check_of_schemas_sees_breaches() {
    let document = described();
    let schema = json!({ "$ref": "#/components/schemas/Ready" });
    for (value, count) in [
        (json!({ "status": "ready" }), 0),
        (json!({ "status": "asleep" }), 1),
        (json!({ "status": 1 }), 1),
        (json!({}), 1),
        (json!({ "status": "ready", "more": 1 }), 1),
        (json!([]), 1),
    ] {
        let mut found = Vec::new();
        breaches(&document, &schema, &value, "", &mut found);
        assert_eq!(found.len(), count, "{value}: {found:?}");
    }
}

async fn document(gateway: Arc<Still>, path: &str) -> Value {
    let answer = ask(&AdminApi::new(gateway), Method::GET, path, &[]).await.unwrap();
    serde_json::from_str(body(&answer)).unwrap()
}

#[tokio::test]
async fn endpoints_show_their_live_state_and_no_secrets() {
    let all = document(used(), "/api/services").await;
    let files =
        all["services"].as_array().unwrap().iter().find(|service| service["name"] == "files@file").unwrap();
    assert_eq!((&files["state"], &files["sticky_cookie"]), (&"degraded".into(), &"who".into()));
    let one = &files["endpoints"][0];
    assert_eq!((&one["health"], &one["latency_ms"]), (&"healthy".into(), &json!(1.235)));
    assert_eq!(one["metadata"]["api_token"], "***");
    assert_eq!(files["endpoints"][1]["health"], "starting");
    assert_eq!(files["traffic"]["errors"], json!({ "connection-refused": 1 }));
    assert_eq!(files["traffic"]["statuses"], json!({ "200": 1 }));
    assert!(!all.to_string().contains("geheim"));
}

#[tokio::test]
async fn routes_middlewares_and_listeners_show_how_they_hang_together() {
    let gateway = used();
    let routes = document(gateway.clone(), "/api/routes").await;
    let first = &routes["routes"][0];
    assert_eq!(first["target"], json!({ "kind": "service", "name": "files@file" }));
    assert_eq!((&first["traffic"]["requests"], &first["traffic"]["errors"]), (&json!(1), &json!(1)));
    assert!(first["traffic"]["latency"]["p99_ms"].is_number());
    assert_eq!(routes["routes"].as_array().unwrap().len(), 5, "and not the admin listener's own");
    let middlewares = document(gateway.clone(), "/api/middlewares").await;
    let team = &middlewares["middlewares"][0];
    assert_eq!((&team["routes"], &team["listeners"]), (&json!(["files@file"]), &json!(["web"])));
    let expected = json!({ "request": { "set": { "X-Team": "blue", "X-Api-Key": "***" } } });
    assert_eq!(team["settings"], expected);
    let listeners = document(gateway, "/api/listeners").await;
    let web =
        listeners["listeners"].as_array().unwrap().iter().find(|listener| listener["name"] == "web").unwrap();
    assert_eq!(
        (&web["address"], &web["connections"]["refused"]),
        (&"127.0.0.1:4711".into(), &json!({ "connections": 1 }))
    );
}

#[tokio::test]
async fn a_reload_tells_how_it_went() {
    let gateway = Still::new();
    for (ok, status) in [(true, 200), (false, 422)] {
        *gateway.outcome.lock().unwrap() = Some(outcome(ok));
        let answer = ask(&AdminApi::new(gateway.clone()), Method::POST, "/reload", &[]).await.unwrap();
        let told: Value = serde_json::from_str(body(&answer)).unwrap();
        assert_eq!((answer.status.as_u16(), &told["ok"]), (status, &Value::Bool(ok)));
        assert_eq!(told["findings"][0]["code"], "unknown-key");
        assert_eq!(told["at"], "1970-01-01T00:00:00.000Z");
    }
    *gateway.outcome.lock().unwrap() = None;
    let error = ask(&AdminApi::new(gateway), Method::POST, "/reload", &[]).await.unwrap_err();
    assert_eq!(error.kind, Kind::ShuttingDown);
}

#[tokio::test]
async fn an_upgrade_tells_how_it_went() {
    let gateway = Still::new();
    for (ok, status, key) in [(true, 200, "version"), (false, 422, "problem")] {
        *gateway.outcome.lock().unwrap() = Some(outcome(ok));
        let answer = ask(&AdminApi::new(gateway.clone()), Method::POST, "/upgrade", &[]).await.unwrap();
        let told: Value = serde_json::from_str(body(&answer)).unwrap();
        assert_eq!((answer.status.as_u16(), &told["ok"]), (status, &Value::Bool(ok)));
        assert!(told[key].is_string(), "{told}");
    }
}

#[tokio::test]
async fn methods_and_paths_are_checked() {
    let api = AdminApi::new(Still::new());
    for (method, path, allow) in [
        (Method::GET, "/reload", "POST"),
        (Method::GET, "/upgrade", "POST"),
        (Method::POST, "/api/routes", "GET, HEAD"),
        (Method::DELETE, "/", "GET, HEAD"),
    ] {
        let answer = ask(&api, method, path, &[]).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.fields.get_str("allow")), (405, Some(allow)));
    }
    assert_eq!(ask(&api, Method::HEAD, "/api/routes", &[]).await.unwrap().status.as_u16(), 200);
    assert_eq!(ask(&api, Method::GET, "/api/nothing", &[]).await.unwrap_err().kind, Kind::NoRoute);
}

#[tokio::test]
async fn only_probes_may_come_from_anywhere() {
    let api = AdminApi::new(Still::new());
    let foreign = [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")];
    for resource in &RESOURCES {
        let outcome = ask(&api, resource.method.clone(), resource.path, &foreign).await;
        let refused = outcome.err().map(|error| error.kind) == Some(Kind::Denied);
        assert_eq!(refused, !["/health", "/healthz", "/ready"].contains(&resource.path), "{}", resource.path);
    }
}
