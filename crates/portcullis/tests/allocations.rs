//! How often a plain request allocates: counted over the whole process, gateway, metrics and all, while client and
//! endpoint (which live here too) allocate nothing.

#![allow(missing_docs)]

use std::{
    alloc::System,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use portcullis::{Gateway, GatewayConfig};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The ticket of the request, the future that serves it, the answer's body as it arrives, and the request's id.
const MOST: usize = 4;

const REQUEST: &[u8] = b"GET /small HTTP/1.1\r\nHost: a.example\r\nAccept: */*\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nhello\n";

/// Reads until a message's end has been seen that carries this text last; panics when the peer leaves.
fn read_until(stream: &mut TcpStream, end: &[u8]) -> bool {
    let (mut buffer, mut filled) = ([0_u8; 4096], 0);
    loop {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) | Err(_) => return false,
            Ok(count) => filled += count,
        }
        if buffer[..filled].ends_with(end) {
            return true;
        }
    }
}

fn endpoint() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.set_nodelay(true).unwrap();
            thread::spawn(
                move || while read_until(&mut stream, b"\r\n\r\n") && stream.write_all(ANSWER).is_ok() {},
            );
        }
    });
    address
}

fn ask(client: &mut TcpStream, times: usize) {
    for _ in 0..times {
        client.write_all(REQUEST).unwrap();
        assert!(read_until(client, b"hello\n"));
    }
}

#[tokio::test]
async fn a_plain_request_allocates_little() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    let text = format!(
        r#"
        workers = 1
        admin = "127.0.0.1:0"
        [listeners.web]
        address = "127.0.0.1:0"
        [[routes]]
        path = "/*"
        middlewares = ["answer-field", "id"]
        service = "endpoint"
        [services.endpoint]
        endpoints = ["http://{}"]
        [middlewares.answer-field]
        headers = {{ response = {{ set = {{ X-Gateway = "on" }} }} }}
        [middlewares.id]
        request_id = {{}}
        "#,
        endpoint()
    );
    std::fs::write(&file, text).unwrap();
    let gateway = Gateway::from_config(GatewayConfig::load(&file).unwrap()).await.unwrap();
    let address = gateway.address("web").unwrap();

    const REQUESTS: usize = 2000;
    let counted = tokio::task::spawn_blocking(move || {
        let mut client = TcpStream::connect(address).unwrap();
        client.set_nodelay(true).unwrap();
        // Connections, buffers and tables are made once.
        ask(&mut client, 200);
        let region = Region::new(ALLOCATOR);
        ask(&mut client, REQUESTS);
        region.change()
    })
    .await
    .unwrap();

    let each = (counted.allocations + counted.reallocations) as f64 / REQUESTS as f64;
    println!("{each:.3} allocations a request");
    // What goes on beside (timers, the watch of the file) is a few in all, not one a request.
    assert!(each < MOST as f64 + 0.5, "{each} allocations a request, of at most {MOST}");
}
