//! 200 reloads while requests run and 50 WebSockets stay open: no request fails, no WebSocket closes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use http::Request;
use portcullis_e2e::{
    Client, Endpoint, Setup, Version, bounded,
    client::full,
    wait::LONG,
    websocket::{self, Echo, Message},
};

const RELOADS: usize = 200;
const SOCKETS: usize = 50;

/// Each reload changes something: the service's endpoints, a middleware, a route, another listener.
fn configuration(round: usize) -> String {
    let endpoints = match round % 3 {
        0 => r#"{ url = "{a}" }, { url = "{b}" }"#,
        1 => r#"{ url = "{b}", weight = 3 }, { url = "{a}" }"#,
        _ => r#"{ url = "{a}" }"#,
    };
    let listener =
        if round.is_multiple_of(2) { "" } else { "[listeners.extra]\naddress = \"127.0.0.1:{port2}\"\n" };
    format!(
        r#"
{listener}
[[routes]]
name = "ws"
path = "/ws"
service = "echo"

[[routes]]
name = "all-{round}"
path = "/*"
service = "app"
middlewares = [{{ headers = {{ response = {{ set = {{ X-Round = "{round}" }} }} }} }}]

[services.app]
endpoints = [{endpoints}]

[services.echo]
endpoints = [{{ url = "{{echo}}" }}]
"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_and_no_websocket_closes() {
    let [a, b] = [Endpoint::named("a").await, Endpoint::named("b").await];
    let echo = Echo::start().await;
    let setup =
        Setup::new(&configuration(0)).set("a", a.url()).set("b", b.url()).set("echo", echo.endpoint.url());
    let mut gateway = setup.start().await;
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        sockets.push(websocket::connect(gateway.addr(), "/ws").await.unwrap());
    }

    let stop = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicUsize::new(0));
    let mut load = Vec::new();
    for worker in 0..8 {
        let (stop, served, addr) = (Arc::clone(&stop), Arc::clone(&served), gateway.addr());
        load.push(tokio::spawn(async move {
            let version = if worker % 2 == 0 { Version::H1 } else { Version::H2 };
            let mut client = Client::plain(version, addr).await;
            while !stop.load(SeqCst) {
                // An orderly close between two requests is every server's right.
                if client.is_closed() {
                    client = Client::plain(version, addr).await;
                }
                let request = Request::post("/work").body(full(vec![b'x'; 2000])).unwrap();
                let reply = client.fetch(request).await;
                assert_eq!(reply.status, 200, "{}", reply.text());
                served.fetch_add(1, SeqCst);
                // Leave the two cores something for the reloads.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }));
    }

    let mut last = String::new();
    for round in 1..=RELOADS {
        // In turns as an editor does, by renaming, and in place, which leaves the file empty for a moment.
        if round % 2 == 0 {
            gateway.rewrite(&configuration(round));
        } else {
            let next = gateway.dir.path().join("next");
            let text = gateway.render(&configuration(round));
            std::fs::write(&next, text).unwrap();
            std::fs::rename(&next, &gateway.config).unwrap();
        }
        let reply = gateway.admin_post("/reload").await;
        assert_eq!(reply.status, 200, "round {round}: {}", reply.text());
        if round % 20 == 0 {
            let reply = gateway.get("/x").await;
            last = reply.header("x-round").to_owned();
            assert_eq!(last, round.to_string(), "what was reloaded runs");
        }
    }
    assert_eq!(last, RELOADS.to_string());
    stop.store(true, SeqCst);
    for worker in load {
        bounded(LONG, "the load to end", worker).await.expect("no request failed");
    }
    assert!(served.load(SeqCst) > RELOADS, "there was load: {served:?}");

    for socket in &mut sockets {
        socket.send(Message::text("still here")).await.unwrap();
        let back = bounded(LONG, "the echo", socket.next()).await.unwrap().unwrap();
        assert_eq!(back, Message::text("still here"));
    }
    assert!(echo.closed.lock().unwrap().is_empty());
}
