//! Requests of our own, in tasks of their own.

#![allow(missing_docs)]

mod stage;

use std::{
    future::pending,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use http::Method;
use portcullis_core::{Frame, Kind, exchange::NoLink};
use portcullis_proxy::forward::{Way, detached::Detached};
use stage::{Endpoint, Stage, request, say};

fn configuration(endpoint: &Endpoint) -> String {
    format!(
        "[[routes]]\npath = \"/*\"\nservice = \"a\"\n[services.a]\nendpoints = [\"http://{}\"]\n\
         timeouts = {{ body_idle = \"200ms\" }}",
        endpoint.addr
    )
}

#[tokio::test]
async fn it_outlives_the_request_that_began_it_and_the_configuration() {
    let endpoint = Endpoint::start(|_| async { say(200, "hello") }).await;
    let mut stage = Stage::new(&configuration(&endpoint));
    let mut x = request(Method::GET, "/a");
    x.request.fields.append("x-one", "1");
    let detached = Detached::begin(&stage.parts(), Duration::from_secs(5)).unwrap();
    let mut twin = x.twin(Arc::new(NoLink));
    drop(x);
    stage.reload(
        "[[routes]]\npath = \"/*\"\nservice = \"b\"\n[services.b]\nendpoints = [\"http://127.0.0.1:1\"]",
    );
    let task = tokio::spawn(async move {
        let mut answer = detached.forward(&mut twin, &mut Way::default()).await.unwrap();
        let mut body = Vec::new();
        while let Some(frame) = detached.frame(&mut answer.body).await {
            if let Frame::Data(data) = frame.unwrap() {
                body.extend_from_slice(&data);
            }
        }
        (answer.status.as_u16(), body)
    });
    assert_eq!(stage.worker.detached.load(Relaxed), 1);
    assert_eq!(task.await.unwrap(), (200, b"hello".to_vec()));
    assert_eq!(stage.worker.detached.load(Relaxed), 0);
    let seen = endpoint.seen.lock().unwrap();
    assert!(seen[0].starts_with("GET /a HTTP/1.1\r\n") && seen[0].contains("x-one: 1"), "{seen:?}");
}

#[tokio::test]
async fn it_ends_by_its_own_deadline() {
    let endpoint = Endpoint::start(|_| pending()).await;
    let stage = Stage::new(&configuration(&endpoint));
    let begun = Instant::now();
    let detached = Detached::begin(&stage.parts(), Duration::from_millis(300)).unwrap();
    let error = detached.forward(&mut request(Method::GET, "/"), &mut Way::default()).await.unwrap_err();
    assert_eq!(error.kind, Kind::TotalTimeout);
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn a_body_that_stops_coming_is_an_error() {
    let endpoint =
        Endpoint::start(|_| async { "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhell".to_owned() }).await;
    let stage = Stage::new(&configuration(&endpoint));
    for (within, kind) in [(5000, Kind::ReadTimeout), (100, Kind::TotalTimeout)] {
        let detached = Detached::begin(&stage.parts(), Duration::from_millis(within)).unwrap();
        let mut answer = detached.forward(&mut request(Method::GET, "/"), &mut Way::default()).await.unwrap();
        let ended = loop {
            match detached.frame(&mut answer.body).await {
                Some(Ok(_)) => {}
                ended => break ended,
            }
        };
        assert_eq!(ended.unwrap().unwrap_err().kind, kind);
    }
}
