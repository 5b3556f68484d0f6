//! An endpoint with a handler of the test's: HTTP/1.1 and HTTP/2 on one port, in plaintext or TLS.

use std::{
    future::Future,
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyExt;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use crate::client::{Body, Problem, full, streamed};

/// A request as an endpoint saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// `Host`, or `:authority`.
    pub host: String,
    /// HTTP version.
    pub version: http::Version,
    /// Fields.
    pub headers: HeaderMap,
    /// All of the body.
    pub body: Bytes,
    /// Trailer fields.
    pub trailers: Option<HeaderMap>,
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Problem>> + Send>>;
type Reader = Arc<dyn Fn(&Seen) -> Response<Body> + Send + Sync>;
type Answer = Arc<dyn Fn(Request<Incoming>) -> Answering + Send + Sync>;

/// A running endpoint. It stops when it is dropped.
pub struct Endpoint {
    addr: SocketAddr,
    scheme: &'static str,
    answer: Answer,
    tls: Option<Arc<ServerConfig>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    accepted: Arc<Mutex<usize>>,
    task: Option<JoinHandle<()>>,
}

/// A listener in whose line a crowd has room.
fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(4096)
}

impl Endpoint {
    /// Answers every request with this function, and remembers nothing.
    pub async fn start<F, A>(answer: F) -> Endpoint
    where
        F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Response<Body>, Problem>> + Send + 'static,
    {
        Endpoint::run(Arc::new(move |request| Box::pin(answer(request))), None, Default::default()).await
    }

    /// The same over TLS.
    pub async fn tls<F, A>(config: ServerConfig, answer: F) -> Endpoint
    where
        F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Response<Body>, Problem>> + Send + 'static,
    {
        let answer: Answer = Arc::new(move |request| Box::pin(answer(request)));
        Endpoint::run(answer, Some(Arc::new(config)), Default::default()).await
    }

    /// Reads each request to its end, remembers it (see [`Endpoint::seen`]) and answers with this function.
    pub async fn with<F>(answer: F) -> Endpoint
    where
        F: Fn(&Seen) -> Response<Body> + Send + Sync + 'static,
    {
        Endpoint::remembering(Arc::new(answer), None).await
    }

    /// The same, over TLS.
    pub async fn tls_with<F>(config: ServerConfig, answer: F) -> Endpoint
    where
        F: Fn(&Seen) -> Response<Body> + Send + Sync + 'static,
    {
        Endpoint::remembering(Arc::new(answer), Some(Arc::new(config))).await
    }

    /// Answers 200 with its name, as text and in `X-Endpoint`.
    pub async fn named(name: &'static str) -> Endpoint {
        Endpoint::with(move |_| named(name)).await
    }

    async fn remembering(answer: Reader, tls: Option<Arc<ServerConfig>>) -> Endpoint {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let into = Arc::clone(&seen);
        let answering = move |request: Request<Incoming>| -> Answering {
            let (answer, into) = (Arc::clone(&answer), Arc::clone(&into));
            Box::pin(async move {
                let request = read(request).await?;
                let reply = answer(&request);
                into.lock().expect("the requests").push(request);
                Ok(reply)
            })
        };
        Endpoint::run(Arc::new(answering), tls, seen).await
    }

    async fn run(answer: Answer, tls: Option<Arc<ServerConfig>>, seen: Arc<Mutex<Vec<Seen>>>) -> Endpoint {
        let listener = listen((Ipv4Addr::LOCALHOST, 0).into()).expect("a port");
        let addr = listener.local_addr().expect("its address");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint { addr, scheme, answer, tls, seen, accepted: Arc::default(), task: None };
        endpoint.accept(listener);
        endpoint
    }

    fn accept(&mut self, listener: TcpListener) {
        let (answer, tls, accepted) =
            (Arc::clone(&self.answer), self.tls.clone(), Arc::clone(&self.accepted));
        self.task = Some(tokio::spawn(async move {
            // Dropped with the task: stopping cuts every connection.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                *accepted.lock().expect("the count") += 1;
                let _ = stream.set_nodelay(true);
                connections.spawn(converse(stream, tls.clone(), Arc::clone(&answer)));
                while connections.try_join_next().is_some() {}
            }
        }));
    }

    /// Answers "begin " at once, and "end" when the gate opens.
    pub async fn gated() -> (watch::Sender<bool>, Endpoint) {
        let (open, gate) = watch::channel(false);
        let endpoint = Endpoint::start(move |_| {
            let mut gate = gate.clone();
            async move {
                let (mut sender, body) = streamed();
                tokio::spawn(async move {
                    let _ = sender.send_data("begin ".into()).await;
                    let _ = gate.wait_for(|open| *open).await;
                    let _ = sender.send_data("end".into()).await;
                });
                Ok(Response::new(body))
            }
        })
        .await;
        (open, endpoint)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:12345`.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.addr)
    }

    /// The same address under another scheme.
    pub fn url_as(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.addr)
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("the requests").clone()
    }

    /// How many requests so far.
    pub fn count(&self) -> usize {
        self.seen.lock().expect("the requests").len()
    }

    /// The last request.
    pub fn last(&self) -> Seen {
        self.seen().pop().expect("a request arrived")
    }

    /// Forgets what it saw.
    pub fn forget(&self) {
        self.seen.lock().expect("the requests").clear();
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        *self.accepted.lock().expect("the count")
    }

    /// Stops listening and cuts every connection.
    pub async fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }

    /// Listens again where it did before.
    pub async fn restart(&mut self) {
        let listener = listen(self.addr).expect("its old port");
        self.accept(listener);
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Seen {
    /// A field's value, or the empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// All values of a field.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect()
    }
}

/// 200 with a name, as text and in `X-Endpoint`.
pub fn named(name: &str) -> Response<Body> {
    Response::builder().header("x-endpoint", name).body(full(name.to_owned())).expect("an answer")
}

/// An answer with a status and a text.
pub fn text(status: u16, text: &str) -> Response<Body> {
    Response::builder()
        .status(status)
        .header("content-type", "text/plain")
        .body(full(text.to_owned()))
        .expect("an answer")
}

async fn read(request: Request<Incoming>) -> Result<Seen, Problem> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?;
    let host = head.headers.get("host").and_then(|host| host.to_str().ok()).map(str::to_owned);
    Ok(Seen {
        method: head.method,
        target: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        host: host.or(head.uri.authority().map(ToString::to_string)).unwrap_or_default(),
        version: head.version,
        headers: head.headers,
        trailers: body.trailers().cloned(),
        body: body.to_bytes(),
    })
}

async fn converse(stream: TcpStream, tls: Option<Arc<ServerConfig>>, answer: Answer) {
    let service = service_fn(move |request| answer(request));
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http2().enable_connect_protocol();
    match tls {
        None => {
            let _ = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        }
        Some(config) => {
            if let Ok(stream) = tokio_rustls::TlsAcceptor::from(config).accept(stream).await {
                let _ = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
            }
        }
    }
}
