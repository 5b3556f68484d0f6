//! A gateway that stands still: a configuration, compiled, and nobody who asks.

use std::{
    path::Path,
    sync::{Mutex, atomic::Ordering::Relaxed},
};

use http::Method;
use portcullis_config::{AnyKind, Format, ProcessEnv, diagnostic::Code, load_text};
use portcullis_core::{
    Answer, Body, Error, Exchange, Middleware, Request,
    endpoint::Health,
    keep::Keep,
    middleware::{Around, MiddlewareKind, Problem, Row, row},
};
use portcullis_proxy::{
    observe::Metrics,
    runtime::compile::{Parts, compile},
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;

/// A middleware that does nothing.
#[derive(Deserialize, JsonSchema)]
struct Headers {
    #[allow(dead_code)]
    request: Value,
}

impl MiddlewareKind for Headers {
    const NAME: &'static str = "headers";
    const SUMMARY: &'static str = "Nothing.";
    const EXAMPLE: &'static str = "request = {}";

    fn build(self, _: &Around<'_>) -> Result<Arc<dyn Middleware>, Problem> {
        struct Nothing;
        impl Middleware for Nothing {}
        Ok(Arc::new(Nothing))
    }
}

static KINDS: [Row; 1] = [row::<Headers>()];

/// Three services, of which one has two endpoints with the facts of the first seed.
const CONFIGURATION: &str = r#"
gateway_name = "pets"

[listeners.web]
address = "127.0.0.1:0"
middlewares = ["team"]

[middlewares.team]
headers = { request = { set = { X-Team = "blue", X-Api-Key = "geheim" } } }

[[routes]]
name = "files"
path = "/files/*"
service = "files"
middlewares = ["team"]

[[routes]]
name = "one"
path = "/backend/b1/*"
service = "one"

[[routes]]
name = "health"
path = "/health"
service = "@health"

[[routes]]
name = "metrics"
path = "/metrics"
service = "@metrics"

[[routes]]
name = "docs"
path = "/docs"
service = "one"

[services.files]
strategy = "round_robin"
sticky = { cookie = "who" }
health_check = { path = "/up", headers = { X-KV-SECRET = "geheim" } }
endpoints = [
    { url = "http://127.0.0.1:1", metadata = { server_id = "b1", server_name = "Backend 1", provider = "supabase", api_token = "geheim" } },
    { url = "http://127.0.0.1:2" },
]

[services.one]
endpoints = [{ url = "http://127.0.0.1:1" }]
"#;

/// The gateway.
pub(crate) struct Still {
    pub runtime: Mutex<Arc<Runtime>>,
    pub state: Mutex<State>,
    pub outcome: Mutex<Option<Outcome>>,
}

impl Gateway for Still {
    fn runtime(&self) -> Option<Arc<Runtime>> {
        Some(self.runtime.lock().unwrap().clone())
    }

    fn state(&self) -> State {
        *self.state.lock().unwrap()
    }

    fn addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        vec![("web".into(), ([127, 0, 0, 1], 4711).into())]
    }

    fn last_reload(&self) -> Option<Outcome> {
        self.outcome.lock().unwrap().clone()
    }

    fn reload(&self) -> BoxFuture<'_, Option<Outcome>> {
        Box::pin(std::future::ready(self.last_reload()))
    }

    fn upgrade(&self) -> BoxFuture<'_, Upgraded> {
        let ok = self.outcome.lock().unwrap().as_ref().is_some_and(|outcome| outcome.ok);
        let upgraded = match ok {
            true => Upgraded { ok, pid: Some(7), version: Some("2.0.0".into()), problem: None },
            false => Upgraded { problem: Some("it did not like it".into()), ..Upgraded::default() },
        };
        Box::pin(std::future::ready(upgraded))
    }
}

impl Still {
    /// With the configuration above, in force.
    pub(crate) fn new() -> Arc<Still> {
        let read = load_text(CONFIGURATION, Format::Toml, "gateway.toml", &ProcessEnv, &AnyKind);
        let model = Arc::new(read.model.unwrap_or_else(|| panic!("{:#?}", read.findings)));
        let metrics = Metrics::new(1, &[]);
        let parts = Parts {
            stores: &Default::default(),
            keep: &Keep::default(),
            middlewares: &KINDS,
            builtins: &for_routes(&(Arc::new(Nowhere) as Arc<dyn Gateway>)),
            metrics: &metrics,
            access_log: None,
            generation: 3,
            folder: Path::new("."),
            workers: 1,
        };
        let runtime = compile(model, &parts).unwrap_or_else(|problems| panic!("{problems:?}"));
        Arc::new(Still {
            runtime: Mutex::new(Arc::new(runtime)),
            state: Mutex::new(State::Ready),
            outcome: Mutex::default(),
        })
    }

    pub(crate) fn set_health(&self, service: &str, health: Health) {
        let runtime = self.runtime().unwrap();
        for endpoint in &runtime.services[service].endpoints {
            endpoint.state.set_health(health);
        }
    }
}

/// For the routes of a runtime that nobody asks.
struct Nowhere;

impl Gateway for Nowhere {
    fn runtime(&self) -> Option<Arc<Runtime>> {
        None
    }

    fn state(&self) -> State {
        State::Starting
    }

    fn addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        Vec::new()
    }

    fn last_reload(&self) -> Option<Outcome> {
        None
    }

    fn reload(&self) -> BoxFuture<'_, Option<Outcome>> {
        Box::pin(std::future::ready(None))
    }

    fn upgrade(&self) -> BoxFuture<'_, Upgraded> {
        Box::pin(std::future::ready(Upgraded::default()))
    }
}

/// An outcome with a finding.
pub(crate) fn outcome(ok: bool) -> Outcome {
    let finding = Finding::error(Code::UnknownKey, "unknown key `pth`").help("did you mean `path`?");
    Outcome {
        at: SystemTime::UNIX_EPOCH,
        cause: "request",
        ok,
        generation: 3,
        findings: vec![finding],
        problems: vec!["listener web: in use".into()],
    }
}

/// A request to a built-in service.
pub(crate) async fn ask(
    builtin: &dyn Builtin,
    method: Method,
    target: &str,
    fields: &[(&str, &str)],
) -> Result<Answer, Error> {
    let mut request = Request::new(method);
    request.fields = fields.iter().copied().collect();
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    request.arrive(path, query);
    request.set_authority("127.0.0.1:9090");
    let mut x = Exchange::for_test(request);
    builtin.answer(&mut x).await
}

pub(crate) fn body(answer: &Answer) -> &str {
    match &answer.body {
        Body::Full(bytes) => std::str::from_utf8(bytes).unwrap(),
        _ => panic!("a whole body"),
    }
}

pub(crate) const JSON: [(&str, &str); 1] = [("accept", "application/json")];

async fn get(gateway: &Arc<Still>, name: &str, target: &str, fields: &[(&str, &str)]) -> (u16, String) {
    let all = builtins(gateway.clone());
    let answer = ask(&*all[name], Method::GET, target, fields).await.unwrap();
    assert_eq!(answer.fields.get_str("cache-control"), Some("no-store"));
    (answer.status.as_u16(), body(&answer).to_owned())
}

#[tokio::test]
async fn health_is_the_text_of_the_seed() {
    let gateway = Still::new();
    assert_eq!(get(&gateway, "health", "/health", &[]).await, (200, "Gateway is healthy".into()));
    let (status, text) = get(&gateway, "health", "/health", &JSON).await;
    let parsed: Value = serde_json::from_str(&text).unwrap();
    let expected =
        json!({ "status": "degraded", "state": "ready", "services": { "total": 2, "available": 1 } });
    assert_eq!((status, parsed), (200, expected), "files has not passed its first check");
    gateway.set_health("files@file", Health::Healthy);
    assert!(get(&gateway, "health", "/", &JSON).await.1.contains("\"status\":\"healthy\""));
    gateway.set_health("files@file", Health::Unhealthy);
    gateway.set_health("one@file", Health::Unhealthy);
    let expected = "Gateway is unhealthy: no service has an endpoint in service";
    assert_eq!(get(&gateway, "health", "/", &[]).await, (503, expected.into()));
    gateway.set_health("one@file", Health::Healthy);
    *gateway.state.lock().unwrap() = State::Draining;
    assert_eq!(get(&gateway, "health", "/", &[]).await, (503, "Gateway is unhealthy: draining".into()));
}

#[tokio::test]
async fn ready_follows_the_state_and_live_does_not() {
    let gateway = Still::new();
    for (state, status) in [(State::Starting, 503), (State::Ready, 200), (State::Draining, 503)] {
        *gateway.state.lock().unwrap() = state;
        assert_eq!(get(&gateway, "ready", "/ready", &[]).await, (status, state.as_str().into()));
        assert_eq!(get(&gateway, "healthz", "/healthz", &[]).await, (200, "alive".into()));
    }
}

#[tokio::test]
async fn stats_are_those_of_the_seed() {
    let gateway = Still::new();
    gateway.set_health("files@file", Health::Healthy);
    let runtime = gateway.runtime().unwrap();
    let second = &runtime.services["files@file"].endpoints[1].state;
    second.set_health(Health::Unhealthy);
    second.consecutive_failures.store(4, Relaxed);
    let expected = concat!(
        r#"{"load_balancer":"RoundRobin","total_backends":2,"healthy_backends":1,"backends":["#,
        r#"{"server_id":"b1","server_name":"Backend 1","server_url":"http://127.0.0.1:1","provider":"supabase","#,
        r#""is_healthy":true,"consecutive_failures":0},"#,
        r#"{"server_id":"http://127.0.0.1:2","server_name":"http://127.0.0.1:2","server_url":"http://127.0.0.1:2","#,
        r#""provider":"file","is_healthy":false,"consecutive_failures":4}]}"#,
        "\n"
    );
    assert_eq!(get(&gateway, "stats", "/stats", &[]).await, (200, expected.into()));
    let (_, one) = get(&gateway, "stats", "/stats?service=one", &[]).await;
    assert!(one.contains("\"total_backends\":1"), "{one}");
    let (_, none) = get(&gateway, "stats", "/stats?service=other", &[]).await;
    assert!(none.contains("\"total_backends\":0"), "{none}");
}

#[tokio::test]
async fn info_links_what_is_routed() {
    let gateway = Still::new();
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        "{{\"service\":\"pets\",\"version\":\"{version}\",\"docs\":\"/docs\",\"health\":\"/health\",\"metrics\":\"/metrics\"}}\n"
    );
    assert_eq!(get(&gateway, "info", "/", &[]).await, (200, expected));
}

#[tokio::test]
async fn echo_tells_the_request_but_no_secrets() {
    let fields =
        [("X-Twice", "1"), ("Cookie", "geheim"), ("x-twice", "2"), ("Authorization", "Basic geheim")];
    let (_, text) = get(&Still::new(), "echo", "/a/b?c=d", &fields).await;
    let seen: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&seen["path"], &seen["query"], &seen["method"]),
        (&"/a/b".into(), &"c=d".into(), &"GET".into())
    );
    let expected = json!({ "x-twice": ["1", "2"], "cookie": ["***"], "authorization": ["***"] });
    assert_eq!(seen["headers"], expected);
    assert!(!text.contains("geheim"));
}

#[tokio::test]
async fn metrics_are_the_page_of_the_data_plane() {
    let gateway = Still::new();
    let all = builtins(gateway.clone());
    let answer = ask(&*all["metrics"], Method::GET, "/metrics", &[]).await.unwrap();
    assert_eq!(answer.fields.get_str("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let page = body(&answer);
    assert!(page.contains("\ngateway_config_generation 3\n"), "{page}");
    assert!(
        page.contains("gateway_endpoint_up{service=\"files@file\",endpoint=\"http://127.0.0.1:2\"} 0\n"),
        "{page}"
    );
}

#[tokio::test]
async fn before_the_first_configuration_there_is_nothing_to_show() {
    let all = builtins(Arc::new(Nowhere));
    for name in ["metrics", "stats", "info", "admin"] {
        let error = ask(&*all[name], Method::GET, "/", &[]).await.unwrap_err();
        assert_eq!(error.mapping().status.as_u16(), 503, "{name}");
    }
    assert_eq!(ask(&*all["ready"], Method::GET, "/", &[]).await.unwrap().status.as_u16(), 503);
    assert_eq!(ask(&*all["healthz"], Method::GET, "/", &[]).await.unwrap().status.as_u16(), 200);
}
