//! An upgrade of the binary: what the new process takes over, what becomes of the old one's connections, and that a new
//! binary that does not become ready changes nothing.

use std::{os::unix::fs::PermissionsExt, path::PathBuf};

use futures_util::{SinkExt, StreamExt};
use http::Request;
use http_body_util::BodyExt;
use portcullis_e2e::{
    Client, Endpoint, Gateway, Lineage, RawClient, Setup, Version, bounded,
    client::{empty, full},
    gateway::{binary, install, run},
    lineage,
    wait::LONG,
    websocket::{self, Echo, Message},
    within,
};
use rustix::process::Signal;

/// A gateway that was installed as a package manager would, and where.
async fn installed(setup: Setup) -> (Gateway, PathBuf) {
    let program = setup.dir().join("portcullis-installed");
    install(&binary(), &program);
    (setup.called(&program).start().await, program)
}

/// A shell script.
fn script(gateway: &Gateway, name: &str, text: &str) -> PathBuf {
    let path = gateway.dir.path().join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

async fn upgrades(gateway: &Gateway, result: &str) -> f64 {
    gateway.metrics().await.sum("gateway_upgrades_total", &[("result", result)])
}

/// Whatever a new binary does instead of becoming ready, the old one serves on, tells what happened, and a good one may
/// follow later.
#[tokio::test]
async fn one_that_does_not_start_changes_nothing() {
    let endpoint = Endpoint::named("a").await;
    let setup = Setup::new(&crate::one("")).top("upgrade_timeout = \"1s\"").set("app", endpoint.url());
    let (mut gateway, program) = installed(setup).await;
    let mut staying = Client::h1(gateway.addr()).await;
    let cases = [
        (script(&gateway, "fails", "exit 3"), "exit status: 3"),
        (script(&gateway, "hangs", "exec sleep 20"), "not ready within 1s"),
        (script(&gateway, "babbles", "echo no gateway >&0; exec sleep 20"), "no gateway"),
        (script(&gateway, "no-interpreter", "").with_file_name("not-executable"), "cannot start"),
    ];
    std::fs::write(&cases[3].0, "not a program").unwrap();
    for (new, problem) in &cases {
        install(new, &program);
        let reply = gateway.admin_post("/upgrade").await;
        assert_eq!(reply.status, 422, "{new:?}: {}", reply.text());
        let told = reply.json();
        assert!(told["problem"].as_str().unwrap().contains(problem), "{new:?}: {told}");
        assert_eq!(told["ok"], false);
        assert_eq!(staying.get("/").await.status, 200);
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert!(gateway.runs());

    // A configuration that the new process refuses.
    install(&binary(), &program);
    let good = std::fs::read_to_string(&gateway.config).unwrap();
    gateway.rewrite("[nonsense]\n");
    let reply = gateway.admin_post("/upgrade").await;
    let told = reply.json();
    assert_eq!(reply.status, 422, "{told}");
    assert!(told["problem"].as_str().unwrap().contains("nonsense"), "{told}");
    assert_eq!(gateway.get("/").await.status, 200);
    let failures = cases.len() as f64 + 1.0;
    assert_eq!((upgrades(&gateway, "failure").await, upgrades(&gateway, "success").await), (failures, 0.0));

    std::fs::write(&gateway.config, good).unwrap();
    let mut lineage = Lineage::default();
    let pid = lineage.follow_reply(&gateway.admin_post("/upgrade").await);
    drop(staying);
    let old = gateway.pid();
    within(LONG, "the old process to end", || async { !lineage::runs(old) }).await;
    assert_eq!(gateway.get("/").await.status, 200);
    assert!(lineage::runs(pid));
    // What was counted goes on.
    assert_eq!((upgrades(&gateway, "failure").await, upgrades(&gateway, "success").await), (failures, 1.0));
}

/// What an old connection has under way goes to its end; a connection that stays open is told to come anew, and a
/// WebSocket lives until the deadline of the drain.
#[tokio::test]
async fn old_connections_end_well() {
    let (open, slow) = Endpoint::gated().await;
    let echo = Echo::start().await;
    let quick = Endpoint::named("a").await;
    let routes = "[[routes]]\nname = \"ws\"\npath = \"/ws\"\nservice = \"echo\"\n\
                  [[routes]]\nname = \"quick\"\npath = \"/quick\"\nservice = \"quick\"\n\
                  [services.echo]\nendpoints = [{ url = \"{echo}\" }]\n\
                  [services.quick]\nendpoints = [{ url = \"{quick}\" }]\n";
    let setup = Setup::new(&format!("{routes}{}", crate::one(""))).top("drain_timeout = \"4s\"");
    let setup = setup.set("app", slow.url()).set("echo", echo.endpoint.url()).set("quick", quick.url());
    let (mut gateway, _) = installed(setup).await;
    let addr = gateway.addr();
    let mut socket = websocket::connect(addr, "/ws").await.unwrap();
    let mut answers = Vec::new();
    let mut clients = Vec::new();
    for version in [Version::H1, Version::H2] {
        let mut client = Client::plain(version, addr).await;
        answers.push(client.send(Request::get("/").body(empty()).unwrap()).await);
        clients.push(client);
    }
    let mut idle = RawClient::connect(addr).await;
    idle.write("GET /quick HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(idle.reply().await.status, 200);

    let mut lineage = Lineage::default();
    lineage.follow_reply(&gateway.admin_post("/upgrade").await);
    assert!(gateway.runs(), "it has connections");
    assert_eq!(Client::h1(addr).await.get("/quick").await.status, 200, "the new one serves");
    // An idle connection was not closed under its client: its next answer says that it is the last.
    idle.write("GET /quick HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let reply = idle.reply().await;
    assert_eq!(reply.status, 200);
    assert!(reply.header("connection").eq_ignore_ascii_case("close"), "{}", reply.head);
    assert!(idle.closes_within(LONG).await);
    open.send(true).unwrap();
    for answer in answers {
        let body = bounded(LONG, "the rest", answer.into_body().collect()).await.unwrap();
        assert_eq!(body.to_bytes(), "begin end");
    }
    socket.send(Message::text("still here")).await.unwrap();
    let back = bounded(LONG, "the echo", socket.next()).await.unwrap().unwrap();
    assert_eq!(back, Message::text("still here"));
    assert!(gateway.runs(), "the WebSocket keeps it");
    let end = bounded(LONG, "the deadline to end the WebSocket", socket.next()).await;
    assert!(!matches!(end, Some(Ok(Message::Text(_)))), "{end:?}");
    let old = gateway.pid();
    within(LONG, "the old process to end", || async { !lineage::runs(old) }).await;
}

/// SIGUSR2 does the same; the pid file tells who serves; the new process knows who is healthy without asking first.
#[tokio::test]
async fn what_is_known_of_endpoints_is_handed_over() {
    let (sick, healthy) =
        (Endpoint::with(|_| portcullis_e2e::endpoint::text(500, "no")).await, Endpoint::named("a").await);
    let check = "health_check = { path = \"/health\", interval = \"1h\", unhealthy_interval = \"1h\", \
                 unhealthy_after = 1 }";
    let text = crate::one(check).replace("endpoints = [", "endpoints = [{ url = \"{sick}\" }, ");
    let setup = Setup::new(&text).set("app", healthy.url()).set("sick", sick.url());
    let file = setup.dir().join("gateway.pid");
    let setup = setup.argument("--pid-file").argument(file.to_str().unwrap());
    let (gateway, _) = installed(setup).await;
    let addr = gateway.addr();
    within(LONG, "the checks", || async { Client::h1(addr).await.get("/").await.status == 200 }).await;
    within(LONG, "the sick one's check", || async {
        sick.seen().iter().any(|seen| seen.target == "/health")
    })
    .await;
    let pid = || std::fs::read_to_string(&file).unwrap_or_default().trim().parse::<u32>().unwrap_or_default();
    let old = gateway.pid();
    assert_eq!(pid(), old);
    let asked = healthy.seen().iter().filter(|seen| seen.target == "/health").count();

    gateway.signal(Signal::USR2);
    within(LONG, "another process", || async { pid() != old }).await;
    let mut lineage = Lineage::default();
    lineage.follow(pid());
    within(LONG, "the old process to end", || async { !lineage::runs(old) }).await;
    for _ in 0..10 {
        let reply = gateway.get("/").await;
        assert_eq!((reply.status, reply.endpoint()), (200, "a"));
    }
    let asked_since = healthy.seen().iter().filter(|seen| seen.target == "/health").count() - asked;
    assert_eq!(asked_since, 0, "nobody had to pass a check first");
    assert!(pid() != old && lineage::runs(pid()), "the old process left the file alone");
    lineage::signal(pid(), Signal::TERM);
    within(LONG, "the file to go with the process", || async { !file.exists() }).await;
}

/// A port that the system chose stays, a listener that vanished closes, a new one opens; and the command line tells.
#[tokio::test]
async fn the_new_process_follows_its_own_configuration() {
    let endpoint = Endpoint::named("a").await;
    let more = |address: &str| format!("[listeners.more]\naddress = \"{address}\"\n");
    let setup = Setup::new(&format!("{}{}", more("127.0.0.1:0"), crate::one(""))).set("app", endpoint.url());
    let (mut gateway, _) = installed(setup).await;
    let address = |reply: portcullis_e2e::Reply| {
        let listeners = reply.json()["listeners"].as_array().unwrap().clone();
        let more = listeners.into_iter().find(|listener| listener["name"] == "more");
        more.map(|listener| listener["address"].as_str().unwrap().to_owned())
    };
    let before = address(gateway.admin_get("/api/listeners").await).unwrap();
    let command_line = |gateway: &Gateway| {
        let config = gateway.config.to_str().unwrap().to_owned();
        run(gateway.dir.path(), &["upgrade", "-c", &config, "--format", "json"])
    };
    let mut lineage = Lineage::default();
    let out = command_line(&gateway);
    assert_eq!(out.status.code(), Some(0), "{out:?}");
    let told: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    lineage.follow(told["pid"].as_u64().unwrap() as u32);
    assert_eq!(address(gateway.admin_get("/api/listeners").await).unwrap(), before);
    assert_eq!(Client::h1(before.parse().unwrap()).await.get("/").await.status, 200);

    gateway.rewrite(&crate::one(""));
    let out = command_line(&gateway);
    let told: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    lineage.follow(told["pid"].as_u64().unwrap() as u32);
    let addr = before.parse().unwrap();
    within(LONG, "the listener to close", || async { Client::try_h1(addr).await.is_err() }).await;
    assert_eq!(gateway.get("/").await.status, 200);

    gateway.rewrite("[nonsense]\n");
    let out = run(gateway.dir.path(), &["upgrade", "--admin", &gateway.admin().to_string()]);
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stdout).contains("the running process goes on"), "{out:?}");
    let out = run(gateway.dir.path(), &["upgrade", "-c", "no-such-file.toml"]);
    assert_eq!(out.status.code(), Some(2));
}

/// No page of somebody else's may ask for it.
#[tokio::test]
async fn other_sites_may_not_ask() {
    let endpoint = Endpoint::named("a").await;
    let (mut gateway, _) = installed(Setup::new(&crate::one("")).set("app", endpoint.url())).await;
    let request = Request::post("/upgrade").header("origin", "https://evil.example").body(full("")).unwrap();
    assert_eq!(Client::h1(gateway.admin()).await.fetch(request).await.status, 403);
    let request = Request::post("/upgrade").header("host", "evil.example").body(full("")).unwrap();
    assert_eq!(Client::h1(gateway.admin()).await.fetch(request).await.status, 421);
    assert_eq!(upgrades(&gateway, "success").await, 0.0);
    assert!(gateway.runs());
}
