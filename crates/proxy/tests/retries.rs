//! Retries against real sockets: which are made, what is sent again, and what bounds them.

#![allow(missing_docs)]

mod stage;

use std::{
    future::pending,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Method;
use portcullis_core::{Body, Error, Exchange, Frame, Kind, Stream};
use stage::{Endpoint, Stage, request, say};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn stage(endpoints: &[&Endpoint], retry: &str) -> Stage {
    let urls: Vec<String> = endpoints.iter().map(|at| format!("\"http://{}\"", at.addr)).collect();
    Stage::new(&format!(
        "[[routes]]\npath = \"/*\"\nservice = \"a\"\n[services.a]\nendpoints = [{}]\nretry = {retry}",
        urls.join(", ")
    ))
}

/// Fails so many times, then answers.
async fn failing(times: usize, status: u16) -> Endpoint {
    Endpoint::start(move |n| async move {
        match (n < times, status) {
            (true, 0) => String::new(),
            (true, status) => say(status, "no"),
            (false, _) => say(200, "yes"),
        }
    })
    .await
}

fn post(body: Body) -> Exchange {
    let mut x = request(Method::POST, "/");
    x.request.body = body;
    x
}

/// A body in pieces whose length nobody knows.
struct Pieces(Vec<&'static str>);

impl Stream for Pieces {
    fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        let next = (!self.0.is_empty()).then(|| self.0.remove(0));
        Poll::Ready(next.map(|piece| Ok(Frame::Data(Bytes::from(piece)))))
    }

    fn remaining(&self) -> Option<u64> {
        None
    }
}

const QUICK: &str = "backoff = { base = \"1ms\", max = \"2ms\" }";

#[tokio::test]
async fn statuses_and_resets_are_tried_again_up_to_the_bound() {
    for (fails, status, ends, attempts) in [
        (2, 503, Ok(200), 3),
        (2, 0, Ok(200), 3),
        (9, 503, Ok(503), 3),
        (9, 0, Err(Kind::RetriesExhausted), 3),
        (2, 500, Ok(500), 1),
    ] {
        let endpoint = failing(fails, status).await;
        let stage = stage(&[&endpoint], &format!("{{ {QUICK} }}"));
        let (result, way) = stage.forward(&mut request(Method::GET, "/")).await;
        let got = result.map(|answer| answer.status.as_u16()).map_err(|error| error.kind);
        assert_eq!((got, way.attempts), (ends, attempts), "{status} {fails} times");
        assert_eq!(endpoint.count(), attempts as usize);
        assert_eq!(stage.service().metrics.totals().retries, u64::from(attempts) - 1);
    }
}

#[tokio::test]
async fn another_endpoint_is_preferred() {
    let (bad, good) = (failing(99, 503).await, failing(0, 0).await);
    let stage = stage(&[&bad, &good], &format!("{{ attempts = 2, {QUICK} }}"));
    for _ in 0..20 {
        let (result, _) = stage.forward(&mut request(Method::GET, "/")).await;
        assert_eq!(result.unwrap().status, 200);
    }
    assert_eq!(good.count(), 20);
    assert!(bad.count() > 0);
}

#[tokio::test]
async fn what_may_have_been_seen_is_repeated_only_where_that_is_allowed() {
    for (methods, attempts) in [("", 1), (", methods = [\"POST\"]", 2)] {
        let endpoint = failing(1, 503).await;
        let stage = stage(&[&endpoint], &format!("{{ {QUICK}{methods} }}"));
        let (_, way) = stage.forward(&mut post(Body::from("hello"))).await;
        assert_eq!(way.attempts, attempts);
    }
}

#[tokio::test]
async fn bodies_are_sent_again_whole_and_long_ones_once() {
    for (buffer, attempts, status) in [(10, 3, 200), (9, 1, 503)] {
        let endpoint = failing(2, 503).await;
        let stage =
            stage(&[&endpoint], &format!("{{ {QUICK}, methods = [\"POST\"], body_buffer = {buffer} }}"));
        let (result, way) = stage.forward(&mut post(Body::stream(Pieces(vec!["hello", "world"])))).await;
        assert_eq!((result.unwrap().status.as_u16(), way.attempts), (status, attempts));
        for seen in endpoint.seen.lock().unwrap().iter() {
            let body: String = seen.split("\r\n\r\n").skip(1).collect();
            assert!(body.contains("hello") && body.contains("world"), "{seen}");
        }
    }
}

#[tokio::test]
async fn an_attempt_has_its_time_and_all_of_them_theirs() {
    let endpoint = Endpoint::start(|n| async move {
        if n == 0 {
            pending::<()>().await;
        }
        say(200, "yes")
    })
    .await;
    let stage = stage(&[&endpoint], &format!("{{ try_timeout = \"100ms\", {QUICK} }}"));
    let begun = Instant::now();
    let (result, way) = stage.forward(&mut request(Method::GET, "/")).await;
    assert_eq!((result.unwrap().status.as_u16(), way.attempts), (200, 2));
    assert!(begun.elapsed() >= Duration::from_millis(100) && begun.elapsed() < Duration::from_secs(3));

    let deaf = Endpoint::start(|_| pending()).await;
    let text = format!(
        "[[routes]]\npath = \"/*\"\nservice = \"a\"\ntimeouts = {{ total = \"400ms\" }}\n[services.a]\n\
         endpoints = [\"http://{}\"]\nretry = {{ attempts = 10, try_timeout = \"150ms\", {QUICK} }}",
        deaf.addr
    );
    let stage = Stage::new(&text);
    let begun = Instant::now();
    let (result, way) = stage.forward(&mut request(Method::GET, "/")).await;
    assert_eq!(result.unwrap_err().kind, Kind::TotalTimeout);
    assert!(way.attempts >= 2 && way.attempts <= 3, "{}", way.attempts);
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_storm_stays_within_the_budget_also_over_a_reload() {
    let endpoint = failing(usize::MAX, 503).await;
    let text = |attempts: u32| {
        format!(
            "[[routes]]\npath = \"/*\"\nservice = \"a\"\n[services.a]\nendpoints = [\"http://{}\"]\n\
             retry = {{ attempts = {attempts}, {QUICK}, budget = {{ ratio = \"20%\", min_per_second = 0 }} }}",
            endpoint.addr
        )
    };
    let mut stage = Stage::new(&text(3));
    for n in 0..100 {
        if n == 50 {
            stage.reload(&text(4));
        }
        stage.forward(&mut request(Method::GET, "/")).await.0.unwrap();
    }
    assert_eq!(endpoint.count(), 120);
    let totals = stage.service().metrics.totals();
    assert_eq!(totals.retries, 20);
    assert!(totals.retries_refused >= 80, "{}", totals.retries_refused);
}

#[tokio::test]
async fn a_route_has_its_own() {
    let endpoint = failing(usize::MAX, 503).await;
    for (of_route, of_service, attempts) in
        [("retry = false", "retry = 3", 1), ("retry = 2", "", 2), ("retry = 4", "retry = 2", 4)]
    {
        let stage = Stage::new(&format!(
            "[[routes]]\npath = \"/*\"\nservice = \"a\"\n{of_route}\n[services.a]\nendpoints = [\"http://{}\"]\n{of_service}",
            endpoint.addr
        ));
        let (_, way) = stage.forward(&mut request(Method::GET, "/")).await;
        assert_eq!(way.attempts, attempts, "{of_route} {of_service}");
    }
}

#[tokio::test]
async fn what_reached_nobody_goes_elsewhere_at_once_and_costs_no_budget() {
    let good = failing(0, 0).await;
    let stage = Stage::new(&format!(
        "[[routes]]\npath = \"/*\"\nservice = \"a\"\n[services.a]\nendpoints = [\"http://127.0.0.1:1\", \"http://{}\"]\n\
         retry = {{ attempts = 1, try_timeout = \"2s\", budget = {{ ratio = 0, min_per_second = 0 }} }}",
        good.addr
    ));
    for _ in 0..10 {
        let (result, _) = stage.forward(&mut post(Body::stream(Pieces(vec!["hello"])))).await;
        assert_eq!(result.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_retry_that_meets_an_open_circuit_leaves_the_last_answer() {
    let (bad, gone) = (failing(99, 503).await, failing(99, 0).await);
    let breaker = "\ncircuit_breaker = { failure_threshold = 2 }";
    let through = stage(&[&bad], &format!("{{ attempts = 5, {QUICK} }}{breaker}"));
    let (result, way) = through.forward(&mut request(Method::GET, "/")).await;
    assert_eq!((result.unwrap().status.as_u16(), way.attempts), (503, 2));
    let (result, way) = through.forward(&mut request(Method::GET, "/")).await;
    assert_eq!((result.unwrap_err().kind, way.attempts), (Kind::CircuitOpen, 0));
    assert_eq!(through.service().metrics.totals().retries, 1);
    let through = stage(&[&gone], &format!("{{ attempts = 5, {QUICK} }}{breaker}"));
    let (result, _) = through.forward(&mut request(Method::GET, "/")).await;
    assert_eq!(result.unwrap_err().kind, Kind::ConnectionTerminated);
}

#[tokio::test]
async fn that_the_last_attempt_took_too_long_is_told() {
    let deaf = Endpoint::start(|_| pending()).await;
    let stage = stage(&[&deaf], &format!("{{ attempts = 3, try_timeout = \"60ms\", {QUICK} }}"));
    let (result, way) = stage.forward(&mut request(Method::GET, "/")).await;
    let error = result.unwrap_err();
    assert_eq!((error.kind, error.mapping().status.as_u16(), way.attempts), (Kind::ResponseTimeout, 504, 3));
    assert_eq!(error.detail.as_deref(), Some("3 attempts, the last: response-timeout"));
}

/// Answers one request, reads another, and is gone.
async fn leaving() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        drop(listener);
        let mut read = [0; 4096];
        let _ = stream.read(&mut read).await;
        let _ = stream.write_all(say(200, "yes").as_bytes()).await;
        let _ = stream.read(&mut read).await;
    });
    addr
}

#[tokio::test]
async fn what_was_sent_over_a_stale_connection_may_have_been_seen() {
    for (methods, asked) in [(", methods = [\"GET\"]", 1), ("", 2)] {
        let (leaving, good) = (leaving().await, failing(0, 0).await);
        let stage = Stage::new(&format!(
            "[[routes]]\npath = \"/*\"\nservice = \"a\"\n[services.a]\nretry = {{ {QUICK}{methods} }}\n\
             endpoints = [\"http://{leaving}\", \"http://{}\"]",
            good.addr
        ));
        for _ in 0..2 {
            let mut answer = stage.forward(&mut request(Method::GET, "/")).await.0.unwrap();
            answer.body.read_all(100).await.unwrap();
        }
        let (result, _) = stage.forward(&mut request(Method::PUT, "/")).await;
        assert_eq!((result.is_ok(), good.count()), (asked == 2, asked), "{methods}");
    }
}
