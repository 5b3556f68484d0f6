//! TOML, YAML and JSON by the same types; `${VAR}`, `${VAR:-default}`, a `.env` file (VK9).

use portcullis_e2e::{Endpoint, Setup};

const YAML: &str = r#"
listeners:
  web:
    address: "127.0.0.1:{port}"
admin:
  address: "127.0.0.1:{admin}"
routes:
  - name: all
    path: /*
    service: app
services:
  app:
    endpoints:
      - url: "{app}"
"#;

const JSON: &str = r#"{
  "listeners": { "web": { "address": "127.0.0.1:{port}" } },
  "admin": { "address": "127.0.0.1:{admin}" },
  "routes": [{ "name": "all", "path": "/*", "service": "app" }],
  "services": { "app": { "endpoints": [{ "url": "{app}" }] } }
}"#;

#[tokio::test]
async fn every_format_runs() {
    let endpoint = Endpoint::named("a").await;
    for (name, text) in [("gateway.yaml", YAML), ("gateway.yml", YAML), ("gateway.json", JSON)] {
        let gateway = Setup::whole(name, text).set("app", endpoint.url()).start().await;
        assert_eq!(gateway.get("/").await.endpoint(), "a", "{name}");
    }
}

#[tokio::test]
async fn variables_are_filled_in() {
    let text = r#"
[[routes]]
name = "all"
path = "/*"
service = "@echo"
middlewares = [{ static_response = { status = 200, body = "${FROM_ENV} ${FROM_FILE} ${NOWHERE:-default} ${BOTH}" } }]
"#;
    let setup = Setup::new(text).file(".env", "FROM_FILE=file\nBOTH=file\n");
    let gateway = setup.env("FROM_ENV", "env").env("BOTH", "env").start().await;
    assert_eq!(gateway.get("/").await.text(), "env file default env", "the environment wins over .env");
}

/// A value never becomes structure: what a variable holds is a value, whatever it looks like.
#[tokio::test]
async fn a_variable_is_never_structure() {
    let text = r#"
[[routes]]
name = "all"
path = "/*"
service = "@echo"
middlewares = [{ static_response = { status = 200, body = "${EVIL}" } }]
"#;
    let evil = "x\" } }]\n[[routes]]\nname = \"evil\"\npath = \"/evil\"\nservice = \"@metrics\"\n#";
    let gateway = Setup::new(text).env("EVIL", evil).start().await;
    assert_eq!(gateway.get("/evil").await.text(), evil);
}

/// The gateway's own log: its level by configuration, `RUST_LOG` wins (VK9, VK10); as JSON by choice.
#[tokio::test]
async fn the_log_follows_configuration_and_environment() {
    let text = |log: &str| {
        format!(
            "log = {log}\n[listeners.web]\naddress = \"127.0.0.1:{{port}}\"\n[admin]\naddress = \"127.0.0.1:{{admin}}\"\n[[routes]]\npath = \"/*\"\nservice = \"@health\"\n"
        )
    };
    let quiet = Setup::whole("gateway.toml", &text("\"error\"")).start().await;
    assert!(!quiet.stderr().contains("INFO"), "{}", quiet.stderr());
    let loud = Setup::whole("gateway.toml", &text("\"error\"")).env("RUST_LOG", "debug").start().await;
    loud.says("DEBUG").await;
    let json = Setup::whole("gateway.toml", &text("{ format = \"json\" }")).start().await;
    json.says("listening").await;
    let line = json.stderr().lines().find(|line| line.contains("listening")).map(str::to_owned).unwrap();
    let line: serde_json::Value =
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"));
    assert_eq!(line["level"], "INFO");
}
