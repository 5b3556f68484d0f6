use std::sync::Weak;

use portcullis_core::provider::Stop;
use portcullis_providers::Fixed;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;
use crate::control::Control;

/// A reloader whose one provider is the test itself.
struct Bench {
    process: Arc<Process>,
    board: Arc<Board>,
    reloader: Reloader,
    _folder: tempfile::TempDir,
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().expect("a folder");
    let data = Arc::new(Data::default());
    let control = Control::new(&data);
    let process = Arc::new(Process {
        changes: Arc::default(),
        data,
        keep: Keep::default(),
        metrics: Metrics::new(1, &[]),
        builtins: control.builtins(),
        folder: folder.path().into(),
        logging: None,
    });
    let board = Arc::new(Board::default());
    let reloader = Reloader::new(process.clone(), Vec::new(), board.clone());
    Bench { process, board, reloader, _folder: folder }
}

impl Bench {
    async fn apply(&mut self, document: Value) -> Arc<Attempt> {
        self.board.put("test", snapshot(document));
        self.reloader.apply(Cause::Change, None).await
    }

    fn running(&self) -> Arc<Runtime> {
        self.process.data.runtime().expect("a runtime")
    }
}

fn snapshot(document: Value) -> Snapshot {
    Snapshot::Value { source: "test".into(), value: Arc::new(document) }
}

/// One route to one endpoint that is checked, on a port that the system chooses.
fn document(path: &str) -> Value {
    json!({
        "server": { "host": "127.0.0.1", "port": 0 },
        "admin": false,
        "routes": [{ "name": "r", "path": path, "service": "s", "middlewares": ["limit"] }],
        "services": { "s": {
            "endpoints": [{ "url": "http://127.0.0.1:9" }],
            "health_check": { "path": "/", "interval": "1h" },
        } },
        "middlewares": { "limit": { "rate_limit": { "requests_per_second": 5 } } },
    })
}

#[tokio::test]
async fn the_old_configuration_is_let_go_and_its_state_carried_over() {
    let mut bench = bench();
    assert!(bench.apply(document("/a")).await.ok);
    // A client that keeps its connection, over which it has asked once: neither may hold the old configuration.
    let mut client = TcpStream::connect(bench.process.data.addresses()[0].1).await.expect("a connection");
    client.write_all(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("sent");
    let mut answer = [0; 12];
    client.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 404");
    let before = bench.running();
    let old: [Weak<dyn std::any::Any + Send + Sync>; 4] = [
        Arc::downgrade(&(before.listeners.values().next().expect("a listener").clone() as _)),
        Arc::downgrade(&(before.routes[0].clone() as Arc<dyn std::any::Any + Send + Sync>)),
        Arc::downgrade(&(before.services.values().next().expect("a service").clone() as _)),
        Arc::downgrade(&(before.model.clone() as _)),
    ];
    let state = Arc::downgrade(&before.services.values().next().expect("a service").endpoints[0].state);
    drop(before);
    let attempt = bench.apply(document("/b")).await;
    assert!(attempt.ok && attempt.generation == 2, "{attempt:?}");
    // The checks of the old configuration are aborted, and go when the runtime has looked at them.
    let gone = async {
        while old.iter().any(|old| old.strong_count() > 0) {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(5), gone).await.expect("nothing holds the old configuration");
    let state = state.upgrade().expect("the endpoint's state is kept");
    assert!(Arc::ptr_eq(
        &state,
        &bench.running().services.values().next().expect("a service").endpoints[0].state
    ));
}

#[tokio::test]
async fn a_bad_configuration_is_refused_whole() {
    let mut bench = bench();
    assert!(bench.apply(document("/a")).await.ok);
    let mut bad = document("/b");
    bad["routes"][0]["service"] = json!("nobody");
    bad["services"]["s"]["strategy"] = json!("round_robbin");
    let attempt = bench.apply(bad).await;
    assert!(!attempt.ok && attempt.generation == 1, "{attempt:?}");
    assert!(attempt.findings.iter().filter(|finding| finding.is_error()).count() >= 2, "{attempt:?}");
    assert!(attempt.summary().ends_with("configuration 1 stays in force"), "{}", attempt.summary());
    assert_eq!(bench.running().generation, 1);
    assert_eq!(bench.reloader.handle().last().map(|last| last.ok), Some(false));
}

#[tokio::test]
async fn an_address_in_use_refuses_it_and_nothing_has_changed() {
    let mut bench = bench();
    assert!(bench.apply(document("/a")).await.ok);
    let addresses = bench.process.data.addresses();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut other = document("/b");
    other["listeners"] =
        json!({ "more": { "address": taken.local_addr().expect("its address").to_string() } });
    let attempt = bench.apply(other).await;
    assert!(!attempt.ok && attempt.problems[0].contains("more"), "{attempt:?}");
    assert_eq!(bench.process.data.addresses(), addresses);
    assert_eq!(bench.running().generation, 1);
}

#[tokio::test]
async fn many_reloads_leave_nothing_behind() {
    let mut bench = bench();
    let mut old: Vec<Weak<dyn std::any::Any + Send + Sync>> = Vec::new();
    for round in 0..50 {
        assert!(bench.apply(document(&format!("/{round}"))).await.ok);
        old.push(Arc::downgrade(&(bench.running().routes[0].clone() as _)));
    }
    let alive = || old.iter().filter(|old| old.strong_count() > 0).count();
    let gone = async {
        while alive() > 1 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(5), gone).await.expect("only the last one is alive");
}

#[tokio::test]
async fn changes_are_followed_once_the_source_is_silent_and_wishes_are_answered() {
    let Bench { process, board, mut reloader, _folder } = bench();
    reloader.providers.push(Arc::new(Fixed::value("test", document("/wished"))));
    board.put("test", snapshot(document("/start")));
    assert!(reloader.apply(Cause::Start, None).await.ok);
    let handle = reloader.handle();
    let (_stopper, stop) = Stop::pair();
    let running = tokio::spawn(reloader.run(stop));
    for round in 0..5 {
        board.put("test", snapshot(document(&format!("/{round}"))));
        sleep(Duration::from_millis(5)).await;
    }
    let path = || process.data.runtime().map(|runtime| runtime.model.routes[0].rule.to_string());
    let followed = async {
        while !path().is_some_and(|path| path.contains("/4")) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(5), followed).await.expect("the last change is in force");
    assert_eq!(
        process.data.runtime().map(|runtime| runtime.generation),
        Some(2),
        "one reload for five changes"
    );
    let attempt = handle.now(Cause::Request).await.expect("an attempt");
    assert!(
        attempt.ok && attempt.cause == Cause::Request && path().is_some_and(|path| path.contains("/wished"))
    );
    running.abort();
}
