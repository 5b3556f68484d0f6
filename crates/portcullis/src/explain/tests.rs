use std::path::Path;

use portcullis_core::provider::Snapshot;

use super::*;
use crate::{load, rehearse::rehearse};

const CONFIGURATION: &str = r#"
[listeners.web]
address = "127.0.0.1:8080"
trusted_proxies = ["10.0.0.0/8"]

[[routes]]
name = "user"
path = "/api/users/{id}"
methods = ["GET"]
middlewares = ["version", "rewrite"]
service = "users"

[[routes]]
name = "inside"
path = "/api/*"
clients = ["192.168.0.0/16"]
strip_path = true
service = "users"

[[routes]]
name = "old"
path = "/old/*"
middlewares = ["moved"]
service = "users"

[services.users]
endpoints = [{ url = "http://10.0.0.1:80/base", weight = 3 }, { url = "http://10.0.0.2:80" }]
strategy = "random"
pass_host = false

[middlewares]
version = { headers = { request = { set = { "X-Version" = "1" } } } }
rewrite = { replace_path_regex = { regex = "^/api/(.*)", replacement = "/v1/$1" } }
moved = { redirect_regex = { regex = "/old/(.*)", replacement = "/new/$1" } }
"#;

fn ask(method: &str, url: &str, fields: &[(&str, &str)], client: &str) -> Explained {
    ask_of(CONFIGURATION, method, url, fields, client)
}

fn ask_of(text: &str, method: &str, url: &str, fields: &[(&str, &str)], client: &str) -> Explained {
    let snapshot = Snapshot::Text { file: "gateway.toml".into(), text: text.into(), dot_env: None };
    let loaded = load::load("file", &snapshot, Path::new("."));
    let model = loaded.model.clone().unwrap_or_else(|| panic!("{}", loaded.text(false)));
    let runtime = rehearse(model, Path::new(".")).expect("it compiles");
    let question = Question {
        method: method.parse().unwrap(),
        url: url.parse().unwrap(),
        fields: fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        client: client.parse().unwrap(),
        listener: None,
        written: loaded.listeners_written(),
    };
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    executor.block_on(explain(&runtime, &question)).expect("an explanation")
}

#[test]
fn the_route_its_middlewares_and_the_path_they_leave() {
    let told = ask("GET", "http://api.example:8080/api//users/7?x=1", &[], "127.0.0.1");
    let route = told.route.expect("a route");
    assert_eq!((&*route.name, &*route.written), ("user@file", "gateway.toml:6"));
    assert_eq!(route.parameters, [("id".into(), "7".to_owned())]);
    assert_eq!(told.path, "/api/users/7");
    let steps: Vec<(&str, &str)> =
        told.middlewares.iter().map(|step| (&*step.kind, &*step.outcome)).collect();
    assert_eq!(steps, [("headers", "goes on"), ("replace_path_regex", "goes on")]);
    let target = told.target.expect("a target");
    assert_eq!((&*target.name, &*target.path), ("service users@file", "/v1/users/7?x=1"));
    assert_eq!(target.strategy.as_deref(), Some("random"));
    let urls: Vec<(&str, u32, &str)> =
        target.endpoints.iter().map(|endpoint| (&*endpoint.url, endpoint.weight, &*endpoint.host)).collect();
    assert_eq!(
        urls,
        [
            ("http://10.0.0.1:80/base/v1/users/7?x=1", 3, "10.0.0.1"),
            ("http://10.0.0.2:80/v1/users/7?x=1", 1, "10.0.0.2"),
        ]
    );
    assert_eq!(told.others.len(), 1);
    assert_eq!(told.others[0].reason, "client is 127.0.0.1, the route wants 192.168.0.0/16");
}

#[test]
fn a_client_behind_a_trusted_proxy() {
    let forwarded = [("X-Forwarded-For", "192.168.1.7")];
    let told = ask("POST", "/api/users/7", &forwarded, "10.0.0.9");
    assert_eq!(told.client.to_string(), "192.168.1.7");
    assert_eq!(told.target.expect("a target").path, "/users/7");
    assert_eq!(&*told.route.expect("a route").name, "inside@file");
    let told = ask("POST", "/api/users/7", &forwarded, "11.0.0.9");
    assert_eq!(told.refused.as_deref(), Some("no route takes this method: 405, Allow: GET, HEAD"));
    assert_eq!(told.others[0].reason, "method is POST, the route wants GET");
}

#[test]
fn refusals_and_answers_on_the_way() {
    assert_eq!(ask("GET", "/nowhere", &[], "127.0.0.1").refused.as_deref(), Some("no route takes it: 404"));
    let told = ask("GET", "/api/%2fx", &[], "127.0.0.1");
    let refusal = "400 Bad Request (bad-path): escaped delimiter %2F; `path_policy = { encoded_delimiters = \"keep\" }` \
                   lets it through";
    assert_eq!(told.refused.as_deref(), Some(refusal));
    assert!(told.route.is_none());
    let told = ask("GET", "http://shop.example/old/page", &[], "127.0.0.1");
    assert!(
        told.target.is_none() && told.middlewares[0].outcome.starts_with("answers 30"),
        "{:?}",
        told.middlewares
    );
    let step = &told.middlewares[0];
    assert!(step.outcome.ends_with(", Location: http://shop.example/new/page"), "{}", step.outcome);
    let given = step.answer.as_ref().expect("an answer");
    assert!(
        given
            .fields
            .iter()
            .any(|(name, value)| name == "location" && value == "http://shop.example/new/page"),
        "{given:?}"
    );
}

/// What browsers send as it is goes the same way as in the gateway, to a route or to a refusal.
#[test]
fn characters_that_browsers_send() {
    for url in ["/api/a|b", "/api/\"a\"", "/api/a%7Cb"] {
        let told = ask("GET", url, &[], "192.168.0.1");
        let refused = told.refused.clone().unwrap_or_default();
        assert!(told.route.is_some() || refused.starts_with("400"), "{url}: {told:?}");
    }
}

#[test]
fn the_listener_that_the_url_points_at() {
    const TWO: &str = r#"
[listeners]
public = { address = "127.0.0.1:8080" }
alternative = { address = "127.0.0.1:80" }
also = { address = "127.0.0.1:8081" }
[[routes]]
path = "/*"
middlewares = [{ static_response = { status = 200, body = "here" } }]
service = "@echo"
"#;
    let listener = |url: &str| ask_of(TWO, "GET", url, &[], "127.0.0.1").listener.to_string();
    assert_eq!(listener("/"), "public", "the first written, not the first of the alphabet");
    assert_eq!(listener("http://h/"), "alternative", "the port that the scheme implies");
    assert_eq!(listener("http://h:8081/"), "also");
    assert_eq!(listener("http://h:9999/"), "public");
    let told = ask_of(TWO, "GET", "/", &[], "127.0.0.1");
    let given = told.middlewares[0].answer.as_ref().expect("an answer");
    assert_eq!((given.status, given.body.as_deref()), (200, Some("here")));
}

#[test]
fn where_a_split_leads_and_why() {
    let text = r#"
[[routes]]
path = "/*"
service = "a"
split = { to = [{ service = "b", share = "5%", header = "X-Canary" }], sticky = true }
[services.a]
endpoints = ["http://10.0.0.1:80"]
[services.b]
endpoints = ["http://10.0.0.2:80"]
"#;
    let to = |fields: &[(&str, &str)]| ask_of(text, "GET", "/x", fields, "127.0.0.1").target.unwrap();
    let by_header = to(&[("X-Canary", "1")]);
    assert_eq!(by_header.name, "service b@file");
    assert_eq!(by_header.why.as_deref(), Some("since it has the header X-Canary"));
    assert_eq!(by_header.endpoints.len(), 1);
    let by_chance = to(&[]);
    assert_eq!(by_chance.name, "service a@file (95%) or service b@file (5%)");
    assert_eq!((by_chance.why.as_deref(), by_chance.endpoints.len()), (Some("by chance"), 2));
}
