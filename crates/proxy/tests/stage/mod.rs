//! A worker with a configuration and endpoints that do as they are told, all in one thread.

#![allow(dead_code)] // not every test needs all of it

use std::{
    collections::BTreeMap,
    future::Future,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use http::Method;
use portcullis_config::{AnyKind, Format, ProcessEnv, load_text};
use portcullis_core::{Answer, Error, Exchange, Request, keep::Keep};
use portcullis_proxy::{
    clock::Watch,
    forward::{Forward, Way, forward},
    observe::Metrics,
    runtime::{
        Route, Runtime, Service,
        compile::{Parts, compile},
    },
    worker::Worker,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// An endpoint: what it was asked, request by request.
pub struct Endpoint {
    pub addr: SocketAddr,
    pub seen: Arc<Mutex<Vec<String>>>,
}

impl Endpoint {
    /// Answers the n-th request (from 0) with what this says, a whole message; an empty one closes the connection.
    pub async fn start<F, A>(answer: F) -> Endpoint
    where
        F: Fn(usize) -> A + Send + Sync + 'static,
        A: Future<Output = String> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, seen) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let (answer, notes) = (Arc::new(answer), seen.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, answer.clone(), notes.clone()));
            }
        });
        Endpoint { addr, seen }
    }

    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

/// Reads requests with a body by `Content-Length` or none, and answers them.
async fn converse<F, A>(mut stream: TcpStream, answer: Arc<F>, seen: Arc<Mutex<Vec<String>>>)
where
    F: Fn(usize) -> A,
    A: Future<Output = String>,
{
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some(end) = text.find("\r\n\r\n").map(|at| at + 4) {
            let lower = text.to_ascii_lowercase();
            let length = lower.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next());
            let whole = match length.map(|length| length.parse::<usize>().unwrap()) {
                Some(length) => (read.len() >= end + length).then_some(end + length),
                None if lower.contains("transfer-encoding: chunked") => {
                    text.find("\r\n0\r\n\r\n").map(|at| at + 7)
                }
                None => Some(end),
            };
            if let Some(whole) = whole {
                let number = {
                    let mut seen = seen.lock().unwrap();
                    seen.push(String::from_utf8_lossy(&read[..whole]).into_owned());
                    seen.len() - 1
                };
                read.drain(..whole);
                let said = answer(number).await;
                if said.is_empty() || stream.write_all(said.as_bytes()).await.is_err() {
                    return;
                }
                continue;
            }
        }
        if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return;
        }
    }
}

/// A whole answer.
pub fn say(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A worker and its configuration.
pub struct Stage {
    pub worker: Arc<Worker>,
    pub runtime: Runtime,
    pub keep: Keep,
    pub metrics: Arc<Metrics>,
    watch: Watch,
}

impl Stage {
    /// With this configuration, whose first route takes everything.
    pub fn new(text: &str) -> Stage {
        let (keep, metrics) = (Keep::default(), Metrics::new(1, &[]));
        let runtime = Self::compiled(text, &keep, &metrics);
        let worker = Worker::new(0);
        worker.set_runtime(&runtime);
        tokio::spawn(worker.clock.clone().run());
        let watch = worker.clock.watch();
        Stage { worker, runtime, keep, metrics, watch }
    }

    /// Another configuration; what is kept over reloads is kept.
    pub fn reload(&mut self, text: &str) {
        self.runtime = Self::compiled(text, &self.keep, &self.metrics);
        self.worker.set_runtime(&self.runtime);
    }

    fn compiled(text: &str, keep: &Keep, metrics: &Arc<Metrics>) -> Runtime {
        let read = load_text(text, Format::Toml, "gateway.toml", &ProcessEnv, &AnyKind);
        let model = Arc::new(read.model.unwrap_or_else(|| panic!("{:#?}", read.findings)));
        let parts = Parts {
            stores: &Default::default(),
            keep,
            middlewares: &[],
            builtins: &BTreeMap::new(),
            metrics,
            access_log: None,
            generation: 1,
            folder: Path::new("."),
            workers: 1,
        };
        compile(model, &parts).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    pub fn route(&self) -> &Arc<Route> {
        &self.runtime.routes[0]
    }

    pub fn service(&self) -> &Arc<Service> {
        self.route().target.service().expect("a service")
    }

    /// What forwarding needs.
    pub fn parts(&self) -> Forward<'_> {
        Forward {
            worker: &self.worker,
            runtime: &self.runtime,
            route: self.route(),
            service: self.service(),
            watch: &self.watch,
            total: self.watch.total(self.route().total_timeout),
            client_body_idle: Duration::from_secs(10),
        }
    }

    /// Forwards a request.
    pub async fn forward(&self, x: &mut Exchange) -> (Result<Answer, Error>, Way) {
        let mut way = Way::default();
        let result = forward(&self.parts(), x, &mut way, Instant::now()).await;
        (result, way)
    }
}

/// A request.
pub fn request(method: Method, path: &str) -> Exchange {
    let mut request = Request::new(method);
    request.arrive(path, None);
    request.set_authority("shop.example");
    Exchange::for_test(request)
}
