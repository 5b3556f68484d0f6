//! HTTP/2 used as a weapon: rapid resets (CVE-2023-44487), endless CONTINUATION (CVE-2024-27316), floods of PING and
//! SETTINGS. Whoever does that loses the connection; everybody else is served.

use std::time::Duration;

use portcullis_e2e::{Endpoint, Gateway, Setup, bounded, wait::LONG};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

async fn start() -> (Gateway, Endpoint) {
    let endpoint = Endpoint::named("a").await;
    (Setup::new(&crate::one("")).set("app", endpoint.url()).start().await, endpoint)
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Preface and empty SETTINGS.
async fn connect(gateway: &Gateway) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.addr()).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    stream
}

/// Writes the same frames again and again until the other side has enough; panics when it never has.
async fn until_cut(stream: TcpStream, what: &str, mut frames: impl FnMut(u32) -> Vec<u8>, most: u32) {
    let (mut read, mut write) = stream.into_split();
    let draining = tokio::spawn(async move {
        let mut sink = vec![0; 64 * 1024];
        while let Ok(1..) = read.read(&mut sink).await {}
    });
    let flooding = async {
        for number in 0..most {
            if draining.is_finished() || write.write_all(&frames(number)).await.is_err() {
                return true;
            }
            tokio::task::yield_now().await;
        }
        bounded(Duration::from_secs(10), what, draining).await.is_ok()
    };
    assert!(bounded(LONG, what, flooding).await, "{what}: not cut");
}

/// GET /, HPACK: indexed method, scheme and path; authority `a` as a literal.
const HEAD: &[u8] = &[0x82, 0x86, 0x84, 0x41, 0x01, b'a'];

#[tokio::test]
async fn rapid_resets_are_cut() {
    let (gateway, endpoint) = start().await;
    let attack = |number: u32| {
        let stream = number * 2 + 1;
        [frame(1, 5, stream, HEAD), frame(3, 0, stream, &8_u32.to_be_bytes())].concat()
    };
    until_cut(connect(&gateway).await, "rapid resets", attack, 20_000).await;
    assert!(endpoint.count() < 2000, "{} requests reached the endpoint", endpoint.count());
    assert_eq!(gateway.get("/").await.status, 200, "everybody else is served");
}

#[tokio::test]
async fn endless_continuation_is_cut() {
    let (gateway, _endpoint) = start().await;
    let mut stream = connect(&gateway).await;
    stream.write_all(&frame(1, 1, 1, HEAD)).await.unwrap();
    // A literal field without indexing, again and again, and never END_HEADERS.
    let field = [&[0x00, 0x01, b'x', 0x7f, 0x81, 0x07][..], &[b'v'; 1024]].concat();
    let (before, _) = gateway.memory_kib();
    until_cut(stream, "endless CONTINUATION", |_| frame(9, 0, 1, &field), 200_000).await;
    let (_, peak) = gateway.memory_kib();
    assert!(peak < before + 16 * 1024, "{before} KiB before, {peak} KiB at the most");
    assert_eq!(gateway.get("/").await.status, 200);
}

#[tokio::test]
async fn floods_of_control_frames_are_cut() {
    for (what, flood) in [("PING", frame(6, 0, 0, &[0; 8])), ("SETTINGS", frame(4, 0, 0, &[]))] {
        let (gateway, _endpoint) = start().await;
        let many: Vec<u8> = std::iter::repeat_n(flood, 50).flatten().collect();
        until_cut(connect(&gateway).await, what, |_| many.clone(), 20_000).await;
        assert_eq!(gateway.get("/").await.status, 200, "{what}");
    }
}

/// A client that merely asks a lot keeps its connection.
#[tokio::test]
async fn an_honest_client_is_not_cut() {
    let (gateway, _endpoint) = start().await;
    let mut client = portcullis_e2e::Client::h2(gateway.addr()).await;
    for number in 0..500 {
        assert_eq!(client.get(&format!("/{number}")).await.status, 200);
    }
    assert!(!client.is_closed());
}
