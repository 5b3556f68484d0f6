//! The server against a client of the `h2` crate.

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, client::SendRequest};
use http::{HeaderMap, Request, Response, StatusCode};
use portcullis_core::{Answer, Body, Error, Exchange, Fields, Frame, Kind, Stream, answer::Tunnel};
use tokio::{io::AsyncWriteExt, sync::mpsc};

use super::{Gateway, Pieces, Zeros};

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://a.example{path}")).body(()).unwrap()
}

fn post() -> Request<()> {
    Request::post("http://a.example/").body(()).unwrap()
}

async fn ask(client: &mut SendRequest<Bytes>, request: Request<()>) -> Response<RecvStream> {
    client.send_request(request, true).unwrap().0.await.unwrap()
}

/// Body and trailers, giving windows back.
async fn whole(stream: &mut RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        let _ = stream.flow_control().release_capacity(data.len());
        all.extend_from_slice(&data);
    }
    Ok((all, stream.trailers().await?))
}

fn answer(status: u16, body: &'static str) -> Answer {
    Answer::with_body(StatusCode::from_u16(status).unwrap(), "test", "text/plain", body)
}

#[tokio::test(start_paused = true)]
async fn a_request_and_its_answer() {
    let seen = Arc::new(Mutex::new(String::new()));
    let told = seen.clone();
    let gateway = Gateway::new(
        move |x| {
            let told = told.clone();
            Box::pin(async move {
                let r = &x.request;
                let line =
                    format!("{} {} {:?} {} {:?}", r.method, r.path(), r.query(), r.authority(), r.fields);
                *told.lock().unwrap() = line;
                let mut answer = answer(200, "hello");
                answer.fields.append("Connection", "close");
                answer.fields.append("X-Mixed", "1");
                answer.fields.append("content-length", "77");
                Ok(answer)
            })
        },
        |_| {},
    );
    let mut client = gateway.client().await;
    let request = Request::get("http://A.example:80/a/%41?q=1")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("x-one", "1")
        .body(())
        .unwrap();
    let response = ask(&mut client, request).await;
    let said = seen.lock().unwrap().clone();
    assert!(said.starts_with("GET /a/A Some(\"q=1\") a.example:80 {"), "{said}");
    assert!(said.contains("\"cookie\": \"a=1; b=2\"") && said.contains("\"x-one\": \"1\""), "{said}");
    assert_eq!(response.status(), 200);
    let fields = response.headers();
    assert_eq!(
        (&fields["x-mixed"], &fields["content-length"]),
        (&"1".parse().unwrap(), &"5".parse().unwrap())
    );
    assert!(fields.contains_key("date") && !fields.contains_key("connection"));
    let mut body = response.into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "hello");
    assert!(body.is_end_stream(), "the last bytes end the stream");
}

#[tokio::test(start_paused = true)]
async fn answers_without_body() {
    let gateway = Gateway::new(
        |x| {
            Box::pin(async move {
                let status = x.request.path().trim_start_matches('/').parse().unwrap();
                let mut answer = answer(status, "not to be sent");
                answer.fields.set("content-length", "14");
                Ok(answer)
            })
        },
        |_| {},
    );
    let mut client = gateway.client().await;
    let head = Request::head("http://a.example/200").body(()).unwrap();
    for (request, length) in [(head, Some("14")), (get("/304"), Some("14")), (get("/204"), None)] {
        let response = ask(&mut client, request).await;
        let told = response.headers().get("content-length").map(|value| value.to_str().unwrap());
        assert_eq!(told, length, "{}", response.status());
        assert!(response.into_body().is_end_stream());
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_and_trailers_stream_both_ways() {
    // Echoes each piece as it comes, and the trailers.
    let gateway = Gateway::new(
        |x| {
            Box::pin(async move {
                let mut answer = answer(200, "");
                answer.body = std::mem::take(&mut x.request.body);
                Ok(answer)
            })
        },
        |_| {},
    );
    let mut client = gateway.client().await;
    let (response, mut sending) = client.send_request(post(), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    for word in ["one", "two"] {
        sending.send_data(word.into(), false).unwrap();
        assert_eq!(body.data().await.unwrap().unwrap(), word);
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    sending.send_trailers(trailers.clone()).unwrap();
    assert!(body.data().await.is_none());
    assert_eq!(body.trailers().await.unwrap(), Some(trailers));
}

#[tokio::test(start_paused = true)]
async fn an_answer_broken_before_it_left_is_an_error_of_its_own() {
    // Broken at once, after a first piece, and (too late for that) after a while.
    let gateway = Gateway::new(
        |x| {
            Box::pin(async move {
                let (pieces, body) = mpsc::unbounded_channel();
                let broken = || Err(Error::new(Kind::ResponseIncomplete));
                match x.request.path() {
                    "/at-once" => pieces.send(broken()).unwrap(),
                    "/soon" => {
                        pieces.send(Ok(Frame::Data("abc".into()))).unwrap();
                        pieces.send(broken()).unwrap();
                    }
                    _ => {
                        tokio::spawn(async move {
                            tokio::time::sleep(Duration::from_secs(1)).await;
                            pieces.send(broken()).unwrap();
                        });
                    }
                }
                let mut answer = answer(200, "");
                answer.body = Body::stream(Pieces(body));
                Ok(answer)
            })
        },
        |_| {},
    );
    let mut client = gateway.client().await;
    for path in ["/at-once", "/soon"] {
        let response = ask(&mut client, get(path)).await;
        assert_eq!(response.status(), 502, "{path}");
        let (body, _) = whole(&mut response.into_body()).await.unwrap();
        let body = String::from_utf8(body).unwrap();
        assert!(body.contains("\"status\":502") && !body.contains("abc"), "{body}");
    }
    let late = ask(&mut client, get("/late")).await;
    assert_eq!(late.status(), 200);
    assert!(whole(&mut late.into_body()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_quiet_grpc_stream_is_not_too_slow() {
    let gateway = Gateway::new(
        |x| {
            Box::pin(async move {
                let mut answer = answer(200, "");
                answer.body = std::mem::take(&mut x.request.body);
                Ok(answer)
            })
        },
        |listener| listener.timeouts.body_grace = Duration::from_secs(1),
    );
    let mut client = gateway.client().await;
    for (content_type, lives) in [("application/grpc+proto", true), ("text/plain", false)] {
        let mut request = post();
        request.headers_mut().insert("content-type", content_type.parse().unwrap());
        let (response, mut sending) = client.send_request(request, false).unwrap();
        let mut body = response.await.unwrap().into_body();
        let mut echoed = 0;
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(2)).await;
            // Less than the minimum rate of 240 bytes/s.
            if sending.send_data("word".into(), false).is_err() {
                break;
            }
            match body.data().await {
                Some(Ok(data)) => echoed += data.len(),
                _ => break,
            }
        }
        assert_eq!(echoed == 20, lives, "{content_type}: {echoed}");
    }
}

#[tokio::test(start_paused = true)]
async fn many_megabytes_pass_through_small_windows() {
    let gateway = Gateway::new(
        |x| {
            Box::pin(async move {
                let mut answer = answer(200, "");
                answer.body = std::mem::take(&mut x.request.body);
                Ok(answer)
            })
        },
        |_| {},
    );
    let mut client = gateway.client().await;
    let (response, mut sending) = client.send_request(post(), false).unwrap();
    let sender = tokio::spawn(async move {
        for number in 0..200_u8 {
            sending.reserve_capacity(64 * 1024);
            let mut left = Bytes::from(vec![number; 64 * 1024]);
            while !left.is_empty() {
                let room = match sending.capacity() {
                    0 => match poll_fn(|cx| sending.poll_capacity(cx)).await {
                        Some(Ok(room)) => room,
                        other => panic!("{other:?}"),
                    },
                    room => room,
                };
                let room = room.min(left.len());
                sending.send_data(left.split_to(room), number == 199 && left.is_empty()).unwrap();
            }
        }
    });
    let (all, _) = whole(response.await.unwrap().body_mut()).await.unwrap();
    sender.await.unwrap();
    let expected: Vec<u8> = (0..200_u8).flat_map(|number| vec![number; 64 * 1024]).collect();
    assert!(all == expected);
}

#[tokio::test(start_paused = true)]
async fn neither_side_is_read_faster_than_it_is_consumed() {
    let pulled = Arc::new(AtomicUsize::new(0));
    let counter = pulled.clone();
    let gateway = Gateway::new(
        move |_| {
            let counter = counter.clone();
            Box::pin(async move {
                let mut answer = answer(200, "");
                answer.body = Body::stream(Zeros(counter));
                Ok(answer)
            })
        },
        |_| {},
    );
    let mut client = gateway.client().await;
    let response = ask(&mut client, get("/")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // The client's window of 64 KiB, our buffer, and a piece or two in hand.
    let before = pulled.load(Relaxed);
    assert!((64 << 10..(64 << 10) + super::super::SEND_BUFFER + (48 << 10)).contains(&before), "{before}");
    drop(response);

    // The other way: nobody reads the body, so the client's window is never given back.
    let gateway = Gateway::new(|_| Box::pin(std::future::pending()), |_| {});
    let mut client = gateway.client().await;
    let (_response, mut sending) = client.send_request(post(), false).unwrap();
    let mut taken = 0;
    loop {
        sending.reserve_capacity(1 << 20);
        let room = tokio::time::timeout(Duration::from_secs(1), poll_fn(|cx| sending.poll_capacity(cx)));
        let Ok(room) = room.await else { break };
        let room = room.unwrap().unwrap();
        sending.send_data(vec![0; room].into(), false).unwrap();
        taken += room;
    }
    assert_eq!(taken, super::super::STREAM_WINDOW as usize);
}

#[tokio::test(start_paused = true)]
async fn interim_answers_go_ahead() {
    let gateway = Gateway::new(
        |x| {
            Box::pin(async move {
                let hints: Fields = [("link", "</a.css>")].into_iter().collect();
                x.client_link.interim(StatusCode::EARLY_HINTS, &hints).await?;
                let body = x.request.body.read_all(100).await?;
                let mut answer = answer(200, "");
                answer.body = body.into();
                Ok(answer)
            })
        },
        |_| {},
    );
    let mut client = gateway.client().await;
    let request = Request::post("http://a.example/").header("expect", "100-continue").body(()).unwrap();
    let (mut response, mut sending) = client.send_request(request, false).unwrap();
    let mut statuses = Vec::new();
    for _ in 0..2 {
        let interim = poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
        statuses.push(interim.status().as_u16());
    }
    assert_eq!(statuses, [103, 100], "whoever reads the body lets the client go on");
    sending.send_data("late".into(), true).unwrap();
    assert_eq!(whole(response.await.unwrap().body_mut()).await.unwrap().0, b"late");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_resets_is_gone() {
    let (gone, mut seen) = mpsc::unbounded_channel();
    let gateway = Gateway::new(
        move |x| {
            let gone = gone.clone();
            let link = x.client_link.clone();
            Box::pin(async move {
                poll_fn(|cx| link.poll_gone(cx)).await;
                gone.send(()).unwrap();
                Err(Error::new(Kind::ClientGone))
            })
        },
        |_| {},
    );
    let mut client = gateway.client().await;
    let (_response, mut stream) = client.send_request(get("/"), true).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(seen.try_recv().is_err());
    stream.send_reset(Reason::CANCEL);
    seen.recv().await.unwrap();
    // So is one that drops the connection.
    let (io, _) = gateway.connect();
    let (mut client, connection) = h2::client::handshake(io).await.unwrap();
    let connection = tokio::spawn(connection);
    let (_response, _stream) = client.send_request(get("/"), true).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    connection.abort();
    seen.recv().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_resets_the_stream() {
    let gateway = Gateway::new(
        |_| {
            let (pieces, body) = mpsc::unbounded_channel();
            pieces.send(Ok(Frame::Data("half".into()))).unwrap();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                pieces.send(Err(Error::new(Kind::ResponseIncomplete))).unwrap();
            });
            Box::pin(async move {
                let mut answer = answer(200, "");
                answer.body = Body::stream(Pieces(body));
                Ok(answer)
            })
        },
        |_| {},
    );
    let mut client = gateway.client().await;
    let mut response = ask(&mut client, get("/")).await;
    let error = whole(response.body_mut()).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
}

/// A piece, then nothing for the moment, then the end before its time.
struct Breaking(u8);

impl Stream for Breaking {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        self.0 += 1;
        match self.0 {
            1 => Poll::Ready(Some(Ok(Frame::Data("half".into())))),
            2 => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ => Poll::Ready(Some(Err(Error::new(Kind::ResponseIncomplete)))),
        }
    }

    fn remaining(&self) -> Option<u64> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn what_came_before_a_body_broke_off_arrives() {
    let gateway = Gateway::new(
        |_| {
            Box::pin(async move {
                let mut answer = answer(200, "");
                answer.body = Body::stream(Breaking(0));
                Ok(answer)
            })
        },
        |_| {},
    );
    let mut client = gateway.client().await;
    let mut response = ask(&mut client, get("/")).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.body_mut().data().await.unwrap().unwrap(), "half");
    let error = whole(response.body_mut()).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_cut() {
    let pulled = Arc::new(AtomicUsize::new(0));
    let gateway = Gateway::new(
        move |_| {
            let pulled = pulled.clone();
            Box::pin(async move {
                let mut answer = answer(200, "");
                answer.body = Body::stream(Zeros(pulled));
                Ok(answer)
            })
        },
        |_| {},
    );
    let mut client = gateway.client().await;
    let start = tokio::time::Instant::now();
    let mut response = ask(&mut client, get("/")).await;
    loop {
        match response.body_mut().data().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break assert_eq!(error.reason(), Some(Reason::CANCEL)),
            None => panic!("ended"),
        }
    }
    let took = start.elapsed().as_secs_f64();
    assert!((30.0..31.0).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn a_body_below_the_minimum_rate_is_refused() {
    let gateway = Gateway::new(
        |x| {
            Box::pin(async move {
                let error = x.request.body.read_all(1 << 20).await.unwrap_err();
                assert_eq!(error.kind, Kind::RequestTimeout);
                Err(error)
            })
        },
        |_| {},
    );
    let mut client = gateway.client().await;
    let (response, mut sending) = client.send_request(post(), false).unwrap();
    let trickle = tokio::spawn(async move {
        while sending.send_data("x".into(), false).is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    assert_eq!(response.await.unwrap().status(), 408);
    trickle.abort();
}

fn connect_to(protocol: Option<&'static str>) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = http::Method::CONNECT;
    *request.uri_mut() =
        if protocol.is_some() { "http://a.example/chat" } else { "a.example:80" }.parse().unwrap();
    if let Some(protocol) = protocol {
        request.extensions_mut().insert(h2::ext::Protocol::from_static(protocol));
    }
    request
}

/// Opens a tunnel to an echo for WebSockets, and answers 200 for anything else.
fn tunnels(x: &mut Exchange) -> Answer {
    if x.request.path() != "/chat" || x.request.upgrade.as_deref() != Some("websocket") {
        return answer(200, "no tunnel");
    }
    let (near, far) = tokio::io::duplex(1024);
    tokio::spawn(async move {
        let (mut read, mut write) = tokio::io::split(far);
        tokio::io::copy(&mut read, &mut write).await.unwrap();
        write.write_all(b"bye").await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut answer = Answer::new(StatusCode::SWITCHING_PROTOCOLS, "test");
    answer.fields.append("sec-websocket-accept", "x");
    answer.fields.append("sec-websocket-protocol", "chat");
    answer.tunnel = Some(Box::new(Tunnel { io: Box::new(near), idle: Duration::from_secs(60) }));
    answer
}

#[tokio::test(start_paused = true)]
async fn extended_connect_opens_a_tunnel() {
    let gateway = Gateway::new(|x| Box::pin(async move { Ok(tunnels(x)) }), |_| {});
    let mut client = gateway.client().await;
    // The settings must have arrived before the protocol may be used.
    ask(&mut client, get("/")).await;
    assert!(client.is_extended_connect_protocol_enabled());
    let (response, mut sending) = client.send_request(connect_to(Some("websocket")), false).unwrap();
    let response = response.await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["sec-websocket-protocol"]),
        (200, &"chat".parse().unwrap())
    );
    assert!(!response.headers().contains_key("sec-websocket-accept"));
    let mut body = response.into_body();
    for word in ["ping", "pong"] {
        sending.send_data(word.into(), false).unwrap();
        assert_eq!(body.data().await.unwrap().unwrap(), word);
    }
    sending.send_data(Bytes::new(), true).unwrap();
    assert_eq!(whole(&mut body).await.unwrap().0, b"bye", "each half closes by itself");
}

#[tokio::test(start_paused = true)]
async fn other_connects_are_refused() {
    let gateway = Gateway::new(|_| Box::pin(async { Ok(answer(200, "no tunnel")) }), |_| {});
    let mut client = gateway.client().await;
    ask(&mut client, get("/")).await;
    for (protocol, status) in [(None, 501), (Some("connect-udp"), 501), (Some("websocket"), 502)] {
        let (response, _sending) = client.send_request(connect_to(protocol), false).unwrap();
        assert_eq!(response.await.unwrap().status(), status, "{protocol:?}");
    }
}

/// How long it takes until the gateway closes a connection on which nothing happens any more.
async fn closed_after(served: tokio::task::JoinHandle<()>) -> f64 {
    let start = tokio::time::Instant::now();
    served.await.unwrap();
    start.elapsed().as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_closed() {
    let gateway = Gateway::new(|_| Box::pin(async { Ok(answer(200, "x")) }), |_| {});
    let (io, served) = gateway.connect();
    let (mut client, connection) = h2::client::handshake(io).await.unwrap();
    let connection = tokio::spawn(connection);
    tokio::time::sleep(Duration::from_secs(50)).await;
    let mut response = ask(&mut client, get("/")).await;
    whole(response.body_mut()).await.unwrap();
    let took = closed_after(served).await;
    assert!((75.0..76.0).contains(&took), "{took}");
    assert!(connection.await.unwrap().is_ok(), "GOAWAY, not a broken connection");

    // A client that says nothing at all, not even in reply to GOAWAY, is not waited for.
    let (_io, served) = gateway.connect();
    let took = closed_after(served).await;
    assert!((10.0..11.0).contains(&took), "no preface: {took}");
}

#[tokio::test(start_paused = true)]
async fn worn_connections_are_given_up() {
    let gateway = Gateway::new(
        |_| Box::pin(async { Ok(answer(200, "x")) }),
        |listener| listener.limits.requests_per_connection = 3,
    );
    let (io, served) = gateway.connect();
    let (mut client, connection) = h2::client::handshake(io).await.unwrap();
    let connection = tokio::spawn(connection);
    for _ in 0..3 {
        let mut response = ask(&mut client, get("/")).await;
        whole(response.body_mut()).await.unwrap();
    }
    assert!(closed_after(served).await < 1.0);
    assert!(connection.await.unwrap().is_ok());
    assert_eq!(gateway.asked.load(Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn a_drain_lets_streams_finish() {
    let gateway = Gateway::new(
        |_| {
            Box::pin(async {
                tokio::time::sleep(Duration::from_secs(5)).await;
                Ok(answer(200, "late"))
            })
        },
        |_| {},
    );
    let (io, served) = gateway.connect();
    let (mut client, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let (response, _) = client.send_request(get("/"), true).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    gateway.drain.begin();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(poll_fn(|cx| client.poll_ready(cx)).await.is_err(), "no new streams");
    let mut response = response.await.unwrap();
    assert_eq!(whole(response.body_mut()).await.unwrap().0, b"late");
    assert!(closed_after(served).await < 1.0);
    // And what does not finish is cut.
    let stuck = Gateway::new(|_| Box::pin(std::future::pending()), |_| {});
    let (io, served) = stuck.connect();
    let (mut client, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let _under_way = client.send_request(get("/"), true).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    stuck.drain.begin();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(!served.is_finished());
    stuck.drain.cut_now();
    served.await.unwrap();
}
