//! What a request costs without a socket: its path, its fields, the choice of an endpoint, and all of `serve`.
//! `cargo bench -p portcullis --bench request`

#![allow(missing_docs)]

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use divan::{Bencher, black_box};
use portcullis_core::{Body, Exchange, Request, balance::Pick, forwarded, path};
use portcullis_proxy::{
    clock::Watch, forward::upstream::InFlight, h1, runtime::Runtime, serve::serve, ticket::Ticket,
    worker::Worker,
};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What a browser sends.
const BROWSER: &[u8] = b"GET /assets/app.js?v=17 HTTP/1.1\r\n\
    Host: www.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://www.example.com/\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
    Sec-Fetch-Dest: script\r\n\
    Sec-Fetch-Mode: no-cors\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Connection: keep-alive\r\n\r\n";

const ENDPOINTS: usize = 10;

fn main() {
    divan::main();
}

/// A configuration as it runs.
fn runtime(text: &str) -> Runtime {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("gateway.toml");
    std::fs::write(&file, text).expect("a file");
    let loaded = portcullis::rehearse::check_file(&file);
    let model = loaded.model.clone().unwrap_or_else(|| panic!("{}", loaded.text(false)));
    portcullis::rehearse::rehearse(model, folder.path()).expect("a configuration that compiles")
}

/// The request of a browser, read and put into the form that routing sees.
fn browser() -> Exchange {
    let head = h1::head::request(BROWSER, 100).expect("a head");
    let mut request = Request::with_fields(head.method, head.fields);
    request.arrive("/assets/app.js", Some("v=17"));
    request.set_authority("www.example.com");
    Exchange::for_test(request)
}

#[divan::bench(args = ["/", "/api/v1/users/42/orders/17", "/a/./b/../c//d", "/caf%C3%A9/%41%42?x=%2F"])]
fn canonical_path(bencher: Bencher<'_, '_>, raw: &str) {
    let raw = raw.split('?').next().expect("a path").as_bytes();
    let mut out = String::new();
    bencher.bench_local(|| path::canonical(black_box(raw), path::Policy::default(), &mut out).is_ok());
}

#[divan::bench]
fn read_head(bencher: Bencher<'_, '_>) {
    bencher.bench_local(|| h1::head::request(black_box(BROWSER), 100).is_ok());
}

#[divan::bench]
fn forwarding_fields(bencher: Bencher<'_, '_>) {
    bencher.with_inputs(browser).bench_local_values(|mut x| {
        forwarded::strip_hop_by_hop(&mut x.request.fields, true);
        forwarded::send(&mut x, "portcullis");
        x
    });
}

#[divan::bench]
fn write_head(bencher: Bencher<'_, '_>) {
    let (x, mut out) = (browser(), Vec::with_capacity(4096));
    bencher.bench_local(|| {
        out.clear();
        let request = &x.request;
        h1::writer::request_head(
            &mut out,
            "GET",
            "",
            request.path(),
            request.query(),
            request.authority(),
            &request.fields,
        );
        out.len()
    });
}

const STRATEGIES: [&str; 6] =
    ["round_robin", "least_connections", "random", "p2c", "ip_hash", "consistent_hash"];

/// A choice among ten endpoints of several weights, some of them busy.
#[divan::bench(args = STRATEGIES)]
fn pick(bencher: Bencher<'_, '_>, strategy: &str) {
    let endpoints: Vec<String> = (0..ENDPOINTS)
        .map(|number| format!("{{ url = \"http://10.0.0.{number}\", weight = {} }}", 1 + number % 3))
        .collect();
    let runtime = runtime(&format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\n[[routes]]\npath = \"/*\"\nservice = \"app\"\n\
         [services.app]\nstrategy = \"{strategy}\"\nendpoints = [{}]\n",
        endpoints.join(", ")
    ));
    let service = runtime.services.values().next().expect("a service").clone();
    let x = browser();
    let key = service.key.as_ref().and_then(|key| key.key(&x));
    let busy: Vec<InFlight> =
        (0..15).map(|number| InFlight::new(&service.upstreams[number % ENDPOINTS].state)).collect();
    let pick = Pick { endpoints: &service.endpoints, key, tried: &[], now: Instant::now() };
    bencher.bench_local(|| service.balancer.pick(black_box(&pick)));
    drop(busy);
}

/// All of a request between its head and the head of its answer: arrive, route, middlewares, of which the last answers,
/// the middlewares again, metrics.
#[divan::bench]
fn whole_request(bencher: Bencher<'_, '_>) {
    let runtime = Arc::new(runtime(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        [[routes]]
        path = "/*"
        middlewares = ["fields", "id", "say"]
        service = "@health"
        [middlewares.fields]
        headers = { response = { set = { X-Gateway = "on" } } }
        [middlewares.id]
        request_id = {}
        [middlewares.say]
        static_response = { body = "hello" }
        "#,
    ));
    let worker = Worker::new(0);
    let watch = worker.clock.watch();
    bencher.bench_local(|| {
        let mut ticket = Ticket::begin(0, runtime.clone(), browser());
        let status = at_once(&worker, &runtime, &mut ticket, &watch);
        ticket.end(0, 0, Ok(()));
        assert_eq!(status, 200);
    });
}

/// Serves a request that waits for nothing.
fn at_once(worker: &Worker, runtime: &Runtime, ticket: &mut Ticket, watch: &Watch) -> u16 {
    let mut cx = Context::from_waker(Waker::noop());
    match pin!(serve(worker, runtime, ticket, watch)).poll(&mut cx) {
        Poll::Ready(answer) => {
            assert!(!matches!(answer.body, Body::Stream(_)));
            answer.status.as_u16()
        }
        Poll::Pending => panic!("it waits"),
    }
}
