//! The commands: check with its exit codes, schema, show, explain, proxy, demo, completions, man.

use std::{fs, path::Path, process::Output};

use portcullis_e2e::{certs::Authority, gateway::run};
use serde_json::Value;
use tempfile::TempDir;

const GOOD: &str = r#"
[listeners.web]
address = "127.0.0.1:8080"

[[routes]]
name = "users"
path = "/api/users/*"
strip_path = true
methods = ["GET"]
middlewares = ["tag"]
service = "users"

[[routes]]
name = "shop"
rule = "Host(`shop.example`) && PathPrefix(`/orders`)"
service = "orders"

[services.users]
endpoints = ["http://10.0.0.1:80", "http://10.0.0.2:80"]

[services.orders]
endpoints = ["http://10.0.0.3:80"]

[middlewares.tag.headers]
request.set.X-Tag = "1"
"#;

/// Nine mistakes, each of another kind.
const BAD: &str = r#"
[listeners.web]
address = "127.0.0.1:8080"

[listeners.other]
address = "127.0.0.1:8080"

[listeners.secure]
address = "127.0.0.1:8443"
tls = { certificates = [{ cert = "a.pem", key = "b.key" }, { cert = "old.pem", key = "old.key" }] }

[[routes]]
name = "one"
path = "/a/*"
service = "userz"

[[routes]]
name = "one"
rule = "Host(`a`) && Paht(`/b`)"
service = "users"

[[routes]]
name = "shadowed"
path = "/c/d"
middlewares = ["nobody"]
service = "users"
priority = 1

[[routes]]
name = "all"
path = "/*"
service = "users"
priority = 100

[services.users]
endpoints = ["http://10.0.0.1:80"]
stratgy = "random"
"#;

fn folder(text: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("gateway.toml"), text).unwrap();
    dir
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("an exit code")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn all(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn findings(output: &Output) -> Vec<Value> {
    let value: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", all(output)));
    let list = if value.is_array() { &value } else { &value["findings"] };
    list.as_array().unwrap_or_else(|| panic!("no findings in {value}")).clone()
}

fn with_certificates(dir: &Path) {
    let authority = Authority::new("test");
    let [one, two] = [authority.issue(&["a.example"]), authority.issue(&["b.example"])];
    let old = authority.issue_expired(&["old.example"]);
    for (name, content) in
        [("a.pem", one.cert), ("b.key", two.key), ("old.pem", old.cert), ("old.key", old.key)]
    {
        fs::write(dir.join(name), content).unwrap();
    }
}

/// 0: nothing wrong.
#[test]
fn check_of_a_good_file_is_0() {
    let dir = folder(GOOD);
    for arguments in
        [&["check", "-c", "gateway.toml"][..], &["check", "-c", "gateway.toml", "--format", "json"]]
    {
        let output = run(dir.path(), arguments);
        assert_eq!(code(&output), 0, "{}", all(&output));
    }
    assert!(findings(&run(dir.path(), &["check", "-c", "gateway.toml", "--format", "json"])).is_empty());
}

/// 1: every finding at once, with file, line, column, path, what is wrong and what would be right.
#[test]
fn check_of_a_bad_file_is_1_with_every_finding() {
    let dir = folder(BAD);
    with_certificates(dir.path());
    let output = run(dir.path(), &["check", "-c", "gateway.toml", "--format", "json"]);
    assert_eq!(code(&output), 1, "{}", all(&output));
    let found = findings(&output);
    for (code, at, line) in [
        ("address-in-use", "listeners.", 0),
        ("key-mismatch", "listeners.secure", 10),
        ("expired-certificate", "listeners.secure", 10),
        ("duplicate-name", "routes[1]", 18),
        ("bad-rule", "routes[1].rule", 19),
        ("unknown-middleware", "routes[2].middlewares", 25),
        ("shadowed-route", "routes[2]", 0),
        ("unknown-key", "services.users.stratgy", 37),
    ] {
        let is_it = |finding: &&Value| {
            finding["code"] == code && finding["path"].as_str().is_some_and(|path| path.starts_with(at))
        };
        let finding = found.iter().find(is_it).unwrap_or_else(|| panic!("{code} at {at} in {found:#?}"));
        assert!(finding["file"].as_str().unwrap().ends_with("gateway.toml"), "{finding:#}");
        assert!(line == 0 || finding["line"] == line, "{finding:#}");
        assert!(
            finding["column"].as_u64().unwrap() > 0 && finding["message"].as_str().unwrap().len() > 5,
            "{finding:#}"
        );
    }
    // Suggestions, where there is something near.
    let help =
        |code: &str| found.iter().find(|f| f["code"] == code).unwrap()["help"].as_str().unwrap().to_owned();
    assert!(help("unknown-key").contains("strategy"), "{}", help("unknown-key"));
    assert!(help("unknown-service").contains("users"), "{}", help("unknown-service"));
    // The position inside the rule: under `Paht`.
    let rule = found.iter().find(|finding| finding["code"] == "bad-rule").unwrap();
    let line = BAD.lines().nth(rule["line"].as_u64().unwrap() as usize - 1).unwrap();
    assert_eq!(&line[rule["column"].as_u64().unwrap() as usize - 1..][..4], "Paht", "{rule:#}");

    let text = run(dir.path(), &["check", "-c", "gateway.toml"]);
    assert_eq!(self::code(&text), 1);
    let said = all(&text);
    for part in ["gateway.toml:19:", "strategy", "userz", "nobody"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(!said.contains('\x1b'), "no colours into a pipe");
}

/// 2: cannot be read.
#[test]
fn check_of_what_cannot_be_read_is_2() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), &["check", "-c", "nowhere.toml"]);
    assert_eq!(code(&output), 2, "{}", all(&output));
    assert!(all(&output).contains("nowhere.toml"));
    assert_eq!(code(&run(dir.path(), &["check", "--nonsense"])), 2, "clap's own");
}

/// `run` of a bad file says the same as `check` and does not start.
#[test]
fn run_of_a_bad_file_does_not_start() {
    let dir = folder(BAD);
    with_certificates(dir.path());
    let output = run(dir.path(), &["run", "-c", "gateway.toml"]);
    assert_ne!(code(&output), 0);
    for part in ["stratgy", "userz", "Paht"] {
        assert!(all(&output).contains(part), "{part} in {}", all(&output));
    }
}

/// The schema is JSON Schema, knows every word and every kind of middleware, and describes them.
#[test]
fn schema() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), &["schema"]);
    assert_eq!(code(&output), 0);
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(schema["$schema"].as_str().is_some_and(|text| text.contains("json-schema.org")));
    for word in ["listeners", "routes", "services", "middlewares", "admin", "access_log"] {
        assert!(schema["properties"][word]["description"].is_string(), "{word}");
    }
    let text = out(&output);
    for kind in ["strip_prefix", "redirect_regex", "static_response", "request_id", "compress"] {
        assert!(text.contains(kind), "{kind}");
    }
}

/// The three forms.
#[test]
fn show() {
    let dir = folder(GOOD);
    let written = run(dir.path(), &["show", "written", "-c", "gateway.toml"]);
    assert_eq!(code(&written), 0, "{}", all(&written));
    assert!(out(&written).contains("/api/users/*") && !out(&written).contains("drain_timeout"));
    let model = run(dir.path(), &["show", "model", "-c", "gateway.toml"]);
    assert_eq!(code(&model), 0, "{}", all(&model));
    assert!(
        out(&model).contains("drain_timeout") && out(&model).contains("users@file"),
        "defaults are filled in"
    );
    let runtime = run(dir.path(), &["show", "runtime", "-c", "gateway.toml"]);
    assert_eq!(code(&runtime), 0, "{}", all(&runtime));
    assert!(out(&runtime).contains("users"));
}

/// `explain` names the route and why, why nearer ones did not, the path after rewriting, middlewares, service, endpoints.
#[test]
fn explain() {
    let dir = folder(GOOD);
    let explain = |rest: &[&str]| {
        let mut arguments = vec!["explain", "-c", "gateway.toml"];
        arguments.extend(rest);
        run(dir.path(), &arguments)
    };
    let taken = explain(&["GET", "http://a.example/api/users/7?x=1"]);
    assert_eq!(code(&taken), 0, "{}", all(&taken));
    let said = out(&taken);
    for part in ["users", "/7", "tag", "http://10.0.0.1:80", "http://10.0.0.2:80"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let by_rule =
        explain(&["GET", "http://a.example/orders/1", "-H", "Host: shop.example", "--client", "192.0.2.1"]);
    assert!(
        out(&by_rule).contains("orders") && out(&by_rule).contains("http://10.0.0.3:80"),
        "{}",
        all(&by_rule)
    );
    let nobody = explain(&["POST", "http://a.example/api/users/7"]);
    assert!(
        out(&nobody).contains("405") && out(&nobody).to_lowercase().contains("method"),
        "{}",
        all(&nobody)
    );
    let none = explain(&["GET", "http://a.example/orders/1"]);
    assert!(out(&none).contains("404") && out(&none).to_lowercase().contains("host"), "{}", all(&none));
}

/// Completions for the shells, and a man page.
#[test]
fn completions_and_man() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let output = run(dir.path(), &["completions", shell]);
        assert_eq!(code(&output), 0, "{shell}: {}", all(&output));
        assert!(out(&output).contains("explain"), "{shell}");
    }
    let man = run(dir.path(), &["man"]);
    assert_eq!(code(&man), 0, "{}", all(&man));
    assert!(out(&man).contains(".TH"), "{}", out(&man));
    for arguments in [&["--help"][..], &["run", "--help"], &["--version"]] {
        assert_eq!(code(&run(dir.path(), arguments)), 0);
    }
}
