//! Both sides over in-memory connections, with the `h2` crate (or bytes made by hand) as the counterpart.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use portcullis_config::{
    model::{self, Model},
    rule::Rule,
};
use portcullis_core::{
    Answer, BoxFuture, Connection, Error, Exchange, Protocol, builtin::Builtin, keep::Keep,
};
use tokio::io::DuplexStream;

use crate::{
    listen::Drain,
    observe::Metrics,
    runtime::{
        Runtime,
        compile::{Parts, compile},
    },
    worker::Worker,
};

mod client;
mod raw;
mod server;

/// A gateway whose only route leads to a function.
struct Gateway {
    worker: Arc<Worker>,
    runtime: Runtime,
    drain: Drain,
    /// How often the function was asked.
    asked: Arc<AtomicUsize>,
}

type Function = Box<dyn for<'a> Fn(&'a mut Exchange) -> BoxFuture<'a, Result<Answer, Error>> + Send + Sync>;

struct App {
    function: Function,
    asked: Arc<AtomicUsize>,
}

impl Builtin for App {
    fn answer<'a>(&'a self, x: &'a mut Exchange) -> BoxFuture<'a, Result<Answer, Error>> {
        self.asked.fetch_add(1, Relaxed);
        (self.function)(x)
    }
}

impl Gateway {
    fn new<F>(function: F, change: impl FnOnce(&mut model::Listener)) -> Gateway
    where
        F: for<'a> Fn(&'a mut Exchange) -> BoxFuture<'a, Result<Answer, Error>> + Send + Sync + 'static,
    {
        let asked = Arc::new(AtomicUsize::new(0));
        let app = App { function: Box::new(function), asked: asked.clone() };
        let builtins: BTreeMap<&'static str, Arc<dyn Builtin>> = [("test", Arc::new(app) as _)].into();
        let mut model = empty_model();
        let mut listener = plain_listener();
        change(&mut listener);
        model.listeners.insert("web".into(), listener);
        model.routes.push(route_to("test"));
        let metrics = Metrics::new(1, &[1.0]);
        let parts = Parts {
            stores: &Default::default(),
            keep: &Keep::default(),
            middlewares: &[],
            builtins: &builtins,
            metrics: &metrics,
            access_log: None,
            generation: 1,
            folder: Path::new("."),
            workers: 1,
        };
        let runtime = compile(Arc::new(model), &parts).unwrap_or_else(|problems| panic!("{problems:?}"));
        let worker = Worker::new(0);
        worker.set_runtime(&runtime);
        tokio::spawn(worker.clock.clone().run());
        Gateway { worker, runtime, drain: Drain::default(), asked }
    }

    fn listener_metrics(&self) -> &crate::observe::ListenerMetrics {
        &self.runtime.listeners["web"].metrics
    }

    /// A connection to it; the other end is served.
    fn connect(&self) -> (DuplexStream, tokio::task::JoinHandle<()>) {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let connection = Connection {
            peer: address,
            peer_text: "127.0.0.1".into(),
            local: address,
            listener: "web".into(),
            trusted: false,
            tls: None,
            protocol: Protocol::Http2,
            id: 1,
            prepared: Default::default(),
        };
        let served = super::server::serve_connection(
            far,
            self.worker.clone(),
            Arc::new(connection),
            self.drain.clone(),
        );
        (near, tokio::spawn(served))
    }

    /// The same, with a client of the `h2` crate on it.
    async fn client(&self) -> h2::client::SendRequest<bytes::Bytes> {
        let (io, _) = self.connect();
        let (client, connection) = h2::client::handshake(io).await.unwrap();
        tokio::spawn(connection);
        client.ready().await.unwrap()
    }
}

fn empty_model() -> Model {
    Model {
        workers: 1,
        stores: BTreeMap::new(),
        listeners: BTreeMap::new(),
        routes: Vec::new(),
        services: BTreeMap::new(),
        middlewares: BTreeMap::new(),
        admin: None,
        metrics: model::Metrics { buckets: vec![1.0] },
        access_log: None,
        log: model::Log { filter: "info".into(), format: model::LogFormat::Text },
        error_pages: BTreeMap::new(),
        drain_timeout: Duration::from_secs(30),
        upgrade_timeout: Duration::from_secs(30),
        gateway_name: "portcullis".into(),
        cache: Default::default(),
        shedding: None,
        dns: model::Dns {
            servers: Vec::new(),
            timeout: Duration::from_secs(2),
            min_ttl: Duration::from_secs(1),
            max_ttl: Duration::from_secs(300),
        },
        max_connections: 0,
    }
}

fn plain_listener() -> model::Listener {
    model::Listener {
        name: "web".into(),
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        tls: None,
        http2: true,
        http3: None,
        proxy_protocol: None,
        trusted_proxies: Vec::new(),
        middlewares: Vec::new(),
        limits: model::ListenerLimits {
            header_bytes: 32 * 1024,
            header_count: 100,
            uri_bytes: 8 * 1024,
            body_bytes: None,
            connections: 0,
            connections_per_client: 0,
            requests_per_connection: 10_000,
            h2_streams: 100,
        },
        timeouts: model::ListenerTimeouts {
            handshake: Duration::from_secs(10),
            request_header: Duration::from_secs(10),
            body_idle: Duration::from_secs(30),
            body_min_rate: 240,
            body_grace: Duration::from_secs(20),
            write_idle: Duration::from_secs(30),
            keep_alive: Duration::from_secs(75),
            max_age: Duration::from_secs(3600),
        },
        path: model::PathPolicy { merge_slashes: true, encoded_delimiters: model::Doubtful::Reject },
        allow_odd_header_names: false,
    }
}

fn route_to(builtin: &str) -> model::Route {
    model::Route {
        name: "all@test".into(),
        listeners: Vec::new(),
        rule: Rule::Any,
        priority: 0,
        priority_is_explicit: false,
        middlewares: Vec::new(),
        target: model::Target::Builtin(builtin.into()),
        strip_prefix: None,
        total_timeout: None,
        response_header_timeout: None,
        body_bytes: None,
        body_idle_timeout: None,
        stream_idle_timeout: None,
        tunnel_idle_timeout: None,
        encoded_delimiters: None,
        pass_host: None,
        policies: Default::default(),
        cache: None,
        importance: Default::default(),
        origin: model::Origin::default(),
    }
}

/// Pieces that a test sends by a channel, as a body. A closed channel ends it.
struct Pieces(tokio::sync::mpsc::UnboundedReceiver<Result<portcullis_core::Frame, Error>>);

impl portcullis_core::Stream for Pieces {
    fn poll_frame(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<portcullis_core::Frame, Error>>> {
        self.0.poll_recv(cx)
    }

    fn remaining(&self) -> Option<u64> {
        None
    }
}

/// Endless zeros, counted as they are pulled.
struct Zeros(Arc<AtomicUsize>);

impl portcullis_core::Stream for Zeros {
    fn poll_frame(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<portcullis_core::Frame, Error>>> {
        self.0.fetch_add(16 * 1024, Relaxed);
        let data = bytes::Bytes::from_static(&[0; 16 * 1024]);
        std::task::Poll::Ready(Some(Ok(portcullis_core::Frame::Data(data))))
    }

    fn remaining(&self) -> Option<u64> {
        None
    }
}
