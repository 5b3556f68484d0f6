//! The client against a server of the `h2` crate.

use std::{
    future::poll_fn,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use portcullis_config::model::ServiceTimeouts;
use portcullis_core::{
    Answer, Body, BoxFuture, Connection, Error, Exchange, Fields, Frame, Kind, Protocol,
    endpoint::EndpointState, exchange::ClientLink,
};
use tokio::{io::DuplexStream, sync::mpsc};

use super::{Pieces, Zeros};
use crate::{
    clock::{Clock, Watch},
    forward::upstream::{InFlight, Open},
    h1::client::{Ask, Failed},
    h2::client::H2Client,
};

type Server = h2::server::Connection<DuplexStream, Bytes>;

/// A client connected to a server that the test drives.
struct Pair {
    client: H2Client,
    state: Arc<EndpointState>,
    watch: Watch,
}

impl Pair {
    async fn with(builder: &h2::server::Builder) -> (Pair, Server) {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let state = Arc::new(EndpointState::new(false));
        let open = Open::new(&state, 0).unwrap();
        let (client, server) =
            tokio::join!(H2Client::handshake(near, Duration::ZERO, open), builder.handshake(far));
        let clock = Clock::new();
        tokio::spawn(clock.clone().run());
        (Pair { client: client.unwrap(), state, watch: clock.watch() }, server.unwrap())
    }

    async fn new() -> (Pair, Server) {
        Pair::with(&h2::server::Builder::new()).await
    }

    /// A client whose requests a function answers.
    async fn served<F, W>(serve: F) -> Pair
    where
        F: Fn(Request<RecvStream>, SendResponse<Bytes>) -> W + Send + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        let (pair, mut server) = Pair::new().await;
        tokio::spawn(async move {
            while let Some(Ok((request, respond))) = server.accept().await {
                tokio::spawn(serve(request, respond));
            }
        });
        pair
    }

    async fn send(&self, x: &mut Exchange) -> Result<Answer, Error> {
        self.attempt(x).await.map_err(|failed| failed.error)
    }

    async fn attempt(&self, x: &mut Exchange) -> Result<Answer, Failed> {
        let head = Request::builder().method(&x.request.method).uri("http://b.example/x").body(()).unwrap();
        let ask = Ask {
            host: None,
            base: "",
            timeouts: &ServiceTimeouts {
                connect: Duration::from_secs(3),
                response_header: Duration::from_secs(60),
                body_idle: Duration::from_secs(60),
                write_idle: Duration::from_secs(25),
                stream_idle: Duration::from_secs(3600),
                tunnel_idle: Duration::from_secs(3600),
            },
            response_header: Duration::from_secs(60),
            client_body_idle: Duration::from_secs(20),
            watch: &self.watch,
            total: u64::MAX,
        };
        self.client.send(head, x, &ask, InFlight::new(&self.state)).await
    }

    fn in_flight(&self) -> (u64, usize) {
        (self.state.in_flight.load(Relaxed) as u64, self.client.streams())
    }
}

fn exchange(method: Method, body: impl Into<Body>) -> Exchange {
    let mut x = Exchange::for_test(portcullis_core::Request::new(method));
    x.request.body = body.into();
    x
}

type Sender = mpsc::UnboundedSender<Result<Frame, Error>>;

fn streaming() -> (Sender, Exchange) {
    let (pieces, body) = mpsc::unbounded_channel();
    (pieces, exchange(Method::POST, Body::stream(Pieces(body))))
}

fn data(text: &'static str) -> Result<Frame, Error> {
    Ok(Frame::Data(text.into()))
}

fn ok() -> Response<()> {
    Response::new(())
}

fn status(status: u16) -> Response<()> {
    Response::builder().status(status).body(()).unwrap()
}

/// A client's side that writes down what it is told.
#[derive(Default)]
struct Told {
    interim: Mutex<Vec<(u16, Fields)>>,
}

impl ClientLink for Told {
    fn poll_gone(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn interim<'a>(&'a self, status: StatusCode, fields: &'a Fields) -> BoxFuture<'a, Result<(), Error>> {
        self.interim.lock().unwrap().push((status.as_u16(), fields.clone()));
        Box::pin(std::future::ready(Ok(())))
    }
}

fn linked(request: portcullis_core::Request, link: Arc<dyn ClientLink>) -> Exchange {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let connection = Connection {
        peer: address,
        peer_text: "127.0.0.1".into(),
        local: address,
        listener: "web".into(),
        trusted: false,
        tls: None,
        protocol: Protocol::Http1,
        id: 1,
        prepared: Default::default(),
    };
    Exchange::new(request, Arc::new(connection), link, Instant::now())
}

async fn read_all(stream: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        let _ = stream.flow_control().release_capacity(data.len());
        all.extend_from_slice(&data);
    }
    Ok(all)
}

#[tokio::test(start_paused = true)]
async fn a_request_and_its_answer() {
    let pair = Pair::served(|request, mut respond| async move {
        let (head, mut body) = request.into_parts();
        assert_eq!((head.method, head.uri.path()), (Method::PUT, "/x"));
        let body = read_all(&mut body).await.unwrap();
        let head = Response::builder()
            .status(201)
            .header("x-one", "1")
            .header("content-length", "4")
            .body(())
            .unwrap();
        let mut stream = respond.send_response(head, false).unwrap();
        stream.send_data(Bytes::from([&body[..], b"!"].concat()), true).unwrap();
    })
    .await;
    let mut x = exchange(Method::PUT, "abc");
    let mut answer = pair.send(&mut x).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.fields.get_str("x-one")), (201, Some("1")));
    assert_eq!(answer.body.remaining(), Some(4));
    assert_eq!(pair.in_flight(), (1, 1));
    assert_eq!(answer.body.read_all(10).await.unwrap(), "abc!");
    assert_eq!(answer.body.remaining(), Some(0));
    assert_eq!(pair.in_flight(), (0, 0), "let go at the end, not when the body is dropped");
    assert!(pair.client.is_usable() && pair.client.idle_for().is_some());
}

#[tokio::test(start_paused = true)]
async fn both_directions_stream_at_once_and_trailers_pass() {
    let pair = Pair::served(|request, mut respond| async move {
        let mut body = request.into_body();
        let mut stream = respond.send_response(ok(), false).unwrap();
        while let Some(data) = body.data().await {
            stream.send_data(data.unwrap(), false).unwrap();
        }
        let trailers = body.trailers().await.unwrap().unwrap();
        stream.send_trailers(trailers).unwrap();
    })
    .await;
    let (pieces, mut x) = streaming();
    let mut answer = pair.send(&mut x).await.unwrap();
    for word in ["one", "two"] {
        pieces.send(data(word)).unwrap();
        let Some(Ok(Frame::Data(echo))) = answer.body.frame().await else { panic!() };
        assert_eq!(echo, word);
    }
    // Silence is no error while a stream is open.
    assert!(tokio::time::timeout(Duration::from_secs(300), answer.body.frame()).await.is_err());
    pieces.send(Ok(Frame::Trailers([("grpc-status", "0")].into_iter().collect()))).unwrap();
    let Some(Ok(Frame::Trailers(trailers))) = answer.body.frame().await else { panic!() };
    assert_eq!(trailers.get_str("grpc-status"), Some("0"));
    assert_eq!(pair.in_flight(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_upload_goes_on_although_the_answer_is_not_read() {
    let (done, mut uploaded) = mpsc::unbounded_channel();
    let pair = Pair::served(move |request, mut respond| {
        let done = done.clone();
        async move {
            let mut stream = respond.send_response(ok(), false).unwrap();
            // More than the client's window: this stays stuck until the answer is read.
            stream.send_data(vec![0; 1 << 20].into(), false).unwrap();
            done.send(read_all(&mut request.into_body()).await.unwrap().len()).unwrap();
            stream.send_data(Bytes::new(), true).unwrap();
        }
    })
    .await;
    let (pieces, mut x) = streaming();
    let mut answer = pair.send(&mut x).await.unwrap();
    for _ in 0..100 {
        pieces.send(Ok(Frame::Data(vec![1; 64 * 1024].into()))).unwrap();
    }
    drop(pieces);
    assert_eq!(uploaded.recv().await, Some(100 * 64 * 1024));
    assert_eq!(answer.body.read_all(2 << 20).await.unwrap().len(), 1 << 20);
}

#[tokio::test(start_paused = true)]
async fn refused_streams_are_unsent_and_keep_their_body() {
    let pair = Pair::served(|_, mut respond| async move { respond.send_reset(Reason::REFUSED_STREAM) }).await;
    let (pieces, mut x) = streaming();
    let error = pair.send(&mut x).await.unwrap_err();
    assert!(error.unsent && error.kind == Kind::ConnectionTerminated, "{error}");
    pieces.send(data("still here")).unwrap();
    drop(pieces);
    assert_eq!(x.request.body.read_all(100).await.unwrap(), "still here");
    assert!(pair.client.is_usable());
    // Any other reset says nothing about whether the request was processed.
    let pair = Pair::served(|_, mut respond| async move { respond.send_reset(Reason::INTERNAL_ERROR) }).await;
    let error = pair.send(&mut exchange(Method::GET, Body::Empty)).await.unwrap_err();
    assert!(!error.unsent && error.kind == Kind::ConnectionTerminated, "{error}");
    assert_eq!(pair.in_flight(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_told_to_go_away_takes_no_more() {
    let (pair, mut server) = Pair::new().await;
    let serving = tokio::spawn(async move {
        let (_, mut respond) = server.accept().await.unwrap().unwrap();
        server.graceful_shutdown();
        tokio::spawn(async move { while server.accept().await.is_some() {} });
        tokio::time::sleep(Duration::from_secs(1)).await;
        respond.send_response(ok(), true).unwrap();
    });
    let mut x = exchange(Method::GET, Body::Empty);
    let (answer, ()) = tokio::join!(pair.send(&mut x), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!pair.client.is_usable());
        let error = pair.send(&mut exchange(Method::POST, "kept")).await.unwrap_err();
        assert!(error.unsent, "{error}");
    });
    assert_eq!(answer.unwrap().status, 200, "what was under way is finished");
    serving.await.unwrap();
    // The connection was counted, and is no more.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(pair.state.connections.load(Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_is_noticed() {
    let (pair, mut server) = Pair::new().await;
    let mut x = exchange(Method::GET, Body::Empty);
    let (result, ()) = tokio::join!(pair.attempt(&mut x), async move {
        let _request = server.accept().await;
        drop(server);
    });
    let Failed { error, stale } = result.unwrap_err();
    assert!(error.kind == Kind::ConnectionTerminated && !error.unsent && stale, "{error}");
    tokio::task::yield_now().await;
    assert!(!pair.client.is_usable());
    let error = pair.send(&mut exchange(Method::POST, "kept")).await.unwrap_err();
    assert!(error.unsent && error.kind == Kind::ConnectionTerminated, "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_is_not_waited_for() {
    let pair = Pair::served(|request, respond| async move {
        let _held = (request, respond);
        std::future::pending::<()>().await;
    })
    .await;
    let start = tokio::time::Instant::now();
    let error = pair.send(&mut exchange(Method::GET, Body::Empty)).await.unwrap_err();
    let took = start.elapsed().as_secs();
    assert_eq!((error.kind, took), (Kind::ResponseTimeout, 60));
    assert!(!pair.client.is_usable(), "it may be dead");

    // The client's own silence is its own fault.
    let pair = Pair::served(|request, respond| async move {
        let _held = (request, respond);
        std::future::pending::<()>().await;
    })
    .await;
    let (pieces, mut x) = streaming();
    pieces.send(data("a")).unwrap();
    let start = tokio::time::Instant::now();
    let error = pair.send(&mut x).await.unwrap_err();
    assert_eq!((error.kind, start.elapsed().as_secs()), (Kind::RequestTimeout, 20));
    assert!(pair.client.is_usable());
    // An endpoint that takes nothing of the body.
    let mut x = exchange(Method::POST, Body::stream(Zeros(Arc::new(AtomicUsize::new(0)))));
    let start = tokio::time::Instant::now();
    let error = pair.send(&mut x).await.unwrap_err();
    assert_eq!((error.kind, start.elapsed().as_secs()), (Kind::WriteTimeout, 25));
}

#[tokio::test(start_paused = true)]
async fn grpc_clients_may_be_silent() {
    let pair = Pair::served(|request, respond| async move {
        let _held = (request, respond);
        std::future::pending::<()>().await;
    })
    .await;
    let (_pieces, mut x) = streaming();
    x.request.fields.append("content-type", "application/grpc+proto");
    let start = tokio::time::Instant::now();
    pair.send(&mut x).await.unwrap_err();
    // The time for streams, not that for bodies.
    assert_eq!(start.elapsed().as_secs(), 3600);
}

#[tokio::test(start_paused = true)]
async fn dropping_an_answer_resets_its_stream() {
    let (reset, mut seen) = mpsc::unbounded_channel();
    let pair = Pair::served(move |_, mut respond| {
        let reset = reset.clone();
        async move {
            let mut stream = respond.send_response(ok(), false).unwrap();
            reset.send(poll_fn(|cx| stream.poll_reset(cx)).await.unwrap()).unwrap();
        }
    })
    .await;
    let answer = pair.send(&mut exchange(Method::GET, Body::Empty)).await.unwrap();
    drop(answer);
    assert_eq!(seen.recv().await, Some(Reason::CANCEL));
    // With an upload still under way, too.
    let (_pieces, mut x) = streaming();
    let answer = pair.send(&mut x).await.unwrap();
    drop(answer);
    assert_eq!(seen.recv().await, Some(Reason::CANCEL));
    assert_eq!(pair.in_flight(), (0, 0));
    assert!(pair.client.is_usable());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_breaks_off_resets_the_stream() {
    let (reset, mut seen) = mpsc::unbounded_channel();
    let pair = Pair::served(move |request, respond| {
        let reset = reset.clone();
        async move {
            let _held = respond;
            reset.send(read_all(&mut request.into_body()).await.unwrap_err().reason()).unwrap();
        }
    })
    .await;
    let (pieces, mut x) = streaming();
    pieces.send(data("a")).unwrap();
    pieces.send(Err(Error::new(Kind::BodyTooLarge))).unwrap();
    assert_eq!(pair.send(&mut x).await.unwrap_err().kind, Kind::BodyTooLarge);
    assert_eq!(seen.recv().await, Some(Some(Reason::CANCEL)));
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_come_before_the_request_is_whole() {
    let pair = Pair::served(|_, mut respond| async move {
        respond.send_response(status(413), true).unwrap();
    })
    .await;
    let (pieces, mut x) = streaming();
    pieces.send(data("a")).unwrap();
    let answer = pair.send(&mut x).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.body.is_empty()), (413, true));
    assert_eq!(pair.in_flight(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn interim_answers_are_passed_on() {
    let pair = Pair::served(|_, mut respond| async move {
        let hints = Response::builder().status(103).header("link", "</a.css>").body(()).unwrap();
        respond.send_informational(hints).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        respond.send_response(ok(), true).unwrap();
    })
    .await;
    let told = Arc::new(Told::default());
    let mut x = linked(portcullis_core::Request::new(Method::GET), told.clone());
    assert_eq!(pair.send(&mut x).await.unwrap().status, 200);
    let told = std::mem::take(&mut *told.interim.lock().unwrap());
    assert_eq!((told.len(), told[0].0, told[0].1.get_str("link")), (1, 103, Some("</a.css>")));

    let pair = Pair::served(|_, mut respond| async move {
        respond.send_informational(status(101)).unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let error = pair.send(&mut exchange(Method::GET, Body::Empty)).await.unwrap_err();
    assert_eq!(error.kind, Kind::BadResponse);
}

#[tokio::test(start_paused = true)]
async fn an_expectation_holds_the_body_back() {
    for says_so in [true, false] {
        let pair = Pair::served(move |request, mut respond| async move {
            if says_so {
                respond.send_informational(status(100)).unwrap();
            }
            let body = read_all(&mut request.into_body()).await.unwrap();
            let mut stream = respond.send_response(ok(), false).unwrap();
            stream.send_data(body.into(), true).unwrap();
        })
        .await;
        let told = Arc::new(Told::default());
        let mut x = linked(portcullis_core::Request::new(Method::POST), told.clone());
        x.request.body = "wanted".into();
        x.request.expects_continue = true;
        let start = tokio::time::Instant::now();
        let mut answer = pair.send(&mut x).await.unwrap();
        assert_eq!(answer.body.read_all(10).await.unwrap(), "wanted");
        assert_eq!(
            start.elapsed().as_secs(),
            if says_so { 0 } else { 1 },
            "silence means yes, after a while"
        );
        assert_eq!(told.interim.lock().unwrap().len(), 1);
    }
    // A refusal leaves the body with whoever tries the next endpoint.
    let pair = Pair::served(|_, mut respond| async move { respond.send_reset(Reason::REFUSED_STREAM) }).await;
    let mut x = exchange(Method::POST, "kept");
    x.request.expects_continue = true;
    assert!(pair.send(&mut x).await.unwrap_err().unsent);
    assert_eq!(x.request.body.read_all(10).await.unwrap(), "kept");
}

#[tokio::test(start_paused = true)]
async fn room_is_what_the_endpoint_says() {
    let (pair, mut server) = Pair::with(h2::server::Builder::new().max_concurrent_streams(2)).await;
    tokio::spawn(async move {
        while let Some(Ok((_, mut respond))) = server.accept().await {
            tokio::spawn(async move {
                let mut stream = respond.send_response(ok(), false).unwrap();
                poll_fn(|cx| stream.poll_reset(cx)).await.unwrap();
            });
        }
    });
    let first = pair.send(&mut exchange(Method::GET, Body::Empty)).await.unwrap();
    assert!(pair.client.has_room());
    let second = pair.send(&mut exchange(Method::GET, Body::Empty)).await.unwrap();
    assert!(!pair.client.has_room());
    drop((first, second));
    assert!(pair.client.has_room());
}

#[tokio::test(start_paused = true)]
async fn answers_that_break_the_protocol_or_off_are_errors() {
    let pair = Pair::served(|_, mut respond| async move {
        let head = Response::builder().header("content-length", "10").body(()).unwrap();
        let mut stream = respond.send_response(head, false).unwrap();
        stream.send_data("short".into(), true).unwrap();
    })
    .await;
    let error = match pair.send(&mut exchange(Method::GET, Body::Empty)).await {
        Ok(mut answer) => answer.body.read_all(100).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind, Kind::BadResponse);
    let pair = Pair::served(|_, mut respond| async move {
        let mut stream = respond.send_response(ok(), false).unwrap();
        stream.send_data("half".into(), false).unwrap();
        stream.send_reset(Reason::INTERNAL_ERROR);
    })
    .await;
    let error = match pair.send(&mut exchange(Method::GET, Body::Empty)).await {
        Ok(mut answer) => answer.body.read_all(100).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind, Kind::ConnectionTerminated);
    let pair = Pair::served(|_, mut respond| async move {
        let long = "x".repeat(70_000);
        let head = Response::builder().header("x", long).body(()).unwrap();
        respond.send_response(head, true).unwrap();
    })
    .await;
    let error = pair.send(&mut exchange(Method::GET, Body::Empty)).await.unwrap_err();
    assert_eq!(error.kind, Kind::BadResponse);
    assert_eq!(pair.in_flight(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn trailers_alone_are_an_answer() {
    // gRPC's "Trailers-Only", and a length of nothing with trailers behind it.
    let pair = Pair::served(|_, mut respond| async move {
        let head = Response::builder().header("content-length", "0").body(()).unwrap();
        let mut stream = respond.send_response(head, false).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "12".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
    })
    .await;
    let mut answer = pair.send(&mut exchange(Method::GET, Body::Empty)).await.unwrap();
    assert!(!answer.body.is_empty(), "something is to come");
    let Some(Ok(Frame::Trailers(trailers))) = answer.body.frame().await else { panic!() };
    assert_eq!(trailers.get_str("grpc-status"), Some("12"));
}

#[tokio::test(start_paused = true)]
async fn a_request_is_only_called_unsent_if_it_can_be_sent_again() {
    let refuse = |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| async move {
        let mut body = request.into_body();
        body.data().await;
        respond.send_reset(Reason::REFUSED_STREAM);
    };
    // Some of it was spent, and is nowhere any more.
    let pair = Pair::served(refuse).await;
    let (pieces, mut x) = streaming();
    pieces.send(data("gone")).unwrap();
    let failed = pair.attempt(&mut x).await.unwrap_err();
    assert!(!failed.error.unsent && !failed.stale && x.request.body.is_empty());
    // What was in memory still is.
    let mut x = exchange(Method::POST, "kept");
    let failed = pair.attempt(&mut x).await.unwrap_err();
    assert!(failed.error.unsent && failed.stale);
    assert_eq!(x.request.body.read_all(10).await.unwrap(), "kept");
}

#[tokio::test(start_paused = true)]
async fn clients_that_do_not_read_do_not_hold_up_the_others() {
    let pair = Pair::served(|request, mut respond| async move {
        let mut stream = respond.send_response(ok(), false).unwrap();
        let size = if request.method() == Method::GET { 1 << 20 } else { 5 };
        stream.send_data(vec![0; size].into(), true).unwrap();
        // The stream must outlive what the window does not let through yet.
        poll_fn(|cx| stream.poll_reset(cx)).await.ok();
    })
    .await;
    let mut unread = Vec::new();
    for _ in 0..99 {
        unread.push(pair.send(&mut exchange(Method::GET, Body::Empty)).await.unwrap());
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(pair.client.has_room());
    let mut answer = pair.send(&mut exchange(Method::POST, Body::Empty)).await.unwrap();
    let read = tokio::time::timeout(Duration::from_secs(1), answer.body.read_all(10)).await;
    assert_eq!(read.unwrap().unwrap().len(), 5);
}
